//! Only the stream of a pruned element still contains what was pruned: a stream that lacks it is
//! refused, whenever it is exchanged.

use artstore_bus::message::Message;
use sqlx::PgConnection;

use crate::retention::prune::{agrees, command, prune, prune_mark, relayed, world};
use crate::support::*;
use crate::verify::{all, found, replace};

#[test]
fn a_stream_that_lacks_what_was_pruned_is_refused_until_it_is_accepted() {
    run(async {
        // Set back, and recreated.
        for kept in [20, 0] {
            lacks(kept).await;
        }
    });
}

/// Continues with a stream that came back with its first few messages.
async fn lacks(kept: usize) {
    let (world, mut element) = world().await;
    let relay = relayed(&world).await;
    let source = world.source(0);
    prune(&world, &["--yes"]).await;
    eventually("the events", || async {
        (world.last_sequence(&source).await == 3_502).then_some(())
    })
    .await;
    relay.kill().await;
    let messages = all(&world.bus, &source).await;
    replace(&world, &source, &messages[..kept]).await;
    let (status, log) = world.relay(0).finish().await;
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("pruned up to position 2000"), "{log}");
    assert!(
        log.contains("artstore relay accept-source --source elem"),
        "{log}"
    );
    assert_eq!(world.last_sequence(&source).await, kept as u64);

    let words = ["relay", "accept-source", "--source", "elem"];
    let (status, said) = world.command(&words).output().await;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(
        said.contains("position 2000: the stream does not have all of it"),
        "{said}"
    );
    let words = [&words[..], &["--yes", "--reason", "no backup"]].concat();
    let (status, said) = world.command(&words).output().await;
    assert_eq!(status.code(), Some(0), "{said}");

    let relay = world.relay(0).start();
    let report = eventually("all agree", || async {
        let report = found(&world, &source).await;
        report.is_clean().then_some(report)
    })
    .await;
    assert_eq!(
        (report.rows, report.pruned),
        (1_502, kept as u64),
        "{report:?}"
    );
    // Files that no row reports any more are published as they are.
    let told = all(&world.bus, &source).await;
    let files: std::collections::HashSet<String> = told
        .iter()
        .filter_map(|message| message.headers.get("ce-subject"))
        .map(ToString::to_string)
        .collect();
    let held: i64 = value(&mut element, "select count(*) from elem_files").await;
    assert_eq!((files.len(), held), (3_500, 3_500));
    relay.kill().await;
}

/// One whose stream is in hand: all its messages, and no relay any more.
async fn told() -> (World, PgConnection, Vec<Message>) {
    let (world, element) = world().await;
    relayed(&world).await.kill().await;
    let messages = all(&world.bus, &world.source(0)).await;
    (world, element, messages)
}

/// Somebody recreates the stream while a pruning waits for an answer.
#[test]
fn a_stream_that_is_another_one_meanwhile_ends_a_pruning_before_it_removes_anything() {
    run(async {
        let (world, mut element, messages) = told().await;
        let mut frozen = command(&world, &["--yes"])
            .stop_at("prune.planned", 1)
            .start();
        frozen.frozen().await;
        replace(&world, &world.source(0), &messages).await;
        frozen.signal("-CONT").await;
        assert_eq!(frozen.ended().await.code(), Some(1), "{}", frozen.log());
        let (log, said) = (frozen.log(), frozen.output());
        assert!(
            log.contains("is not the one any more that was compared"),
            "{log}"
        );
        assert!(said.contains("\"removed\": 0"), "{said}");
        assert_eq!(prune_mark(&mut element).await, (0, 0));
    });
}

/// Somebody sets the stream back behind a pruning's last look, while a relay is between reading the
/// stream's end and its first poll.
#[test]
fn what_is_pruned_beside_a_running_relay_is_not_told_void() {
    run(async {
        let (world, mut element, messages) = told().await;
        let source = world.source(0);
        let mut frozen = command(&world, &["--yes"])
            .stop_at("prune.looked", 1)
            .start();
        frozen.frozen().await;
        replace(&world, &source, &messages[..20]).await;
        let relay = world.relay(0).stop_at("relay.reconciled", 1).start();
        relay.frozen().await;
        frozen.signal("-CONT").await;
        assert_eq!(frozen.ended().await.code(), Some(1), "{}", frozen.log());
        assert_eq!(prune_mark(&mut element).await, (1_000, 1_000));
        relay.signal("-CONT").await;
        relay.says("pruned up to position 1000").await;
        assert_eq!(world.last_sequence(&source).await, 20);
        relay.kill().await;
    });
}

/// The record of what was pruned is evidence: what it counts is in the stream, and without it nothing
/// continues.
#[test]
fn what_was_pruned_is_counted_against_the_stream() {
    run(async {
        let (world, mut element) = world().await;
        let relay = world.relay(0).start();
        let projector = world.projector().start();
        agrees(&world).await;
        prune(&world, &["--yes"]).await;
        agrees(&world).await;
        execute(
            &mut element,
            "update elem_wal_pruned set operations = operations + 3",
        )
        .await;
        let (status, said) = world.command(&["verify", "--wait", "60"]).output().await;
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(
            said.contains(
                "3 of the operations that were pruned up to position 2000 have no message"
            ),
            "{said}"
        );
        assert!(
            said.contains("artstore relay accept-source --source elem"),
            "{said}"
        );
        let (code, report) = prune(&world, &["--yes"]).await;
        assert_eq!(
            (code, &report["findings"]["message-missing"]),
            (Some(1), &1.into()),
            "{report}"
        );
        relay.kill().await;
        projector.kill().await;

        // Not one row is that of a message: what was pruned is no evidence that they belong together.
        forge(
            &mut element,
            "elem",
            "update elem_wal set transaction_id = gen_random_uuid() where position > 2000",
        )
        .await;
        let words = [
            "relay",
            "accept-source",
            "--source",
            "elem",
            "--yes",
            "--reason",
            "x",
        ];
        let (status, said) = world.command(&words).finish().await;
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("--nothing-agrees"), "{said}");

        execute(&mut element, "delete from elem_wal_pruned").await;
        // The relay of other sources would continue.
        let relay = ["run", "relay", "--source", "elem"];
        for words in [&relay[..], &["verify", "--wait", "0"][..]] {
            let (status, log) = world.command(words).finish().await;
            assert_eq!(status.code(), Some(1), "{words:?}: {log}");
            assert!(log.contains("elem_wal_pruned is empty"), "{words:?}: {log}");
        }
    });
}
