//! Pruning an element's log: only what the stream provably contains is removed, in order, at whatever step it
//! is interrupted, and everything that compares rows with messages knows the prune mark.

use serde_json::Value;
use sqlx::PgConnection;

use crate::support::*;
use crate::verify::{all, replace};

/// Files that came so many days ago, each with its finished operation.
pub async fn files(connection: &mut PgConnection, count: u32, days: u32) {
    let sql = format!(
        "with new as (insert into elem_files (file_id, original_filename, storage_filename, file_size, \
             content_type, created_by_id, created_by_username, storage_path, checksum) \
         select id, 'report.pdf', id || '.pdf', 7, 'application/pdf', '1', 'ann', '2026/01/02/03', \
             repeat('0', 64) \
         from (select gen_random_uuid() as id from generate_series(1, {count})) as ids returning file_id) \
         insert into elem_wal (transaction_id, operation_type, status, file_id, operation_data, \
             started_at, completed_at, user_id) \
         select gen_random_uuid(), 'file_create', 'committed', file_id, '{{}}', \
             now() - interval '{days} days 1 second', now() - interval '{days} days', '1' from new"
    );
    execute(connection, sql).await;
}

/// Of one of them: the operations above 2,000 are young.
pub async fn world() -> (World, PgConnection) {
    let world = World::new(&["elem"]).await;
    let mut element = world.element(0).await;
    files(&mut element, 2_000, 100).await;
    files(&mut element, 1_500, 1).await;
    (world, element)
}

/// Its relay, which has published all of them.
pub async fn relayed(world: &World) -> Process {
    let relay = world.relay(0).start();
    eventually("all are published", || async {
        (world.last_sequence(&world.source(0)).await == 3_500).then_some(())
    })
    .await;
    relay
}

pub async fn agrees(world: &World) -> String {
    let (status, said) = world.command(&["verify", "--wait", "60"]).output().await;
    assert_eq!(status.code(), Some(0), "{said}");
    said
}

pub fn command(world: &World, more: &[&str]) -> Program {
    let words = ["wal", "prune", "--older-than", "30d", "--json"];
    world.command(&[&words, more].concat())
}

/// Exit code and the report of the one element.
pub async fn prune(world: &World, more: &[&str]) -> (Option<i32>, Value) {
    let mut process = command(world, more).start();
    let status = process.ended().await;
    let said = process.output();
    let report: Value =
        serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}{}", process.log()));
    (status.code(), report[0].clone())
}

pub async fn prune_mark(element: &mut PgConnection) -> (i64, i64) {
    let prune_mark = value(element, "select floor from elem_wal_pruned").await;
    let operations = value(element, "select operations from elem_wal_pruned").await;
    (prune_mark, operations)
}

/// Rows at or below a position, and above it.
pub async fn rows(element: &mut PgConnection, prune_mark: i64) -> (i64, i64) {
    let count =
        |what: &str| format!("select count(*) from elem_wal where position {what} {prune_mark}");
    let below = value(element, count("<=")).await;
    (below, value(element, count(">")).await)
}

#[test]
fn what_is_old_and_proven_goes_and_everything_works_on() {
    run(async {
        let (world, mut element) = world().await;
        // Old, but behind young ones: there is never a gap.
        files(&mut element, 50, 100).await;
        let relay = world.command(&["run", "relay"]).start();
        let projector = world.projector().start();
        agrees(&world).await;

        let (code, report) = prune(&world, &["--dry-run"]).await;
        assert_eq!(code, Some(0), "{report}");
        assert_eq!(report["plan"]["operations"], 2_000, "{report}");
        assert_eq!(report["plan"]["up_to"], 2_000);
        assert_eq!(report["plan"]["stays"]["position"], 2_001);
        assert_eq!(report["plan"]["stays"]["why"]["reason"], "young");
        assert_eq!(report["removed"], 0);
        assert_eq!(rows(&mut element, 2_000).await, (2_000, 1_550));
        assert_eq!(prune_mark(&mut element).await, (0, 0));

        // Who compares meanwhile sees rows go, and nothing wrong.
        let checks = async {
            for _ in 0..3 {
                agrees(&world).await;
            }
        };
        let ((code, report), ()) = tokio::join!(
            prune(&world, &["--yes", "--reason", "the disk is full"]),
            checks
        );
        assert_eq!(code, Some(0), "{report}");
        assert_eq!(
            (&report["removed"], &report["prune_mark"]),
            (&2_000.into(), &2_000.into())
        );
        assert_eq!(prune_mark(&mut element).await, (2_000, 2_000));
        assert_eq!(
            rows(&mut element, 2_000).await,
            (0, 1_552),
            "one operation records each thousand"
        );
        assert_eq!(report["event_position"], 3_552);
        let source = world.source(0);
        eventually("its events", || async {
            (world.last_sequence(&source).await == 3_552).then_some(())
        })
        .await;
        let told = all(&world.bus, &source).await.split_off(3_550);
        for (told, (above, up_to)) in told.iter().zip([(0, 1_000), (1_000, 2_000)]) {
            assert!(
                told.subject.ends_with(".operation.recorded"),
                "{}",
                told.subject
            );
            let body: Value = serde_json::from_slice(&told.body).unwrap();
            assert_eq!(body["operation"]["type"], "wal_prune", "{body}");
            let data = &body["operation"]["data"]["json"];
            assert_eq!(
                (
                    &data["operations"],
                    &data["above_position"],
                    &data["up_to_position"]
                ),
                (&1_000.into(), &above.into(), &up_to.into())
            );
            assert_eq!(data["reason"], "the disk is full");
        }

        let said = agrees(&world).await;
        assert!(
            said.contains("elem: 2000 messages of operations that were pruned"),
            "{said}"
        );
        // Who reads the whole stream beside the whole source.
        for (words, expected) in [
            (&["relay", "republish", "--source", "elem"][..], 0),
            (&["relay", "accept-source", "--source", "elem"][..], 0),
            (
                &["projection", "rebuild", "query-cache", "--dry-run"][..],
                0,
            ),
        ] {
            let (status, said) = world.command(words).output().await;
            assert_eq!(status.code(), Some(expected), "{words:?}: {said}");
        }
        let (code, report) = prune(&world, &["--yes"]).await;
        assert_eq!((code, &report["removed"]), (Some(0), &0.into()), "{report}");

        relay.kill().await;
        files(&mut element, 10, 0).await;
        let relay = world.command(&["run", "relay"]).start();
        agrees(&world).await;
        relay.kill().await;
        projector.kill().await;

        // A source that was set back is still seen as one.
        execute(&mut element, "delete from elem_wal where position = 3000").await;
        let (status, log) = world.relay(0).finish().await;
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(
            log.contains("1 message that the source does not hold any more, from position 3000"),
            "{log}"
        );
    });
}

#[test]
fn what_is_not_proven_or_may_be_needed_stays() {
    run(async {
        let world = World::new(&["elem"]).await;
        let mut element = world.element(0).await;
        files(&mut element, 600, 100).await;
        // Its number is drawn, and its row not there yet.
        let mut open = world.element(0).await;
        execute(&mut open, "begin").await;
        files(&mut open, 1, 100).await;
        // Nobody knows when it was finished.
        execute(
            &mut element,
            "insert into elem_wal (transaction_id, operation_type, status, operation_data, started_at, \
                 completed_at) \
             values (gen_random_uuid(), 'file_delete', 'committed', '{}', now() - interval '300 days', null)",
        )
        .await;
        files(&mut element, 1_898, 100).await;
        let relay = world.relay(0).start();
        let source = world.source(0);
        eventually("all but one", || async {
            (world.last_sequence(&source).await == 2_499).then_some(())
        })
        .await;
        let (_, report) = prune(&world, &["--dry-run"]).await;
        assert_eq!(report["plan"]["up_to"], 600, "{report}");
        assert_eq!(report["plan"]["stays"]["position"], 601);
        assert_eq!(report["plan"]["stays"]["why"]["reason"], "not-proven");
        let (code, report) = prune(&world, &["--yes"]).await;
        assert_eq!(
            (code, &report["removed"]),
            (Some(0), &600.into()),
            "{report}"
        );
        execute(&mut open, "commit").await;

        // An operation that nobody finished: later rows may show what became of it.
        let pending = "insert into elem_wal (transaction_id, operation_type, status, operation_data, \
                       started_at) values ('00000000-0000-0000-0000-000000000007', 'file_delete', \
                       'pending', '{}', now() - interval '200 days')";
        execute(&mut element, pending).await;
        let (_, report) = prune(&world, &["--dry-run"]).await;
        assert_eq!(report["plan"]["operations"], 0, "{report}");
        assert_eq!(report["plan"]["stays"]["why"]["reason"], "pending");
        let id = "00000000-0000-0000-0000-000000000007";
        assert_eq!(report["plan"]["stays"]["why"]["operation"], id);
        execute(
            &mut element,
            "delete from elem_wal where status = 'pending'",
        )
        .await;

        // One whose end nobody knows may have ended since the pending one began.
        execute(
            &mut element,
            "insert into elem_wal (transaction_id, operation_type, status, operation_data, started_at) \
             values ('00000000-0000-0000-0000-000000000007', 'file_delete', 'pending', '{}', \
                 now() - interval '50 days')",
        )
        .await;
        let (_, report) = prune(&world, &["--dry-run"]).await;
        assert_eq!(report["plan"]["stays"]["position"], 602, "{report}");
        assert_eq!(report["plan"]["stays"]["why"]["reason"], "pending");
        execute(
            &mut element,
            "delete from elem_wal where status = 'pending'",
        )
        .await;

        // 2,500 files and the event of the first pruning: the last 1,000 stay.
        let (code, report) = prune(&world, &["--yes"]).await;
        assert_eq!(
            (code, &report["prune_mark"]),
            (Some(0), &1_501.into()),
            "{report}"
        );
        assert_eq!(report["plan"]["stays"]["why"]["reason"], "last");
        assert_eq!(rows(&mut element, 1_501).await, (0, 1_001));
        relay.kill().await;
    });
}

#[test]
fn nothing_goes_where_a_message_is_missing_or_says_something_else() {
    run(async {
        let (world, mut element) = world().await;
        let relay = relayed(&world).await;
        let source = world.source(0);
        relay.kill().await;
        let mut messages = all(&world.bus, &source).await;
        messages.truncate(40);
        replace(&world, &source, &messages[..39]).await;
        let words = ["--yes", "--wait", "0"];
        let (code, report) = prune(&world, &words).await;
        assert_eq!((code, &report["removed"]), (Some(1), &0.into()), "{report}");
        assert_eq!(report["findings"]["message-missing"], 3_461, "{report}");
        assert_eq!(rows(&mut element, 3_500).await, (3_500, 0));
        assert_eq!(prune_mark(&mut element).await, (0, 0));

        // A row that is another one than its message states.
        let relay = world.relay(0).start();
        eventually("all again", || async {
            (world.last_sequence(&source).await == 3_500).then_some(())
        })
        .await;
        relay.kill().await;
        forge(
            &mut element,
            "elem",
            "update elem_wal set user_id = '2' where position = 7",
        )
        .await;
        let (code, report) = prune(&world, &words).await;
        assert_eq!((code, &report["removed"]), (Some(1), &0.into()), "{report}");
        assert_eq!(report["findings"]["message-changed"], 1, "{report}");
        assert_eq!(rows(&mut element, 3_500).await, (3_500, 0));
    });
}

#[test]
fn killed_at_any_step_every_row_is_there_or_below_the_prune_mark() {
    run(async {
        let (world, mut element) = world().await;
        let relay = world.relay(0).start();
        let projector = world.projector().start();
        agrees(&world).await;
        let steps = [
            ("prune.planned", 1, 0),
            ("prune.removed", 1, 0),
            ("prune.committed", 1, 1_000),
            ("prune.removed", 1, 1_000),
        ];
        for (point, times, expected) in steps {
            let mut killed = command(&world, &["--yes"]).crash_at(point, times).start();
            assert_eq!(
                killed.ended().await.code(),
                None,
                "{point}: {}",
                killed.log()
            );
            // The server takes back what it had open.
            eventually("the prune mark is free", || async {
                let mut element = world.element(0).await;
                let free = "select floor from elem_wal_pruned for update nowait";
                try_execute(&mut element, free).await.ok()
            })
            .await;
            assert_eq!(
                prune_mark(&mut element).await,
                (expected, expected),
                "{point}"
            );
            let events: i64 = value(
                &mut element,
                "select count(*) from elem_wal where operation_type = 'wal_prune'",
            )
            .await;
            assert_eq!(events, expected / 1_000, "{point}");
            let there = 3_500 - expected + events;
            assert_eq!(rows(&mut element, expected).await, (0, there), "{point}");
            agrees(&world).await;
        }
        let (code, report) = prune(&world, &["--yes"]).await;
        assert_eq!(
            (code, &report["removed"]),
            (Some(0), &1_000.into()),
            "{report}"
        );
        assert_eq!(prune_mark(&mut element).await, (2_000, 2_000));
        agrees(&world).await;
        projector.kill().await;
        relay.kill().await;
    });
}

/// The relay compares those that the stream has, whatever was finished since.
#[test]
fn the_last_thousand_that_stay_are_of_those_that_were_published() {
    use artstore_producers::operations::prune::{Limits, Stays, plan};
    run(async {
        let (world, mut element) = world().await;
        files(&mut element, 2_000, 100).await;
        let name = &world.elements[0].0;
        let limits = Limits {
            finished_before: chrono::Utc::now(),
            proven: 1_700,
            published: 1_700,
            backed_up: None,
        };
        let plan = plan(&mut element, name, limits).await.unwrap();
        assert_eq!(plan.up_to, 700, "{plan:?}");
        assert_eq!(plan.stays, Some((701, Stays::Last)));
    });
}

#[test]
fn a_role_of_its_own_may_prune_and_no_more() {
    run(async {
        let (world, mut element) = world().await;
        let relay = relayed(&world).await;
        let role = format!("pruner_{}", uuid::Uuid::new_v4().simple());
        let create = format!("create role {role} login password '{role}'");
        execute(&mut element, create).await;
        let words = ["migrate", "grant", "--role", &role, "--for", "pruner"];
        let (status, log) = world.command(&words).finish().await;
        assert!(status.success(), "{log}");
        let (_, place) = world.elements[0].1.split_once('@').unwrap();
        let url = format!("postgres://{role}:{role}@{place}");
        let words = ["--yes"];
        let pruned = command(&world, &words).env("ARTSTORE_ELEMENTS", &format!("elem={url}"));
        let (status, log) = pruned.finish().await;
        assert!(status.success(), "{log}");
        assert_eq!(prune_mark(&mut element).await, (2_000, 2_000));
        let mut as_role = pg(&url).await;
        for change in ["delete from elem_files", "drop table elem_wal_pruned"] {
            let refused = try_execute(&mut as_role, change).await.unwrap_err();
            let code = refused.as_database_error().and_then(|e| e.code());
            assert_eq!(code.as_deref(), Some("42501"), "{change}");
        }
        relay.kill().await;
    });
}

#[test]
fn an_element_of_before_is_refused_with_what_to_run() {
    run(async {
        let world = World::new(&["elem"]).await;
        let down = ["migrate", "down", "--module", "storage", "--to", "5"];
        let (status, log) = world.command(&down).finish().await;
        assert!(status.success(), "{log}");
        let words = ["wal", "prune", "--older-than", "30d", "--dry-run"];
        for words in [
            &["run", "relay", "--source", "elem"][..],
            &["verify", "--wait", "0"][..],
            &words,
        ] {
            let (status, log) = world.command(words).finish().await;
            assert_eq!(status.code(), Some(1), "{words:?}: {log}");
            assert!(
                log.contains("run `artstore migrate up`"),
                "{words:?}: {log}"
            );
        }
    });
}
