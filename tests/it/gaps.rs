//! No finished row is lost, doubled or delayed, whatever writers do: positions, gaps, bounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use artstore::stack::{PostgresStop, Stack, StackOptions};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sqlx::PgConnection;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::support::*;

/// A finished row that belongs to no file, by plain SQL.
fn finished_row() -> String {
    format!(
        "insert into elem_wal (transaction_id, operation_type, status, operation_data) \
         values ('{}', 'cache_rebuild', 'committed', '{{}}')",
        Uuid::new_v4()
    )
}

/// The counterexample: U takes an id, T takes the next, T draws, U draws, U commits, two polls,
/// T commits. A rule that trusts the wrong horizon gives T's number up.
#[test]
fn a_number_drawn_first_and_committed_last_is_not_lost() {
    run(async {
        let world = World::new(&["elem"]).await;
        let (mut u, mut t) = (world.element(0).await, world.element(0).await);
        let source = world.source(0);
        let _relay = world.relay(0).start();
        for round in 1..=5 {
            execute(&mut u, "begin; select pg_current_xact_id()").await;
            execute(&mut t, "begin; select pg_current_xact_id()").await;
            execute(&mut t, finished_row()).await;
            execute(&mut u, finished_row()).await;
            execute(&mut u, "commit").await;
            // U's message tells that T's number is missing; then the relay goes on polling.
            let before = (round - 1) * 4 + 1;
            eventually("U's row", || async {
                (world.last_sequence(&source).await >= before).then_some(())
            })
            .await;
            for more in 1..=2 {
                execute(&mut u, finished_row()).await;
                eventually("rows behind the hole are not delayed", || async {
                    (world.last_sequence(&source).await >= before + more).then_some(())
                })
                .await;
            }
            execute(&mut t, "commit").await;
            world.published(0).await;
        }
        let messages = world.messages(&source).await;
        assert_eq!(messages.len(), 20);
        assert!(messages.last().unwrap().missing.is_empty());
    });
}

/// Every way to write that a database knows, at the same time.
struct Mix {
    url: String,
    other_database: String,
    ordered_files: Vec<Uuid>,
    seed: u64,
    synchronous_commit: &'static str,
}

impl Mix {
    async fn new(world: &World, ordered_files: usize) -> Self {
        let mut connection = world.element(0).await;
        let mut files = Vec::new();
        for _ in 0..ordered_files {
            let id = Uuid::new_v4();
            execute(&mut connection, insert_file(id)).await;
            files.push(id);
        }
        let seed = rand::random();
        println!("seed {seed}");
        Self {
            url: world.elements[0].1.clone(),
            other_database: world.query_url.clone(),
            ordered_files: files,
            seed,
            synchronous_commit: "on",
        }
    }

    /// Writers that go on until `stop`; each errors only where a crash of the server is allowed.
    fn start(
        self: &Arc<Self>,
        writers: usize,
        stop: &Arc<AtomicBool>,
        crashes: bool,
    ) -> JoinSet<()> {
        let mut set = JoinSet::new();
        for writer in 0..writers {
            let (mix, stop) = (Arc::clone(self), Arc::clone(stop));
            set.spawn(async move {
                let mut random = StdRng::seed_from_u64(mix.seed + writer as u64);
                while !stop.load(Ordering::Relaxed) {
                    let ended = mix.write(&mut random, &stop, writer).await;
                    if let Err(error) = ended {
                        assert!(crashes, "writer {writer}: {error}");
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            });
        }
        set
    }

    async fn write(
        &self,
        random: &mut StdRng,
        stop: &AtomicBool,
        writer: usize,
    ) -> sqlx::Result<()> {
        let mut connection = try_pg(&self.url).await?;
        try_execute(
            &mut connection,
            format!("set synchronous_commit = {}", self.synchronous_commit),
        )
        .await?;
        for _ in 0..20 {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            self.transaction(&mut connection, random, writer).await?;
        }
        Ok(())
    }

    async fn transaction(
        &self,
        connection: &mut PgConnection,
        random: &mut StdRng,
        writer: usize,
    ) -> sqlx::Result<()> {
        let row = finished_row;
        match random.random_range(0..12) {
            // Aborted: numbers that nobody will ever see.
            0 => try_execute(connection, format!("begin; {}; {}; rollback", row(), row())).await,
            // A savepoint taken back, and one kept.
            1 => {
                let (a, b, c) = (row(), row(), row());
                try_execute(
                    connection,
                    format!(
                        "begin; {a}; savepoint s; {b}; rollback to s; savepoint k; {c}; \
                         release k; commit"
                    ),
                )
                .await
            }
            // An exception block.
            2 => {
                let (a, b) = (row(), row());
                try_execute(
                    connection,
                    format!(
                        "do $$ begin {a}; begin {b}; perform 1 / 0; exception \
                         when division_by_zero then null; end; end $$"
                    ),
                )
                .await
            }
            // Two-phase commit, held open, then committed or not.
            3 => {
                let id = Uuid::new_v4();
                try_execute(
                    connection,
                    format!("begin; {}; prepare transaction '{id}'", row()),
                )
                .await?;
                self.other_work(connection).await?;
                let end = if random.random_bool(0.7) {
                    "commit"
                } else {
                    "rollback"
                };
                try_execute(connection, format!("{end} prepared '{id}'")).await
            }
            // COPY of rows that are finished already.
            4 => {
                let rows: String = (0..5)
                    .map(|_| format!("{}\tcache_rebuild\tcommitted\t{{}}\n", Uuid::new_v4()))
                    .collect();
                let mut copy = connection
                    .copy_in_raw(
                        "copy elem_wal (transaction_id, operation_type, status, operation_data) \
                         from stdin",
                    )
                    .await?;
                copy.send(rows.as_bytes()).await?;
                copy.finish().await?;
                Ok(())
            }
            // Many rows in one statement.
            5 => {
                try_execute(
                    connection,
                    "insert into elem_wal (transaction_id, operation_type, status, operation_data) \
                     select gen_random_uuid(), 'cache_rebuild', 'committed', '{}' \
                     from generate_series(1, 20)",
                )
                .await
            }
            // Serialisable and repeatable-read writers.
            6 | 7 => {
                let level = ["serializable", "repeatable read"][random.random_range(0..2)];
                let sql = format!("begin isolation level {level}; {}; commit", row());
                tolerate(connection, &sql).await
            }
            // Takes an id long before it draws.
            8 => {
                try_execute(connection, "begin; select pg_current_xact_id()").await?;
                self.other_work(connection).await?;
                try_execute(connection, format!("{}; commit", row())).await
            }
            // A long transaction in another database holds xmin back.
            9 if writer == 0 => {
                let mut other = try_pg(&self.other_database).await?;
                try_execute(
                    &mut other,
                    "begin; select pg_current_xact_id(); select pg_sleep(0.3); rollback",
                )
                .await
            }
            // A change of a file and its finish in one transaction: their order is the file's.
            _ => {
                let file = self.ordered_files[random.random_range(0..self.ordered_files.len())];
                let id = Uuid::new_v4();
                try_execute(
                    connection,
                    format!(
                        "begin; update elem_files set updated_at = clock_timestamp(), \
                             file_size = file_size + 1 where file_id = '{file}'; \
                         insert into elem_wal (transaction_id, operation_type, status, file_id, \
                             operation_data) values ('{id}', 'file_update', 'committed', '{file}', \
                             '{{}}'); commit"
                    ),
                )
                .await
            }
        }
    }

    /// Time passes, by work and not by sleeping.
    async fn other_work(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        try_execute(connection, "select count(*) from generate_series(1, 20000)").await
    }
}

/// Serialisation failures are the writer's business.
async fn tolerate(connection: &mut PgConnection, sql: &str) -> sqlx::Result<()> {
    match try_execute(connection, sql).await {
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("40001") => {
            try_execute(connection, "rollback").await
        }
        ended => ended,
    }
}

fn insert_file(id: Uuid) -> String {
    format!(
        "insert into elem_files (file_id, original_filename, storage_filename, file_size, \
             content_type, created_by_id, created_by_username, storage_path, checksum) \
         values ('{id}', 'a', '{id}', 0, 'text/plain', '1', 'u', '/', 'c')"
    )
}

/// Rows are written until every hole can be seen to be settled: the last message has none.
async fn all_settled(world: &World) {
    let source = world.source(0);
    eventually("aborted numbers become void", || async {
        // Each try is a row whose message tells what is missing.
        let mut connection = world.element(0).await;
        execute(&mut connection, finished_row()).await;
        world.published(0).await;
        let messages = world.messages(&source).await;
        messages.last().unwrap().missing.is_empty().then_some(())
    })
    .await;
}

/// How long the mix goes on, and how many rows it has to finish in that time at least.
const MINUTE: Duration = Duration::from_secs(60);
const ENOUGH: u64 = 2_000;

#[test]
fn fifty_writers_of_every_kind_lose_nothing() {
    run(async {
        let world = World::new(&["elem"]).await;
        let mix = Arc::new(Mix::new(&world, 20).await);
        let relay = world.relay(0).start();
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = mix.start(50, &stop, false);
        // A transaction that stays open holds one number all the while and delays nobody.
        let mut long = world.element(0).await;
        execute(&mut long, format!("begin; {}", finished_row())).await;
        let source = world.source(0);
        let started = Instant::now();
        let mut before = 0;
        while started.elapsed() < MINUTE {
            eventually("rows are published beside a long transaction", || async {
                (world.last_sequence(&source).await > before + 50).then_some(())
            })
            .await;
            before = world.last_sequence(&source).await;
        }
        assert!(before >= ENOUGH, "only {before} rows in {MINUTE:?}");
        stop.store(true, Ordering::Relaxed);
        while let Some(ended) = writers.join_next().await {
            ended.unwrap();
        }
        execute(&mut long, "commit").await;
        world.published(0).await;
        all_settled(&world).await;
        println!("{} rows", world.last_sequence(&source).await);
        relay.kill().await;
    });
}

/// A long transaction elsewhere holds xmin back, so that no number can be given up by it. Beyond a
/// few hundred holes the lock that `nextval` leaves decides instead, and nothing is delayed.
#[test]
fn holes_are_settled_while_another_database_holds_xmin_back() {
    run(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        let relay = world.relay(0).start();
        let mut elsewhere = world.query().await;
        execute(&mut elsewhere, "begin; select pg_current_xact_id()").await;
        let mut connection = world.element(0).await;
        let mut most = 0;
        for round in 1..=15 {
            for _ in 0..100 {
                let (kept, lost) = (finished_row(), finished_row());
                execute(&mut connection, format!("begin; {lost}; rollback; {kept}")).await;
            }
            eventually("nothing is delayed", || async {
                (world.last_sequence(&source).await >= round * 100).then_some(())
            })
            .await;
            let last = world.messages(&source).await.pop().unwrap();
            most = most.max(last.missing.as_slice().len());
        }
        assert!((300..1_000).contains(&most), "{most} holes at most");
        // A number that is held is not given up with the others.
        let mut holder = world.element(0).await;
        execute(&mut holder, format!("begin; {}", finished_row())).await;
        for _ in 0..400 {
            let (kept, lost) = (finished_row(), finished_row());
            execute(&mut connection, format!("begin; {lost}; rollback; {kept}")).await;
        }
        execute(&mut holder, "commit").await;
        world.published(0).await;
        execute(&mut elsewhere, "rollback").await;
        println!("{most} holes at most");
        relay.kill().await;
    });
}

/// More holes than a header holds, all of them alive: the relay takes nothing more until some are
/// settled, and then everything, once.
#[test]
fn more_holes_than_a_header_holds_are_waited_for() {
    run(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        let (mut holder, mut connection) = (world.element(0).await, world.element(0).await);
        execute(&mut holder, "begin").await;
        for _ in 0..1_200 {
            execute(&mut holder, finished_row()).await;
            execute(&mut connection, finished_row()).await;
        }
        let relay = world.relay(0).start();
        relay.says("too many numbers are missing").await;
        assert_eq!(world.last_sequence(&source).await, 1_000);
        relay.kill().await;
        let relay = world.relay(0).start();
        relay.says("too many numbers are missing").await;
        assert_eq!(world.last_sequence(&source).await, 1_000);
        execute(&mut holder, "commit").await;
        world.published(0).await;
        assert_eq!(world.last_sequence(&source).await, 2_400);
        relay.kill().await;
    });
}

/// The server stops at once, as in a power cut, in the middle; writers do not wait for the disk.
#[test]
fn a_crash_of_the_server_loses_nothing_even_with_synchronous_commit_off() {
    run(async {
        let stack = Stack::start(StackOptions::default()).await.unwrap();
        let world = World::on(&stack, 0, &["elem"], 1).await;
        let mut mix = Mix::new(&world, 10).await;
        mix.synchronous_commit = "off";
        let mix = Arc::new(mix);
        let relay = world.relay(0).start();
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = mix.start(16, &stop, true);
        let source = world.source(0);
        let crashes = AtomicUsize::new(0);
        for _ in 0..3 {
            let before = world.last_sequence(&source).await;
            eventually("rows are published", || async {
                (world.last_sequence(&source).await > before + 500).then_some(())
            })
            .await;
            stack.stop_postgres(PostgresStop::Immediate).await.unwrap();
            stack.start_postgres().await.unwrap();
            crashes.fetch_add(1, Ordering::Relaxed);
        }
        stop.store(true, Ordering::Relaxed);
        while let Some(ended) = writers.join_next().await {
            ended.unwrap();
        }
        // What was prepared and never ended belongs to nobody now.
        let mut connection = world.element(0).await;
        let prepared: Vec<String> = sqlx::query_scalar("select gid from pg_prepared_xacts")
            .fetch_all(&mut connection)
            .await
            .unwrap();
        for id in prepared {
            execute(&mut connection, format!("commit prepared '{id}'")).await;
        }
        world.published(0).await;
        all_settled(&world).await;
        println!(
            "{} crashes, {} rows",
            crashes.into_inner(),
            world.last_sequence(&source).await
        );
        relay.kill().await;
        drop(world);
        stack.stop().await.unwrap();
    });
}

/// A writer that does not wait for the disk, on a server that writes its log seldom: what was seen
/// and published is there after a crash all the same.
#[test]
fn a_row_that_was_published_is_on_the_sources_disk() {
    run(async {
        let stack = Stack::start(StackOptions::default()).await.unwrap();
        let world = World::on(&stack, 0, &["elem"], 1).await;
        let source = world.source(0);
        let relay = world.relay(0).start();
        for round in 1..=5 {
            let mut writer = world.element(0).await;
            execute(&mut writer, "alter system set wal_writer_delay = '10s'").await;
            execute(&mut writer, "select pg_reload_conf()").await;
            execute(&mut writer, "set synchronous_commit = off").await;
            execute(&mut writer, finished_row()).await;
            eventually("the row is published", || async {
                (world.last_sequence(&source).await >= round).then_some(())
            })
            .await;
            stack.stop_postgres(PostgresStop::Immediate).await.unwrap();
            stack.start_postgres().await.unwrap();
            let held = finished(&mut world.element(0).await, &source).await;
            assert_eq!(held, round, "rows after crash {round}");
        }
        world.published(0).await;
        relay.kill().await;
        drop(world);
        stack.stop().await.unwrap();
    });
}
