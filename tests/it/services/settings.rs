//! Settings of a service that are refused.

use crate::support::*;

#[test]
fn an_address_that_is_taken_is_refused_by_name() {
    run(async {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        for (name, value) in [
            ("ARTSTORE_LISTEN", address.as_str()),
            ("ARTSTORE_LISTEN", "8080"),
            ("ARTSTORE_READY_LAG_SECONDS", "1"),
            ("ARTSTORE_READY_LAG_EVENTS", "-1"),
        ] {
            let projector = Program::new(&["run", "projector"])
                .env("QUERY_DATABASE_URL", "postgres://127.0.0.1:1/none")
                .env(name, value);
            let (status, said) = projector.finish().await;
            assert_eq!(status.code(), Some(2), "{name}={value}: {said}");
            let option = name.trim_start_matches("ARTSTORE_").to_lowercase();
            assert!(said.contains(&option.replace('_', "-")), "{name}: {said}");
        }
    });
}
