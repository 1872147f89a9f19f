//! Under load, and killed at every step.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::support::load::Load;

/// How often somebody looks who looks all the while: often enough to be there at each step of a swap, and
/// leaving the cores to those who are watched.
const LOOKS: Duration = Duration::from_millis(50);

/// Somebody who counts all the while, and searches as the product does: the number is always the same.
pub(super) struct Reader {
    stop: Arc<AtomicBool>,
    running: tokio::task::JoinHandle<Counts>,
}

/// How often it counted, and the longest that it took.
#[derive(Debug, Default)]
pub(super) struct Counts {
    counted: u64,
    pub(super) longest: Duration,
}

impl Reader {
    pub(super) fn start(url: &str, condition: &str, expected: i64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (url, ended) = (url.to_owned(), Arc::clone(&stop));
        let sql = format!("select count(*) from file_metadata_cache where {condition}");
        let running = tokio::spawn(async move {
            let mut query = pg(&url).await;
            let mut counts = Counts::default();
            let mut next = tokio::time::interval(LOOKS);
            while !ended.load(Ordering::Relaxed) {
                next.tick().await;
                let begun = Instant::now();
                // Prepared once; recreated each time: a plan may remember the old table.
                let prepared: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql.clone()))
                    .fetch_one(&mut query)
                    .await
                    .unwrap();
                execute(&mut query, "begin").await;
                let searched: i64 = value(&mut query, sql.clone()).await;
                execute(
                    &mut query,
                    "insert into search_history (query_text, search_mode, results_count, \
                         response_time_ms, created_at) values ('mine', 'exact', 1, 1, now()); \
                     commit",
                )
                .await;
                assert_eq!((prepared, searched), (expected, expected));
                counts.counted += 1;
                counts.longest = counts.longest.max(begun.elapsed());
            }
            counts
        });
        Self { stop, running }
    }

    /// Ends it; each search is there.
    pub(super) async fn stop(self, url: &str) -> Counts {
        self.stop.store(true, Ordering::Relaxed);
        let counts = self.running.await.unwrap();
        let searches: i64 = value(
            &mut pg(url).await,
            "select count(*) from search_history where query_text = 'mine'",
        )
        .await;
        assert_eq!(u64::try_from(searches).unwrap(), counts.counted);
        counts
    }
}

/// Files that the load leaves alone.
async fn base(world: &World, count: usize) {
    files(world, count).await;
    execute(
        &mut world.element(0).await,
        format!(
            "update {}_files set content_type = 'application/base'",
            world.elements[0].0
        ),
    )
    .await;
}

/// Files that are created all the while, 200 a second.
struct Steady {
    stop: Arc<AtomicBool>,
    running: tokio::task::JoinHandle<()>,
}

impl Steady {
    fn start(world: &World) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (url, ended) = (world.elements[0].1.clone(), Arc::clone(&stop));
        let running = tokio::spawn(async move {
            let mut element = pg(&url).await;
            let mut next = tokio::time::interval(Duration::from_millis(200));
            while !ended.load(Ordering::Relaxed) {
                next.tick().await;
                crate::projector::parking::insert(&mut element, 40).await;
            }
        });
        Self { stop, running }
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.running.await.unwrap();
    }
}

async fn waits(world: &World) -> u64 {
    let mut waiting = 0;
    for source in world.sources() {
        if source != Source::Admin {
            let last = world.last_sequence(&source).await;
            waiting += last.saturating_sub(checkpoint(&world.query_url, &source).await);
        }
    }
    waiting
}

#[test]
fn under_load_readers_see_the_whole_cache_and_nothing_is_missing_after_swap_and_rollback() {
    run(async {
        let world = World::new(&["elem", "other"]).await;
        base(&world, 3_000).await;
        let relay = world.command(&["run", "relay"]).start();
        let projectors = [world.projector().start(), world.projector().start()];
        passed(&world).await;
        // What somebody has added to the tables goes with them.
        execute(
            &mut world.query().await,
            "grant select on file_metadata_cache to public; \
             grant update (filename) on file_metadata_cache to public; \
             alter table search_history set (fillfactor = 90); \
             comment on table file_ownership is 'whose'; \
             create index mine on download_statistics (bytes_transferred) where was_resumed; \
             create index base on file_metadata_cache (id) where mime_type = 'application/base'; \
             alter table download_statistics disable trigger download_statistics_canonical_id",
        )
        .await;
        let before = form(&mut world.query().await).await;
        let reader = Reader::start(&world.query_url, "mime_type = 'application/base'", 3_000);
        let load = Load::start(&world, 1, false);
        let steady = Steady::start(&world);
        // The largest lag that anybody sees.
        let lag = {
            let (world_url, bus) = (world.query_url.clone(), world.bus.clone());
            let sources: Vec<Source> = world.sources();
            let stop = Arc::new(AtomicBool::new(false));
            let ended = Arc::clone(&stop);
            let running = tokio::spawn(async move {
                let mut most = 0;
                let mut next = tokio::time::interval(LOOKS * 4);
                while !ended.load(Ordering::Relaxed) {
                    next.tick().await;
                    for source in sources.iter().filter(|source| **source != Source::Admin) {
                        let info = bus.stream_info(&source.stream()).await.unwrap();
                        let at = checkpoint(&world_url, source).await;
                        most = most.max(info.state.last_sequence.saturating_sub(at));
                    }
                }
                most
            });
            (stop, running)
        };
        let begun = (Instant::now(), ends(&world).await);
        for _ in 0..3 {
            let said = swaps(&world).await;
            no_reader_saw_the_past(&world, &said["streams"]).await;
        }
        let rolled = world
            .command(&["projection", "rollback", "query-cache", "--json"])
            .output()
            .await;
        assert!(rolled.0.success(), "{}", rolled.1);
        // Back and forth: the previous tables are there again.
        let rolled = world
            .command(&["projection", "rollback", "query-cache"])
            .output()
            .await;
        assert!(rolled.0.success(), "{}", rolled.1);
        let rate = (ends(&world).await - begun.1) as f64 / begun.0.elapsed().as_secs_f64();
        lag.0.store(true, Ordering::Relaxed);
        let most = lag.1.await.unwrap();
        load.stop().await;
        steady.stop().await;
        let counts = reader.stop(&world.query_url).await;
        println!("{rate:.0} events/s, {counts:?}, lag at most {most}");
        assert!(rate >= 200.0, "only {rate:.0} events a second");
        assert!(counts.counted > 100, "{counts:?}");
        assert!(counts.longest < Duration::from_secs(5), "{counts:?}");
        assert!(most < 5_000, "the live projection was {most} events behind");
        all_applied(&world).await;
        crate::verify::cache::clean(&world).await;
        assert_eq!(waits(&world).await, 0);
        let mut query = world.query().await;
        let after = form(&mut query).await;
        let lost: Vec<_> = before.iter().filter(|line| !after.contains(line)).collect();
        let new: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
        assert!(lost.is_empty() && new.is_empty(), "{lost:#?} {new:#?}");
        assert_eq!(schemas(&mut query).await, ["artstore_previous_query_cache"]);
        let actions: Vec<String> = events(&mut query).await.into_iter().map(|e| e.0).collect();
        assert_eq!(
            actions,
            ["rebuild", "rebuild", "rebuild", "rollback", "rollback"]
        );
        for projector in projectors {
            // An exchange is nothing that went wrong with a worker.
            let log = projector.log();
            assert!(!log.contains("another worker has moved"), "{log}");
            projector.kill().await;
        }
        relay.kill().await;
    });
}

/// The tables that became live stood nowhere behind those that they replaced.
async fn no_reader_saw_the_past(world: &World, streams: &Value) {
    let mut query = world.query().await;
    let before: Vec<(String, i64)> = sqlx::query_as(
        "select stream, last_sequence from artstore_previous_query_cache.projection_checkpoints",
    )
    .fetch_all(&mut query)
    .await
    .unwrap();
    assert_eq!(before.len(), 3, "{before:?}");
    for (stream, sequence) in before {
        let live = streams[&stream].as_i64();
        assert!(
            live >= Some(sequence),
            "{stream}: {sequence}, then {streams}"
        );
    }
}

async fn ends(world: &World) -> u64 {
    let mut all = 0;
    for source in world.sources() {
        all += world.last_sequence(&source).await;
    }
    all
}

#[test]
fn killed_at_any_step_the_same_command_ends_equal() {
    run(async {
        let (world, processes) = built(&["elem"], 4_000).await;
        let mut query = world.query().await;
        execute(
            &mut query,
            "insert into search_history (query_text, search_mode, results_count, response_time_ms, \
                 created_at) values ('of the product', 'exact', 1, 1, now())",
        )
        .await;
        let reader = Reader::start(&world.query_url, "true", 4_000);
        for (point, times, swapped) in [
            ("rebuild.created", 1, false),
            ("rebuild.filled", 1, false),
            ("rebuild.filled", 3, false),
            ("projector.applied", 2, false),
            ("projector.advanced", 2, false),
            ("rebuild.indexed", 3, false),
            ("rebuild.complete", 1, false),
            ("rebuild.compared", 1, false),
            ("rebuild.copied", 1, false),
            ("rebuild.locked", 1, false),
            ("rebuild.synced", 1, false),
            ("rebuild.moved", 1, false),
            ("rebuild.recorded", 1, false),
            ("rebuild.swapped", 1, true),
        ] {
            let (_, before) = count(&world).await;
            let mut killed = command(&world, &[]).crash_at(point, times).start();
            let status = killed.ended().await;
            assert_eq!(status.code(), None, "{point}: {}", killed.log());
            let (left, after) = count(&world).await;
            assert_eq!(after - before, i64::from(swapped), "{point}");
            assert_eq!(left, !swapped, "{point}");
            let said = swaps(&world).await;
            assert_eq!(said["resumed"], !swapped, "{point}");
        }
        for point in [
            "rollback.locked",
            "rollback.moved",
            "rollback.recorded",
            "rollback.swapped",
        ] {
            let rollback = world.command(&["projection", "rollback", "query-cache"]);
            let mut killed = rollback.crash_at(point, 1).start();
            let status = killed.ended().await;
            assert_eq!(status.code(), None, "{point}: {}", killed.log());
            world.projected().await;
        }
        reader.stop(&world.query_url).await;
        crate::verify::cache::clean(&world).await;
        let kept: i64 = value(
            &mut query,
            "select count(*) from search_history where query_text = 'of the product'",
        )
        .await;
        assert_eq!(kept, 1);
        for process in processes {
            process.kill().await;
        }
    });
}

/// Whether something is left of a rebuild, and how many swaps there were.
async fn count(world: &World) -> (bool, i64) {
    let mut query = world.query().await;
    let left = schemas(&mut query)
        .await
        .contains(&"artstore_rebuild_query_cache".to_owned());
    let events = events(&mut query).await;
    let swaps = events
        .iter()
        .filter(|(_, data)| data["outcome"] == "swapped");
    (left, i64::try_from(swaps.count()).unwrap())
}

/// A process that was frozen, and whose session the server has ended, can't do anything any more.
#[test]
fn a_zombie_of_a_rebuild_or_of_a_projector_commits_nothing() {
    run(async {
        let (world, [relay, projector]) = built(&["elem"], 3_000).await;
        projector.kill().await;
        let frozen = command(&world, &[]).stop_at("rebuild.filled", 1).start();
        frozen.frozen().await;
        let (code, said) = rebuild(&world, &[]).await;
        let said = said.as_str().unwrap_or_default().to_owned();
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("is being built again or rolled back already"),
            "{said}"
        );
        // As the server does with a silent session.
        let mut query = world.query().await;
        execute(
            &mut query,
            "select pg_terminate_backend(pid) from pg_stat_activity \
             where application_name like 'artstore rebuild%' and datname = current_database()",
        )
        .await;
        // A projector that remembers the previous tables, frozen in the middle of its commit.
        files(&world, 50).await;
        world.published(0).await;
        let zombie = world.projector().stop_at("projector.received", 1).start();
        zombie.frozen().await;
        let said = swaps(&world).await;
        assert_eq!(said["resumed"], true);
        frozen.signal("-CONT").await;
        let mut frozen = frozen;
        let status = frozen.ended().await;
        assert_eq!(status.code(), Some(1), "{}", frozen.log());
        zombie.signal("-CONT").await;
        passed(&world).await;
        let projector = world.projector().start();
        all_applied(&world).await;
        crate::verify::cache::clean(&world).await;
        let (left, swaps) = count(&world).await;
        assert_eq!((left, swaps), (false, 1));
        for process in [relay, zombie, projector] {
            process.kill().await;
        }
    });
}

/// Also where the tables that became live stand at the same message: what it remembers of parked keys is
/// of the others.
#[test]
fn a_place_remembered_from_before_an_exchange_is_no_place_to_go_on_from() {
    use artstore_projectors::runtime::checkpoint::{Advance, advance, load};
    use sqlx::Connection as _;
    run(async {
        let (world, [relay, projector]) = built(&["elem"], 500).await;
        projector.kill().await;
        let stream = world.source(0).stream();
        let mut query = world.query().await;
        let mut remembered = Vec::new();
        let rollback = ["projection", "rollback", "query-cache"];
        for exchange in ["swap", "rollback", "swap", "rollback", "rollback"] {
            let place = load(&mut query, "query-cache", &stream).await.unwrap();
            remembered.push(place.unwrap());
            if exchange == "swap" {
                swaps(&world).await;
            } else {
                let (status, said) = world.command(&rollback).output().await;
                assert!(status.success(), "{said}");
            }
            let now = load(&mut query, "query-cache", &stream).await.unwrap();
            let now = now.unwrap();
            for old in &remembered {
                assert_eq!(old.last_sequence, now.last_sequence);
                let mut next = old.clone();
                next.last_sequence += 1;
                let mut transaction = query.begin().await.unwrap();
                let moved = advance(&mut transaction, "query-cache", &stream, Some(old), &next);
                let moved = moved.await.unwrap();
                assert_eq!(moved, Advance::Fenced, "{exchange}: {old:?}, {now:?}");
                transaction.rollback().await.unwrap();
            }
        }
        relay.kill().await;
    });
}

#[test]
fn ctrl_c_leaves_nothing_behind_unless_it_is_to_be_kept() {
    run(async {
        let (world, processes) = built(&["elem"], 3_000).await;
        let mut query = world.query().await;
        for (more, left) in [(&[][..], 0), (&["--keep"][..], 1)] {
            let mut rebuild = command(&world, more).stop_at("rebuild.filled", 1).start();
            rebuild.frozen().await;
            rebuild.signal("-INT").await;
            rebuild.signal("-CONT").await;
            let status = rebuild.ended().await;
            assert_eq!(status.code(), Some(1), "{}", rebuild.log());
            assert!(
                rebuild.log().contains("stopped; what was built is"),
                "{}",
                rebuild.log()
            );
            assert_eq!(schemas(&mut query).await.len(), left);
        }
        let (status, said) = world.command(&["projection", "list"]).output().await;
        assert!(
            status.success() && said.contains("an interrupted rebuild is left"),
            "{said}"
        );
        let (code, said) = rebuild(&world, &["--abandon"]).await;
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(schemas(&mut query).await.len(), 0);
        for process in processes {
            process.kill().await;
        }
    });
}
