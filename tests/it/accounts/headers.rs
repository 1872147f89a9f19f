//! Headers that no client library writes: a line end in a value, bytes that are no UTF-8. The server passes them on as
//! they are, to whoever listens on the subject, and the client's connection ends. Readers may ask relays and projectors
//! for their state, so they reach both, and no connection that works.

use artstore_bus::accounts::role::Role;
use artstore_schemas::source::{Source, projection_status_subject};
use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::goes_on;
use crate::relay::refusals::rows;
use crate::support::*;

/// Blocks of headers, of which each has ended a client.
pub const HOSTILE: [&[u8]; 4] = [
    b"NATS/1.0\r\nX: a\rb\r\n\r\n",
    b"NATS/1.0\r\nX: a\xff\xfeb\r\n\r\n",
    b"NATS/1.0\r\nno header\r\n\r\n",
    b"NATS/1.0 many\r\nX y: z\r\n\r\n",
];

/// A connection of a role's own, on which anything can be written.
pub async fn plain(world: &World, role: &Role) -> TcpStream {
    let url: url::Url = world.nats_url.parse().unwrap();
    let place = (url.host_str().unwrap(), url.port().unwrap());
    let mut socket = TcpStream::connect(place).await.unwrap();
    let info = heard(&mut socket, "\r\n").await;
    let info: Value = serde_json::from_str(info.strip_prefix("INFO ").unwrap()).unwrap();
    let file = world.nats_keys.as_ref().unwrap().join(role.key_file());
    let seed = std::fs::read_to_string(file).unwrap();
    let key = KeyPair::from_seed(seed.trim()).unwrap();
    let nonce = info["nonce"].as_str().unwrap();
    let login = json!({
        "nkey": key.public_key(), "sig": BASE64URL_NOPAD.encode(&key.sign(nonce.as_bytes()).unwrap()),
        "verbose": false, "pedantic": false, "headers": true, "protocol": 1,
    });
    let hello = format!("CONNECT {login}\r\nPING\r\n");
    socket.write_all(hello.as_bytes()).await.unwrap();
    heard(&mut socket, "PONG").await;
    socket
}

/// What the server says, up to this.
pub async fn heard(socket: &mut TcpStream, end: &str) -> String {
    let mut said = String::new();
    while !said.contains(end) {
        let mut bytes = [0; 4096];
        let count = socket.read(&mut bytes).await.unwrap();
        assert!(count > 0, "the server closed the connection: {said}");
        said += &String::from_utf8_lossy(&bytes[..count]);
    }
    said
}

/// Publishes what has these headers, and waits until the server has taken it.
pub async fn publish(socket: &mut TcpStream, subject: &str, headers: &[u8], body: &[u8]) {
    let (size, all) = (headers.len(), headers.len() + body.len());
    let mut sent = format!("HPUB {subject} {size} {all}\r\n").into_bytes();
    sent.extend(headers);
    sent.extend(body);
    sent.extend(b"\r\nPING\r\n");
    socket.write_all(&sent).await.unwrap();
    let said = heard(socket, "PONG").await;
    assert!(!said.contains("-ERR"), "{said}");
}

#[test]
fn a_question_with_headers_that_nobody_can_read_disturbs_nobody() {
    run(async {
        let world = World::new(&["elem"]).await;
        rows(&mut world.element(0).await, 3).await;
        let relay = world.command(&["run", "relay"]).start();
        let projector = world.projector().start();
        goes_on(&world).await;
        let mut reader = plain(&world, &Role::Reader).await;
        let elem: Source = world.source(0);
        let subjects = [
            elem.status_subject(),
            projection_status_subject("query-cache"),
        ];
        for headers in HOSTILE {
            for subject in &subjects {
                publish(&mut reader, subject, headers, b"").await;
            }
            goes_on(&world).await;
        }
        // Whoever asks in a way that can be read is answered again.
        eventually("relay and projector answer", || async {
            let (_, said) = world.command(&["status", "--json"]).output().await;
            let said: Value = serde_json::from_str(&said).unwrap();
            let relays = said["sources"][0]["relay"]["answers"].as_array()?.len();
            let answers = said["projections"][0]["processes"].as_array();
            (relays == 1 && answers.is_none_or(|answers| !answers.is_empty())).then_some(())
        })
        .await;
        relay.kill().await;
        projector.kill().await;
    });
}
