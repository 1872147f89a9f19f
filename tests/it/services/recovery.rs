//! Relay and projector recover by themselves when NATS or PostgreSQL is restarted under load.

use artstore_schemas::source::Source;
use artstore_stack::{PostgresStop, Stack, StackOptions};
use uuid::Uuid;

use crate::support::load::{Load, downloaded};
use crate::support::*;

#[test]
fn nats_and_postgres_are_restarted_under_load() {
    run(async {
        let stack = Stack::start(StackOptions::default()).await.unwrap();
        let world = World::on(&stack, 0, &["elem_a", "elem_b"], 1).await;
        let mut relay = world.command(&["run", "relay"]).start();
        let mut projector = world.projector().start();
        let load = Load::start(&world, 3, true);
        let goes_on = async |what: &str| {
            let before = checkpoint(&world.query_url, &world.source(0)).await;
            eventually(what, || async {
                (checkpoint(&world.query_url, &world.source(0)).await > before + 50).then_some(())
            })
            .await;
        };
        goes_on("before anything").await;
        for round in 0..2 {
            stack.kill_nats(0).await.unwrap();
            stack.start_nats(0).await.unwrap();
            goes_on(&format!("NATS was killed, round {round}")).await;
            stack.stop_postgres(PostgresStop::Immediate).await.unwrap();
            stack.start_postgres().await.unwrap();
            goes_on(&format!("PostgreSQL was killed, round {round}")).await;
            stack.stop_postgres(PostgresStop::Fast).await.unwrap();
            stack.start_postgres().await.unwrap();
            goes_on(&format!("PostgreSQL was restarted, round {round}")).await;
        }
        load.stop().await;
        for element in [0, 1] {
            world.published(element).await;
        }
        // Also the query module's relay has continued: it no longer waits for what died with NATS.
        let mut query = world.query().await;
        downloaded(&mut query, Uuid::new_v4(), &world.elements[0].0)
            .await
            .unwrap();
        let rows = finished(&mut query, &Source::Query).await;
        eventually("the last row is published", || async {
            (world.last_sequence(&Source::Query).await >= rows).then_some(())
        })
        .await;
        world.projected().await;
        for (process, name) in [(&mut relay, "relay"), (&mut projector, "projector")] {
            process.signal("-TERM").await;
            let status = process.ended().await;
            assert!(status.success(), "{name}: {}", process.log());
        }
        drop(world);
        stack.stop().await.unwrap();
    });
}

/// The commands are those of docs/rebuild.md.
#[test]
fn the_cache_is_built_again_as_the_page_says() {
    run(async {
        let world = World::new(&["elem_a", "elem_b"]).await;
        let relay = world.command(&["run", "relay"]).start();
        let load = Load::start(&world, 2, false);
        eventually("some events", || async {
            (world.last_sequence(&world.source(0)).await > 200).then_some(())
        })
        .await;
        load.stop().await;
        let projector = world.projector().start();
        world.published(0).await;
        world.published(1).await;
        world.projected().await;
        projector.kill().await;

        let mut query = world.query().await;
        // A row of the product's own service, and damage that no event explains.
        let own = "insert into search_history (search_mode, results_count, response_time_ms) \
                   values ('exact', 1, 1)";
        execute(&mut query, own).await;
        let damage = "update file_metadata_cache set filename = 'wrong'; \
                      delete from download_statistics where event_id is not null";
        execute(&mut query, damage).await;
        let page = include_str!("../../../docs/rebuild.md");
        let mut commands = page.lines().filter(|line| line.contains("query-cache"));
        let mut words = |more: &str| {
            let line = commands.find(|line| line.contains(more)).unwrap();
            let line = line.split('#').next().unwrap();
            line.split_whitespace()
                .skip(1)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let run = async |words: Vec<String>| {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let (status, said) = world.command(&words).output().await;
            (status.code(), said)
        };
        let (code, said) = run(words("--dry-run")).await;
        assert!(code == Some(1) && said.contains("Different: "), "{said}");
        let (code, said) = run(words("--accept-differences")).await;
        assert_eq!(code, Some(0), "{said}");
        let projector = world.projector().start();
        world.projected().await;
        let kept: i64 = value(&mut query, "select count(*) from search_history").await;
        assert_eq!(kept, 1);
        let downloads: i64 = value(&mut query, "select count(*) from download_statistics").await;
        let events: i64 = value(
            &mut query,
            "select count(*) from event_outbox where entity <> 'projection'",
        )
        .await;
        assert_eq!(downloads, events);
        projector.kill().await;
        relay.kill().await;
    });
}
