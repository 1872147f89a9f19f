//! The connection to NATS.

use super::{Authority, Certificate, file, refused};
use crate::support::load::{create, new_file};
use crate::support::nats_server::NatsServer;
use crate::support::*;

/// A server that shows this certificate, and demands one that `clients` issued, where that is given.
async fn server(shows: &Certificate, clients: Option<&Authority>) -> NatsServer {
    let folder = tempfile::tempdir().unwrap();
    let certificate = file(folder.path(), "server.pem", &shows.certificate);
    let key = file(folder.path(), "server.key", &shows.key);
    let clients = clients.map_or_else(String::new, |authority| {
        let authority = file(folder.path(), "clients.pem", &authority.certificate);
        format!("ca_file: \"{authority}\", verify: true")
    });
    // The server reads them while it starts.
    NatsServer::start(&format!(
        "tls {{ cert_file: \"{certificate}\", key_file: \"{key}\", {clients} }}"
    ))
    .await
}

fn with(program: Program, scheme: &str, server: &NatsServer) -> Program {
    let url = format!("{scheme}://127.0.0.1:{}", server.port);
    program.without("NATS_CREDENTIALS").env("NATS_URL", &url)
}

#[test]
fn relay_projector_and_commands_work_with_a_server_that_demands_certificates() {
    run(async {
        let world = World::new(&["elem"]).await;
        let authority = Authority::new();
        let server = server(&authority.issue("127.0.0.1"), Some(&authority)).await;
        let folder = tempfile::tempdir().unwrap();
        let client = authority.issue("artstore");
        let trusted = file(folder.path(), "ca.pem", &authority.certificate);
        let certificate = file(folder.path(), "client.pem", &client.certificate);
        let key = file(folder.path(), "client.key", &client.key);
        let encrypted = |program: Program| {
            with(program, "nats", &server)
                .env("NATS_CA", &trusted)
                .env("NATS_CERT", &certificate)
                .env("NATS_KEY", &key)
        };
        let (status, said) = encrypted(world.command(&["bus", "init"])).output().await;
        assert!(status.success(), "{said}");
        let mut element = (world.elements[0].0.clone(), world.element(0).await);
        create(&mut element, &new_file("a.pdf")).await.unwrap();
        let relay = encrypted(world.relay(0)).start();
        let projector = encrypted(world.projector()).start();
        eventually("the event is in the stream and in the cache", || async {
            let cached = "select count(*) from file_metadata_cache";
            let cached: i64 = value(&mut world.query().await, cached).await;
            let verify = encrypted(world.command(&["verify", "--source", "elem"]));
            (cached == 1 && verify.finish().await.0.success()).then_some(())
        })
        .await;
        relay.kill().await;
        projector.kill().await;
    });
}

#[test]
fn a_certificate_that_does_not_fit_ends_the_start_with_its_reason() {
    run(async {
        let world = World::new(&["elem"]).await;
        let authority = Authority::new();
        let folder = tempfile::tempdir().unwrap();
        let trusted = file(folder.path(), "ca.pem", &authority.certificate);
        let good = server(&authority.issue("127.0.0.1"), None).await;
        let strict = server(&authority.issue("127.0.0.1"), Some(&authority)).await;
        let elsewhere = server(&authority.issue("nats.example"), None).await;
        let expired = server(&authority.issue_until("127.0.0.1", 2020), None).await;
        let unknown = server(&Authority::new().issue("127.0.0.1"), None).await;
        let plain = NatsServer::start("").await;
        let stranger = Authority::new().issue("artstore");
        let certificate = file(folder.path(), "stranger.pem", &stranger.certificate);
        let key = file(folder.path(), "stranger.key", &stranger.key);

        for (server, reason) in [
            (&elsewhere, "not valid for name"),
            (&expired, "expired"),
            (&unknown, "UnknownIssuer"),
            // Without a client's certificate.
            (&strict, "ertificate"),
        ] {
            for program in [
                world.relay(0),
                world.projector(),
                world.command(&["bus", "init"]),
            ] {
                let program = with(program, "tls", server).env("NATS_CA", &trusted);
                refused(program, &["no TLS connection to NATS", reason, "NATS_CA"]).await;
            }
        }
        let init = |server: &NatsServer, scheme: &str| {
            with(Program::new(&["bus", "init"]), scheme, server).env("ARTSTORE_WAIT_SECONDS", "0")
        };
        // Nobody that this machine trusts issued it; and a client of an authority that the server does not know.
        refused(init(&good, "tls"), &["no TLS connection to NATS"]).await;
        let foreign = init(&strict, "tls").env("NATS_CA", &trusted);
        let foreign = foreign.env("NATS_CERT", &certificate).env("NATS_KEY", &key);
        refused(foreign, &["no TLS connection to NATS"]).await;
        // A server without TLS gets no plain text.
        for encrypted in [
            init(&plain, "tls"),
            init(&plain, "nats").env("NATS_CA", &trusted),
        ] {
            refused(encrypted, &["NATS"]).await;
        }
        let (status, said) = init(&plain, "nats").output().await;
        assert!(status.success(), "{said}");
        let (status, said) = init(&good, "nats").env("NATS_CA", &trusted).output().await;
        assert!(status.success(), "{said}");
    });
}

#[test]
fn files_that_are_no_certificates_are_named() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let empty = file(folder.path(), "empty", "");
        let pem = file(folder.path(), "pem", &Authority::new().certificate);
        for (settings, says) in [
            (&[("NATS_CA", "/no/such")][..], ["NATS_CA", "/no/such"]),
            (&[("NATS_CA", &*empty)], ["NATS_CA", "holds no PEM"]),
            (&[("NATS_CERT", &*pem)], ["NATS_KEY", "go together"]),
            (&[("NATS_KEY", &*pem)], ["NATS_CERT", "go together"]),
            // The client would send plain text.
            (
                &[("NATS_URL", "wss://127.0.0.1:1"), ("NATS_CA", &*pem)],
                ["NATS_URL", "WebSockets"],
            ),
            (
                &[("NATS_URL", "ws://127.0.0.1:1")],
                ["NATS_URL", "WebSockets"],
            ),
        ] {
            let program = settings
                .iter()
                .fold(Program::new(&["bus", "init"]), |program, (name, value)| {
                    program.env(name, value)
                });
            let (status, log) = program.finish().await;
            assert_eq!(status.code(), Some(2), "{log}");
            assert!(says.iter().all(|text| log.contains(text)), "{log}");
        }
    });
}
