//! `NATS_CREDENTIALS`: a server that knows its users by signed tokens, and a file with one of them.

use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

use crate::support::nats_server::NatsServer;
use crate::support::*;

/// A token as NATS reads it: signed by `issuer`, about `subject`.
fn token(issuer: &KeyPair, subject: &KeyPair, name: &str, nats: Value) -> String {
    let part = |value: Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let header = part(json!({"typ": "JWT", "alg": "ed25519-nkey"}));
    let claims = part(json!({
        "jti": name, "iat": 1_700_000_000, "iss": issuer.public_key(), "name": name,
        "sub": subject.public_key(), "nats": nats,
    }));
    let signed = format!("{header}.{claims}");
    let signature = BASE64URL_NOPAD.encode(&issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}

fn account(operator: &KeyPair, account: &KeyPair, name: &str, jetstream: bool) -> String {
    let mut limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
        "conn": -1, "leaf": -1,
    });
    if jetstream {
        for limit in ["mem_storage", "disk_storage", "streams", "consumer"] {
            limits[limit] = json!(-1);
        }
    }
    let nats = json!({"limits": limits, "type": "account", "version": 2});
    token(operator, account, name, nats)
}

#[test]
fn a_credentials_file_opens_the_bus_and_a_wrong_one_does_not() {
    run(async {
        let (operator, system, ours) = (
            KeyPair::new_operator(),
            KeyPair::new_account(),
            KeyPair::new_account(),
        );
        let (user, stranger) = (KeyPair::new_user(), KeyPair::new_user());
        let configuration = format!(
            "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {}, {}: {} }}\n",
            token(
                &operator,
                &operator,
                "O",
                json!({"type": "operator", "version": 2})
            ),
            system.public_key(),
            system.public_key(),
            account(&operator, &system, "SYS", false),
            ours.public_key(),
            account(&operator, &ours, "ARTSTORE", true),
        );
        let server = NatsServer::start(&configuration).await;
        let credentials = |file: &str, issuer: &KeyPair, user: &KeyPair| {
            let nats = json!({
                "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1,
                "type": "user", "version": 2,
            });
            let token = token(issuer, user, "U", nats);
            let content = format!(
                "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
                 -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
                user.seed().unwrap()
            );
            let path = server.folder.path().join(file);
            std::fs::write(&path, content).unwrap();
            path.display().to_string()
        };
        let init = |credentials: &str| {
            Program::new(&["bus", "init"])
                .env("NATS_URL", &format!("nats://127.0.0.1:{}", server.port))
                .env("NATS_CREDENTIALS", credentials)
        };
        let (status, said) = init(&credentials("good.creds", &ours, &user))
            .output()
            .await;
        assert!(status.success());
        assert!(said.contains("ARTSTORE_WAL_storage_elem_01"), "{said}");

        // Signed by somebody whom the operator does not know.
        let wrong = credentials("wrong.creds", &KeyPair::new_account(), &stranger);
        let (status, log) = init(&wrong).finish().await;
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains("authorization violation"), "{log}");

        let (status, log) = init("/nowhere/at.all").finish().await;
        assert_eq!(status.code(), Some(2), "{log}");
        assert!(
            log.contains("NATS_CREDENTIALS: /nowhere/at.all can't be read"),
            "{log}"
        );
    });
}
