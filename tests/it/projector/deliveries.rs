//! What somebody can do to the consumers of a projector, with no more than a connection to NATS: another
//! stream's messages delivered into its inbox, its consumer paused, removed, or changed. Nothing of
//! it is applied, and nothing stops.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use artstore_schemas::source::Source;
use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{self, AckPolicy, DeliverPolicy, push};
use async_nats::jetstream::stream::{Config, Stream, SubjectTransform};
use chrono::{TimeDelta, Utc};
use futures::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::followed_advice::follow;
use crate::services::frozen::Frozen;
use crate::support::load::{create, new_file};
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
    run_waiting(async {
        let world = World::without_rights(&["elem"]).await;
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
        processed(&somebody.client).await;
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

        // Paused: heartbeats continue, and messages do not come.
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
        // Nothing is lost: status shows it for a minute.
        let mut services = vec![relay, projector];
        follow(&world, "nobody changes consumers any more", &mut services).await;
        for service in services {
            service.kill().await;
        }
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

/// What a server reports about pull requests, without a message.
const STATUSES: [&str; 7] = [
    "409 Consumer Deleted",
    "409 Server Shutdown",
    "409 Consumer is push based",
    "408 Request Timeout\r\nNats-Pending-Messages: 2000\r\nNats-Pending-Bytes: 16777216",
    "404 No Messages",
    "503",
    "100 Idle Heartbeat",
];

/// A connection of somebody's own: the client library does not write a status.
async fn plain(nats_url: &str) -> TcpStream {
    let url: url::Url = nats_url.parse().unwrap();
    let place = (url.host_str().unwrap(), url.port().unwrap());
    let mut socket = TcpStream::connect(place).await.unwrap();
    let login = serde_json::json!({
        "user": url.username(), "pass": url.password(),
        "verbose": false, "pedantic": false, "headers": true,
    });
    let hello = format!("CONNECT {login}\r\nPING\r\n");
    socket.write_all(hello.as_bytes()).await.unwrap();
    let mut said = String::new();
    while !said.contains("PONG") {
        let mut bytes = [0; 4096];
        let count = socket.read(&mut bytes).await.unwrap();
        assert!(count > 0, "the server closed the connection: {said}");
        said += &String::from_utf8_lossy(&bytes[..count]);
    }
    socket
}

/// All statuses into these inboxes, as fast as the server takes them, until it is dropped.
async fn flood(mut socket: TcpStream, inboxes: &[String], sent: &AtomicU64) {
    let mut all = String::new();
    for inbox in inboxes {
        for status in STATUSES {
            let headers = format!("NATS/1.0 {status}\r\n\r\n");
            let size = headers.len();
            write!(all, "HPUB {inbox} {size} {size}\r\n{headers}\r\n").unwrap();
        }
    }
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    let mut bytes = [0; 4096];
    loop {
        tokio::select! {
            _ = tick.tick() => socket.write_all(all.as_bytes()).await.unwrap(),
            read = socket.read(&mut bytes) => {
                if String::from_utf8_lossy(&bytes[..read.unwrap()]).contains("PING") {
                    socket.write_all(b"PONG\r\n").await.unwrap();
                }
                continue;
            }
        }
        sent.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whoever hears where a projector has its messages delivered says there, thousands of times, that its
/// consumer is gone and that its requests have ended.
#[test]
fn forged_statuses_cost_some_requests_and_no_restart() {
    run(async {
        let world = World::without_rights(&["elem"]).await;
        let stream = world.source(0).stream();
        let somebody = connect(&world.nats_url).await;
        let listen = async |what: &str| {
            let subject = format!("$JS.API.{what}.{stream}.>");
            let heard = somebody.client.subscribe(subject).await.unwrap();
            processed(&somebody.client).await;
            heard
        };
        let mut requests = listen("CONSUMER.MSG.NEXT").await;
        let projector = world.projector().start();
        file(&world, "first.txt").await;
        let relay = world.relay(0).start();
        world.caught_up(0).await;
        world.projected().await;
        let mut inboxes = vec![inbox(&mut requests).await];
        while let Ok(Some(request)) =
            tokio::time::timeout(Duration::from_secs(1), requests.next()).await
        {
            inboxes.push(request.reply.unwrap().to_string());
        }
        inboxes.sort();
        inboxes.dedup();

        let (mut created, mut asked) = (
            listen("CONSUMER.CREATE").await,
            listen("CONSUMER.INFO").await,
        );
        let begun = Instant::now();
        let sent = AtomicU64::new(0);
        let work = async {
            for round in 0..40 {
                for number in 0..10 {
                    file(&world, &format!("{round}-{number}.txt")).await;
                }
                world.caught_up(0).await;
                world.applied().await;
            }
            eventually("it was flooded for a while", async || {
                (sent.load(Ordering::Relaxed) > 1_000).then_some(())
            })
            .await;
            world.projected().await;
        };
        tokio::select! {
            () = work => {}
            () = flood(plain(&world.nats_url).await, &inboxes, &sent) => {}
        }
        let took = begun.elapsed();
        let count = async |heard: &mut async_nats::Subscriber| {
            processed(&somebody.client).await;
            let mut count = 0;
            while let Ok(Some(_)) =
                tokio::time::timeout(Duration::from_millis(200), heard.next()).await
            {
                count += 1;
            }
            count
        };
        // The relay reads its stream's end once, at its start, before that.
        assert_eq!(count(&mut created).await, 0, "no consumer is made anew");
        let most = inboxes.len() as u64 * (took.as_millis() as u64 / 500 + 3);
        let (asked, requested) = (count(&mut asked).await, count(&mut requests).await);
        let of = sent.load(Ordering::Relaxed) * STATUSES.len() as u64;
        assert!(
            asked <= most,
            "{asked} questions in {took:?}, after {of} statuses each"
        );
        assert!(
            requested <= most,
            "{requested} requests in {took:?}, after {of} statuses each"
        );
        let log = projector.log();
        assert!(!log.contains("starts again"), "{log}");
        assert!(!log.contains("made anew"), "{log}");
        let warned = log
            .matches("somebody said that this consumer is removed")
            .count();
        assert_eq!(warned, inboxes.len(), "{log}");
        relay.kill().await;
        projector.kill().await;
    });
}

/// Stopped for longer than a consumer may be quiet, and for less than PostgreSQL leaves its sessions alone:
/// nothing was read meanwhile, which is not the consumer's fault.
#[test]
fn a_worker_that_stood_still_does_not_blame_its_consumer() {
    run(async {
        let world = World::without_rights(&["elem"]).await;
        let relay = world.relay(0).start();
        let projector = world.projector().start();
        file(&world, "first").await;
        world.published(0).await;
        world.projected().await;
        for name in ["a", "b", "c"] {
            let frozen = Frozen::new(vec![projector.pid()]);
            let stopped = Instant::now();
            file(&world, name).await;
            world.published(0).await;
            tokio::time::sleep(Duration::from_secs(4).saturating_sub(stopped.elapsed())).await;
            drop(frozen);
            world.projected().await;
        }
        let log = projector.log();
        assert!(!log.contains("delivered nothing"), "{log}");
        projector.kill().await;
        relay.kill().await;
    });
}
