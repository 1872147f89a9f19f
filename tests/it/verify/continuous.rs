//! The check beside the relay: how far it has come, and what it finds, for everybody to see.

use artstore_schemas::envelope::Envelope;
use artstore_schemas::subject::subject;
use async_nats::jetstream::message::PublishMessage;
use serde_json::Value;
use uuid::Uuid;

use super::command::bulk;
use super::*;

/// The value of a metric with these labels in it.
fn metric(text: &str, name: &str, labels: &[&str]) -> Option<f64> {
    text.lines()
        .filter(|line| line.starts_with(name) && labels.iter().all(|label| line.contains(label)))
        .find_map(|line| line.rsplit(' ').next()?.parse().ok())
}

async fn page(relay: &Process) -> String {
    let log = relay.log();
    let address = log.split("address=").nth(1).unwrap();
    let address = address.split_whitespace().next().unwrap();
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[test]
fn the_check_beside_the_relay_follows_it_and_tells_what_it_finds_once() {
    run(async {
        let world = World::new(&["elem"]).await;
        bulk(&world, 2_000).await;
        let start = || {
            world
                .command(&["run", "relay", "--verify", "--listen", "127.0.0.1:0"])
                .start()
        };
        let mut relay = start();
        relay.says("listening").await;
        let proven = async |relay: &Process, position: f64| {
            eventually(&format!("position {position} is proven"), || async {
                let page = page(relay).await;
                let proven = metric(&page, "artstore_proven_position{", &["\"elem\""]);
                (proven == Some(position)).then_some(())
            })
            .await;
        };
        proven(&relay, 2_000.0).await;
        // It follows.
        bulk(&world, 100).await;
        proven(&relay, 2_100.0).await;
        let missing = ["\"elem\"", "\"message-missing\""];
        assert_eq!(
            metric(&page(&relay).await, "artstore_findings{", &missing),
            Some(0.0)
        );

        // A row that is changed after it was checked is found by the next process, which begins
        // at the start.
        let mut element = world.element(0).await;
        forge(
            &mut element,
            "elem",
            "update elem_wal set user_id = '7' where position = 1000",
        )
        .await;
        let mut admin = pg(&world.admin_url).await;
        for _ in 0..2 {
            relay.kill().await;
            relay = start();
            relay.says("listening").await;
            relay.says("artstore relay republish --source elem").await;
            proven(&relay, 999.0).await;
            let changed = ["\"elem\"", "\"message-changed\""];
            // The position before it is proven a moment before it is found.
            eventually("the finding is counted", async || {
                let page = page(&relay).await;
                let found = metric(&page, "artstore_findings{", &changed);
                (found == Some(1.0)).then_some(())
            })
            .await;
            let finding: Value = eventually("the finding is reported", || async {
                let mut admin = pg(&world.admin_url).await;
                sqlx::query_scalar(
                    "select data from event_outbox where entity = 'verification' \
                     and action = 'finding'",
                )
                .fetch_optional(&mut admin)
                .await
                .unwrap()
            })
            .await;
            assert_eq!(finding["kind"], "message-changed");
            assert_eq!(
                (&finding["source"], &finding["position"]),
                (&"elem".into(), &1_000.into())
            );
        }
        let told: i64 = value(&mut admin, "select count(*) from event_outbox").await;
        assert_eq!(told, 1, "the second process found the same");
        // The event goes the way of all events.
        eventually("it is published", || async {
            (world.last_sequence(&Source::Admin).await == 1).then_some(())
        })
        .await;
        relay.kill().await;
    });
}

/// It fits the end of the stream, and the relay builds on it: with nothing set, its check finds it.
#[test]
fn an_event_without_a_position_and_a_row_is_found_beside_every_relay() {
    run(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        bulk(&world, 10).await;
        let relay = world
            .command(&["run", "relay", "--listen", "127.0.0.1:0"])
            .without("ARTSTORE_VERIFY")
            .start();
        relay.says("listening").await;
        world.caught_up(0).await;
        let last = world.messages(&source).await.pop().unwrap();
        let envelope = Envelope {
            id: Uuid::new_v4(),
            position: None,
            previous: Some(last.id),
            ..last
        };
        let subject = subject(&source, None, &envelope.event_type);
        let forged = PublishMessage::build().headers(envelope.to_headers());
        let sent = world.bus.jetstream.send_publish(subject, forged).await;
        assert_eq!(sent.unwrap().await.unwrap().sequence, 11);
        bulk(&world, 1).await;

        relay.says("artstore relay republish --source elem").await;
        eventually("the finding is an event", || async {
            (world.last_sequence(&Source::Admin).await == 1).then_some(())
        })
        .await;
        let page = page(&relay).await;
        let found: f64 = ["message-foreign", "message-without-row", "message-extra"]
            .iter()
            .filter_map(|kind| metric(&page, "artstore_findings{", &["\"elem\"", kind]))
            .sum();
        assert!(found >= 1.0, "{page}");
        relay.kill().await;
    });
}
