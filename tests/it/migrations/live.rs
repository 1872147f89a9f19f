//! Migrating a database in use: a transaction stays open on `_wal` as in an upload, others write on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use artstore_migrations::{latest, status, up};

use super::*;

/// What the writers did.
#[derive(Default)]
struct Written {
    operations: AtomicU64,
    longest_ms: AtomicU64,
    stop: AtomicBool,
}

/// Writes operations in the product's three transactions until it is stopped. Any error is one
/// that the product would have seen.
async fn write(mut conn: PgConnection, written: Arc<Written>) {
    while !written.stop.load(Ordering::Relaxed) {
        let (id, file) = (Uuid::new_v4(), Uuid::new_v4());
        let began = Instant::now();
        exec(&mut conn, &format!(
            "insert into storage_elem_01_wal (transaction_id, operation_type, status, file_id, operation_data, user_id)
             values ('{id}', 'file_create', 'pending', '{file}', '{{}}', '17')"
        )).await;
        exec(&mut conn, &format!(
            "insert into storage_elem_01_files (file_id, original_filename, storage_filename, file_size, content_type,
                 created_by_id, created_by_username, storage_path, checksum, search_vector)
             values ('{file}', 'live report.txt', '{file}', 1, 'text/plain', '1', 'u', '/', 'x', null)"
        )).await;
        exec(&mut conn, &format!(
            "update storage_elem_01_wal set status = 'committed', completed_at = now() where transaction_id = '{id}'"
        )).await;
        let took = u64::try_from(began.elapsed().as_millis()).unwrap();
        written.longest_ms.fetch_max(took, Ordering::Relaxed);
        written.operations.fetch_add(1, Ordering::Relaxed);
        // A writer has other things to do as well.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn an_upload_keeps_its_transaction_and_others_write_on_while_up_waits_for_it() {
    run(async {
        let url = database("live").await;
        let element = storage(ELEMENT);
        let mut conn = connect(&url).await;
        up(&mut conn, &element, Some(1)).await.unwrap();
        filled::fill(&mut conn, &element, filled::MANY).await;

        let mut upload = connect(&url).await;
        let upload_pid = text(&mut upload, "select pg_backend_pid()::text").await;
        exec(&mut upload, "begin").await;
        let id = Uuid::new_v4();
        exec(&mut upload, &format!(
            "insert into storage_elem_01_wal (transaction_id, operation_type, status, operation_data)
             values ('{id}', 'file_create', 'pending', '{{}}')"
        )).await;

        let written = Arc::new(Written::default());
        let mut writers = Vec::new();
        for _ in 0..3 {
            writers.push(tokio::spawn(write(
                connect(&url).await,
                Arc::clone(&written),
            )));
        }
        let mut migrator =
            Program::new(&["migrate", "up", "--module", "storage", "--patience", "100"])
                .env("STORAGE_DATABASE_URL", &url)
                .start();

        // Twice refused, it reports who holds the table.
        migrator.says("the tables are in use: trying again").await;
        eventually("it tries again and again", || async {
            (migrator.log().matches("trying again").count() >= 3).then_some(())
        })
        .await;
        assert!(
            migrator
                .log()
                .contains(&format!("PostgreSQL process {upload_pid} (user ")),
            "{}",
            migrator.log()
        );
        let before = written.operations.load(Ordering::Relaxed);
        eventually("the others write on meanwhile", || async {
            (written.operations.load(Ordering::Relaxed) > before + 100).then_some(())
        })
        .await;
        assert_eq!(status(&mut conn, &element).await.unwrap().version, 1);

        // The upload ends as if nothing were.
        exec(
            &mut upload,
            &format!(
                "update storage_elem_01_wal set status = 'committed' where transaction_id = '{id}'"
            ),
        )
        .await;
        exec(&mut upload, "commit").await;
        let ended = migrator.ended().await;
        assert!(ended.success(), "{}", migrator.log());
        assert_eq!(
            status(&mut conn, &element).await.unwrap().version,
            latest(&element)
        );
        let before = written.operations.load(Ordering::Relaxed);
        eventually("the others write on after it", || async {
            (written.operations.load(Ordering::Relaxed) > before + 20).then_some(())
        })
        .await;
        written.stop.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.await.expect("no writer gets an error");
        }
        // It queues behind us for a second at most; the rest is a busy machine.
        let longest = written.longest_ms.load(Ordering::Relaxed);
        assert!(longest < 6_000, "a writer waited {longest} ms");

        let odd = text(
            &mut conn,
            "
            select (count(*) filter (where (position is null) <> (status = 'pending'))
                + count(position) - count(distinct position))::text
            from storage_elem_01_wal",
        )
        .await;
        assert_eq!(odd, "0");
        let unfilled = text(
            &mut conn,
            "select count(*)::text from storage_elem_01_files where search_vector is null",
        )
        .await;
        assert_eq!(unfilled, "0");
        let operations = i64::try_from(written.operations.load(Ordering::Relaxed)).unwrap();
        let rows = text(&mut conn, "select count(*)::text from storage_elem_01_wal").await;
        assert_eq!(rows, (operations + 200 + 1).to_string());
    });
}

#[test]
fn the_cache_is_written_while_it_is_migrated() {
    run(async {
        let url = database("live_query").await;
        let mut conn = connect(&url).await;
        up(&mut conn, &Module::Query, Some(1)).await.unwrap();
        filled::fill(&mut conn, &Module::Query, filled::MANY).await;
        // A search that is read slowly: it holds its tables, and keeps every index it may use.
        let mut reader = connect(&url).await;
        exec(
            &mut reader,
            "begin; declare slow cursor for select id from file_metadata_cache; fetch 1 from slow",
        )
        .await;
        let mut migrator =
            Program::new(&["migrate", "up", "--module", "query", "--patience", "100"])
                .env("QUERY_DATABASE_URL", &url)
                .start();
        migrator
            .says("waits for those who use the tables now")
            .await;
        for n in 0..50 {
            exec(
                &mut conn,
                &cached(&format!("n{n}"), "d").replace("'same'", &format!("'n{n}'")),
            )
            .await;
        }
        exec(&mut reader, "fetch 10 from slow; commit").await;
        assert!(migrator.ended().await.success(), "{}", migrator.log());
        assert_eq!(
            status(&mut conn, &Module::Query).await.unwrap().version,
            latest(&Module::Query)
        );
        assert_eq!(
            text(
                &mut conn,
                "select count(*)::text from file_metadata_cache where search_vector is null"
            )
            .await,
            "0"
        );
    });
}
