//! A pruning that is limited to what a backup has.

use super::*;
use crate::retention::prune::{files, prune, prune_mark, rows};
use crate::verify::{all, deletable, replace};

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
