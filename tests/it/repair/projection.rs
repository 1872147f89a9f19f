//! `artstore projection repair`: checkpoints moved by hand are reset to where they belong, with
//! projectors running; a repair that is killed leaves the old rows or the right ones.

use artstore_schemas::source::Source;
use artstore_verification::finding::{Finding, Kind};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::support::load::{Load, create, new_file, update};
use crate::support::*;
use crate::verify::cache::{Filled, clean, filled, repair, verify};

const CHECKPOINT: &str = "update projection_checkpoints set";

/// Where the projector is in the first element's stream, as it is stored.
async fn place(query: &mut PgConnection) -> String {
    value(
        query,
        "select (to_jsonb(c) - 'updated_at' - 'generation')::text from projection_checkpoints c \
         where stream = 'ARTSTORE_WAL_elem_a'",
    )
    .await
}

async fn set(query: &mut PgConnection, what: &str) {
    execute(
        query,
        format!("{CHECKPOINT} {what} where stream = 'ARTSTORE_WAL_elem_a'"),
    )
    .await;
}

/// With nobody who would move it, so that it is exact.
#[test]
fn checkpoints_moved_by_hand_are_found_and_brought_back_to_where_their_event_stands() {
    run_waiting(async {
        let filled = filled(10).await;
        let world = &filled.world;
        let mut query = world.query().await;
        filled.projector.signal("-STOP").await;
        let right = place(&mut query).await;
        for (what, says) in [
            ("last_sequence = last_sequence + 5", "the stream ends at"),
            ("last_sequence = last_sequence - 2", "is expected at"),
            ("source_high = source_high + 7", "covers positions"),
            ("source_missing = '3'", "covers positions"),
            (
                "stream_created_at = stream_created_at - interval '1 day'",
                "this one was created at",
            ),
        ] {
            set(&mut query, what).await;
            let report = verify(world).await;
            let [finding] = report.findings.as_slice() else {
                panic!("{what}: {:#?}", report.findings);
            };
            assert_eq!(finding.kind, Kind::Checkpoint);
            assert_eq!(finding.source, "elem_a");
            assert!(finding.detail.contains(says), "{}", finding.detail);
            repair(world, &report.findings).await;
            assert_eq!(place(&mut query).await, right, "{what}");
            clean(world).await;
        }
        filled.projector.signal("-CONT").await;
        filled.end().await;
    });
}

/// Forwards over events that were never applied, while the projector runs: it stands still until
/// the checkpoint is back, and then shows them.
#[test]
fn a_projector_goes_on_where_the_repair_puts_its_checkpoint() {
    run_waiting(async {
        let Filled {
            world,
            relays,
            projector,
            files,
        } = filled(5).await;
        projector.kill().await;
        let mut query = world.query().await;
        let mut element = (world.elements[0].0.clone(), world.element(0).await);
        for number in 0..5 {
            let file = new_file(&format!("unseen {number}.pdf"));
            create(&mut element, &file).await.unwrap();
        }
        world.published(0).await;
        set(&mut query, "last_sequence = last_sequence + 3").await;
        let projector = world.projector().start();
        projector.says("was spliced or rewritten").await;
        let report = verify(&world).await;
        let [finding] = report.findings.as_slice() else {
            panic!("{:#?}", report.findings);
        };
        assert_eq!(finding.kind, Kind::Checkpoint);
        assert_eq!(report.in_flight, 5);
        repair(&world, &report.findings).await;
        world.applied().await;
        clean(&world).await;

        // Back to the start, of a place that is right in itself: it applies all of it once more.
        set(
            &mut query,
            "last_sequence = 0, last_event_id = null, source_high = 0, source_missing = ''",
        )
        .await;
        execute(
            &mut query,
            format!(
                "{CHECKPOINT} last_sequence = 0, last_event_id = null, source_high = 0 \
                 where stream = 'ARTSTORE_QUERY'; \
                 delete from file_metadata_cache where id = '{}'",
                files[0]
            ),
        )
        .await;
        world.applied().await;
        clean(&world).await;
        let filled = Filled {
            world,
            relays,
            projector,
            files,
        };
        filled.end().await;
    });
}

/// A checkpoint that was moved forwards with everything that belongs to it looks right: the rows
/// that are missing reveal it.
#[test]
fn events_skipped_by_a_checkpoint_that_looks_right_are_found_in_the_rows() {
    run(async {
        let filled = filled(3).await;
        let world = &filled.world;
        let mut query = world.query().await;
        let mut element = (world.elements[0].0.clone(), world.element(0).await);
        filled.projector.signal("-STOP").await;
        let skipped = new_file("skipped.pdf");
        create(&mut element, &skipped).await.unwrap();
        world.published(0).await;
        let last = world.messages(&world.source(0)).await.pop().unwrap();
        set(
            &mut query,
            &format!(
                "last_sequence = last_sequence + 1, last_event_id = '{}', source_high = {}, \
                 source_missing = '{}'",
                last.id, last.high_water_mark, last.gaps
            ),
        )
        .await;
        let report = verify(world).await;
        let [finding] = report.findings.as_slice() else {
            panic!("{:#?}", report.findings);
        };
        assert_eq!(finding.kind, Kind::RowMissing);
        assert_eq!(finding.id, Some(skipped.id));
        repair(world, &report.findings).await;
        filled.projector.signal("-CONT").await;
        world.applied().await;
        clean(world).await;
        filled.end().await;
    });
}

/// Back to an earlier place, right in itself, or away altogether, while no projector runs: there is
/// nothing to reset, and the command that is named is the projector.
#[test]
fn a_checkpoint_moved_back_to_a_sound_place_is_repaired_by_the_projector() {
    run_waiting(async {
        let Filled {
            world,
            relays,
            projector,
            files,
        } = filled(3).await;
        projector.kill().await;
        let mut query = world.query().await;
        let start = "last_sequence = 0, last_event_id = null, source_high = 0, source_missing = ''";
        for away in [false, true] {
            match away {
                true => {
                    let gone = "delete from projection_checkpoints \
                                where stream = 'ARTSTORE_WAL_elem_a'";
                    execute(&mut query, gone).await;
                }
                false => set(&mut query, start).await,
            }
            let report = verify(&world).await;
            let checkpoint = |finding: &&Finding| finding.kind == Kind::Checkpoint;
            let found: Vec<&Finding> = report.findings.iter().filter(checkpoint).collect();
            let [finding] = found.as_slice() else {
                panic!("{:#?}", report.findings);
            };
            assert_eq!(report.findings.len(), 1, "{:#?}", report.findings);
            assert_eq!(finding.repair, "artstore run projector");
            let projector = world.projector().start();
            world.applied().await;
            clean(&world).await;
            projector.kill().await;
        }
        let projector = world.projector().start();
        let filled = Filled {
            world,
            relays,
            projector,
            files,
        };
        filled.end().await;
    });
}

#[test]
fn a_repair_that_is_killed_leaves_the_old_rows_or_the_right_ones() {
    run(async {
        let filled = filled(3).await;
        let world = &filled.world;
        let mut query = world.query().await;
        let file = filled.files[0];
        let sql = format!("update file_metadata_cache set filename = 'x' where id = '{file}'");
        execute(&mut query, sql).await;
        let shown = format!("select filename from file_metadata_cache where id = '{file}'");
        for point in ["repair.locked", "repair.applied"] {
            let id = file.to_string();
            let command = world.command(&["projection", "repair", "query-cache", "--file", &id]);
            let (status, log) = command.crash_at(point, 1).finish().await;
            assert!(!status.success(), "{log}");
            assert_eq!(value::<String>(&mut query, shown.as_str()).await, "x");
        }
        let report = verify(world).await;
        assert_eq!(report.findings.len(), 1, "{:#?}", report.findings);
        repair(world, &report.findings).await;
        clean(world).await;
        // Recorded with what it did, and not by those that were killed.
        let recorded: Vec<serde_json::Value> = sqlx::query_scalar(
            "select data from event_outbox where entity = 'projection' and action = 'repair'",
        )
        .fetch_all(&mut query)
        .await
        .unwrap();
        let [facts] = recorded.as_slice() else {
            panic!("{recorded:#?}");
        };
        assert_eq!(facts["files"][0], file.to_string());
        assert!(facts["operator"]["database_role"].is_string(), "{facts:#}");
        filled.end().await;
    });
}

/// Repairs of files that change at the same moment, again and again, with the projector at work.
#[test]
fn repairs_and_projectors_do_not_get_in_each_others_way() {
    run(async {
        let filled = filled(10).await;
        let world = &filled.world;
        let second = world.projector().start();
        let load = Load::start(world, 3, false);
        let mut query = world.query().await;
        for turn in 0..8 {
            let ids: Vec<Uuid> = sqlx::query_scalar(
                "select id::uuid from file_metadata_cache where event_id is not null \
                 order by cache_updated_at desc limit 30",
            )
            .fetch_all(&mut query)
            .await
            .unwrap();
            let mut command = world.command(&["projection", "repair", "query-cache"]);
            for id in &ids {
                command = command.argument("--file").argument(&id.to_string());
            }
            let (status, log) = command.finish().await;
            assert!(status.success(), "turn {turn}: {log}");
        }
        load.stop().await;
        filled.projected().await;
        clean(world).await;
        for process in [&filled.projector, &second] {
            let log = process.log();
            assert!(!log.contains("deadlock"), "{log}");
            assert!(!log.contains("halted"), "{log}");
        }
        let sequence = world.last_sequence(&Source::Query).await;
        assert!(sequence > 0);
        second.kill().await;
        filled.end().await;
    });
}

/// A projector that holds a file's rows and has not moved its checkpoint yet: the repair of that
/// file waits for it, and it never for the repair.
#[test]
fn a_repair_waits_for_a_batch_that_is_being_written_and_not_in_a_circle() {
    run(async {
        let filled = filled(3).await;
        filled.projector.kill().await;
        let world = &filled.world;
        let mut element = (world.elements[0].0.clone(), world.element(0).await);
        let file = filled.files[0];
        update(&mut element, file, "held").await.unwrap();
        world.published(0).await;
        let projector = world.projector().stop_at("projector.applied", 1).start();
        projector.frozen().await;
        let id = file.to_string();
        let command = world.command(&["projection", "repair", "query-cache", "--file", &id]);
        let mut repair = command.start();
        eventually("the repair waits", || async {
            let sql = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' \
                       and application_name = 'artstore projection repair' \
                       and datname = current_database()";
            let waiting: i64 = value(&mut world.query().await, sql).await;
            (waiting > 0).then_some(())
        })
        .await;
        projector.signal("-CONT").await;
        assert!(repair.ended().await.success(), "{}", repair.log());
        world.applied().await;
        clean(world).await;
        for process in [&repair, &projector] {
            assert!(!process.log().contains("deadlock"), "{}", process.log());
        }
        projector.kill().await;
        for relay in filled.relays {
            relay.kill().await;
        }
    });
}

#[test]
fn a_report_that_is_none_is_refused_before_anything_is_changed() {
    run(async {
        let world = World::new(&[]).await;
        let path = std::env::temp_dir().join(format!("report-{}.json", Uuid::new_v4()));
        for (text, says) in [
            ("{", "no JSON"),
            ("{}", "no findings in it"),
            (
                "[{\"repair\": \"artstore projection repair query-cache --file x\"}]",
                "--from",
            ),
        ] {
            std::fs::write(&path, text).unwrap();
            let command = world.command(&["projection", "repair", "query-cache", "--from"]);
            let (status, log) = command.argument(path.to_str().unwrap()).finish().await;
            assert_eq!(status.code(), Some(2), "{log}");
            assert!(log.contains(says), "{log}");
        }
        std::fs::remove_file(&path).unwrap();
    });
}
