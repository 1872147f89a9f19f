//! Services that are stopped under load, or in the middle of a batch.

use std::time::{Duration, Instant};

use super::*;
use crate::support::load::Load;

const STOPS: usize = 20;

#[test]
fn stopped_under_load_again_and_again_nothing_is_lost_or_double() {
    run(async {
        let world = World::new(&["elem_a", "elem_b"]).await;
        let load = Load::start(&world, 3, false);
        let source = world.source(0);
        let mut query = world.query().await;
        let mut longest = Duration::ZERO;
        for stop in 0..STOPS {
            let before = checkpoint(&world.query_url, &source).await;
            let mut relay = world.command(&["run", "relay"]).start();
            let mut projector = world.projector().start();
            relay.says("relay active").await;
            projector.says(": active").await;
            let more = (stop as u64 * 17) % 60 + 1;
            eventually("both go on", || async {
                (checkpoint(&world.query_url, &source).await >= before + more).then_some(())
            })
            .await;
            let signal = if stop % 2 == 0 { "-TERM" } else { "-INT" };
            let asked = Instant::now();
            relay.signal(signal).await;
            projector.signal(signal).await;
            ends(&mut relay, 0).await;
            ends(&mut projector, 0).await;
            longest = longest.max(asked.elapsed());
            for process in [&relay, &projector] {
                let log = process.log();
                assert!(log.contains("nothing is in"), "{log}");
                assert!(!log.contains("ERROR"), "{log}");
            }
            let locks: i64 = value(
                &mut query,
                "select count(*) from pg_locks l join pg_database d on d.oid = l.database \
                 where l.locktype = 'advisory' and d.datname = current_database()",
            )
            .await;
            assert_eq!(locks, 0, "the locks are let go before the process ends");
        }
        load.stop().await;
        assert!(longest < Duration::from_secs(5), "{longest:?}");
        let relay = world.command(&["run", "relay"]).start();
        let projector = world.projector().start();
        world.published(0).await;
        world.published(1).await;
        world.projected().await;
        let rows: i64 = value(&mut query, "select count(*) from download_statistics").await;
        let events: i64 = value(&mut query, "select count(*) from event_outbox").await;
        assert_eq!(rows, events);
        println!("{STOPS} stops, the longest took {longest:?}");
        projector.kill().await;
        relay.kill().await;
    });
}

/// Frozen in the middle of a batch, asked to stop, woken: what was begun is finished.
#[test]
fn a_stop_lets_the_batch_in_hand_be_finished() {
    run(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        let mut connection = world.element(0).await;
        execute(
            &mut connection,
            "insert into elem_wal (transaction_id, operation_type, status, operation_data) \
             select gen_random_uuid(), 'cache_rebuild', 'committed', '{}' \
             from generate_series(1, 900)",
        )
        .await;
        let frozen = async |program: Program| {
            let process = program.start();
            process.frozen().await;
            process.signal("-TERM").await;
            process.signal("-CONT").await;
            process
        };
        let relay = world
            .relay(0)
            .env("ARTSTORE_PUBLISH_MODE", "pipelined")
            .stop_at("relay.publishing", 200);
        ends(&mut frozen(relay).await, 0).await;
        assert_eq!(world.last_sequence(&source).await, 900);
        let projector = world.projector().stop_at("projector.applied", 1);
        ends(&mut frozen(projector).await, 0).await;
        assert!(checkpoint(&world.query_url, &source).await > 0);
    });
}
