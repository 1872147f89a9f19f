//! `artstore verify`: what is damaged is named exactly, and nothing else; what is in use gives no
//! false alarm.
//!
//! - `damage`: one kind of damage after the other
//! - `rows`: damage of the source's rows
//! - `repaired`: the commands that are named do repair it
//! - `altered`: the same for whatever was done to messages
//! - `command`: what the command prints, and a check that is killed and continues
//! - `restarted`: servers that are restarted in the middle, or stay away
//! - `continuous`: the check beside the relay
//! - `cache`: the read model against the elements' files
//! - `memory`: what a check of the read model costs
//! - `size`: how memory and time grow with the rows
//! - `soak`: no false alarm while everything is in use and gets killed

mod altered;
pub mod cache;
mod command;
mod continuous;
mod damage;
mod memory;
mod repaired;
mod restarted;
mod rows;
pub mod size;
mod soak;

use std::time::Duration;

use artstore_bus::connection::Bus;
use artstore_bus::message::Message;
use artstore_producers::relay::seen_positions::SeenPositions;
use artstore_schemas::envelope::Envelope;
use artstore_schemas::source::Source;
use artstore_verification::finding::{Finding, Kind};
use artstore_verification::reader::Reader;
use artstore_verification::source::Report;
use async_nats::HeaderMap;
use async_nats::jetstream::stream::Stream;
use uuid::Uuid;

use crate::support::load;
use crate::support::*;

/// Rows of every kind, of our API and of the product's, published. Twenty-two of them.
pub async fn filled(world: &World) {
    let mut element = (world.elements[0].0.clone(), world.element(0).await);
    for n in 0..4 {
        let file = load::new_file(&format!("report {n}.pdf"));
        load::create(&mut element, &file).await.unwrap();
        load::update(&mut element, file.id, &format!("first {n}"))
            .await
            .unwrap();
        load::update(&mut element, file.id, &format!("second {n}"))
            .await
            .unwrap();
        load::fail(&mut element, file.id).await.unwrap();
    }
    let name = world.elements[0].0.to_string();
    for n in 0..6 {
        let sql = format!(
            "insert into {name}_wal (transaction_id, operation_type, status, operation_data) \
             values ('{}', 'mode_change', 'committed', '{{\"n\": {n}}}')",
            Uuid::new_v4()
        );
        execute(&mut element.1, sql).await;
    }
    let relay = world.relay(0).start();
    world.published(0).await;
    relay.kill().await;
}

/// All messages of a stream, as they could be published again.
pub async fn all(bus: &Bus, source: &Source) -> Vec<Message> {
    let last = bus
        .stream_info(&source.stream())
        .await
        .unwrap()
        .state
        .last_sequence;
    let mut reader = Reader::new(bus, source, 0);
    let mut messages: Vec<Message> = Vec::new();
    while (messages.len() as u64) < last {
        messages.extend(reader.batch(1_000, Duration::from_secs(10)).await.unwrap());
    }
    for message in &mut messages {
        message.headers = kept(&message.headers);
    }
    messages
}

/// Without what the relay adds to publish.
fn kept(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for (name, values) in headers.iter() {
        let text: &str = name.as_ref();
        if !text.starts_with("Nats-Batch") && !text.starts_with("Nats-Expected") {
            for value in values {
                kept.append(text, value.as_str());
            }
        }
    }
    kept
}

pub fn copy(message: &Message) -> Message {
    Message {
        published: message.published,
        sequence: message.sequence,
        subject: message.subject.clone(),
        headers: message.headers.clone(),
        body: message.body.clone(),
    }
}

pub fn copies(messages: &[Message]) -> Vec<Message> {
    messages.iter().map(copy).collect()
}

/// As a relay would have chained them in this order, with the state that belongs to it.
pub fn chained(mut messages: Vec<Message>) -> Vec<Message> {
    let mut before = None;
    let mut seen_positions = SeenPositions::default();
    for message in &mut messages {
        let mut envelope = Envelope::from_headers(&message.headers).unwrap();
        let position = envelope.position.unwrap();
        if position > seen_positions.high_water_mark() || seen_positions.gaps().contains(position) {
            assert!(seen_positions.see(position));
        }
        envelope.previous = before.replace(envelope.id);
        envelope.high_water_mark = seen_positions.high_water_mark();
        envelope.gaps = seen_positions.gaps();
        message.headers = envelope.to_headers();
    }
    messages
}

/// Recreates the source's stream, with these messages.
pub async fn replace(world: &World, source: &Source, messages: &[Message]) {
    let stream = source.stream();
    world.bus.jetstream.delete_stream(&stream).await.unwrap();
    world.bus.ensure_stream(source, 1).await.unwrap();
    let mut config = world.bus.stream_info(&stream).await.unwrap().config;
    // A message that stands there twice must not be taken for a repeated one.
    config.duplicate_window = Duration::from_millis(100);
    world.bus.jetstream.update_stream(config).await.unwrap();
    for message in messages {
        eventually("the message is stored", || async {
            let ack = world
                .bus
                .jetstream
                .publish_with_headers(
                    message.subject.clone(),
                    message.headers.clone(),
                    message.body.clone(),
                )
                .await
                .unwrap()
                .await
                .unwrap();
            (!ack.duplicate).then_some(())
        })
        .await;
    }
}

/// The same, in a stream whose messages can be deleted.
pub async fn deletable(world: &World, source: &Source, messages: &[Message]) -> Stream {
    let name = source.stream();
    let mut config = world.bus.stream_info(&name).await.unwrap().config;
    world.bus.jetstream.delete_stream(&name).await.unwrap();
    config.deny_delete = false;
    let stream = world.bus.jetstream.create_stream(config).await.unwrap();
    for message in messages {
        let Message {
            subject,
            headers,
            body,
            ..
        } = copy(message);
        let jetstream = &world.bus.jetstream;
        let sent = jetstream.publish_with_headers(subject, headers, body);
        sent.await.unwrap().await.unwrap();
    }
    stream
}

/// What is found when the relay gets no time.
pub async fn found(world: &World, source: &Source) -> Report {
    let mut connection = world.element(0).await;
    let wait = Duration::from_millis(100);
    artstore_verification::source::compare(&mut connection, &world.bus, source, wait)
        .await
        .unwrap()
}

/// Kind, sequence and position of each finding, ascending.
pub fn named(report: &Report) -> Vec<(Kind, Option<u64>, Option<i64>)> {
    let count: u64 = report.counts.values().sum();
    assert_eq!(count, report.findings.len() as u64, "{report:?}");
    let name = |finding: &Finding| (finding.kind, finding.sequence, finding.position);
    let mut named: Vec<_> = report.findings.iter().map(name).collect();
    named.sort();
    named
}

pub fn position(message: &Message) -> Option<i64> {
    Envelope::from_headers(&message.headers).unwrap().position
}

pub fn header(message: &mut Message, name: &str, value: &str) {
    message.headers.insert(name, value);
}
