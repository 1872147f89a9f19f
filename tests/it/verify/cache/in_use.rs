//! Nothing is found where nothing is wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::task::JoinSet;

use super::*;
use crate::support::load::Load;

/// Writers through the publishers' API and writers as the product's service is, who take three
/// transactions for an operation and leave some pending: no finding while they write, and none
/// after.
#[test]
fn nothing_is_found_while_everybody_writes() {
    run(async {
        let filled = filled(20).await;
        let world = &filled.world;
        let load = Load::start(world, 2, false);
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = JoinSet::new();
        for writer in 0..3 {
            let url = world.elements[0].1.clone();
            let stop = Arc::clone(&stop);
            writers.spawn(async move {
                let mut connection = pg(&url).await;
                let mut turn = writer;
                while !stop.load(Ordering::Relaxed) {
                    turn += 3;
                    product_life(&mut connection, turn).await;
                }
            });
        }
        let started = Instant::now();
        let mut looked_at = 0;
        let mut rounds = 0;
        while started.elapsed() < Duration::from_secs(25) || rounds < 3 {
            let report = verify(world).await;
            assert!(report.findings.is_empty(), "{:#?}", report.findings);
            looked_at += report.candidates;
            rounds += 1;
        }
        load.stop().await;
        stop.store(true, Ordering::Relaxed);
        while let Some(ended) = writers.join_next().await {
            ended.unwrap();
        }
        println!("{rounds} rounds, {looked_at} candidates");
        assert!(looked_at > 0, "nothing was ever in flight");
        let report = verify(world).await;
        assert!(report.findings.is_empty(), "{:#?}", report.findings);
        filled.end().await;
    });
}

/// Creates, updates and deletes as the product's service does; every tenth operation is never
/// finished.
async fn product_life(connection: &mut PgConnection, turn: i32) {
    let file = Uuid::new_v4();
    let changes = [
        (
            "file_create",
            format!(
                "insert into elem_a_files (file_id, original_filename, storage_filename, file_size, \
                     content_type, created_by_id, created_by_username, storage_path, checksum, \
                     created_at, updated_at) \
                 values ('{file}', 'p', '{file}', 0, 'text/plain', '1', 'u', '/', 'c', \
                     clock_timestamp(), clock_timestamp())"
            ),
        ),
        (
            "file_update",
            format!(
                "update elem_a_files set description = 'turn {turn}', \
                     updated_at = clock_timestamp() where file_id = '{file}'"
            ),
        ),
        (
            "file_delete",
            format!("delete from elem_a_files where file_id = '{file}'"),
        ),
    ];
    let steps = if turn % 2 == 0 { 3 } else { 2 };
    for (number, (kind, change)) in changes.into_iter().take(steps).enumerate() {
        let id = Uuid::new_v4();
        execute(
            connection,
            format!(
                "insert into elem_a_wal (transaction_id, operation_type, status, file_id, \
                     operation_data) values ('{id}', '{kind}', 'pending', '{file}', '{{}}')"
            ),
        )
        .await;
        execute(connection, change).await;
        if turn % 10 == 0 && number == steps - 1 {
            return;
        }
        let status = if turn % 7 == 0 {
            "rolled_back"
        } else {
            "committed"
        };
        execute(
            connection,
            format!("update elem_a_wal set status = '{status}' where transaction_id = '{id}'"),
        )
        .await;
    }
}
