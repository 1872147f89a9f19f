//! What can't be rebuilt is reported, with what to do.

use artstore_stack::{Stack, StackOptions};

use super::*;
use crate::services::frozen::Frozen;

async fn says(world: &World, more: &[&str], code: i32, text: &str) {
    let (status, said) = command(world, more).finish().await;
    assert_eq!(status.code(), Some(code), "{said}");
    assert!(said.contains(text), "{said}");
}

#[test]
fn what_stays_with_a_table_is_named_before_anything_is_built() {
    run(async {
        let (world, processes) = built(&["elem"], 10).await;
        let mut query = world.query().await;
        for (make, drop, text) in [
            (
                "create view mine as select id from file_metadata_cache",
                "drop view mine",
                "rule _RETURN on view mine depends on it",
            ),
            (
                "create table mine (id varchar(36) references file_metadata_cache (id))",
                "drop table mine",
                "constraint mine_id_fkey on table mine depends on it",
            ),
            (
                "create function mine(public.file_metadata_cache) returns int \
                 language sql return 1",
                "drop function mine",
                "function mine(file_metadata_cache) depends on it",
            ),
            (
                "alter table search_history enable row level security",
                "alter table search_history disable row level security",
                "it has row security",
            ),
            (
                "create publication mine for table file_metadata_cache",
                "drop publication mine",
                "publication mine names it",
            ),
        ] {
            execute(&mut query, make).await;
            let (status, said) = command(&world, &[]).finish().await;
            assert_eq!(status.code(), Some(1), "{said}");
            let said = said.replace("public.", "");
            assert!(
                said.contains("can't be swapped") && said.contains(text),
                "{said}"
            );
            execute(&mut query, drop).await;
        }
        assert_eq!(schemas(&mut query).await, Vec::<String>::new());
        execute(&mut query, "create role rebuilds_nothing login password 'x'; grant all on all tables in schema public to rebuilds_nothing").await;
        let (_, rest) = world.query_url.split_once('@').unwrap();
        let url = format!("postgres://rebuilds_nothing:x@{rest}");
        let (status, said) = command(&world, &[])
            .env("QUERY_DATABASE_URL", &url)
            .finish()
            .await;
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("role rebuilds_nothing"), "{said}");
        execute(
            &mut query,
            "drop owned by rebuilds_nothing; drop role rebuilds_nothing",
        )
        .await;
        for process in processes {
            process.kill().await;
        }
    });
}

#[test]
fn tables_in_use_are_waited_for_and_who_uses_them_is_named() {
    run(async {
        let (world, processes) = built(&["elem"], 10).await;
        let mut holder = pg(&world.query_url).await;
        execute(
            &mut holder,
            "set application_name = 'a long report'; begin; select from file_metadata_cache",
        )
        .await;
        let mut waiting = command(&world, &[]).start();
        waiting.says("(a long report), idle in transaction").await;
        // Meanwhile readers are held up for less than a second at a time, and the projector as well.
        let mut query = world.query().await;
        let rows: i64 = value(&mut query, "select count(*) from file_metadata_cache").await;
        assert_eq!(rows, 10);
        execute(&mut holder, "rollback").await;
        assert!(waiting.ended().await.success(), "{}", waiting.log());
        // To whoever reads as of an earlier time the new tables would be empty.
        execute(&mut holder, "begin isolation level repeatable read").await;
        let now: i64 = value(&mut holder, "select count(*) from pg_class").await;
        assert!(now > 0);
        let mut waiting = command(&world, &[]).start();
        waiting.says("that reads as of its beginning").await;
        let rows: i64 = value(&mut holder, "select count(*) from file_metadata_cache").await;
        assert_eq!(rows, 10);
        execute(&mut holder, "rollback").await;
        assert!(waiting.ended().await.success(), "{}", waiting.log());
        for process in processes {
            process.kill().await;
        }
    });
}

#[test]
fn a_new_version_halts_and_names_the_command_that_repairs_it() {
    run(async {
        let (world, [relay, projector]) = built(&["elem"], 10).await;
        projector.kill().await;
        let mut query = world.query().await;
        execute(&mut query, "update projection_checkpoints set version = 0").await;
        let projector = world.projector().start();
        projector
            .says("built by version 0, this is version 1: build it again: `artstore projection rebuild query-cache`")
            .await;
        let (_, said) = world.command(&["projection", "list"]).output().await;
        assert!(
            said.contains("tables of version 0: to be built again"),
            "{said}"
        );
        swaps(&world).await;
        files(&world, 10).await;
        passed(&world).await;
        // The program can't continue with what was before.
        let rollback = world.command(&["projection", "rollback", "query-cache"]);
        let (status, said) = rollback.finish().await;
        assert_eq!(status.code(), Some(1));
        assert!(
            said.contains("version 0 of the projection built them"),
            "{said}"
        );
        for process in [relay, projector] {
            process.kill().await;
        }
    });
}

#[test]
fn a_stream_without_its_beginning_or_with_a_hole_is_named() {
    run(async {
        let (world, processes) = built(&["elem"], 30).await;
        for process in processes {
            process.kill().await;
        }
        let source = world.source(0);
        let messages = crate::verify::all(&world.bus, &source).await;
        let handle = crate::verify::deletable(&world, &source, &messages).await;
        handle.delete_message(10).await.unwrap();
        says(&world, &[], 1, "message 10 is missing, 11 came").await;
        for sequence in 1..5 {
            handle.delete_message(sequence).await.unwrap();
        }
        says(
            &world,
            &[],
            1,
            "begins at message 5: those before it are gone",
        )
        .await;
        assert_eq!(
            schemas(&mut world.query().await).await,
            Vec::<String>::new()
        );
        says(
            &world,
            &["--as-of", "2026-01-01T00:00:00Z", "--dry-run"],
            2,
            "cannot be used with",
        )
        .await;
        let rollback = world.command(&["projection", "rollback", "query-cache"]);
        let (status, said) = rollback.finish().await;
        assert_eq!(status.code(), Some(1));
        assert!(said.contains("was not swapped before"), "{said}");
    });
}

#[test]
fn a_stream_that_stands_still_ends_it_with_the_reason_and_what_was_built_is_kept() {
    run_waiting(async {
        let stack = Stack::start(StackOptions::default()).await.unwrap();
        let world = World::on(&stack, 0, &["elem"], 1).await;
        files(&world, 6_000).await;
        let relay = world.command(&["run", "relay"]).start();
        let projector = world.projector().start();
        passed(&world).await;
        let mut rebuild = command(&world, &[]).stop_at("rebuild.filled", 1).start();
        rebuild.frozen().await;
        let frozen = Frozen::new(vec![stack.nats_pid(0)]);
        rebuild.signal("-CONT").await;
        // Longer than a stream may stand still.
        let ended = tokio::time::timeout(PATIENCE * 2, rebuild.ended_late()).await;
        let status = ended.unwrap_or_else(|_| panic!("never: {}", rebuild.log()));
        assert_eq!(status.code(), Some(1), "{}", rebuild.log());
        for text in [
            "stream ARTSTORE_WAL_elem",
            "the same command continues there",
        ] {
            assert!(rebuild.log().contains(text), "{}", rebuild.log());
        }
        drop(frozen);
        let said = swaps(&world).await;
        assert_eq!(said["resumed"], true, "{said:#}");
        all_applied(&world).await;
        for process in [relay, projector] {
            process.kill().await;
        }
    });
}
