//! Each command is an event with its operator; what was built for another purpose is not thrown away.

use super::*;
use crate::support::load::{Load, create, delete, new_file};

async fn begun(world: &World, more: &[&str]) -> Process {
    let rebuild = command(world, more).stop_at("rebuild.filled", 1).start();
    rebuild.frozen().await;
    rebuild
}

#[test]
fn every_command_is_recorded_with_its_operator_whatever_came_of_it() {
    run(async {
        let (world, processes) = built(&["elem"], 3_000).await;
        let mut query = world.query().await;
        let place = format!("{}=50", world.source(0).stream());
        let (code, said) = rebuild(&world, &["--dry-run"]).await;
        assert_eq!(code, Some(0), "{said:#}");
        let (code, said) = rebuild(&world, &["--as-of", &place]).await;
        assert_eq!(code, Some(0), "{said:#}");
        let mut stopped = begun(&world, &[]).await;
        stopped.signal("-INT").await;
        stopped.signal("-CONT").await;
        assert_eq!(stopped.ended().await.code(), Some(1));
        let (code, said) = rebuild(&world, &["--dry-run", "--keep"]).await;
        assert_eq!(code, Some(0), "{said:#}");
        // Neither the streams nor what would be in the way of a swap is asked.
        execute(
            &mut query,
            "create view mine as select id from file_metadata_cache",
        )
        .await;
        let abandon = command(&world, &["--abandon"]).env("NATS_URL", "nats://127.0.0.1:1");
        let (status, said) = abandon.finish().await;
        assert!(status.success(), "{said}");
        execute(&mut query, "drop view mine").await;
        swaps(&world).await;
        let rollback = world.command(&["projection", "rollback", "query-cache"]);
        assert!(rollback.finish().await.0.success());
        let recorded = events(&mut query).await;
        for (_, facts) in &recorded {
            let role = facts["operator"]["database_role"].as_str();
            assert!(role.is_some(), "{facts:#}");
        }
        let outcomes: Vec<_> = recorded
            .iter()
            .map(|(action, facts)| (action.as_str(), facts["outcome"].as_str()))
            .collect();
        assert_eq!(
            outcomes,
            [
                ("rebuild", Some("equal")),
                ("rebuild", Some("snapshot")),
                ("rebuild", Some("stopped")),
                ("rebuild", Some("equal")),
                ("rebuild", Some("abandoned")),
                ("rebuild", Some("swapped")),
                ("rollback", None),
            ]
        );
        assert_eq!(recorded[0].1["dry_run"], true);
        assert_eq!(recorded[1].1["as_of"], place);
        assert_eq!(recorded[2].1["kept"], false);
        for process in processes {
            process.kill().await;
        }
    });
}

#[test]
fn a_mistyped_place_does_not_cost_what_was_built() {
    run(async {
        let (world, processes) = built(&["elem"], 100).await;
        let mut query = world.query().await;
        let (code, said) = rebuild(&world, &["--dry-run", "--keep"]).await;
        assert_eq!(code, Some(0), "{said:#}");
        for (as_of, code, text) in [
            ("ARTSTORE_WAL_elem=99999", 2, "ends at 100"),
            ("ARTSTORE_WAL_nobody=1", 2, "there is no stream"),
            ("ARTSTORE_WAL_elem=50", 1, "for something else (swap)"),
        ] {
            let (status, said) = command(&world, &["--as-of", as_of]).finish().await;
            assert_eq!(status.code(), Some(code), "{said}");
            assert!(said.contains(text), "{said}");
            assert_eq!(
                schemas(&mut query).await,
                ["artstore_rebuild_query_cache"],
                "{as_of}"
            );
        }
        let said = swaps(&world).await;
        assert_eq!(said["resumed"], true, "{said:#}");
        for process in processes {
            process.kill().await;
        }
    });
}

/// The server ends the session at the moment of a Ctrl-C: nothing is left all the same.
#[test]
fn ctrl_c_removes_what_was_built_whatever_else_fails() {
    run(async {
        let (world, processes) = built(&["elem"], 3_000).await;
        let mut query = world.query().await;
        let mut rebuild = begun(&world, &[]).await;
        execute(
            &mut query,
            "select pg_terminate_backend(pid) from pg_stat_activity \
             where application_name like 'artstore rebuild%' and datname = current_database()",
        )
        .await;
        rebuild.signal("-INT").await;
        rebuild.signal("-CONT").await;
        assert_eq!(rebuild.ended().await.code(), Some(1));
        let log = rebuild.log();
        assert!(log.contains("stopped; what was built is removed"), "{log}");
        assert_eq!(schemas(&mut query).await, Vec::<String>::new());
        for process in processes {
            process.kill().await;
        }
    });
}

#[test]
fn without_a_terminal_lines_tell_the_rate_and_the_time_that_is_left() {
    run(async {
        let (world, processes) = built(&["elem"], 5_000).await;
        let mut rebuild = begun(&world, &["--dry-run"]).await;
        // The first line comes after a second.
        let since = std::time::Instant::now();
        eventually("a second is over", async || {
            (since.elapsed() > std::time::Duration::from_millis(1_200)).then_some(())
        })
        .await;
        rebuild.signal("-CONT").await;
        assert!(rebuild.ended().await.success(), "{}", rebuild.log());
        let log = rebuild.log();
        let line = log.lines().find(|line| line.contains("s left"));
        let line = line.unwrap_or_else(|| panic!("{log}"));
        assert!(
            line.starts_with("applying ARTSTORE_WAL_elem: ") && line.contains(" of 5000 events, "),
            "{line}"
        );
        for process in processes {
            process.kill().await;
        }
    });
}

#[test]
fn a_deleted_row_names_the_event_that_deleted_it() {
    run(async {
        let (world, processes) = built(&["elem"], 50).await;
        let mut query = world.query().await;
        let columns = "id, filename, storage_filename, file_size, sha256_hash, username, \
             storage_element_id, created_at, updated_at, event_id, stream, stream_sequence";
        let file: uuid::Uuid = value(
            &mut query,
            "select id::uuid from file_metadata_cache order by stream_sequence limit 1",
        )
        .await;
        execute(
            &mut query,
            format!(
                "create table kept as select {columns} from file_metadata_cache where id = '{file}'"
            ),
        )
        .await;
        let mut element = (world.elements[0].0.clone(), world.element(0).await);
        delete(&mut element, file).await.unwrap();
        passed(&world).await;
        let last = world.last_sequence(&world.source(0)).await;
        // Somebody brings it back by hand.
        execute(
            &mut query,
            format!("insert into file_metadata_cache ({columns}) select * from kept"),
        )
        .await;
        let (code, said) = rebuild(&world, &["--dry-run"]).await;
        assert_eq!((code, said["count"].as_u64()), (Some(1), Some(1)));
        let difference = &said["comparison"]["differences"][0];
        assert_eq!(difference["change"], "removed", "{difference:#}");
        assert_eq!(difference["deleted"], true, "{difference:#}");
        assert_eq!(difference["event"]["sequence"], last, "{difference:#}");
        let messages = world.messages(&world.source(0)).await;
        let id = messages.last().unwrap().id.to_string();
        assert_eq!(difference["event"]["id"], id.as_str(), "{difference:#}");
        let (_, said) = command(&world, &["--dry-run"]).output().await;
        assert!(
            said.contains("removed: its last event deletes it"),
            "{said}"
        );
        // A table whose rows name no event: who owns a file.
        execute(
            &mut query,
            format!("update file_ownership set deleted = false where file_id = '{file}'"),
        )
        .await;
        let (_, said) = rebuild(&world, &["--dry-run"]).await;
        let differences = said["comparison"]["differences"].as_array().unwrap();
        let owner = differences
            .iter()
            .find(|row| row["table"] == "file_ownership");
        assert_eq!(owner.unwrap()["event"]["sequence"], last, "{said:#}");
        for process in processes {
            process.kill().await;
        }
    });
}

#[test]
fn a_snapshot_takes_other_streams_as_the_live_tables_have_them_and_survives_a_kill() {
    run(async {
        let (world, processes) = built(&["elem", "other"], 50).await;
        let mut other = (world.elements[1].0.clone(), world.element(1).await);
        for n in 0..7 {
            create(&mut other, &new_file(&format!("other {n}")))
                .await
                .unwrap();
        }
        world.published(1).await;
        crate::projector::parking::poison(&world, 0).await;
        passed(&world).await;
        world.applied().await;
        let (first, second) = (world.source(0), world.source(1));
        let ends = (
            world.last_sequence(&first).await,
            world.last_sequence(&second).await,
        );
        assert!(ends.1 > 0);
        let mut query = world.query().await;
        let place = format!("{}=50", first.stream());
        let (code, said) = rebuild(&world, &["--as-of", &place]).await;
        assert_eq!(code, Some(0), "{said:#}");
        assert_eq!(said["streams"][second.stream()], ends.1, "{said:#}");
        assert_eq!(said["parked"], 0, "{said:#}");
        let schema = said["schema"].as_str().unwrap();
        let rows = format!("select count(*) from {schema}.file_metadata_cache");
        assert_eq!(value::<i64>(&mut query, rows).await, 57);
        execute(&mut query, format!("drop schema {schema} cascade")).await;
        // With the parked event, killed when it is made: it is there, recorded, and nothing else is left.
        let place = format!("{}={}", first.stream(), ends.0);
        let mut killed = command(&world, &["--as-of", &place])
            .crash_at("rebuild.snapshot", 1)
            .start();
        assert_eq!(killed.ended().await.code(), None, "{}", killed.log());
        let left = schemas(&mut query).await;
        assert!(
            left.len() == 1 && left[0].starts_with("artstore_snapshot_query_cache_"),
            "{left:?}"
        );
        let recorded = events(&mut query).await;
        assert_eq!(recorded.last().unwrap().1["schema"], left[0].as_str());
        execute(&mut query, format!("drop schema {} cascade", left[0])).await;
        let (code, said) = rebuild(&world, &["--as-of", &place]).await;
        assert_eq!((code, said["parked"].as_u64()), (Some(0), Some(1)));
        for process in processes {
            process.kill().await;
        }
    });
}

#[test]
fn killed_under_load_the_same_command_catches_up() {
    run(async {
        let (world, processes) = built(&["elem"], 2_000).await;
        let load = Load::start(&world, 2, false);
        for point in [
            "rebuild.filled",
            "rebuild.compared",
            "rebuild.locked",
            "rebuild.moved",
            "rebuild.recorded",
            "rebuild.swapped",
        ] {
            let mut killed = command(&world, &[]).crash_at(point, 1).start();
            assert_eq!(
                killed.ended().await.code(),
                None,
                "{point}: {}",
                killed.log()
            );
        }
        swaps(&world).await;
        load.stop().await;
        all_applied(&world).await;
        crate::verify::cache::clean(&world).await;
        for process in processes {
            process.kill().await;
        }
    });
}

#[test]
fn the_audit_log_is_derived_again_and_compared_and_that_is_recorded() {
    run(async {
        let world = World::new(&["elem"]).await;
        let audited = crate::audit::Audited::new(&world).await;
        let relay = world.command(&["run", "relay"]).start();
        let projector = audited.projector().start();
        crate::audit::admin_events(&world, 20).await;
        files(&world, 20).await;
        world.published(0).await;
        audited.caught_up().await;
        let mut admin = pg(&world.admin_url).await;
        let rebuild = ["projection", "rebuild", "audit-log"];
        let (status, said) = audited.command(&rebuild).output().await;
        assert!(status.success(), "{said}");
        execute(
            &mut admin,
            "alter table audit_logs disable trigger all; \
             update audit_logs set action = 'nothing' where id = ( \
                 select max(id) from audit_logs where stream = 'ARTSTORE_WAL_elem')",
        )
        .await;
        let (status, said) = audited.command(&rebuild).output().await;
        assert_eq!(status.code(), Some(1), "{said}");
        let recorded = events(&mut admin).await;
        let outcomes: Vec<_> = recorded
            .iter()
            .map(|(action, facts)| (action.as_str(), facts["outcome"].as_str()))
            .collect();
        assert_eq!(
            outcomes,
            [("rebuild", Some("equal")), ("rebuild", Some("different"))]
        );
        let operator = &recorded[0].1["operator"];
        assert!(operator["database_role"].is_string(), "{operator:#}");
        for process in [relay, projector] {
            process.kill().await;
        }
    });
}
