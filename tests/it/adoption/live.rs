//! The product continues to write while its tables are adopted, and while one is repaired.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use artstore_migrations::{Module, Origin, adopt, inspect};
use serde_json::Value;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::*;

/// The product's writer: three transactions an operation, the first of which stays open as long as
/// an upload takes. Any error fails the test.
fn writer(url: &str, number: u32, stop: &Arc<AtomicBool>) -> JoinHandle<u32> {
    let (url, stop) = (url.to_owned(), Arc::clone(stop));
    tokio::spawn(async move {
        let mut connection = pg(&url).await;
        let mut operations = 0;
        while !stop.load(Ordering::Relaxed) {
            let file = Uuid::new_v4();
            for kind in ["file_create", "file_update", "file_delete"] {
                let id = Uuid::new_v4();
                execute(
                    &mut connection,
                    format!(
                        "begin; insert into {ELEMENT}_wal (transaction_id, operation_type, \
                             status, file_id, operation_data, user_id) values ('{id}', '{kind}', \
                             'pending', '{file}', '{{\"content_type\": \"text/plain\"}}', 'writer')"
                    ),
                )
                .await;
                // The upload.
                tokio::time::sleep(Duration::from_millis(5 + u64::from(number) * 40)).await;
                let change = match kind {
                    "file_create" => format!(
                        "insert into {ELEMENT}_files (file_id, original_filename, \
                             storage_filename, file_size, content_type, created_by_id, \
                             created_by_username, storage_path, checksum, search_vector) \
                         values ('{file}', 'w.txt', '{file}', 1, 'text/plain', 'writer', 'writer', \
                             '/w', 'c', null)"
                    ),
                    "file_update" => format!(
                        "update {ELEMENT}_files set description = '{id}', updated_at = now() \
                         where file_id = '{file}'"
                    ),
                    _ if operations % 2 == 0 => "select 1".to_owned(),
                    _ => format!("delete from {ELEMENT}_files where file_id = '{file}'"),
                };
                execute(&mut connection, "commit").await;
                execute(&mut connection, change).await;
                execute(
                    &mut connection,
                    format!(
                        "update {ELEMENT}_wal set status = 'committed', completed_at = now(), \
                             duration_ms = 3, operation_data = operation_data || \
                             jsonb_build_object('result', jsonb_build_object('file_id', '{file}')) \
                         where transaction_id = '{id}'"
                    ),
                )
                .await;
                operations += 1;
            }
        }
        operations
    })
}

async fn adopted_while_it_is_written_to(made: Made) {
    let mut world = World::with_accounts_for(&[ELEMENT], &[]).await;
    let (url, mut element) = product_database(&storage(), made).await;
    let (query_url, mut query) = product_database(&Module::Query, made).await;
    let (admin_url, mut admin) = product_database(&Module::Admin, made).await;
    world.elements.push((ELEMENT.parse().unwrap(), url.clone()));
    (world.query_url, world.admin_url) = (query_url, admin_url);

    let mut before = Vec::new();
    for connection in [&mut element, &mut query, &mut admin] {
        let columns = columns(connection).await;
        let rows = rows(connection, &columns).await;
        assert!(rows.len() >= columns.len(), "rows in every table");
        before.push((columns, rows));
    }
    let order = format!(
        "select transaction_id::text from {ELEMENT}_wal \
         where user_id = 'before' and status in ('committed', 'rolled_back', 'failed') order by "
    );
    let by_time = texts(
        &mut element,
        &format!("{order} completed_at nulls last, started_at, transaction_id"),
    )
    .await;
    assert!(by_time.len() > 500);

    let (status, said) = world.command(&["migrate", "check"]).output().await;
    assert!(status.success(), "{said}");
    let by = match made {
        Made::ByMigrations => "the product: revision 100779395dad",
        Made::ByTheServices => "the product, without a version table",
    };
    assert!(said.contains(by), "{said}");
    assert!(
        said.contains("run `artstore bus init`") && said.contains("nothing stops"),
        "{said}"
    );

    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4).map(|number| writer(&url, number, &stop)).collect();
    eventually("the writers write", || async {
        let mut connection = pg(&url).await;
        let sql = format!("select count(*) from {ELEMENT}_wal where user_id = 'writer'");
        (value::<i64>(&mut connection, sql).await > 20).then_some(())
    })
    .await;
    let (status, said) = world.command(&["migrate", "adopt", "--up"]).output().await;
    assert!(status.success(), "{said}");
    assert!(
        said.contains(by) && said.contains("finished get positions by"),
        "{said}"
    );
    assert_eq!(
        said.contains("repair     column storage_elem_01_config.id has no default"),
        made == Made::ByTheServices,
        "{said}"
    );
    // (The writers' files of the moment may be among them.)
    assert!(said.contains("files have no finished operation"), "{said}");
    println!("{said}");
    let during: i64 = value(&mut element, format!("select count(*) from {ELEMENT}_wal")).await;
    eventually("the writers go on", || async {
        let mut connection = pg(&url).await;
        let rows: i64 = value(
            &mut connection,
            format!("select count(*) from {ELEMENT}_wal"),
        )
        .await;
        (rows > during + 20).then_some(())
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    let mut operations = 0;
    for writer in writers {
        operations += writer.await.unwrap();
    }

    // No row lost, none changed, and the product's version table is unchanged.
    for (connection, (columns, before)) in [&mut element, &mut query, &mut admin]
        .into_iter()
        .zip(before)
    {
        assert_eq!(rows(connection, &columns).await, before);
    }
    let by_position = texts(&mut element, &format!("{order} position")).await;
    assert_eq!(by_position, by_time);
    let written: i64 = value(
        &mut element,
        format!(
            "select count(*) from {ELEMENT}_wal where user_id = 'writer' and position is not null"
        ),
    )
    .await;
    assert_eq!(written, i64::from(operations));
    // Everything that was finished, before and since, is published once.
    let (status, said) = world.command(&["bus", "init"]).output().await;
    assert!(status.success(), "{said}");
    let (relay, projector) = (world.relay(0).start(), world.projector().start());
    let source = world.source(0);
    let finished = finished(&mut element, &source).await;
    eventually("every finished row is published", || async {
        (world.last_sequence(&source).await >= finished).then_some(())
    })
    .await;
    let report = world.checked(&source, &mut element).await;
    // Not their order: the writers finish in another transaction than they change.
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.rows, report.messages);
    // Files that no operation reports are in `_files` alone.
    let untold = format!(
        "delete from {ELEMENT}_files as file where not exists (select from {ELEMENT}_wal as wal \
         where wal.file_id = file.file_id and wal.position is not null)"
    );
    execute(&mut element, untold).await;
    world.projected().await;
    relay.kill().await;
    projector.kill().await;

    // Once more: nothing to do.
    let now = lines(&mut element, &storage()).await;
    let (status, said) = world
        .command(&["migrate", "adopt", "--json"])
        .output()
        .await;
    assert!(status.success(), "{said}");
    let again: Value = serde_json::from_str(&said).unwrap();
    for module in again.as_array().unwrap() {
        assert_eq!(module["result"], "ours", "{again}");
        assert_eq!(module["made"]["adopted"], true, "{again}");
    }
    assert_eq!(lines(&mut element, &storage()).await, now);
}

#[test]
fn what_migrations_made_is_adopted_while_it_is_written_to() {
    run(adopted_while_it_is_written_to(Made::ByMigrations));
}

#[test]
fn what_the_services_made_on_their_own_is_adopted_while_it_is_written_to() {
    run(adopted_while_it_is_written_to(Made::ByTheServices));
}

/// The product keeps a transaction open on a table for as long as an upload takes: a repair gives
/// way, so that others continue, and comes again.
#[test]
fn a_repair_waits_for_an_upload_and_lets_others_through() {
    run(async {
        let (url, mut connection) = product_database(&storage(), Made::ByMigrations).await;
        execute(
            &mut connection,
            format!("alter table {ELEMENT}_wal alter started_at drop default; drop index idx_{ELEMENT}_wal_file"),
        )
        .await;
        let mut upload = pg(&url).await;
        execute(
            &mut upload,
            format!("begin; update {ELEMENT}_wal set duration_ms = 6 where status = 'pending'"),
        )
        .await;
        let adopting = tokio::spawn(async move {
            adopt(&mut connection, &storage()).await.unwrap();
            connection
        });
        // It waits behind the upload, and a writer behind it; both before the upload ends.
        let mut other = pg(&url).await;
        eventually("adoption waits for the upload", || async {
            let mut watching = pg(&url).await;
            let sql = format!(
                "select exists (select from pg_locks where not granted and relation = '{ELEMENT}_wal'::regclass)"
            );
            value::<bool>(&mut watching, sql).await.then_some(())
        })
        .await;
        let insert = format!(
            "insert into {ELEMENT}_wal (transaction_id, operation_type, status, operation_data, \
                 started_at) values (gen_random_uuid(), 'file_create', 'pending', '{{}}', now())"
        );
        tokio::time::timeout(PATIENCE, execute(&mut other, insert))
            .await
            .expect("a writer gets through while the upload goes on");
        assert!(!adopting.is_finished());
        execute(&mut upload, "commit").await;
        let mut connection = adopting.await.unwrap();
        let origin = inspect(&mut connection, &storage()).await.unwrap().origin;
        assert_eq!(
            origin,
            Origin::Ours {
                version: 1,
                adopted: true
            }
        );
    });
}
