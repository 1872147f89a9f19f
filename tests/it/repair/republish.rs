//! A stream that was damaged is refused, the damage is shown, and repaired by messages after it: then relay
//! and projector continue, and the cache agrees with the element's files.

use artstore_schemas::envelope::Envelope;
use artstore_schemas::event::EventType;
use artstore_schemas::ranges::Ranges;
use artstore_schemas::source::Source;
use artstore_schemas::subject::subject;
use async_nats::HeaderMap;
use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::relay::refusals::publish_all;
use crate::support::load::{create, delete, new_file, update};
use crate::support::*;

/// Files are created, changed and deleted, and published.
async fn filled(world: &World) {
    let mut element = (world.elements[0].0.clone(), world.element(0).await);
    for n in 0..4 {
        let file = new_file(&n.to_string());
        create(&mut element, &file).await.unwrap();
        update(&mut element, file.id, &format!("changed {n}"))
            .await
            .unwrap();
        if n == 3 {
            delete(&mut element, file.id).await.unwrap();
        }
    }
    publish_all(world).await;
}

/// All messages, as they are.
async fn raw(world: &World, source: &Source) -> Vec<StreamMessage> {
    let stream = world
        .bus
        .jetstream
        .get_stream(source.stream())
        .await
        .unwrap();
    let last = world.last_sequence(source).await;
    let mut messages = Vec::new();
    for sequence in 1..=last {
        messages.push(stream.get_raw_message(sequence).await.unwrap());
    }
    messages
}

/// Makes the stream again from these messages.
async fn remake(world: &World, source: &Source, messages: Vec<StreamMessage>) {
    let name = source.stream();
    let mut config = world.bus.stream_info(&name).await.unwrap().config;
    config.deny_delete = false;
    world.bus.jetstream.delete_stream(&name).await.unwrap();
    world.bus.jetstream.create_stream(config).await.unwrap();
    for message in messages {
        let mut headers = HeaderMap::new();
        for (name, values) in message.headers.iter() {
            let name: &str = name.as_ref();
            // Without those that the server acts on.
            if !name.starts_with("Nats-") {
                headers.insert(name, values[0].as_str());
            }
        }
        let publish = PublishMessage::build()
            .headers(headers)
            .payload(message.payload);
        let sent = world
            .bus
            .jetstream
            .send_publish(message.subject, publish)
            .await;
        sent.unwrap().await.unwrap();
    }
}

fn republish(world: &World, arguments: &[&str]) -> Program {
    let mut program = world.command(&["relay", "republish", "--source", "elem"]);
    for argument in arguments {
        program = program.argument(argument);
    }
    program
}

const YES: &[&str] = &["--yes", "--reason", "an accident"];

/// What the command shows; it changes nothing.
async fn shown(world: &World) -> Value {
    let before = world.last_sequence(&world.source(0)).await;
    let (status, output) = republish(world, &["--json"]).output().await;
    assert_eq!(status.code(), Some(1), "{output}");
    assert_eq!(world.last_sequence(&world.source(0)).await, before);
    serde_json::from_str(&output).unwrap()
}

/// Once repaired, relay and projector continue, and a second run finds nothing.
async fn repaired(world: &World) {
    let (status, output) = republish(world, YES).output().await;
    assert!(status.success(), "{output}");
    goes_on(world).await;
}

async fn goes_on(world: &World) {
    let (status, output) = republish(world, &[]).output().await;
    assert!(status.success(), "{output}");
    assert!(output.contains("nothing to republish"), "{output}");
    let mut element = (world.elements[0].0.clone(), world.element(0).await);
    let before = world.last_sequence(&world.source(0)).await;
    create(&mut element, &new_file("after")).await.unwrap();
    let relay = world.relay(0).start();
    eventually("the relay goes on", || async {
        (world.last_sequence(&world.source(0)).await > before).then_some(())
    })
    .await;
    let projector = world.projector().start();
    world.projected().await;
    projector.kill().await;
    relay.kill().await;
    let report = world.checked(&world.source(0), &mut element.1).await;
    assert!(report.is_clean(), "{report:?}");
}

/// The projector halts, and names the command.
async fn halts(world: &World, text: &str) {
    let projector = world.projector().start();
    projector.says(text).await;
    projector.says("artstore relay republish").await;
    projector.kill().await;
}

/// The relay too.
async fn relay_halts(world: &World, text: &str) {
    let (status, log) = world.relay(0).finish().await;
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains(text), "{log}");
    assert!(log.contains("artstore relay republish"), "{log}");
}

#[test]
fn a_message_that_was_cut_out_is_published_again() {
    run(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        filled(&world).await;
        let mut messages = raw(&world, &source).await;
        messages.remove(3);
        remake(&world, &source, messages).await;
        halts(&world, "the stream was spliced or rewritten").await;
        relay_halts(&world, "does not follow the message before it").await;
        let damage = shown(&world).await;
        assert_eq!(damage["damaged_ranges"][0]["first"], 4);
        assert_eq!(damage["rows"]["count"], 1);
        assert_eq!(damage["rows"]["list"][0]["position"], 4);
        // The record stays for ever, and names whoever gave the command.
        let nobody = |arguments| republish(&world, arguments).env("ARTSTORE_OPERATOR", "");
        let (_, log) = nobody(&[]).finish().await;
        assert!(!log.contains("ARTSTORE_OPERATOR"), "no record: {log}");
        let (status, log) = nobody(YES).finish().await;
        assert!(status.success(), "{log}");
        assert_eq!(log.matches("set ARTSTORE_OPERATOR").count(), 1, "{log}");
        goes_on(&world).await;
    });
}

#[test]
fn removed_messages_are_published_again_even_after_a_crash_in_between() {
    run(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        filled(&world).await;
        let messages = raw(&world, &source).await;
        let last = messages.len() as u64;
        remake(&world, &source, messages).await;
        let projector = world.projector().start();
        world.projected().await;
        projector.kill().await;
        let stream = world
            .bus
            .jetstream
            .get_stream(source.stream())
            .await
            .unwrap();
        // In the middle, and the end, on which the projector stands.
        for sequence in [2, 3, 7, last] {
            assert!(stream.delete_message(sequence).await.unwrap());
        }
        relay_halts(&world, "its last message was removed").await;
        let damage = shown(&world).await;
        assert_eq!(damage["damaged_ranges"][0]["first"], 2);
        assert_eq!(damage["damaged_ranges"][0]["last"], 3);
        for (point, code) in [("republish.recording", 1), ("republish.recorded", 1)] {
            let (status, _) = republish(&world, YES).crash_at(point, code).finish().await;
            assert_eq!(status.code(), None, "killed at {point}");
        }
        assert_eq!(world.last_sequence(&source).await, last + 1, "one record");
        let (status, log) = republish(&world, YES)
            .crash_at("republish.rows", 1)
            .finish()
            .await;
        assert_eq!(status.code(), None, "{log}");
        repaired(&world).await;
    });
}

/// The message that the projector applied last is gone, which was accepted: its checkpoint is right.
#[test]
fn a_checkpoint_at_accepted_damage_is_left_alone() {
    run(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        filled(&world).await;
        let messages = raw(&world, &source).await;
        let last = messages.len() as u64;
        remake(&world, &source, messages).await;
        let projector = world.projector().start();
        world.projected().await;
        projector.kill().await;
        let stream = world.bus.jetstream.get_stream(source.stream()).await;
        assert!(stream.unwrap().delete_message(last).await.unwrap());
        let (status, output) = republish(&world, YES).output().await;
        assert!(status.success(), "{output}");
        let report = crate::verify::cache::verify(&world).await;
        assert!(report.findings.is_empty(), "{:#?}", report.findings);
        let repair = ["projection", "repair", "query-cache", "--json"];
        let (status, output) = world.command(&repair).output().await;
        assert!(status.success(), "{output}");
        let repaired: Value = serde_json::from_str(&output).unwrap();
        assert_eq!(repaired["checkpoints"], serde_json::json!([]), "{output}");
        goes_on(&world).await;
    });
}

#[test]
fn a_doubled_message_is_passed_over() {
    run(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        filled(&world).await;
        let mut messages = raw(&world, &source).await;
        messages.insert(5, messages[4].clone());
        remake(&world, &source, messages).await;
        halts(&world, "the stream was spliced or rewritten").await;
        let damage = shown(&world).await;
        assert_eq!(damage["damaged_ranges"][0]["first"], 6);
        assert_eq!(damage["damaged_ranges"].as_array().unwrap().len(), 1);
        repaired(&world).await;
    });
}

/// One that can't be read, and one that can: the first stops the projector, the second nobody but
/// the comparison with the source.
#[test]
fn changed_messages_are_passed_over_and_their_rows_published_again() {
    run(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        filled(&world).await;
        let mut messages = raw(&world, &source).await;
        messages[2].payload = "{}".into();
        let text = String::from_utf8(messages[5].payload.to_vec()).unwrap();
        let changed = text.replace("changed 2", "forged");
        assert_ne!(text, changed);
        messages[5].payload = changed.into();
        remake(&world, &source, messages).await;
        halts(&world, "can't be applied").await;
        let damage = shown(&world).await;
        let places = damage["damaged_ranges"].as_array().unwrap();
        let numbers: Vec<u64> = places
            .iter()
            .map(|p| p["first"].as_u64().unwrap())
            .collect();
        assert_eq!(numbers, [3, 4, 6, 7], "and the ones that followed them");
        repaired(&world).await;
    });
}

#[test]
fn messages_that_changed_places_end_in_the_present_state() {
    run(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        filled(&world).await;
        let mut messages = raw(&world, &source).await;
        // A file's creation behind its change; and the last two.
        messages.swap(2, 3);
        let last = messages.len() - 1;
        messages.swap(last - 1, last);
        remake(&world, &source, messages).await;
        halts(&world, "the stream was spliced or rewritten").await;
        relay_halts(&world, "does not follow the message before it").await;
        repaired(&world).await;
    });
}

#[test]
fn a_foreign_message_is_passed_over() {
    run(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        filled(&world).await;
        let mut messages = raw(&world, &source).await;
        let mut forged = messages[1].clone();
        let last = messages.last().unwrap();
        forged.headers.insert("ce-id", Uuid::new_v4().to_string());
        let previous = last.headers.get("ce-id").unwrap().as_str().to_owned();
        forged.headers.insert("artstore-previous", previous);
        forged.headers.insert(
            "artstore-high-water-mark",
            last.headers
                .get("artstore-high-water-mark")
                .unwrap()
                .as_str(),
        );
        messages.push(forged);
        // One without any of our headers, and of another source.
        let mut other = messages[0].clone();
        other.headers = HeaderMap::new();
        messages.push(other);
        let mut other = messages[0].clone();
        other
            .headers
            .insert("ce-source", "/artstore/elements/other");
        other.subject = artstore_schemas::subject::subject(
            &source,
            None,
            &EventType::new("file", "created", 1),
        )
        .into();
        messages.push(other);
        let count = messages.len() as u64;
        remake(&world, &source, messages).await;
        halts(&world, "can't be applied").await;
        relay_halts(&world, "it comes from /artstore/elements/other").await;
        let damage = shown(&world).await;
        let places = damage["damaged_ranges"].as_array().unwrap();
        let numbers: Vec<u64> = places
            .iter()
            .map(|p| p["first"].as_u64().unwrap())
            .collect();
        assert_eq!(numbers, [count - 2, count - 1, count]);
        repaired(&world).await;
    });
}

/// A record that nobody can read, one that does not follow what stands before it, and one that lists
/// all numbers there are: none has a say, each is named, and skipped.
#[test]
fn forged_records_have_no_say_and_are_passed_over() {
    run(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        filled(&world).await;
        let mut messages = raw(&world, &source).await;
        let last = messages.last().unwrap().clone();
        let count = messages.len() as u64;
        let forge =
            |action: &str, facts: Option<Value>, chained: bool, high_water_mark: Option<i64>| {
                let mut envelope = Envelope::from_headers(&last.headers).unwrap();
                envelope.previous = Some(envelope.id).filter(|_| chained).or(envelope.previous);
                envelope.id = Uuid::new_v4();
                envelope.event_type = EventType::new("source", action, 1);
                (envelope.position, envelope.subject) = (None, None);
                envelope.high_water_mark = high_water_mark.unwrap_or(envelope.high_water_mark);
                if high_water_mark == Some(0) {
                    envelope.gaps = Ranges::default();
                }
                let mut message = last.clone();
                message.subject = subject(&source, None, &envelope.event_type).into();
                message.headers = envelope.to_headers();
                let mut body: Value = serde_json::from_slice(&last.payload).unwrap();
                body["operation"]["data"] =
                    facts.map_or(Value::Null, |facts| json!({"json": facts}));
                message.payload = body.to_string().into();
                message
            };
        let identity = Envelope::from_headers(&last.headers).unwrap().identity;
        let accepted = json!({
            "old_identity": identity, "new_identity": identity, "high_water_mark": 0, "gaps": [],
            "last_agreeing": 0, "lost_messages": 0, "lost_positions": [], "lost_files": 0,
            "files": [], "new_rows": 0, "new_positions": [], "reason": "x", "accepted_by": "x",
        });
        let everything = json!([{"first": 1, "last": 1_u64 << 62}]);
        let damage = json!({
            "holes": [], "ignored": everything, "breaks": [], "rows": 0, "files": 0,
            "reason": "x", "accepted_by": "x",
        });
        let holes = json!({
            "holes": everything, "ignored": [], "breaks": everything, "rows": 0, "files": 0,
            "reason": "x", "accepted_by": "x",
        });
        messages.push(forge("accepted", None, true, None));
        messages.push(forge("accepted", Some(accepted), false, Some(0)));
        messages.push(forge("damage-accepted", Some(damage), true, None));
        messages.push(forge("damage-accepted", Some(holes), true, None));
        remake(&world, &source, messages).await;

        relay_halts(&world, "it lists sequences that its stream can't have").await;
        halts(&world, "the stream was spliced or rewritten").await;
        let report = world.checked(&source, &mut world.element(0).await).await;
        let mut named: Vec<u64> = report.findings.iter().filter_map(|f| f.sequence).collect();
        named.sort_unstable();
        named.dedup();
        let forged: Vec<u64> = (count + 1..=count + 4).collect();
        assert_eq!(named, forged, "{report:?}");
        assert_eq!(report.counts.values().sum::<u64>(), 4, "{report:?}");
        let accept = ["relay", "accept-source", "--source", "elem"];
        let (status, said) = world.command(&accept).output().await;
        assert!(said.contains("nothing to accept"), "{status} {said}");
        let shown = shown(&world).await;
        let places = shown["damaged_ranges"].as_array().unwrap();
        let places: Vec<u64> = places
            .iter()
            .map(|place| place["first"].as_u64().unwrap())
            .collect();
        assert_eq!(places, forged);
        assert_eq!(shown["rows"]["count"], 0);
        repaired(&world).await;
    });
}
