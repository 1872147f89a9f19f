//! What somebody does to the consumers of a projector, with no more than a connection to NATS: another
//! stream's messages delivered into its inbox, its consumer paused, removed, or changed. Nothing of
//! it is applied, and nothing stops.

use artstore_schemas::source::Source;
use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{self, AckPolicy, DeliverPolicy, push};
use async_nats::jetstream::stream::{Config, Stream, SubjectTransform};
use chrono::{TimeDelta, Utc};
use futures::StreamExt as _;
use uuid::Uuid;

use crate::load::{create, new_file};
use crate::support::*;

async fn file(world: &World, name: &str) {
    let mut element = (world.elements[0].0.clone(), world.element(0).await);
    create(&mut element, &new_file(name)).await.unwrap();
}

/// Where a projector of this stream has its messages delivered, as anybody can hear.
async fn inbox(requests: &mut async_nats::Subscriber) -> String {
    let heard = tokio::time::timeout(PATIENCE, requests.next()).await;
    let request = heard.expect("a pull request is heard").unwrap();
    request.reply.unwrap().to_string()
}

/// A stream of somebody's own, whose message `sequence` looks like the next one of the source's stream:
/// its headers follow the last event, and it comes on a subject of the source.
async fn forge(world: &World, source: &Source, sequence: u64) {
    let prefix = source.subject_prefix();
    let config = Config {
        name: "ELSEWHERE".to_owned(),
        subjects: vec!["elsewhere.>".to_owned()],
        subject_transform: Some(SubjectTransform {
            source: "elsewhere.>".to_owned(),
            destination: format!("{prefix}.>"),
        }),
        ..Config::default()
    };
    world.bus.jetstream.create_stream(config).await.unwrap();
    let real = world.bus.jetstream.get_stream(source.stream()).await;
    let real = real.unwrap().get_raw_message(sequence - 1).await.unwrap();
    let mut headers = HeaderMap::new();
    for (name, values) in real.headers.iter() {
        let said = name.to_string().to_lowercase();
        if said.starts_with("ce-") || said.starts_with("artstore-") || said == "content-type" {
            headers.insert(name.clone(), values[0].clone());
        }
    }
    let (last, forged) = (
        headers.get("ce-id").unwrap().clone(),
        Uuid::new_v4().to_string(),
    );
    headers.insert("ce-id", forged.as_str());
    headers.insert("Nats-Msg-Id", forged.as_str());
    headers.insert("artstore-previous", last);
    let body = String::from_utf8(real.payload.to_vec()).unwrap();
    let body = body.replace("real.txt", "forged.txt");
    assert!(body.contains("forged.txt"));
    let subject = real.subject.replace(prefix.as_str(), "elsewhere");
    for _ in 1..sequence {
        let filler = world.bus.jetstream.publish("elsewhere.filler", "".into());
        filler.await.unwrap().await.unwrap();
    }
    let sent = world
        .bus
        .jetstream
        .publish_with_headers(subject, headers, body.into());
    assert_eq!(sent.await.unwrap().await.unwrap().sequence, sequence);
}

#[test]
fn messages_that_another_consumer_delivers_are_dropped_and_a_paused_one_is_made_anew() {
    run(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        let stream = source.stream();
        file(&world, "real.txt").await;
        let relay = world.relay(0).start();
        world.published(0).await;
        forge(&world, &source, 2).await;

        // Before the projector: its first request is heard.
        let somebody = connect(&world.nats_url).await;
        let requests = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.>");
        let mut requests = somebody.client.subscribe(requests).await.unwrap();
        somebody.client.flush().await.unwrap();
        let projector = world.projector().start();
        let inbox = inbox(&mut requests).await;
        world.projected().await;
        let config = push::Config {
            deliver_subject: inbox,
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: 2 },
            ack_policy: AckPolicy::None,
            ..push::Config::default()
        };
        let pushed = somebody
            .jetstream
            .create_consumer_on_stream(config, "ELSEWHERE");
        pushed.await.unwrap();
        projector.says("are dropped").await;
        assert_eq!(checkpoint(&world.query_url, &source).await, 1);

        // What the stream really has next is applied, by the same session.
        file(&world, "next.txt").await;
        world.caught_up(0).await;
        world.projected().await;
        let names = "select string_agg(filename, ' ' order by filename) from file_metadata_cache";
        let names: String = value(&mut world.query().await, names).await;
        assert_eq!(names, "next.txt real.txt");
        let log = projector.log();
        assert_eq!(log.matches("are dropped").count(), 1, "{log}");
        assert!(!log.contains("starts again"), "{log}");

        // Paused: heartbeats go on, and messages do not come.
        let handle = somebody.jetstream.get_stream(&stream).await.unwrap();
        for consumer in consumers(&handle).await {
            let until = Utc::now() + TimeDelta::hours(1);
            let paused = handle.pause_consumer(&consumer.name, until).await;
            assert!(paused.unwrap().paused);
        }
        file(&world, "behind the pause.txt").await;
        world.caught_up(0).await;
        world.projected().await;
        projector.says("somebody has paused it").await;
        let (status, said) = world.command(&["status"]).argument("--json").output().await;
        assert!(said.contains("somebody has paused it"), "{status}: {said}");

        // Changed, so that nothing fits it any more: the stream is ahead, and it does not know.
        for consumer in consumers(&handle).await {
            let config = consumer::Config {
                name: Some(consumer.name),
                filter_subject: format!("{}.nothing", source.subject_prefix()),
                ..consumer.config
            };
            handle.update_consumer(config).await.unwrap();
        }
        file(&world, "behind the change.txt").await;
        world.caught_up(0).await;
        world.projected().await;
        projector.says("somebody may have changed it").await;

        // Removed.
        for consumer in consumers(&handle).await {
            handle.delete_consumer(&consumer.name).await.unwrap();
        }
        file(&world, "behind the removal.txt").await;
        world.caught_up(0).await;
        world.projected().await;
        relay.kill().await;
        projector.kill().await;
    });
}

/// The consumers that somebody waits for, of all that the stream has.
async fn consumers(stream: &Stream) -> Vec<consumer::Info> {
    eventually("a worker waits for messages", || async {
        let mut all = stream.consumers();
        let mut waited = Vec::new();
        while let Some(consumer) = all.next().await {
            let consumer = consumer.ok()?;
            if consumer.num_waiting > 0 && !consumer.paused {
                waited.push(consumer);
            }
        }
        (!waited.is_empty()).then_some(waited)
    })
    .await
}
