//! Rows that the product's Python service writes: a pending row, the change of `_files`, and the
//! finished row in three transactions, with sparse data. Whatever happens between them, the cache
//! agrees with `_files` in the end.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use sqlx::PgConnection;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::support::*;

/// An operation of the product's service; each method is one of its transactions.
#[derive(Clone, Copy)]
struct Operation {
    id: Uuid,
    kind: &'static str,
    file: Uuid,
}

impl Operation {
    /// First: what is about to be done.
    async fn begin(connection: &mut PgConnection, kind: &'static str, file: Uuid) -> Self {
        let id = Uuid::new_v4();
        let names = format!(
            "'original_filename', 'report {file}.pdf', 'storage_filename', '{file}.pdf', \
             'relative_path', '2026/01/02/03'"
        );
        let data = match kind {
            "file_create" => format!(
                "jsonb_build_object({names}, 'storage_path', '/data/2026/01/02/03/{file}.pdf', \
                 'content_type', 'application/pdf')"
            ),
            "file_update" => {
                format!(
                    "jsonb_build_object('description', '{id}', 'version', null, 'metadata', null)"
                )
            }
            _ => format!("jsonb_build_object({names})"),
        };
        execute(
            connection,
            format!(
                "insert into elem_wal (transaction_id, operation_type, status, file_id, \
                     operation_data, user_id, started_at) \
                 values ('{id}', '{kind}', 'pending', '{file}', {data}, '17', clock_timestamp())"
            ),
        )
        .await;
        Self { id, kind, file }
    }

    /// Second: the change.
    async fn change(self, connection: &mut PgConnection) {
        let Self { id, kind, file } = self;
        let sql = match kind {
            "file_create" => insert_file(file, &"c".repeat(64), 5),
            "file_update" => format!(
                "update elem_files set description = '{id}', updated_at = clock_timestamp() \
                 where file_id = '{file}'"
            ),
            _ => format!("delete from elem_files where file_id = '{file}'"),
        };
        execute(connection, sql).await;
    }

    /// Third: it took effect.
    async fn commit(self, connection: &mut PgConnection) {
        let file = self.file;
        let result = match self.kind {
            "file_create" => {
                let checksum = "c".repeat(64);
                format!("'file_id', '{file}', 'checksum', '{checksum}', 'file_size', 5")
            }
            _ => format!("'file_id', '{file}'"),
        };
        self.finish(
            connection,
            &format!(
                "status = 'committed', operation_data = operation_data \
             || jsonb_build_object('result', jsonb_build_object({result}))"
            ),
        )
        .await;
    }

    /// Third: it did not.
    async fn roll_back(self, connection: &mut PgConnection) {
        let set = "status = 'rolled_back', error_message = 'the metadata file is too large'";
        self.finish(connection, set).await;
    }

    async fn finish(self, connection: &mut PgConnection, set: &str) {
        execute(
            connection,
            format!(
                "update elem_wal set {set}, completed_at = clock_timestamp(), duration_ms = 12 \
                 where transaction_id = '{}'",
                self.id
            ),
        )
        .await;
    }

    /// All three.
    async fn done(connection: &mut PgConnection, kind: &'static str, file: Uuid) -> Self {
        let operation = Self::begin(connection, kind, file).await;
        operation.change(connection).await;
        operation.commit(connection).await;
        operation
    }
}

fn insert_file(file: Uuid, checksum: &str, size: i64) -> String {
    format!(
        "insert into elem_files (file_id, original_filename, storage_filename, file_size, \
             content_type, created_at, updated_at, created_by_id, created_by_username, \
             created_by_fullname, storage_path, checksum, search_vector, metadata_json) \
         values ('{file}', 'report {file}.pdf', '{file}.pdf', {size}, 'application/pdf', \
             clock_timestamp(), clock_timestamp(), '17', 'ann', 'Ann Lee', \
             '/data/2026/01/02/03/{file}.pdf', '{checksum}', null, '{{\"tags\": [\"a\"]}}')"
    )
}

/// A file's description in the cache; none where there is no row.
async fn cached(query: &mut PgConnection, file: Uuid) -> Option<Option<String>> {
    sqlx::query_scalar("select description from file_metadata_cache where id = $1")
        .bind(file.to_string())
        .fetch_optional(query)
        .await
        .unwrap()
}

/// As `World::published`, but for the order of a file's messages: it is that of their positions
/// only for writers that change and finish in one transaction. Of two rows that are finished at
/// the same time the one that is seen first comes first, each with the file as it stood then.
async fn published_in_some_order(world: &World) {
    let source = world.source(0);
    let mut connection = world.element(0).await;
    let rows = finished(&mut connection, &source).await;
    eventually("every finished row is published", || async {
        (world.last_sequence(&source).await >= rows).then_some(())
    })
    .await;
    let report = world.checked(&source, &mut connection).await;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.rows, report.messages);
}

async fn agree(world: &World) {
    world.published(0).await;
    world.projected().await;
}

#[test]
fn every_outcome_of_the_product_ends_in_the_cache_as_the_files_stand() {
    run(async {
        let world = World::new(&["elem"]).await;
        let (relay, projector) = (world.relay(0).start(), world.projector().start());
        let mut a = world.element(0).await;
        let mut b = world.element(0).await;
        let mut query = world.query().await;
        let files: Vec<Uuid> = (0..8).map(|_| Uuid::new_v4()).collect();
        let [
            kept,
            failed,
            deleted,
            cancelled,
            overtaken,
            late,
            killed,
            gone,
        ] = files[..]
        else {
            unreachable!()
        };

        for file in [kept, deleted, cancelled, overtaken, gone] {
            Operation::done(&mut a, "file_create", file).await;
        }
        agree(&world).await;
        assert_eq!(cached(&mut query, kept).await, Some(None));
        let update = Operation::done(&mut a, "file_update", kept).await;
        Operation::done(&mut a, "file_delete", gone).await;
        agree(&world).await;
        assert_eq!(
            cached(&mut query, kept).await,
            Some(Some(update.id.to_string()))
        );
        assert_eq!(cached(&mut query, gone).await, None);

        // A create that fails leaves nothing.
        let operation = Operation::begin(&mut a, "file_create", failed).await;
        operation.roll_back(&mut a).await;
        // An update that is rolled back has changed the file all the same.
        let update = Operation::begin(&mut a, "file_update", kept).await;
        update.change(&mut a).await;
        update.roll_back(&mut a).await;
        // A delete that is rolled back: the row stays.
        let operation = Operation::begin(&mut a, "file_delete", deleted).await;
        operation.roll_back(&mut a).await;
        // A create whose last transaction fails: rolled back, and the row stays.
        let operation = Operation::begin(&mut a, "file_create", late).await;
        operation.change(&mut a).await;
        operation.roll_back(&mut a).await;
        agree(&world).await;
        assert_eq!(cached(&mut query, failed).await, None);
        assert_eq!(
            cached(&mut query, kept).await,
            Some(Some(update.id.to_string()))
        );
        assert_eq!(cached(&mut query, deleted).await, Some(None));
        assert_eq!(cached(&mut query, late).await, Some(None));

        // Cancelled or killed before the last transaction: pending for ever, so nobody hears of
        // the change until another operation of the file is finished.
        let operation = Operation::begin(&mut a, "file_update", cancelled).await;
        operation.change(&mut a).await;
        let create = Operation::begin(&mut a, "file_create", killed).await;
        create.change(&mut a).await;
        let later = Operation::begin(&mut a, "file_delete", cancelled).await;
        later.roll_back(&mut a).await;
        Operation::done(&mut a, "file_update", killed).await;
        agree(&world).await;
        assert_eq!(
            cached(&mut query, cancelled).await,
            Some(Some(operation.id.to_string()))
        );

        // An update that is overtaken by the delete of its file, and finishes after it.
        let update = Operation::begin(&mut a, "file_update", overtaken).await;
        update.change(&mut a).await;
        Operation::done(&mut b, "file_delete", overtaken).await;
        agree(&world).await;
        assert_eq!(cached(&mut query, overtaken).await, None);
        update.commit(&mut a).await;
        agree(&world).await;
        assert_eq!(cached(&mut query, overtaken).await, None);

        let pending: i64 = value(
            &mut a,
            "select count(*) from elem_wal where position is null",
        )
        .await;
        assert_eq!(pending, 2);
        relay.kill().await;
        projector.kill().await;
    });
}

/// A later version of the product refills `_files`, with no row in the log.
#[test]
fn files_that_were_filled_anew_come_back_with_the_next_operation() {
    run(async {
        let world = World::new(&["elem"]).await;
        let (relay, projector) = (world.relay(0).start(), world.projector().start());
        let mut connection = world.element(0).await;
        let mut query = world.query().await;
        let files: Vec<Uuid> = (0..5).map(|_| Uuid::new_v4()).collect();
        for file in &files {
            Operation::done(&mut connection, "file_create", *file).await;
        }
        agree(&world).await;

        execute(
            &mut connection,
            "create table kept as select * from elem_files; truncate elem_files",
        )
        .await;
        // Finished while the files are away: they are taken for removed.
        for file in &files[..3] {
            let update = Operation::begin(&mut connection, "file_update", *file).await;
            update.roll_back(&mut connection).await;
        }
        world.published(0).await;
        eventually("the files are removed", || async {
            let mut query = world.query().await;
            let rows: i64 = value(&mut query, "select count(*) from file_metadata_cache").await;
            (rows == 2).then_some(())
        })
        .await;
        // There again, with the same `created_at`.
        execute(
            &mut connection,
            "insert into elem_files select * from kept; drop table kept",
        )
        .await;
        for file in &files[..4] {
            Operation::done(&mut connection, "file_update", *file).await;
        }
        agree(&world).await;

        // The checksum was lost on the way: the operation's own result has it, with the size.
        let lost = Uuid::new_v4();
        let create = Operation::begin(&mut connection, "file_create", lost).await;
        execute(&mut connection, insert_file(lost, "", 0)).await;
        create.commit(&mut connection).await;
        agree(&world).await;
        let found: String = value(
            &mut query,
            format!("select sha256_hash || ' ' || file_size from file_metadata_cache where id = '{lost}'"),
        )
        .await;
        assert_eq!(found, format!("{} 5", "c".repeat(64)));
        relay.kill().await;
        projector.kill().await;
    });
}

const FILES: usize = 30;
const WRITERS: usize = 4;
/// Of each writer.
const STEPS: usize = 400;
const IN_FLIGHT: usize = 6;

/// Where an operation is.
#[derive(Clone, Copy)]
enum Step {
    Pending,
    Changed,
    /// The finished row is written in a transaction that is still open.
    Open,
}

/// Random operations on the same files by several writers, each with several operations under
/// way on connections of their own, whose transactions follow each other in random order.
#[test]
fn random_schedules_end_in_the_cache_as_the_files_stand() {
    run(async {
        let seed: u64 =
            std::env::var("SEED").map_or_else(|_| rand::random(), |s| s.parse().unwrap());
        println!("seed {seed} (SEED=… runs it again)");
        let world = World::new(&["elem"]).await;
        let (relay, projector) = (world.relay(0).start(), world.projector().start());
        let files: Vec<Uuid> = {
            let mut random = StdRng::seed_from_u64(seed);
            (0..FILES)
                .map(|_| Uuid::from_u128(random.random()))
                .collect()
        };
        let files = Arc::new(Mutex::new(files));
        let mut writers = JoinSet::new();
        for writer in 1..=WRITERS {
            let (url, files) = (world.elements[0].1.clone(), Arc::clone(&files));
            let random = StdRng::seed_from_u64(seed.wrapping_add(writer as u64));
            writers.spawn(schedule(url, files, random));
        }
        let mut abandoned = Vec::new();
        while let Some(left) = writers.join_next().await {
            abandoned.extend(left.unwrap());
        }
        // No message reported what those changed; a later finished operation of the file does.
        let mut connection = world.element(0).await;
        for file in &abandoned {
            let later = Operation::begin(&mut connection, "file_update", *file).await;
            later.roll_back(&mut connection).await;
        }
        published_in_some_order(&world).await;
        world.projected().await;
        let rows: i64 = value(&mut connection, "select count(*) from elem_files").await;
        println!(
            "{} operations finished, {} abandoned, {rows} files",
            world.last_sequence(&world.source(0)).await,
            abandoned.len()
        );
        relay.kill().await;
        projector.kill().await;
    });
}

/// Returns the files whose last word was never said: of operations that stay pending for ever.
async fn schedule(url: String, files: Arc<Mutex<Vec<Uuid>>>, mut random: StdRng) -> Vec<Uuid> {
    let mut idle = Vec::new();
    for _ in 0..IN_FLIGHT {
        idle.push(pg(&url).await);
    }
    let mut under_way: Vec<(Operation, Step, PgConnection)> = Vec::new();
    let mut abandoned = Vec::new();
    for step in 0.. {
        let ending = step >= STEPS;
        if ending && under_way.is_empty() {
            break;
        }
        if !ending && !idle.is_empty() && (under_way.is_empty() || random.random_bool(0.3)) {
            let mut connection = idle.pop().unwrap();
            let kinds = [
                "file_create",
                "file_update",
                "file_update",
                "file_update",
                "file_delete",
            ];
            let kind = *kinds.choose(&mut random).unwrap();
            let file = pick(&files, kind, &mut random).await;
            let operation = Operation::begin(&mut connection, kind, file).await;
            under_way.push((operation, Step::Pending, connection));
            continue;
        }
        let chosen = random.random_range(0..under_way.len());
        let (operation, step, mut connection) = under_way.swap_remove(chosen);
        let next = match step {
            Step::Pending if random.random_bool(0.9) => {
                operation.change(&mut connection).await;
                Some(Step::Changed)
            }
            // What it was to change stays as it is.
            Step::Pending => {
                operation.roll_back(&mut connection).await;
                None
            }
            Step::Changed => match random.random_range(0..10) {
                0 => {
                    abandoned.push(operation.file);
                    None
                }
                1 | 2 => {
                    operation.roll_back(&mut connection).await;
                    None
                }
                3..7 => {
                    operation.commit(&mut connection).await;
                    None
                }
                _ => {
                    execute(&mut connection, "begin").await;
                    operation.commit(&mut connection).await;
                    Some(Step::Open)
                }
            },
            Step::Open if random.random_bool(0.2) => {
                // The commit fails, and the service rolls back.
                execute(&mut connection, "rollback").await;
                operation.roll_back(&mut connection).await;
                None
            }
            Step::Open => {
                execute(&mut connection, "commit").await;
                None
            }
        };
        match next {
            Some(next) => under_way.push((operation, next, connection)),
            None => idle.push(connection),
        }
    }
    abandoned
}

/// A file for an operation. One that is created is a new one, in the place of another.
async fn pick(files: &Mutex<Vec<Uuid>>, kind: &str, random: &mut StdRng) -> Uuid {
    let mut files = files.lock().await;
    let place = random.random_range(0..files.len());
    if kind == "file_create" {
        files[place] = Uuid::from_u128(random.random());
    }
    files[place]
}
