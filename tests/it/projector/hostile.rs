//! Messages that no relay writes, published with a relay's key: each in a stream of its own. What can't be read halts its
//! stream, by name, and no other; each has a row of the audit log; nothing ends, and nothing grows.

use artstore_bus::accounts::role::Role;
use artstore_schemas::envelope::Envelope;
use artstore_schemas::source::Source;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use uuid::Uuid;

use crate::accounts::headers::{heard, plain, publish};
use crate::audit::Audited;
use crate::relay::large_rows::peak;
use crate::support::*;

const SAMPLE: &str = include_str!("../../../schemas/samples/artstore.file.created.v1.json");

/// What a process may have used, whatever it reads.
const MOST: usize = 120 * 1024 * 1024;

/// What is done to a message, by the name of its stream's element.
struct Hostile {
    element: &'static str,
    /// Lines of headers besides those of the envelope.
    lines: Vec<u8>,
    change: fn(&mut Envelope),
    body: fn(&str) -> Vec<u8>,
    /// Whether the query cache applies it.
    applied: bool,
    /// Whether the audit log can read it.
    read: bool,
}

/// A message with nothing wrong.
fn sound(element: &'static str) -> Hostile {
    Hostile {
        element,
        lines: Vec::new(),
        change: |_| {},
        body: |body| body.as_bytes().to_vec(),
        applied: true,
        read: true,
    }
}

fn nested() -> String {
    format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000))
}

fn hostile() -> Vec<Hostile> {
    let many = (0..10_000).map(|_| "a:b\r\n").collect::<String>();
    vec![
        Hostile {
            body: |body| {
                let data = format!("\"operation\":{{\"data\":{{\"json\":{}}},", nested());
                body.replacen("\"operation\":{", &data, 1).into()
            },
            applied: false,
            read: false,
            ..sound("nested")
        },
        // Readers pass over what they do not know; the audit log would have to keep it.
        Hostile {
            body: |body| {
                let more = format!("{{\"more\":{},", nested());
                body.replacen('{', &more, 1).into()
            },
            read: false,
            ..sound("unknown")
        },
        Hostile {
            body: |body| {
                let size = "\"file_size\":1e400,\"more\":";
                body.replacen("\"file_size\":", size, 1).into()
            },
            applied: false,
            read: false,
            ..sound("huge")
        },
        Hostile {
            body: |body| body.replacen('{', "{\"file\":null,", 1).into(),
            applied: false,
            ..sound("twice")
        },
        Hostile {
            body: |body| {
                let mut body = body.as_bytes().to_vec();
                let name = b"original_filename\":\"";
                let at = body.windows(name.len()).position(|w| w == name).unwrap();
                body.insert(at + name.len(), 0xff);
                body
            },
            applied: false,
            read: false,
            ..sound("bytes")
        },
        Hostile {
            lines: many.into_bytes(),
            ..sound("many")
        },
        Hostile {
            change: |envelope| {
                envelope.position = Some(i64::MAX);
                envelope.high_water_mark = i64::MAX;
                envelope.gaps = "2+9223372036854775804".parse().unwrap();
            },
            ..sound("jumps")
        },
        Hostile {
            lines: b"artstore-gaps: 9223372036854775807,1\r\n".to_vec(),
            applied: false,
            ..sound("ranges")
        },
    ]
}

/// The n-th message of a stream, with its body: of the file with this number.
fn message(source: &Source, number: u128) -> (Envelope, String) {
    let sample: Value = serde_json::from_str(SAMPLE).unwrap();
    let mut headers = async_nats::HeaderMap::new();
    for (name, value) in sample["headers"].as_object().unwrap() {
        headers.insert(name.as_str(), value.as_str().unwrap());
    }
    let (id, file) = (Uuid::new_v4(), Uuid::new_v4());
    let mut body = sample["body"].clone();
    body["operation"]["id"] = id.to_string().into();
    body["operation"]["file_id"] = file.to_string().into();
    body["file"]["id"] = file.to_string().into();
    let position = i64::try_from(number).unwrap();
    let envelope = Envelope {
        id,
        source: source.ce_source(),
        subject: Some(file.to_string()),
        position: Some(position),
        high_water_mark: position,
        gaps: "".parse().unwrap(),
        previous: None,
        ..Envelope::from_headers(&headers).unwrap()
    };
    (envelope, body.to_string())
}

fn written(envelope: &Envelope, lines: &[u8]) -> Vec<u8> {
    let mut block = b"NATS/1.0\r\n".to_vec();
    for (name, values) in envelope.to_headers().iter() {
        block.extend(format!("{name}: {}\r\n", values[0]).bytes());
    }
    block.extend(lines);
    block.extend(b"\r\n");
    block
}

#[test]
fn each_hostile_message_is_rejected_by_name_and_has_a_row_and_nothing_ends_or_grows() {
    run(async {
        let hostile = hostile();
        let mut elements = vec!["elem"];
        elements.extend(hostile.iter().map(|hostile| hostile.element));
        let world = World::new(&elements).await;
        let audited = Audited::new(&world).await;
        let projector = world.projector().start();
        let audit = audited.projector().start();
        let relay = world.relay(0).start();
        for (index, hostile) in hostile.iter().enumerate() {
            let source = world.source(index + 1);
            let mut relay = plain(&world, &Role::Relay(source.clone())).await;
            let (first, body) = message(&source, 1);
            let subject = |envelope: &Envelope| {
                let key = envelope.subject.as_ref().map(|key| key.parse().unwrap());
                artstore_schemas::subject::subject(&source, key, &envelope.event_type)
            };
            let block = written(&first, b"");
            publish(&mut relay, &subject(&first), &block, body.as_bytes()).await;
            let (mut second, body) = message(&source, 2);
            second.previous = Some(first.id);
            (hostile.change)(&mut second);
            let block = written(&second, &hostile.lines);
            let body = (hostile.body)(&body);
            publish(&mut relay, &subject(&second), &block, &body).await;
            eventually(&format!("{source} has both messages"), || async {
                (world.last_sequence(&source).await == 2).then_some(())
            })
            .await;
        }
        // The server refuses what no message may have, by its size alone.
        let source = world.source(1);
        let mut relay_key = plain(&world, &Role::Relay(source.clone())).await;
        let subject = format!("{}.p00.file.created", source.subject_prefix());
        let large = format!("PUB {subject} {}\r\n", 10 * 1024 * 1024);
        relay_key.write_all(large.as_bytes()).await.unwrap();
        heard(&mut relay_key, "Maximum Payload Violation").await;
        crate::relay::refusals::rows(&mut world.element(0).await, 3).await;
        world.published(0).await;
        for (index, hostile) in hostile.iter().enumerate() {
            let source = world.source(index + 1);
            audited.caught_up_with(&source, 2).await;
            let kinds: Vec<String> = sqlx::query_scalar(
                "select event_type from audit_logs where stream = $1 order by stream_sequence",
            )
            .bind(source.stream())
            .fetch_all(&mut world.admin().await)
            .await
            .unwrap();
            let read = kinds[1] != "message_unreadable";
            assert_eq!(
                (kinds[0].as_str(), read),
                ("file_create", hostile.read),
                "{source}"
            );
            let expected = if hostile.applied { 2 } else { 1 };
            eventually(&format!("{source} is applied up to {expected}"), || async {
                (checkpoint(&world.query_url, &source).await == expected).then_some(())
            })
            .await;
            if !hostile.applied {
                let stream = source.stream();
                eventually(&format!("the halt of {stream} is named"), || async {
                    let log = projector.log();
                    let named = |line: &str| line.contains("halted") && line.contains(&stream);
                    log.lines().any(named).then_some(())
                })
                .await;
            }
        }
        let elem = world.source(0);
        audited.caught_up_with(&elem, 3).await;
        eventually("the others go on", || async {
            (checkpoint(&world.query_url, &elem).await == 3).then_some(())
        })
        .await;
        for process in [&projector, &audit, &relay] {
            assert!(!process.log().contains("panicked"), "{}", process.log());
            let used = peak(process.pid()).unwrap();
            assert!(used < MOST, "{} MiB", used >> 20);
        }
        audit.kill().await;
        projector.kill().await;
        relay.kill().await;
    });
}
