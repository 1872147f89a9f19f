//! Backups of the streams: taken while everything is in use, used to limit pruning, lost, restored, and
//! continued; interrupted at every step; and refused where they are not whole, not wanted or not allowed.

use std::path::{Path, PathBuf};

use artstore::bus_backup::{self, MANIFEST, Manifest, restore, take};
use artstore_bus::bus::{AUDIT_HEADS, Bus, BusError, audit_head_subject};
use artstore_stack::{Stack, StackOptions};
use serde_json::Value;

use crate::audit::Audited;
use crate::followed_advice::follow_with;
use crate::retention::prune::{agrees, files, prune, prune_mark, rows, world};
use crate::support::*;
use crate::verify::{all, deletable, replace};

/// A folder for one backup.
fn place() -> PathBuf {
    folder("bus").join("backup")
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn backup(world: &World, to: &Path, more: &[&str]) -> Program {
    let words = ["bus", "backup", text(to), "--json"];
    world.command(&[&words, more].concat())
}

/// Takes one that must succeed.
async fn backed_up(world: &World, more: &[&str]) -> (PathBuf, Manifest) {
    let to = place();
    let mut process = backup(world, &to, more).start();
    let status = process.ended().await;
    assert!(status.success(), "{}", process.log());
    let manifest: Manifest = serde_json::from_str(&process.output()).unwrap();
    let kept = std::fs::read(to.join(MANIFEST)).unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&kept).unwrap(),
        serde_json::to_value(&manifest).unwrap()
    );
    let (status, said) = world
        .command(&["bus", "check-backup", text(&to)])
        .output()
        .await;
    assert!(
        status.success() && said.contains("as its manifest says"),
        "{said}"
    );
    (to, manifest)
}

fn restored(world: &World, from: &Path, more: &[&str]) -> Program {
    let words = ["bus", "restore", text(from), "--json"];
    world.command(&[&words, more].concat())
}

/// Restores, which must succeed; its report.
async fn restore_all(world: &World, from: &Path) -> Value {
    let mut process = restored(world, from, &[]).start();
    let status = process.ended().await;
    assert!(status.success(), "{}{}", process.log(), process.output());
    serde_json::from_str(&process.output()).unwrap()
}

/// All streams are gone, as an administrator or a disk would take them.
async fn lose(world: &World) {
    let streams = world.sources().into_iter().map(|source| source.stream());
    for stream in streams.chain([AUDIT_HEADS.to_owned()]) {
        world.bus.jetstream.delete_stream(&stream).await.unwrap();
    }
}

/// A restore that is killed when a part of the element's stream is sent.
async fn cut_off(world: &World, from: &Path) {
    let killed = restored(world, from, &["--stream", "elem"]).crash_at("bus.restore.chunk", 2);
    let (status, log) = killed.finish().await;
    assert_eq!(status.code(), None, "{log}");
}

async fn published(world: &World, count: u64) {
    let source = world.source(0);
    eventually(&format!("{count} messages"), || async {
        let info = world.bus.stream_info(&source.stream()).await.ok()?;
        (info.state.last_sequence >= count).then_some(())
    })
    .await;
}

#[test]
fn a_bus_that_was_lost_is_restored_and_everything_goes_on() {
    run(async {
        let (world, mut element) = world().await;
        let audited = Audited::new(&world).await;
        let mut services = vec![
            world.command(&["run", "relay"]).start(),
            world.projector().start(),
            audited.projector().start(),
        ];
        agrees(&world).await;
        audited.caught_up().await;

        let (to, manifest) = backed_up(&world, &[]).await;
        let names: Vec<&str> = manifest.streams.iter().map(|b| b.stream.as_str()).collect();
        // No head covers messages that the backup lacks.
        assert_eq!(
            names,
            [
                AUDIT_HEADS,
                "ARTSTORE_WAL_elem",
                "ARTSTORE_ADMIN",
                "ARTSTORE_QUERY"
            ]
        );
        let of_element = &manifest.streams[1];
        assert_eq!(
            (
                of_element.first_sequence,
                of_element.last_sequence,
                of_element.covers()
            ),
            (1, 3_500, 3_500)
        );
        let info = world.bus.stream_info("ARTSTORE_WAL_elem").await.unwrap();
        assert_eq!(of_element.created, info.created);
        let told = all(&world.bus, &world.source(0)).await;
        let last = told[3_499].headers.get("ce-id").unwrap().to_string();
        let event_id = of_element.last_message.as_ref().unwrap().event_id;
        assert_eq!(event_id.unwrap().to_string(), last);

        let folder = text(&to).to_owned();
        let (code, report) = prune(&world, &["--yes", "--backed-up-in", &folder]).await;
        assert_eq!(
            (code, &report["removed"]),
            (Some(0), &2_000.into()),
            "{report}"
        );
        // What the backup does not have is in the source still.
        files(&mut element, 10, 0).await;
        published(&world, 3_512).await;
        world.projected().await;
        audited.caught_up().await;

        lose(&world).await;
        let report = restore_all(&world, &to).await;
        for stream in report["streams"].as_array().unwrap() {
            assert_eq!(
                (&stream["created_kept"], &stream["flaws"]),
                (&true.into(), &0.into()),
                "{report}"
            );
        }
        let done = follow_with(|words| audited.command(words), "restored", &mut services).await;
        println!("done after the restore: {done:?}");
        published(&world, 3_512).await;
        agrees(&world).await;
        world.projected().await;
        audited.caught_up().await;
        let verdict = audited.verify(&["--against-stream"]).await;
        assert!(verdict.is_clean(), "{}", verdict.0);
        // Each once, in its place.
        let told = world.messages(&world.source(0)).await;
        let mut positions: Vec<i64> = told.iter().filter_map(|told| told.position).collect();
        positions.sort_unstable();
        assert_eq!(positions, (1..=3_512).collect::<Vec<_>>());
        for service in services {
            service.kill().await;
        }
    });
}

/// What was pruned beyond the backup is lost with the stream. The command that the relay names ends well,
/// with files as they are now.
#[test]
fn what_was_pruned_beyond_the_backup_halts_the_relay_until_that_is_accepted() {
    run(async {
        let world = World::new(&["elem"]).await;
        let mut element = world.element(0).await;
        let audited = Audited::new(&world).await;
        let mut services = vec![
            world.command(&["run", "relay"]).start(),
            world.projector().start(),
        ];
        files(&mut element, 500, 100).await;
        published(&world, 500).await;
        let (to, _) = backed_up(&world, &[]).await;
        files(&mut element, 2_500, 100).await;
        agrees(&world).await;
        let (code, report) = prune(&world, &["--yes"]).await;
        assert_eq!(
            (code, &report["removed"]),
            (Some(0), &2_000.into()),
            "{report}"
        );
        published(&world, 3_002).await;
        world.projected().await;

        lose(&world).await;
        restore_all(&world, &to).await;
        services[0].says("pruned up to position 2000").await;
        services[0]
            .says("artstore relay accept-source --source elem")
            .await;
        assert_eq!(world.last_sequence(&world.source(0)).await, 500);
        let done = follow_with(|words| audited.command(words), "beyond", &mut services).await;
        let accept = "artstore relay accept-source --source elem".to_owned();
        assert!(done.contains(&accept), "{done:?}");
        println!("done after the restore: {done:?}");
        agrees(&world).await;
        world.projected().await;
        let held: i64 = value(&mut element, "select count(*) from elem_files").await;
        let cached: i64 = value(
            &mut world.query().await,
            "select count(*) from file_metadata_cache",
        )
        .await;
        assert_eq!((held, cached), (3_000, 3_000));
        for service in services {
            service.kill().await;
        }
    });
}

#[test]
fn only_what_a_backup_of_this_very_stream_has_is_pruned() {
    run(async {
        let world = World::new(&["elem"]).await;
        let mut element = world.element(0).await;
        let relay = world.relay(0).start();
        files(&mut element, 500, 100).await;
        // Its number is drawn, and its row not there: what is above it is in the backup, and it is not.
        let mut open = world.element(0).await;
        execute(&mut open, "begin").await;
        files(&mut open, 1, 100).await;
        files(&mut element, 100, 100).await;
        published(&world, 600).await;
        let (to, manifest) = backed_up(&world, &[]).await;
        let of_element = manifest
            .streams
            .iter()
            .find(|b| b.stream == "ARTSTORE_WAL_elem");
        assert_eq!(of_element.unwrap().covers(), 500);
        execute(&mut open, "commit").await;
        files(&mut element, 2_000, 100).await;
        published(&world, 2_601).await;

        let with = |folder: &Path| {
            vec![
                "--yes".to_owned(),
                "--backed-up-in".to_owned(),
                text(folder).to_owned(),
            ]
        };
        let prune_with = async |folder: &Path| {
            let words = with(folder);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            prune(&world, &words).await
        };
        let (code, report) = prune_with(&to).await;
        assert_eq!(
            (code, &report["removed"], &report["prune_mark"]),
            (Some(0), &500.into(), &500.into()),
            "{report}"
        );
        let stays = &report["plan"]["stays"];
        assert_eq!(
            (&stays["position"], &stays["why"]["reason"]),
            (&501.into(), &"not-backed-up".into()),
            "{report}"
        );
        // Nothing more of it is in that backup.
        let (code, report) = prune_with(&to).await;
        assert_eq!((code, &report["removed"]), (Some(0), &0.into()), "{report}");

        let refused = async |folder: &Path, why: &str| {
            let words = with(folder);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let (status, log) = crate::retention::prune::command(&world, &words)
                .finish()
                .await;
            assert_eq!(status.code(), Some(1), "{log}");
            assert!(log.contains(why), "{why}: {log}");
            assert_eq!(prune_mark(&mut world.element(0).await).await.0, 500);
        };
        let (others, _) = backed_up(&world, &["--source", "query"]).await;
        refused(&others, "does not have stream ARTSTORE_WAL_elem").await;
        let (damaged, _) = backed_up(&world, &[]).await;
        change_a_byte(&damaged.join("ARTSTORE_WAL_elem.snapshot"));
        refused(&damaged, "is not the file of the manifest").await;
        let (new, _) = backed_up(&world, &[]).await;
        std::fs::remove_file(damaged.join(MANIFEST)).unwrap();
        refused(&damaged, "holds no whole backup").await;
        // The same messages in a stream that was recreated.
        relay.kill().await;
        let messages = all(&world.bus, &world.source(0)).await;
        replace(&world, &world.source(0), &messages).await;
        refused(&new, "is not one of stream ARTSTORE_WAL_elem as it is now").await;
        let relay = world.relay(0).start();
        let (again, _) = backed_up(&world, &[]).await;
        let (code, report) = prune_with(&again).await;
        assert_eq!(code, Some(0), "{report}");
        assert_eq!(report["plan"]["stays"]["why"]["reason"], "last", "{report}");
        assert_eq!(
            rows(&mut element, report["prune_mark"].as_i64().unwrap())
                .await
                .0,
            0
        );
        relay.kill().await;
    });
}

/// The stream has lost messages, a backup is taken, and they are published again after its end.
#[test]
fn what_was_published_again_behind_a_backup_is_not_pruned_by_it() {
    run(async {
        let world = World::new(&["elem"]).await;
        let mut element = world.element(0).await;
        files(&mut element, 1_500, 100).await;
        let relay = world.relay(0).start();
        published(&world, 1_500).await;
        relay.kill().await;
        let messages = all(&world.bus, &world.source(0)).await;
        let stream = deletable(&world, &world.source(0), &messages).await;
        let mut lost: Vec<i64> = Vec::new();
        for message in &world.messages(&world.source(0)).await[99..120] {
            lost.extend(message.position);
        }
        for sequence in 100..=120 {
            assert!(stream.delete_message(sequence).await.unwrap());
        }
        lost.sort_unstable();
        let (to, manifest) = backed_up(&world, &["--source", "elem"]).await;
        assert_eq!(
            manifest.streams[0].covers(),
            1_500,
            "its last message knows of no loss"
        );
        let words = [
            "relay",
            "republish",
            "--source",
            "elem",
            "--yes",
            "--reason",
            "a limit",
        ];
        let (status, said) = world.command(&words).output().await;
        assert!(status.success(), "{said}");

        let (code, report) = prune(&world, &["--yes", "--backed-up-in", text(&to)]).await;
        assert_eq!(code, Some(0), "{report}");
        let stays = &report["plan"]["stays"];
        assert_eq!(
            (&stays["position"], &stays["why"]["reason"]),
            (&lost[0].into(), &"not-backed-up".into()),
            "{report}"
        );
        assert_eq!(report["removed"], lost[0] - 1, "{report}");
        let kept: i64 = value(
            &mut element,
            format!(
                "select count(*) from elem_wal where position between {} and {}",
                lost[0], lost[20]
            ),
        )
        .await;
        assert_eq!(kept, lost[20] - lost[0] + 1);
        // A new one has them.
        let relay = world.relay(0).start();
        let (to, _) = backed_up(&world, &[]).await;
        let (code, report) = prune(&world, &["--yes", "--backed-up-in", text(&to)]).await;
        assert_eq!(code, Some(0), "{report}");
        assert_eq!(report["plan"]["stays"]["why"]["reason"], "last", "{report}");
        relay.kill().await;
    });
}

/// The server marks removed messages in its index, which a backup leaves out.
#[test]
fn a_stream_that_a_limit_has_cut_is_restored_with_what_comes_back() {
    run(async {
        let world = World::new(&["elem"]).await;
        heads(&world.bus, 20).await;
        let info = async || world.bus.stream_info(AUDIT_HEADS).await.unwrap();
        let config = info().await.config;
        let mut limited = config.clone();
        limited.max_messages_per_subject = 5;
        world.bus.jetstream.update_stream(limited).await.unwrap();
        eventually("the limit has removed some", async || {
            (info().await.state.messages == 5).then_some(())
        })
        .await;
        world.bus.jetstream.update_stream(config).await.unwrap();
        let to = place();
        let mut process = backup(&world, &to, &[]).start();
        let status = process.ended().await;
        assert!(status.success(), "{}", process.log());
        let manifest: Manifest = serde_json::from_str(&process.output()).unwrap();
        assert!(
            process
                .log()
                .contains("ARTSTORE_AUDIT_HEADS had lost 15 messages before this backup"),
            "{}",
            process.log()
        );
        assert_eq!(
            (
                manifest.streams[0].first_sequence,
                manifest.streams[0].last_sequence
            ),
            (16, 20)
        );
        let deleted = world.bus.jetstream.delete_stream(AUDIT_HEADS).await;
        deleted.unwrap();
        let mut process = restored(&world, &to, &["--stream", AUDIT_HEADS]).start();
        let status = process.ended().await;
        assert!(status.success(), "{}", process.log());
        let report: Value = serde_json::from_str(&process.output()).unwrap();
        let state = info().await.state;
        assert!(state.messages > 5, "{state:?}");
        assert_eq!(
            report["streams"][0]["returned"],
            state.messages - 5,
            "{report}"
        );
    });
}

fn change_a_byte(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// One that publishes heads, which nobody has signed.
async fn heads(bus: &Bus, count: usize) {
    for _ in 0..count {
        let subject = audit_head_subject("ARTSTORE_WAL_elem");
        let body: Vec<u8> = (0..60_000).map(|_| rand::random()).collect();
        let sent = bus.jetstream.publish(subject, body.into()).await;
        sent.unwrap().await.unwrap();
    }
}

/// The server writes its index of a snapshot at the end, and restores a hole from it.
#[test]
fn a_stream_that_is_written_while_it_is_backed_up_comes_back_without_a_hole() {
    run(async {
        let world = World::new(&["elem"]).await;
        heads(&world.bus, 400).await;
        let to = place();
        let folder = take::open_folder(&to).unwrap();
        let second = take::open_folder(&to).unwrap_err().to_string();
        assert!(second.contains("or is being written"), "{second}");
        let mut beside = 0;
        let heads_alone = [AUDIT_HEADS.to_owned()];
        let manifest = take::take(&world.bus, &heads_alone, folder, |_| {
            beside += 1;
            tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(heads(&world.bus, 1));
            });
        });
        let manifest = manifest.await.unwrap();
        assert!(beside > 100, "{beside}");
        assert_eq!(
            std::fs::read_dir(&to).unwrap().count(),
            2,
            "the file and the manifest"
        );
        let taken = &manifest.streams[0];
        assert_eq!(taken.last_sequence, 400);
        let written = world
            .bus
            .stream_info(AUDIT_HEADS)
            .await
            .unwrap()
            .state
            .last_sequence;
        assert_eq!(written, 400 + beside);

        world
            .bus
            .jetstream
            .delete_stream(AUDIT_HEADS)
            .await
            .unwrap();
        let restored = restore::restore(&world.bus, &to, taken, None, |_, _| {});
        let restored = restored.await.unwrap();
        let state = world.bus.stream_info(AUDIT_HEADS).await.unwrap().state;
        assert_eq!(state.messages, state.last_sequence, "{state:?}");
        assert_eq!(restored.beyond, state.last_sequence - 400);
        assert!(state.last_sequence <= written, "{state:?}");
        let there = bus_backup::message(&world.bus, AUDIT_HEADS, 400)
            .await
            .unwrap();
        assert_eq!(there, taken.last_message);
    });
}

#[test]
fn a_backup_that_was_cut_off_is_none_and_a_restore_that_was_is_done_again() {
    run(async {
        let world = World::new(&["elem"]).await;
        let mut element = world.element(0).await;
        files(&mut element, 3_000, 1).await;
        let relay = world.relay(0).start();
        published(&world, 3_000).await;
        relay.kill().await;
        for (point, times) in [
            ("bus.backup.chunk", 1),
            ("bus.backup.stream", 2),
            ("bus.backup.written", 1),
        ] {
            let to = place();
            let mut killed = backup(&world, &to, &[]).crash_at(point, times).start();
            let status = killed.ended().await;
            assert_eq!(status.code(), None, "{point}: {}", killed.log());
            assert!(!to.join(MANIFEST).exists(), "{point}");
            assert!(std::fs::read_dir(&to).unwrap().count() > 0, "{point}");
            for words in [["bus", "check-backup"], ["bus", "restore"]] {
                let program = world.command(&words).argument(text(&to));
                let (status, log) = program.finish().await;
                assert_eq!(status.code(), Some(1), "{point}: {log}");
                assert!(log.contains("holds no whole backup"), "{point}: {log}");
            }
            let (status, log) = backup(&world, &to, &[]).finish().await;
            assert_eq!(status.code(), Some(2), "{log}");
            assert!(log.contains("name a new folder"), "{log}");
        }
        // The server may still be at the snapshots of those that were killed.
        let (to, manifest) = backed_up(&world, &[]).await;
        assert!(manifest.streams[1].bytes > 2 * 128 * 1_024, "{manifest:?}");
        let before = all(&world.bus, &world.source(0)).await;

        lose(&world).await;
        // In the middle of a stream: the server takes it back.
        cut_off(&world, &to).await;
        assert!(matches!(
            world.bus.stream_info("ARTSTORE_WAL_elem").await,
            Err(BusError::NoStream(_))
        ));
        // Behind its second stream, which is there and whole.
        let killed = restored(&world, &to, &[]).crash_at("bus.restore.made", 2);
        let (status, log) = killed.finish().await;
        assert_eq!(status.code(), None, "{log}");
        let (status, log) = restored(&world, &to, &[]).finish().await;
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains("a restore replaces nothing"), "{log}");
        // It says what to run for those that are missing.
        let (_, advice) = log
            .trim()
            .split_once("To restore what is missing: artstore ")
            .unwrap();
        let words: Vec<&str> = advice.split_whitespace().collect();
        assert_eq!(
            words.iter().filter(|word| **word == "--stream").count(),
            2,
            "{advice}"
        );
        let (status, said) = world.command(&words).output().await;
        assert!(status.success(), "{said}");
        let relay = world.command(&["run", "relay"]).start();
        agrees(&world).await;
        relay.kill().await;
        let after = all(&world.bus, &world.source(0)).await;
        let ids = |messages: &[artstore_verification::reader::Message]| -> Vec<String> {
            let id = |m: &artstore_verification::reader::Message| {
                m.headers.get("ce-id").unwrap().to_string()
            };
            messages.iter().map(id).collect()
        };
        assert_eq!(ids(&after), ids(&before));
    });
}

#[test]
fn what_is_not_whole_or_not_wanted_is_refused_by_name() {
    run(async {
        let world = World::new(&["elem"]).await;
        let mut element = world.element(0).await;
        files(&mut element, 300, 1).await;
        let relay = world.relay(0).start();
        published(&world, 300).await;
        relay.kill().await;
        let (to, _) = backed_up(&world, &[]).await;
        let refused = async |program: Program, code: i32, why: &str| {
            let (status, log) = program.finish().await;
            assert_eq!(status.code(), Some(code), "{why}: {log}");
            assert!(log.contains(why), "{why}: {log}");
        };
        refused(restored(&world, &to, &[]), 1, "a restore replaces nothing").await;
        refused(
            backup(&world, &to, &[]),
            2,
            "holds a backup; a backup overwrites nothing",
        )
        .await;
        refused(
            restored(&world, &to, &["--stream", "typo"]),
            2,
            "the backup does not have it",
        )
        .await;
        let twice = ["--source", "query", "--source", "ARTSTORE_QUERY"];
        let (_, once) = backed_up(&world, &twice).await;
        assert_eq!(once.streams.len(), 1, "{once:?}");
        let typo = ["--source", "typo"];
        refused(
            backup(&world, &place(), &typo),
            2,
            "the bus has no such stream",
        )
        .await;
        refused(
            restored(&world, Path::new("/nowhere"), &[]),
            1,
            "can't be read",
        )
        .await;

        // A stream that is missing is no reason to write a backup without it.
        world
            .bus
            .jetstream
            .delete_stream("ARTSTORE_WAL_elem")
            .await
            .unwrap();
        let without = place();
        refused(
            backup(&world, &without, &[]),
            1,
            "ARTSTORE_WAL_elem would be missing",
        )
        .await;
        assert!(!without.exists());

        let file = to.join("ARTSTORE_WAL_elem.snapshot");
        let good = std::fs::read(&file).unwrap();
        let one = ["--stream", "elem"];
        change_a_byte(&file);
        refused(
            restored(&world, &to, &one),
            1,
            "is not the file of the manifest",
        )
        .await;
        std::fs::write(&file, &good[..good.len() - 1]).unwrap();
        refused(
            restored(&world, &to, &one),
            1,
            "is not the file of the manifest",
        )
        .await;
        std::fs::write(&file, &good).unwrap();
        let manifest = std::fs::read_to_string(to.join(MANIFEST)).unwrap();
        let change = |from: &str, into: &str| {
            assert!(manifest.contains(from), "{from}: {manifest}");
            std::fs::write(to.join(MANIFEST), manifest.replace(from, into)).unwrap();
        };
        change("artstore-bus-backup/v1", "artstore-bus-backup/v2");
        refused(
            restored(&world, &to, &one),
            1,
            "use the program that made it, artstore ",
        )
        .await;
        change("{", "");
        refused(restored(&world, &to, &one), 1, "manifest.json is damaged").await;
        // What came back is compared with the manifest.
        change("\"high_water_mark\": 300", "\"high_water_mark\": 301");
        refused(
            restored(&world, &to, &one),
            1,
            "was made, but could not be checked or is not whole: stream ARTSTORE_WAL_elem came back \
             with another message 300 than the manifest says",
        )
        .await;
        world
            .bus
            .jetstream
            .delete_stream("ARTSTORE_WAL_elem")
            .await
            .unwrap();
        std::fs::write(to.join(MANIFEST), &manifest).unwrap();
        let more = ["--stream", "ARTSTORE_WAL_elem", "--replicas", "3"];
        refused(
            restored(&world, &to, &more),
            1,
            "the server refuses a restore: replicas > 1",
        )
        .await;
        let (status, said) = restored(&world, &to, &one).output().await;
        assert!(status.success(), "{said}");
        assert_eq!(world.last_sequence(&world.source(0)).await, 300);
        let config = world
            .bus
            .stream_info("ARTSTORE_WAL_elem")
            .await
            .unwrap()
            .config;
        assert!(config.deny_delete && config.deny_purge && config.allow_atomic_publish);
    });
}

/// The server's folder is lost, and the streams had three replicas.
#[test]
fn replicated_streams_are_restored_onto_a_cluster_that_has_lost_them() {
    run(async {
        let stack = Stack::start(StackOptions {
            nats_nodes: 3,
            ..StackOptions::default()
        })
        .await
        .unwrap();
        let world = World::on(&stack, 0, &["elem"], 3).await;
        let audited = Audited::new(&world).await;
        let mut element = world.element(0).await;
        files(&mut element, 3_000, 1).await;
        let mut services = vec![
            world.command(&["run", "relay"]).start(),
            world.projector().start(),
        ];
        published(&world, 3_000).await;
        world.projected().await;
        let (to, manifest) = backed_up(&world, &[]).await;
        lose(&world).await;
        cut_off(&world, &to).await;
        // Some servers keep its name, and then the error states what to do.
        let (status, log) = restored(&world, &to, &["--stream", "elem"]).finish().await;
        if !status.success() {
            assert!(log.contains("nats stream rm ARTSTORE_WAL_elem"), "{log}");
            println!("{log}");
        }
        world
            .bus
            .jetstream
            .delete_stream("ARTSTORE_WAL_elem")
            .await
            .unwrap();
        let report = restore_all(&world, &to).await;
        println!("{report:#}");
        for backup in &manifest.streams {
            let info = world.bus.stream_info(&backup.stream).await.unwrap();
            assert_eq!(info.config.num_replicas, 3, "{}", backup.stream);
        }
        files(&mut element, 10, 0).await;
        let done = follow_with(|words| audited.command(words), "replicated", &mut services).await;
        println!("done after the restore: {done:?}");
        published(&world, 3_010).await;
        agrees(&world).await;
        world.projected().await;
        for service in services {
            service.kill().await;
        }
        drop(world);
        stack.stop().await.unwrap();
    });
}

/// Everything below JetStream's folder is gone, and the server starts with nothing.
#[test]
fn a_server_that_lost_its_disk_gets_its_streams_back() {
    run(async {
        let stack = Stack::start(StackOptions::default()).await.unwrap();
        let world = World::on(&stack, 0, &["elem"], 1).await;
        let mut element = world.element(0).await;
        files(&mut element, 300, 1).await;
        let relay = world.command(&["run", "relay"]).start();
        let projector = world.projector().start();
        published(&world, 300).await;
        world.projected().await;
        let (to, _) = backed_up(&world, &[]).await;
        stack.kill_nats(0).await.unwrap();
        std::fs::remove_dir_all(stack.directory().join("nats/0/store")).unwrap();
        stack.start_nats(0).await.unwrap();
        eventually("the server has no streams", || async {
            let stream = world.bus.stream_info("ARTSTORE_WAL_elem").await;
            matches!(stream, Err(BusError::NoStream(_))).then_some(())
        })
        .await;
        restore_all(&world, &to).await;
        files(&mut element, 10, 0).await;
        published(&world, 310).await;
        agrees(&world).await;
        world.projected().await;
        relay.kill().await;
        projector.kill().await;
        drop(world);
        stack.stop().await.unwrap();
    });
}
