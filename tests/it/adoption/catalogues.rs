//! The embedded catalogues of version 1, with which a database is compared.

use artstore_migrations::{Module, up};

use super::*;

/// The embedded catalogues are what version 1 makes. To write them:
/// `ARTSTORE_UPDATE=1 cargo test --test it adoption::catalogues`.
#[test]
fn the_embedded_catalogues_are_those_of_version_1() {
    run(async {
        let update = std::env::var_os("ARTSTORE_UPDATE").is_some_and(|value| value == "1");
        let element = "zzelementzz";
        for (folder, module) in [
            ("admin", Module::Admin),
            ("query", Module::Query),
            ("storage", Module::Storage(element.parse().unwrap())),
        ] {
            let mut connection = pg(&database("letter").await).await;
            up(&mut connection, &module, Some(1)).await.unwrap();
            let text = lines(&mut connection, &module).await.join("\n") + "\n";
            let text = text.replace(element, "{prefix}");
            let path = format!(
                "{}/migrations/{folder}/0001_initial.catalogue",
                env!("CARGO_MANIFEST_DIR")
            );
            if update {
                std::fs::write(&path, text).unwrap();
            } else {
                assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "{path}");
            }
        }
    });
}
