//! Who waits for whom: readers of other roles, frozen servers and processes, and changes of the live tables
//! while others are built.

use std::time::{Duration, Instant};

use artstore_stack::{Stack, StackOptions};

use super::live::Reader;
use super::*;
use crate::services::frozen::Frozen;

/// Longer nobody who reads is kept waiting, on a machine with other things to do.
const LONGEST: Duration = Duration::from_secs(8);

/// The number of files, and how long it took to count them.
async fn count(world: &World) -> (i64, Duration) {
    let mut query = world.query().await;
    let begun = Instant::now();
    let rows = value(&mut query, "select count(*) from file_metadata_cache").await;
    (rows, begun.elapsed())
}

#[test]
fn nobody_waits_for_a_frozen_server_or_a_frozen_rebuild() {
    run(async {
        let stack = Stack::start(StackOptions::default()).await.unwrap();
        let world = World::on(&stack, 0, &["elem"], 1).await;
        files(&world, 100).await;
        let relay = world.command(&["run", "relay"]).start();
        let projector = world.projector().start();
        passed(&world).await;

        // NATS stops answering when the tables are taken: they are released, and it is tried again.
        let mut rebuild = command(&world, &[]).stop_at("rebuild.locked", 1).start();
        rebuild.frozen().await;
        let frozen = Frozen::new(vec![stack.nats_pid(0)]);
        rebuild.signal("-CONT").await;
        let (rows, waited) = count(&world).await;
        assert_eq!(rows, 100);
        assert!(waited < LONGEST, "{waited:?}");
        drop(frozen);
        assert!(rebuild.ended().await.success(), "{}", rebuild.log());

        // The process itself stops: the server ends its session.
        let mut rebuild = command(&world, &[]).stop_at("rebuild.locked", 1).start();
        rebuild.frozen().await;
        let (rows, waited) = count(&world).await;
        assert_eq!(rows, 100);
        assert!(waited < LONGEST, "{waited:?}");
        rebuild.signal("-CONT").await;
        assert_eq!(rebuild.ended().await.code(), Some(1), "{}", rebuild.log());
        let said = swaps(&world).await;
        assert_eq!(said["resumed"], true, "{said:#}");

        // So does a rollback.
        let rollback = world.command(&["projection", "rollback", "query-cache"]);
        let mut rollback = rollback.stop_at("rollback.locked", 1).start();
        rollback.frozen().await;
        let (_, waited) = count(&world).await;
        assert!(waited < LONGEST, "{waited:?}");
        rollback.signal("-CONT").await;
        assert_eq!(rollback.ended().await.code(), Some(1), "{}", rollback.log());
        let rollback = world.command(&["projection", "rollback", "query-cache"]);
        assert!(rollback.finish().await.0.success());
        for process in [relay, projector] {
            process.kill().await;
        }
    });
}

/// An owner that sees nothing of other roles' sessions.
async fn plain_owner(query: &mut PgConnection) {
    execute(
        query,
        "create role rebuilds_plainly login password 'x'; \
         do $$ declare name text; begin \
             execute format('alter database %I owner to rebuilds_plainly', current_database()); \
             execute 'grant all on schema public to rebuilds_plainly'; \
             for name in select c.oid::regclass::text from pg_class c \
                 where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' \
             loop execute format('alter table %s owner to rebuilds_plainly', name); end loop; \
         end $$",
    )
    .await;
}

#[test]
fn a_plain_owner_waits_for_snapshots_of_other_roles() {
    run(async {
        let (world, processes) = built(&["elem"], 10).await;
        let mut query = world.query().await;
        plain_owner(&mut query).await;
        let (_, rest) = world.query_url.split_once('@').unwrap();
        let url = format!("postgres://rebuilds_plainly:x@{rest}");
        let rebuild = || command(&world, &[]).env("QUERY_DATABASE_URL", &url).start();
        let mut holder = pg(&world.query_url).await;
        execute(&mut holder, "set application_name = 'a report'").await;
        execute(&mut holder, "begin isolation level repeatable read").await;
        let known: i64 = value(&mut holder, "select count(*) from pg_class").await;
        assert!(known > 0);
        let mut waiting = rebuild();
        waiting
            .says("(a report), of which this role may see no more, that reads as of its beginning")
            .await;
        let rows: i64 = value(&mut holder, "select count(*) from file_metadata_cache").await;
        assert_eq!(rows, 10);
        execute(&mut holder, "rollback").await;
        assert!(waiting.ended().await.success(), "{}", waiting.log());
        // One that holds the tables is named as well.
        execute(&mut holder, "begin; select from file_metadata_cache").await;
        let mut waiting = rebuild();
        waiting
            .says("(a report), of which this role may see no more")
            .await;
        execute(&mut holder, "rollback").await;
        assert!(waiting.ended().await.success(), "{}", waiting.log());
        for process in processes {
            process.kill().await;
        }
        execute(
            &mut query,
            "do $$ begin execute format('alter database %I owner to %I', current_database(), \
                 current_user); end $$; \
             reassign owned by rebuilds_plainly to current_user; \
             drop owned by rebuilds_plainly; drop role rebuilds_plainly",
        )
        .await;
    });
}

#[test]
fn rights_and_indexes_that_come_and_go_meanwhile_are_not_lost() {
    run(async {
        let (world, processes) = built(&["elem"], 100).await;
        let mut query = world.query().await;
        execute(
            &mut query,
            "grant select on search_history to public; \
             create index goes on file_metadata_cache (filename, id)",
        )
        .await;
        let rebuild = command(&world, &[]).stop_at("rebuild.compared", 1).start();
        rebuild.frozen().await;
        let change = |grant: &str, index: &str| {
            format!(
                "grant {grant} on file_metadata_cache to public; \
                 create index {index} on file_metadata_cache (file_size, id); \
                 alter table file_metadata_cache set (fillfactor = 70)"
            )
        };
        execute(&mut query, change("select", "comes")).await;
        execute(
            &mut query,
            "revoke select on search_history from public; drop index goes",
        )
        .await;
        let before = form(&mut query).await;
        rebuild.signal("-CONT").await;
        let mut rebuild = rebuild;
        assert!(rebuild.ended().await.success(), "{}", rebuild.log());
        assert_eq!(form(&mut query).await, before);
        // What came after the swap goes back with a rollback.
        execute(&mut query, change("insert", "comes_later")).await;
        let before = form(&mut query).await;
        let rollback = world.command(&["projection", "rollback", "query-cache"]);
        let (status, said) = rollback.finish().await;
        assert!(status.success(), "{said}");
        assert_eq!(form(&mut query).await, before);
        for process in processes {
            process.kill().await;
        }
    });
}

/// Whatever the server's statistics state, or do not say yet.
#[test]
fn many_rows_of_the_product_keep_nobody_waiting() {
    run(async {
        let (world, processes) = built(&["elem"], 50).await;
        let mut query = world.query().await;
        for number in 0..50 {
            let file = uuid::Uuid::from_u128(number);
            crate::support::load::downloaded(&mut query, file, &world.elements[0].0)
                .await
                .unwrap();
        }
        all_applied(&world).await;
        // A server that has not looked at the product's rows, and does not.
        execute(
            &mut query,
            "alter table download_statistics set (autovacuum_enabled = off); \
             analyze download_statistics",
        )
        .await;
        execute(
            &mut query,
            "insert into download_statistics (file_id, storage_element_id, bytes_transferred, \
                 download_time_ms, was_resumed) \
             select gen_random_uuid(), 'elem', n, 1, false from generate_series(1, 40000) n",
        )
        .await;
        let reader = Reader::start(&world.query_url, "true", 50);
        for _ in 0..2 {
            let said = swaps(&world).await;
            let tables = said["comparison"]["tables"].as_array().unwrap();
            let downloads = tables.iter().find(|t| t["table"] == "download_statistics");
            assert_eq!(downloads.unwrap()["product_rows"], 40_000);
        }
        let rollback = world.command(&["projection", "rollback", "query-cache"]);
        let (status, said) = rollback.output().await;
        assert!(status.success(), "{said}");
        let counts = reader.stop(&world.query_url).await;
        println!("{counts:?}");
        assert!(counts.longest < LONGEST, "{counts:?}");
        let rows = "select count(*) from download_statistics where event_id is null";
        assert_eq!(value::<i64>(&mut query, rows).await, 40_000);
        for process in processes {
            process.kill().await;
        }
    });
}
