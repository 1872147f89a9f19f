//! Events that can't be applied.
//!
//! - `waiting`: parked with the later ones of their key, while everything else flows, until a retry
//! - `discarded`: given up by an operator, and taken back

mod discarded;
mod waiting;

use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::support::load::{create, new_file, update};
use crate::support::*;

/// The cache's table refuses a negative size.
pub const REPAIR: &str = "alter table file_metadata_cache drop constraint check_file_size_positive";

/// A file that the cache does not take, and so many updates of it.
pub async fn poison(world: &World, updates: usize) -> Uuid {
    let mut element = (world.elements[0].0.clone(), world.element(0).await);
    let mut file = new_file("poison");
    file.file_size = -1;
    create(&mut element, &file).await.unwrap();
    for n in 0..updates {
        update(&mut element, file.id, &format!("update {n}"))
            .await
            .unwrap();
    }
    file.id
}

/// So many files at once, as the product's service writes them.
pub async fn files(world: &World, count: usize) {
    insert(&mut world.element(0).await, count).await;
}

/// The same, on a connection to an element that is called `elem`.
pub async fn insert(element: &mut PgConnection, count: usize) {
    execute(
        element,
        format!(
            "begin; \
             create temp table new on commit drop as \
                 select gen_random_uuid() as id, n from generate_series(1, {count}) n; \
             insert into elem_files (file_id, original_filename, storage_filename, file_size, \
                 content_type, created_by_id, created_by_username, storage_path, checksum) \
             select id, 'report ' || n || '.pdf', id, n, 'application/pdf', '1', 'ann', \
                 '2026/01/02/03', repeat('c', 64) from new; \
             insert into elem_wal (transaction_id, operation_type, status, file_id, operation_data) \
             select gen_random_uuid(), 'file_create', 'committed', id, '{{}}' from new; \
             commit"
        ),
    )
    .await;
}

/// Waits until everything that was published was applied or parked.
pub async fn passed(world: &World) {
    world.published(0).await;
    let source = world.source(0);
    let last = world.last_sequence(&source).await;
    eventually("the checkpoint is at the end", || async {
        (checkpoint(&world.query_url, &source).await == last).then_some(())
    })
    .await;
}

/// Sequences and reasons of what is parked, in order.
pub async fn parked(world: &World) -> Vec<(i64, Option<Uuid>, Option<String>)> {
    let mut query = world.query().await;
    sqlx::query_as(
        "select stream_sequence, key, reason from projection_parked order by stream_sequence",
    )
    .fetch_all(&mut query)
    .await
    .unwrap()
}

async fn cached(world: &World) -> i64 {
    value(
        &mut world.query().await,
        "select count(*) from file_metadata_cache",
    )
    .await
}

pub async fn retry(world: &World) -> (bool, Value) {
    let (status, said) = world.command(&["parked", "retry", "--json"]).output().await;
    (status.success(), serde_json::from_str(&said).unwrap())
}

/// Everything agrees, and nothing is parked.
pub async fn caught_up(world: &World) {
    assert_eq!(parked(world).await, []);
    let (status, said) = world.command(&["parked", "list"]).output().await;
    assert!(
        status.success() && said.contains("Nothing is parked."),
        "{said}"
    );
    world.projected().await;
    crate::verify::cache::clean(world).await;
}
