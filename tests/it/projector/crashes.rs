//! Rows and checkpoint commit together: the projector is killed anywhere, any number of times, and the
//! rows are as if nothing had happened.

use artstore_schemas::source::Source;

use crate::support::load::Load;
use crate::support::*;

const KILLS: usize = 50;

/// Every search and download has exactly one row, beside what `World::projected` checks.
async fn history_is_exact(world: &World) {
    let mut query = world.query().await;
    let rows: i64 = value(&mut query, "select count(*) from download_statistics").await;
    let events: i64 = value(&mut query, "select count(*) from event_outbox").await;
    assert_eq!(rows, events);
}

#[test]
fn killed_at_random_under_load_the_rows_are_as_if_nothing_had_happened() {
    run(async {
        let world = World::new(&["elem_a", "elem_b"]).await;
        let relay = world.command(&["run", "relay"]).start();
        let load = Load::start(&world, 4, false);
        let source = world.source(0);
        for kill in 0..KILLS {
            let before = checkpoint(&world.query_url, &source).await;
            let projector = world.projector().start();
            let more = (kill as u64 * 17) % 60 + 1;
            eventually("the projector goes on", || async {
                (checkpoint(&world.query_url, &source).await >= before + more).then_some(())
            })
            .await;
            projector.kill().await;
        }
        load.stop().await;
        let projector = world.projector().start();
        world.published(0).await;
        world.published(1).await;
        world.projected().await;
        history_is_exact(&world).await;
        println!(
            "{KILLS} kills, {} messages",
            world.last_sequence(&source).await
        );
        projector.kill().await;
        relay.kill().await;
    });
}

const POINTS: [(&str, &[usize]); 6] = [
    ("projector.elected", &[1, 3]),
    ("projector.reading", &[1, 3]),
    ("projector.received", &[1, 2, 9]),
    ("projector.applied", &[1, 2, 9]),
    ("projector.advanced", &[1, 2, 9]),
    ("projector.committed", &[1, 2, 9]),
];

#[test]
fn killed_between_every_two_steps_the_rows_are_as_if_nothing_had_happened() {
    run(async {
        let world = World::new(&["elem_a", "elem_b"]).await;
        let relay = world.command(&["run", "relay"]).start();
        let load = Load::start(&world, 2, false);
        for (point, times) in POINTS {
            for times in times {
                let mut projector = world.projector().crash_at(point, *times).start();
                let status = projector.ended().await;
                assert_eq!(status.code(), None, "{point}: {}", projector.log());
            }
        }
        load.stop().await;
        let projector = world.projector().start();
        world.published(0).await;
        world.published(1).await;
        world.projected().await;
        history_is_exact(&world).await;
        projector.kill().await;
        relay.kill().await;
    });
}

/// Two workers at once: the session that holds the lock is ended by the server again and again,
/// while its worker has a batch in hand. Each batch is committed once all the same.
#[test]
fn two_workers_whose_lock_is_taken_away_commit_each_batch_once() {
    run(async {
        let world = World::new(&["elem_a", "elem_b"]).await;
        let relay = world.command(&["run", "relay"]).start();
        let load = Load::start(&world, 2, false);
        let workers = [world.projector().start(), world.projector().start()];
        let source = world.source(0);
        let mut query = world.query().await;
        for _ in 0..20 {
            let before = checkpoint(&world.query_url, &source).await;
            eventually("one of them goes on", || async {
                (checkpoint(&world.query_url, &source).await > before + 5).then_some(())
            })
            .await;
            execute(
                &mut query,
                "select pg_terminate_backend(l.pid) from pg_locks l \
                 join pg_stat_activity a on a.pid = l.pid \
                 where l.locktype = 'advisory' and l.granted \
                   and a.datname = current_database() \
                   and a.application_name like 'artstore query-cache %'",
            )
            .await;
        }
        load.stop().await;
        world.published(0).await;
        world.published(1).await;
        world.projected().await;
        history_is_exact(&world).await;
        for worker in workers {
            worker.kill().await;
        }
        relay.kill().await;
    });
}

/// Frozen with an open transaction, past its lock; another takes over; woken, it commits nothing.
#[test]
fn a_frozen_worker_woken_past_its_lock_commits_nothing() {
    run(async {
        let world = World::new(&["elem_a", "elem_b"]).await;
        let relay = world.command(&["run", "relay"]).start();
        let load = Load::start(&world, 2, false);
        for point in [
            "projector.received",
            "projector.applied",
            "projector.advanced",
        ] {
            let frozen = world.projector().stop_at(point, 5).start();
            frozen.frozen().await;
            let other = world.projector().start();
            for source in [world.source(0), world.source(1), Source::Query] {
                let before = checkpoint(&world.query_url, &source).await;
                eventually("the other goes on", || async {
                    (checkpoint(&world.query_url, &source).await > before + 5).then_some(())
                })
                .await;
            }
            frozen.signal("-CONT").await;
            let before = checkpoint(&world.query_url, &world.source(0)).await;
            eventually("and goes on", || async {
                let now = checkpoint(&world.query_url, &world.source(0)).await;
                (now > before + 20).then_some(())
            })
            .await;
            frozen.kill().await;
            other.kill().await;
        }
        load.stop().await;
        let projector = world.projector().start();
        world.published(0).await;
        world.published(1).await;
        world.projected().await;
        history_is_exact(&world).await;
        projector.kill().await;
        relay.kill().await;
    });
}

/// The fence itself, without any lock: of two moves from the same place, one counts.
#[test]
fn of_two_moves_from_the_same_place_one_counts() {
    use artstore_projectors::runtime::checkpoint::{Advance, Checkpoint, advance, load};
    use sqlx::Connection as _;
    run(async {
        let url = migrated("fence", artstore_migrations::Module::Query).await;
        let (mut a, mut b) = (pg(&url).await, pg(&url).await);
        let at = |sequence| Checkpoint {
            last_sequence: sequence,
            last_event_id: None,
            stream_created_at: chrono::DateTime::UNIX_EPOCH,
            version: 1,
            source_high: 0,
            source_missing: String::new(),
            generation: 0,
            parks_in_row: 0,
        };
        for (old, new) in [(None, 5), (Some(5), 7)] {
            let mut first = a.begin().await.unwrap();
            let moved = advance(&mut first, "p", "s", old.map(at).as_ref(), &at(new))
                .await
                .unwrap();
            assert_eq!(moved, Advance::Moved);
            let second = tokio::spawn(async move {
                let mut second = b.begin().await.unwrap();
                let moved = advance(&mut second, "p", "s", old.map(at).as_ref(), &at(new + 1))
                    .await
                    .unwrap();
                second.rollback().await.unwrap();
                (b, moved)
            });
            first.commit().await.unwrap();
            let (back, moved) = second.await.unwrap();
            b = back;
            assert_eq!(moved, Advance::Fenced);
            let now = load(&mut a, "p", "s").await.unwrap().unwrap();
            assert_eq!(now.last_sequence, new);
        }
    });
}
