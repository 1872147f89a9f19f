//! The connections to PostgreSQL.

use artstore_stack::{Stack, StackOptions};

use super::{Authority, Certificate, file, refused};
use crate::support::load::{create, new_file};
use crate::support::*;

/// A file in the server's data folder, for its user alone.
async fn give(superuser: &str, name: &str, content: &str) {
    let lines = format!("select unnest(string_to_array($artstore${content}$artstore$, E'\\n'))");
    let sql = format!("copy ({lines}) to program 'umask 077; cat > {name}'");
    execute(&mut pg(superuser).await, sql).await;
}

/// From now on the server shows this certificate, or none and has no TLS.
async fn shows(superuser: &str, certificate: Option<&Certificate>) {
    if let Some(certificate) = certificate {
        give(superuser, "server.crt", &certificate.certificate).await;
        give(superuser, "server.key", &certificate.key).await;
    }
    let ssl = if certificate.is_some() { "on" } else { "off" };
    let mut connection = pg(superuser).await;
    execute(&mut connection, format!("alter system set ssl = {ssl}")).await;
    reload(superuser).await;
}

/// The server has read its configuration again: new sessions begin with it.
async fn reload(superuser: &str) {
    let mut connection = pg(superuser).await;
    let before: String = value(&mut connection, "select pg_conf_load_time()::text").await;
    execute(&mut connection, "select pg_reload_conf()").await;
    eventually("the configuration is read again", || async {
        let now: String = value(&mut pg(superuser).await, "select pg_conf_load_time()::text").await;
        (now != before).then_some(())
    })
    .await;
}

async fn own_stack() -> (Stack, World) {
    let stack = Stack::start(StackOptions::default()).await.unwrap();
    let world = World::on(&stack, 0, &["elem"], 1).await;
    (stack, world)
}

/// The same URL with more in its query.
fn with(url: &str, query: &str) -> String {
    let begin = if url.contains('?') { '&' } else { '?' };
    format!("{url}{begin}{query}")
}

/// All of a world's databases in this way.
fn programs(world: &World, query: &str) -> [Program; 3] {
    let element = format!("elem={}", with(&world.elements[0].1, query));
    let read_model = with(&world.query_url, query);
    [
        world.relay(0).env("ARTSTORE_ELEMENTS", &element),
        world.projector().env("QUERY_DATABASE_URL", &read_model),
        Program::new(&["migrate", "status"]).env("QUERY_DATABASE_URL", &read_model),
    ]
}

#[test]
fn relay_and_projector_work_on_sessions_that_are_encrypted() {
    run(async {
        let (stack, world) = own_stack().await;
        let superuser = stack.database_url("postgres");
        let authority = Authority::new();
        let folder = tempfile::tempdir().unwrap();
        let trusted = file(folder.path(), "ca.pem", &authority.certificate);
        give(&superuser, "clients.crt", &authority.certificate).await;
        let mut connection = pg(&superuser).await;
        execute(
            &mut connection,
            "alter system set ssl_ca_file = 'clients.crt'",
        )
        .await;
        shows(&superuser, Some(&authority.issue("127.0.0.1"))).await;
        let element = world.elements[0].0.clone();
        let mut element = (element, world.element(0).await);
        create(&mut element, &new_file("a.pdf")).await.unwrap();

        // Who comes over the network needs a certificate of the authority, and the password; this test does not.
        let rules = "local all all scram-sha-256\n\
                     hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca";
        let socket: String = value(&mut connection, "show unix_socket_directories").await;
        let socket = socket.trim_matches('"');
        let inside = with(&superuser, &format!("host={socket}"));
        give(&superuser, "pg_hba.conf", rules).await;
        reload(&inside).await;

        let query = format!("sslrootcert={trusted}");
        for program in programs(&world, &query) {
            refused(program, &["refuses the connection", "certificate"]).await;
        }
        let client = authority.issue("artstore");
        let certificate = file(folder.path(), "client.pem", &client.certificate);
        let key = file(folder.path(), "client.key", &client.key);
        let files = |program: Program| {
            program
                .env("PGSSLROOTCERT", &trusted)
                .env("PGSSLCERT", &certificate)
                .env("PGSSLKEY", &key)
        };
        let [relay, projector, status] = programs(&world, "sslmode=verify-full").map(files);
        let (status, log) = status.finish().await;
        assert!(status.success(), "{log}");
        let relay = relay.start();
        let projector = projector.start();
        let read_model = with(&world.query_url, &format!("host={socket}"));
        eventually("the event is in the cache", || async {
            let mut query = pg(&read_model).await;
            let cached: i64 = value(&mut query, "select count(*) from file_metadata_cache").await;
            (cached == 1).then_some(())
        })
        .await;
        let plain: Vec<String> = sqlx::query_scalar(
            "select application_name from pg_stat_activity natural join pg_stat_ssl \
             where application_name like 'artstore%' and not ssl and client_addr is not null",
        )
        .fetch_all(&mut pg(&inside).await)
        .await
        .unwrap();
        assert_eq!(plain, [""; 0]);
        let encrypted: i64 = value(
            &mut pg(&inside).await,
            "select count(*) from pg_stat_activity natural join pg_stat_ssl where ssl",
        )
        .await;
        assert!(encrypted >= 2, "{encrypted}");
        relay.kill().await;
        projector.kill().await;
    });
}

#[test]
fn a_certificate_that_does_not_fit_ends_the_start_with_its_reason() {
    run(async {
        let (stack, world) = own_stack().await;
        let superuser = stack.database_url("postgres");
        let authority = Authority::new();
        let folder = tempfile::tempdir().unwrap();
        let trusted = file(folder.path(), "ca.pem", &authority.certificate);
        let verified = format!("sslmode=verify-full&sslrootcert={trusted}");
        for (certificate, reason) in [
            (authority.issue("db.example"), "not valid for name"),
            (authority.issue_until("127.0.0.1", 2020), "expired"),
            (Authority::new().issue("127.0.0.1"), "UnknownIssuer"),
        ] {
            shows(&superuser, Some(&certificate)).await;
            for program in programs(&world, &verified) {
                refused(program, &["no TLS connection to database", reason]).await;
            }
        }
        shows(&superuser, Some(&authority.issue("127.0.0.1"))).await;
        let [_, _, status] = programs(&world, &verified);
        let (status, log) = status.finish().await;
        assert!(status.success(), "{log}");
    });
}

/// Another name of this machine's loopback address, which the settings take for another machine.
const ELSEWHERE: &str = "127.1";

#[test]
fn a_server_elsewhere_without_tls_gets_no_password() {
    run(async {
        let (stack, world) = own_stack().await;
        let superuser = stack.database_url("postgres");
        shows(&superuser, None).await;
        let elsewhere = |url: &str| url.replace("@127.0.0.1:", &format!("@{ELSEWHERE}:"));
        let read_model = elsewhere(&world.query_url);
        assert!(read_model.contains(ELSEWHERE), "{read_model}");
        let element = format!("elem={}", elsewhere(&world.elements[0].1));
        let status =
            |url: &str| Program::new(&["migrate", "status"]).env("QUERY_DATABASE_URL", url);
        for program in [
            world.relay(0).env("ARTSTORE_ELEMENTS", &element),
            world.projector().env("QUERY_DATABASE_URL", &read_model),
            status(&read_model),
        ] {
            let says = [
                "no TLS connection",
                "does not support TLS",
                "sslmode=disable",
            ];
            refused(program, &says).await;
        }
        // Variables that the client takes for none.
        let says = ["no TLS connection", "sslmode=disable"];
        refused(status(&read_model).env("PGSSLMODE", ""), &says).await;
        for mistyped in ["verify_full", "Disabled"] {
            let (status, log) = status(&read_model)
                .env("PGSSLMODE", mistyped)
                .finish()
                .await;
            assert_eq!(status.code(), Some(2), "{log}");
            assert!(log.contains("PGSSLMODE"), "{log}");
        }
        // Where somebody decided so.
        for decided in [
            status(&with(&read_model, "sslmode=disable")),
            status(&read_model).env("PGSSLMODE", "disable"),
            status(&world.query_url),
        ] {
            let (status, log) = decided.finish().await;
            assert!(status.success(), "{log}");
        }
    });
}
