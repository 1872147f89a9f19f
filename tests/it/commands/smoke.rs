//! `artstore migrate smoke`: one file goes through the whole system and leaves nothing; where a part of the
//! system is stuck, its stage is named, and the file is still removed.

use serde_json::Value;
use sqlx::PgConnection;

use crate::support::load::{create, new_file};
use crate::support::*;

async fn texts(connection: &mut PgConnection, sql: &'static str) -> Vec<String> {
    sqlx::query_scalar(sql).fetch_all(connection).await.unwrap()
}

async fn files(world: &World) -> Vec<String> {
    let sql = "select file::text from elem_files as file order by 1";
    texts(&mut world.element(0).await, sql).await
}

async fn cache(world: &World) -> Vec<String> {
    let sql = "select row(id, filename, description, event_id, cache_updated_at)::text \
               from file_metadata_cache order by 1";
    texts(&mut world.query().await, sql).await
}

async fn pending(world: &World) -> i64 {
    let sql = "select count(*) from elem_wal where position is null";
    value(&mut world.element(0).await, sql).await
}

#[test]
fn a_file_goes_the_whole_way_and_leaves_nothing() {
    run(async {
        let world = World::new(&["elem"]).await;
        let (relay, projector) = (world.relay(0).start(), world.projector().start());
        let mut element = ("elem".parse().unwrap(), world.element(0).await);
        for name in ["a.txt", "b.txt"] {
            create(&mut element, &new_file(name)).await.unwrap();
        }
        world.published(0).await;
        world.projected().await;
        let (before_files, before_cache) = (files(&world).await, cache(&world).await);

        let (status, said) = world.command(&["migrate", "smoke"]).output().await;
        assert!(status.success(), "{said}");
        println!("{said}");
        for stage in [
            "written",
            "published",
            "in the cache",
            "found",
            "changed",
            "found again",
            "deleted",
            "out of the cache",
            "nothing left",
        ] {
            assert!(said.contains(&format!("  {stage:<16} ")), "{stage}: {said}");
        }
        assert_eq!(files(&world).await, before_files);
        assert_eq!(cache(&world).await, before_cache);
        // Its operations and its tombstone are there, as of any other file.
        assert_eq!(world.last_sequence(&world.source(0)).await, 5);
        let deleted = "select count(*) from file_ownership where deleted";
        assert_eq!(value::<i64>(&mut world.query().await, deleted).await, 1);
        world.published(0).await;

        // Without the projector: the stage is named, and where the projector is.
        projector.kill().await;
        let smoke = world.command(&["migrate", "smoke", "--timeout", "1", "--json"]);
        let (status, said) = smoke.output().await;
        assert_eq!(status.code(), Some(1), "{said}");
        let report: Value = serde_json::from_str(&said).unwrap();
        let failed = &report[0]["failed"];
        assert_eq!(failed["stage"], "in the cache", "{report}");
        let reason = failed["reason"].as_str().unwrap();
        assert!(
            reason.contains("event 6") && reason.contains("has applied 5"),
            "{report}"
        );
        assert!(reason.contains("artstore run projector"), "{report}");
        assert_eq!(report[0]["cleaned_up"], true, "{report}");
        assert_eq!(files(&world).await, before_files);

        // Without the relay, and interrupted while it waits for it.
        relay.kill().await;
        let smoke = world.command(&["migrate", "smoke", "--timeout", "1"]);
        let (status, said) = smoke.output().await;
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(
            said.contains(
                "  published        FAILED  not within 1 s; the row is not in ARTSTORE_WAL_elem"
            ),
            "{said}"
        );
        let mut smoke = world.command(&["migrate", "smoke"]).start();
        eventually("the file is written", || async {
            smoke.output().contains("written").then_some(())
        })
        .await;
        smoke.signal("-INT").await;
        assert_eq!(smoke.ended().await.code(), Some(1));
        let said = smoke.output();
        assert!(
            said.contains("interrupted") && said.contains("the file is gone"),
            "{said}"
        );
        assert_eq!(files(&world).await, before_files);
        assert_eq!(pending(&world).await, 0);

        // When they run again, the cache has nothing of all that either.
        let (relay, projector) = (world.relay(0).start(), world.projector().start());
        world.published(0).await;
        world.projected().await;
        assert_eq!(cache(&world).await, before_cache);
        relay.kill().await;
        projector.kill().await;

        // Nothing is written where it is seen before that it can't come.
        let nowhere = database("nowhere").await;
        let finished = world.last_sequence(&world.source(0)).await;
        let smoke = world
            .command(&["migrate", "smoke", "--json"])
            .env("QUERY_DATABASE_URL", &nowhere.replace("nowhere", "gone"));
        let (status, said) = smoke.output().await;
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("\"query database\""), "{said}");
        assert_eq!(finished_rows(&world).await, finished);
    });
}

async fn finished_rows(world: &World) -> u64 {
    finished(&mut world.element(0).await, &world.source(0)).await
}

#[test]
fn on_tables_of_an_older_version_nothing_is_written_and_the_next_step_is_named() {
    run(async {
        let world = World::new(&["elem"]).await;
        let down = ["migrate", "down", "--to", "4", "--module", "storage"];
        let (status, said) = world.command(&down).output().await;
        assert!(status.success(), "{said}");
        let smoke = ["migrate", "smoke", "--timeout", "1"];
        let (status, said) = world.command(&smoke).output().await;
        assert_eq!(status.code(), Some(1), "{said}");
        let module = artstore_migrations::Module::Storage(world.elements[0].0.clone());
        let latest = artstore_migrations::latest(&module);
        let expected = format!("is at version 4 of {latest}: run `artstore migrate up` first");
        assert!(said.contains(&expected), "{said}");
        assert!(!said.contains("cleaned up"), "{said}");
        let written = "select count(*) from elem_wal";
        assert_eq!(value::<i64>(&mut world.element(0).await, written).await, 0);
    });
}
