//! The relay's state is in the stream: killed anywhere, any number of times, it continues.

use artstore_bus::accounts::role::Role;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::support::mix::Mix;
use crate::support::*;

/// Writers that finish rows, some of them rolled back, until stopped: some 150 rows a second each.
fn load(world: &World, writers: usize, stop: &Arc<AtomicBool>) -> tokio::task::JoinSet<()> {
    let mut set = tokio::task::JoinSet::new();
    for _ in 0..writers {
        let (url, stop) = (world.elements[0].1.clone(), Arc::clone(stop));
        set.spawn(async move {
            let mut connection = pg(&url).await;
            let mut turn = 0;
            // Faster, and the relay's restarts drown in a backlog.
            let mut next = tokio::time::interval(Duration::from_millis(20));
            while !stop.load(Ordering::Relaxed) {
                next.tick().await;
                turn += 1;
                let end = if turn % 5 == 0 { "rollback" } else { "commit" };
                let rows: Vec<String> = (0..3)
                    .map(|_| {
                        format!(
                            "('{}', 'cache_rebuild', 'committed', '{{}}')",
                            Uuid::new_v4()
                        )
                    })
                    .collect();
                execute(
                    &mut connection,
                    format!(
                        "begin; insert into elem_wal (transaction_id, operation_type, status, \
                         operation_data) values {}; {end}",
                        rows.join(",")
                    ),
                )
                .await;
            }
        });
    }
    set
}

async fn end(stop: &AtomicBool, mut writers: tokio::task::JoinSet<()>) {
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
}

const KILLS: usize = 50;

#[test]
fn killed_at_random_under_load_each_row_is_published_once_in_order() {
    run(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        let mix = Arc::new(Mix::new(&world, 20).await);
        let stop = Arc::new(AtomicBool::new(false));
        let writers = mix.start(10, &stop, false);
        for kill in 0..KILLS {
            let before = world.last_sequence(&source).await;
            let relay = world.relay(0).start();
            // Each kill comes after another number of messages.
            let more = (kill as u64 * 37) % 200 + 1;
            eventually("the relay goes on", || async {
                (world.last_sequence(&source).await >= before + more).then_some(())
            })
            .await;
            relay.kill().await;
        }
        end(&stop, writers).await;
        let relay = world.relay(0).start();
        world.published(0).await;
        println!("{KILLS} kills, {} rows", world.last_sequence(&source).await);
        relay.kill().await;
    });
}

/// Between every two steps of its loop.
const POINTS: [(&str, &[usize]); 6] = [
    ("relay.elected", &[1]),
    ("relay.reconciled", &[1]),
    ("relay.polled", &[1, 2, 7]),
    ("relay.built", &[1, 2, 7]),
    ("relay.publishing", &[1, 2, 5, 50]),
    ("relay.published", &[1, 2, 5]),
];

fn every_point(mode: &'static str) {
    run(async move {
        let world = World::new(&["elem"]).await;
        let stop = Arc::new(AtomicBool::new(false));
        let writers = load(&world, 4, &stop);
        for (point, times) in POINTS {
            for times in times {
                let mut relay = world
                    .relay(0)
                    .env("ARTSTORE_PUBLISH_MODE", mode)
                    .crash_at(point, *times)
                    .start();
                let status = relay.ended().await;
                assert_eq!(
                    status.code(),
                    None,
                    "{point}: killed, not ended: {}",
                    relay.log()
                );
            }
        }
        end(&stop, writers).await;
        let relay = world.relay(0).start();
        world.published(0).await;
        relay.kill().await;
    });
}

#[test]
fn killed_between_every_two_steps_in_atomic_batches() {
    every_point("atomic");
}

#[test]
fn killed_between_every_two_steps_when_pipelined() {
    every_point("pipelined");
}

#[test]
fn a_second_relay_stands_by_and_takes_over_when_the_first_dies_or_freezes() {
    run(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        let stop = Arc::new(AtomicBool::new(false));
        let writers = load(&world, 2, &stop);
        let first = world.relay(0).start();
        first.says("relay active").await;
        let second = world.relay(0).start();
        second.says("standby").await;
        first.kill().await;
        second.says("relay active").await;

        let third = world.relay(0).start();
        third.says("standby").await;
        second.signal("-STOP").await;
        third.says("relay active").await;
        let before = world.last_sequence(&source).await;
        eventually("the third publishes", || async {
            (world.last_sequence(&source).await > before + 10).then_some(())
        })
        .await;
        second.signal("-CONT").await;
        second.says("standby").await;
        end(&stop, writers).await;
        world.published(0).await;
        third.kill().await;
        second.kill().await;
    });
}

/// A row with this much to say about its place in the sequence: rows 1 to `count`, of which number
/// `held` is drawn by a transaction that stays open.
async fn backlog_with_a_hole(world: &World, count: i64, held: i64) -> sqlx::PgConnection {
    let rows = |from: i64, to: i64| {
        format!(
            "insert into elem_wal (transaction_id, operation_type, status, operation_data) \
             select gen_random_uuid(), 'cache_rebuild', 'committed', '{{}}' \
             from generate_series({from}, {to})"
        )
    };
    let mut connection = world.element(0).await;
    let mut holder = world.element(0).await;
    execute(&mut connection, rows(1, held - 1)).await;
    execute(&mut holder, format!("begin; {}", rows(held, held))).await;
    execute(&mut connection, rows(held + 1, count)).await;
    holder
}

/// Frozen in the middle of publishing, past its lock. Another relay continues, with other rows in
/// the same places. Woken, the first one may write nothing of what it had in hand.
fn frozen_while_publishing(mode: &'static str) {
    run(async move {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        // The fence alone: the server forgets message ids at once.
        let mut config = world
            .bus
            .stream_info(&source.stream())
            .await
            .unwrap()
            .config;
        config.duplicate_window = Duration::from_millis(100);
        world.bus.jetstream.update_stream(config).await.unwrap();
        let mut holder = backlog_with_a_hole(&world, 900, 300).await;
        let relay = || world.relay(0).env("ARTSTORE_PUBLISH_MODE", mode);
        let frozen = relay().stop_at("relay.publishing", 400).start();
        frozen.frozen().await;
        execute(&mut holder, "commit").await;
        let other = if mode == "atomic" {
            // A batch is stored as a whole: the other one's is there when the first one's ends.
            let other = relay().start();
            eventually("the second publishes it all", || async {
                (world.last_sequence(&source).await == 900).then_some(())
            })
            .await;
            other
        } else {
            // The second stops where the first one's later messages fit by their numbers.
            let other = relay().stop_at("relay.publishing", 200).start();
            other.frozen().await;
            other
        };
        eventually("the server has forgotten the ids", || async {
            let info = world.bus.stream_info(&source.stream()).await.unwrap();
            let age = chrono::Utc::now() - info.state.last_timestamp;
            (age > chrono::TimeDelta::seconds(1)).then_some(())
        })
        .await;
        frozen.signal("-CONT").await;
        frozen.says("standby").await;
        other.kill().await;
        frozen.says("relay active").await;
        world.published(0).await;
        assert_eq!(world.last_sequence(&source).await, 900);
        frozen.kill().await;
    });
}

#[test]
fn a_frozen_relay_woken_past_its_lock_writes_nothing_in_atomic_batches() {
    frozen_while_publishing("atomic");
}

#[test]
fn a_frozen_relay_woken_past_its_lock_writes_nothing_when_pipelined() {
    frozen_while_publishing("pipelined");
}

/// A nudge spares the wait of a quiet relay; nothing depends on it.
#[test]
fn a_nudge_wakes_a_quiet_relay() {
    run(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        let relay = world
            .relay(0)
            .env("ARTSTORE_POLL_INTERVAL_MS", "4000")
            .start();
        let nudging = world.connect(Role::Relay(source.clone())).await;
        let mut connection = world.element(0).await;
        for round in 1..=3 {
            // Silent for so long, it is in a wait of four seconds: more than a second is left.
            eventually("the relay is quiet", || async {
                let mut connection = world.element(0).await;
                let quiet: Option<bool> = value(
                    &mut connection,
                    "select bool_or(clock_timestamp() - state_change > interval '2.3 s') \
                     from pg_stat_activity where application_name = 'artstore relay elem' \
                       and datname = current_database()",
                )
                .await;
                quiet.unwrap_or(false).then_some(())
            })
            .await;
            execute(
                &mut connection,
                "insert into elem_wal (transaction_id, operation_type, status, operation_data) \
                 values (gen_random_uuid(), 'cache_rebuild', 'committed', '{}')",
            )
            .await;
            let written = Instant::now();
            let nudge = nudging.client.publish(source.nudge_subject(), "".into());
            nudge.await.unwrap();
            nudging.client.flush().await.unwrap();
            eventually("the row is published", || async {
                (world.last_sequence(&source).await >= round).then_some(())
            })
            .await;
            let waited = written.elapsed();
            assert!(waited < Duration::from_millis(1_200), "{waited:?}");
        }
        relay.kill().await;
    });
}
