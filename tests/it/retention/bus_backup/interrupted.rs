//! Written to while they are taken, killed at every step, and refused where they are not whole, not wanted
//! or not allowed.

use artstore::bus_backup::{self, restore, take};
use artstore_bus::accounts::role::Role;
use artstore_bus::bus_error::BusError;
use artstore_bus::stream_name::AUDIT_HEADS;

use super::*;
use crate::retention::prune::{agrees, files};
use crate::verify::all;

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
        let sender = world.connect(Role::RestoreHeads).await;
        let restored = restore::restore(&world.bus, &sender, &to, taken, None, |_, _| {});
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
    run_waiting(async {
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
        let ids = |messages: &[artstore_bus::message::Message]| -> Vec<String> {
            let id =
                |m: &artstore_bus::message::Message| m.headers.get("ce-id").unwrap().to_string();
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
