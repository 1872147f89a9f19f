//! Messages that were changed, moved or put in: whatever it was, after the commands that are named everything
//! agrees, for readers that continue and for a cache that is rebuilt.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::repaired::{ROUNDS, type_it, verify};
use super::*;

/// A change to a stream's messages, as somebody could have made it.
type Damage = fn(Vec<Message>) -> Vec<Message>;

fn changed(index: usize, path: &str, value: Value) -> impl FnOnce(Vec<Message>) -> Vec<Message> {
    let path = path.to_owned();
    move |mut messages| {
        let mut body: Value = serde_json::from_slice(&messages[index].body).unwrap();
        *body.pointer_mut(&path).unwrap() = value;
        messages[index].body = body.to_string().into();
        messages
    }
}

fn headed(mut messages: Vec<Message>, index: usize, name: &str, value: &str) -> Vec<Message> {
    header(&mut messages[index], name, value);
    messages
}

/// A message that nobody wrote: with an id of its own, put in at a place.
fn injected(messages: &[Message], of: usize, position: Option<&str>) -> Message {
    let mut new = copy(&messages[of]);
    let id = Uuid::new_v4().to_string();
    header(&mut new, "ce-id", &id);
    header(&mut new, "Nats-Msg-Id", &id);
    if let Some(position) = position {
        header(&mut new, "artstore-position", position);
    }
    let mut body: Value = serde_json::from_slice(&new.body).unwrap();
    body["operation"]["id"] = id.into();
    new.body = body.to_string().into();
    new
}

const DAMAGES: &[(&str, Damage)] = &[
    ("a recorded state", |m| {
        changed(1, "/file/description", "forged".into())(m)
    }),
    ("the actor of a message of the product's", |m| {
        changed(17, "/actor", json!({"type": "user", "id": "forged"}))(m)
    }),
    ("the facts of a message of the product's", |m| {
        changed(17, "/operation/data/json", json!({"n": 77}))(m)
    }),
    ("the start of a message of the product's", |m| {
        changed(
            17,
            "/operation/started_at",
            "2020-01-02T03:04:05.000006Z".into(),
        )(m)
    }),
    ("the last message", |m| {
        changed(21, "/operation/data/json", json!({"n": 77}))(m)
    }),
    ("a time", |m| {
        headed(m, 9, "ce-time", "2020-01-02T03:04:05.000006Z")
    }),
    ("the form of a header", |m| {
        headed(m, 9, "ce-specversion", "0.9")
    }),
    ("a header of the form alone", |m| {
        headed(m, 9, "artstore-high-water-mark", "+10")
    }),
    ("a position", |m| headed(m, 9, "artstore-position", "9999")),
    ("what is missing", |m| headed(m, 9, "artstore-gaps", "3")),
    ("what was seen", |m| {
        headed(m, 9, "artstore-high-water-mark", "5")
    }),
    ("what was seen, at the end", |m| {
        headed(m, 21, "artstore-high-water-mark", "90")
    }),
    ("less was seen, at the end", |m| {
        headed(m, 21, "artstore-high-water-mark", "3")
    }),
    ("the database", |m| headed(m, 9, "artstore-source", "1/2/3")),
    ("the order in an intact chain", |mut m| {
        m.swap(1, 2);
        chained(m)
    }),
    ("a message put in, its row unknown", |mut m| {
        let new = injected(&m, 7, Some("900"));
        m.insert(12, new);
        m
    }),
    (
        "a message put in into the chain, its row unknown",
        |mut m| {
            let new = injected(&m, 7, Some("900"));
            m.insert(12, new);
            chained(m)
        },
    ),
    ("a message put in, its row another's", |mut m| {
        let new = injected(&m, 7, None);
        m.insert(12, new);
        m
    }),
    (
        "a message put in into the chain, its row another's",
        |mut m| {
            let new = injected(&m, 7, None);
            m.insert(12, new);
            chained(m)
        },
    ),
    ("a message put in before the one of its row", |mut m| {
        let new = injected(&m, 7, None);
        m.insert(5, new);
        chained(m)
    }),
    ("a message put in at the end", |mut m| {
        let new = injected(&m, 7, None);
        m.push(new);
        m
    }),
    ("the same once more, in the chain", |mut m| {
        let again = copy(&m[6]);
        m.push(again);
        chained(m)
    }),
];

/// Whatever was done to the messages: what is found names the command, and afterwards nothing is
/// found, the relay continues, and a cache that is built from the stream is as the files are.
#[test]
fn whatever_was_changed_the_named_commands_end_in_agreement() {
    run(async {
        let world = World::new(&["elem"]).await;
        filled(&world).await;
        let source = world.source(0);
        let good = all(&world.bus, &source).await;
        let mut query = world.query().await;
        for (what, damage) in DAMAGES {
            replace(&world, &source, &damage(copies(&good))).await;
            settles(&world, what).await;
            execute(
                &mut query,
                "truncate file_metadata_cache, file_ownership, projection_checkpoints",
            )
            .await;
            let (relay, projector) = (world.relay(0).start(), world.projector().start());
            let mut element = (world.elements[0].0.clone(), world.element(0).await);
            let file = load::new_file("behind it.pdf");
            load::create(&mut element, &file).await.unwrap();
            load::delete(&mut element, file.id).await.unwrap();
            let report = world.checked(&source, &mut element.1).await;
            assert!(report.is_clean(), "{what}: {report:#?}");
            world.projected().await;
            relay.kill().await;
            projector.kill().await;
            let (agree, report) = verify(&world).await;
            assert!(agree, "{what}: {report:#}");
            let rows = "delete from elem_wal where file_id = ";
            execute(&mut element.1, format!("{rows}'{}'", file.id)).await;
        }
    });
}

/// Damage on top of what was accepted, and damage of a stream whose source was set back as well.
#[test]
fn damage_that_grows_and_damage_beside_a_loss_end_in_agreement() {
    run(async {
        let world = World::new(&["elem"]).await;
        filled(&world).await;
        let source = world.source(0);
        let mut element = world.element(0).await;
        let mut messages = all(&world.bus, &source).await;
        header(&mut messages[8], "ce-time", "2020-01-02T03:04:05.000006Z");
        let stream = deletable(&world, &source, &messages).await;
        stream.delete_message(6).await.unwrap();
        settles(&world, "a hole").await;
        for sequence in [5, 7] {
            stream.delete_message(sequence).await.unwrap();
        }
        settles(&world, "a hole that grew on both sides").await;
        stream.delete_message(9).await.unwrap();
        settles(&world, "a message that did not count, and is gone now").await;
        let last = world.last_sequence(&source).await;
        stream.delete_message(last).await.unwrap();
        settles(&world, "the last one").await;

        stream.delete_message(12).await.unwrap();
        let lost = "delete from elem_wal where position > 18";
        execute(&mut element, lost).await;
        settles(&world, "rows lost, and a hole").await;
        let last = world.last_sequence(&source).await;
        stream.delete_message(last).await.unwrap();
        execute(&mut element, "delete from elem_wal where position > 16").await;
        settles(&world, "rows lost, and the end of the stream").await;

        let (relay, projector) = (world.relay(0).start(), world.projector().start());
        let mut publisher = (world.elements[0].0.clone(), element);
        let file = load::new_file("behind it.pdf");
        load::create(&mut publisher, &file).await.unwrap();
        let report = world.checked(&source, &mut publisher.1).await;
        assert!(report.is_clean(), "{report:#?}");
        world.projected().await;
        relay.kill().await;
        projector.kill().await;
    });
}

/// From some place on, the messages are another history's.
#[test]
fn a_spliced_stream_ends_in_agreement() {
    run(async {
        let world = World::new(&["elem"]).await;
        let other = World::new(&["elem"]).await;
        filled(&world).await;
        filled(&other).await;
        let source = world.source(0);
        let mut messages = all(&world.bus, &source).await;
        messages.truncate(15);
        messages.extend(all(&other.bus, &source).await.split_off(15));
        replace(&world, &source, &messages).await;
        settles(&world, "spliced").await;
        let (relay, projector) = (world.relay(0).start(), world.projector().start());
        let mut element = world.element(0).await;
        let report = world.checked(&source, &mut element).await;
        assert!(report.is_clean(), "{report:#?}");
        world.projected().await;
        relay.kill().await;
        projector.kill().await;
    });
}

/// Messages of a backfill have no row: where they are gone, the files contain their states.
#[test]
fn what_only_snapshots_told_is_told_again() {
    run(async {
        let world = World::new(&["elem"]).await;
        filled(&world).await;
        let source = world.source(0);
        let mut element = world.element(0).await;
        let unknown = "insert into elem_files (file_id, original_filename, storage_filename, \
                           file_size, content_type, created_by_id, created_by_username, \
                           storage_path, checksum) \
                       select gen_random_uuid(), 'f' || n, 's' || n, n, 'text/plain', '1', 'u', '/', \
                           lpad(to_hex(n), 64, '0') from generate_series(1, 3) n";
        execute(&mut element, unknown).await;
        let backfill = world.command(&["element", "backfill", "elem"]);
        let (status, log) = backfill.finish().await;
        assert!(status.success(), "{log}");
        let messages = all(&world.bus, &source).await;
        let stream = deletable(&world, &source, &messages).await;
        stream.delete_message(24).await.unwrap();
        settles(&world, "a snapshot is gone").await;
        let (relay, projector) = (world.relay(0).start(), world.projector().start());
        eventually("all files are in the cache", || async {
            world.applied().await;
            let mut query = world.query().await;
            let rows = "select count(*) from file_metadata_cache";
            (value::<i64>(&mut query, rows).await == 7).then_some(())
        })
        .await;
        world.projected().await;
        relay.kill().await;
        projector.kill().await;
    });
}

/// What is found is repaired by the commands that it names.
async fn settles(world: &World, what: &str) {
    let source = world.source(0);
    let mut report = found(world, &source).await;
    assert!(!report.is_clean(), "{what}: not found");
    let first = format!("{:#?}", report.findings);
    for _ in 0..ROUNDS {
        let repairs = report
            .findings
            .iter()
            .map(|finding| finding.repair.as_str());
        for command in repairs.collect::<BTreeSet<&str>>() {
            type_it(world, command).await;
        }
        report = found(world, &source).await;
        if report.is_clean() {
            return;
        }
    }
    panic!("{what}: {first}\n{:#?}", report.findings);
}
