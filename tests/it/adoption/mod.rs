//! An installation that the product created is taken over while it runs: what is recognised, what
//! blocks, what is repaired, that no row is lost or changed; and the commands around it. One guarantee
//! per file.

mod between_looks;
mod blocks;
mod catalogues;
mod commands;
mod crashes;
mod harmless;
mod live;
mod repairs;
mod taken_back;

use std::collections::BTreeSet;

use artstore_migrations::{Adoption, Effect, Module, catalogue};
use sqlx::PgConnection;

use crate::support::*;

pub const ELEMENT: &str = "storage_elem_01";

pub fn storage() -> Module {
    Module::Storage(ELEMENT.parse().unwrap())
}

pub fn modules() -> [Module; 3] {
    [Module::Admin, Module::Query, storage()]
}

/// What the services created: by their migrations, or on their own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Made {
    ByMigrations,
    /// No version table, no default of `_config.id`, and tables of an element that is gone.
    ByTheServices,
}

/// Fills an empty database as the product does, with rows in every table.
async fn product(connection: &mut PgConnection, module: &Module, made: Made) {
    let (tables, rows, table, revision) = match module {
        Module::Admin => (
            include_str!("../../../migrations/admin/0001_initial.up.sql"),
            include_str!("../product/admin.sql"),
            "alembic_version".to_owned(),
            "4c7e84fcc6b9",
        ),
        Module::Query => (
            include_str!("../../../migrations/query/0001_initial.up.sql"),
            include_str!("../product/query.sql"),
            "alembic_version".to_owned(),
            "16c6973431df",
        ),
        Module::Storage(element) => (
            include_str!("../../../migrations/storage/0001_initial.up.sql"),
            include_str!("../product/storage.sql"),
            format!("{element}_alembic_version"),
            "100779395dad",
        ),
    };
    execute(connection, tables.replace("{prefix}", ELEMENT)).await;
    if matches!(module, Module::Storage(_)) && made == Made::ByTheServices {
        let sql = format!(
            "alter table {ELEMENT}_config alter id drop default; \
             drop sequence {ELEMENT}_config_id_seq; \
             create table storage_elem_99_wal (transaction_id uuid, operation_type text); \
             create table storage_elem_99_files (file_id uuid); \
             insert into storage_elem_99_wal values (gen_random_uuid(), 'file_create'); \
             create table storage_elem_99_alembic_version (version_num varchar(32) not null)"
        );
        execute(connection, sql).await;
    }
    execute(connection, rows.replace("{prefix}", ELEMENT)).await;
    if made == Made::ByMigrations {
        let sql = format!(
            "create table {table} (version_num varchar(32) not null, \
                 constraint {table}_pkc primary key (version_num)); \
             insert into {table} values ('{revision}')"
        );
        execute(connection, sql).await;
    }
}

pub async fn product_database(module: &Module, made: Made) -> (String, PgConnection) {
    let url = database("product").await;
    let mut connection = pg(&url).await;
    product(&mut connection, module, made).await;
    (url, connection)
}

async fn texts(connection: &mut PgConnection, sql: &str) -> Vec<String> {
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned()))
        .fetch_all(connection)
        .await
        .unwrap()
}

/// Every table with every row, as text: but those columns that the product does not have, the
/// search vectors that adoption fills, and rows that the writer wrote.
pub async fn rows(connection: &mut PgConnection, columns: &[String]) -> BTreeSet<String> {
    let mut rows = BTreeSet::new();
    for line in columns {
        let (table, list) = line.split_once(' ').unwrap();
        let writer = match table.strip_prefix(ELEMENT) {
            Some("_files") => "created_by_id <> 'writer'",
            Some("_wal") => "user_id is distinct from 'writer'",
            _ => "true",
        };
        let sql = format!("select '{table} ' || row({list})::text from {table} where {writer}");
        rows.extend(texts(connection, &sql).await);
    }
    rows
}

pub async fn columns(connection: &mut PgConnection) -> Vec<String> {
    texts(
        connection,
        "select table_name || ' ' || string_agg(column_name, ', ' order by ordinal_position) \
         from information_schema.columns \
         where table_schema = 'public' and column_name <> 'search_vector' \
         group by table_name order by 1",
    )
    .await
}

async fn lines(connection: &mut PgConnection, module: &Module) -> Vec<String> {
    catalogue(connection, module).await.unwrap()
}

/// What differs, by its effect.
fn found(adoption: &Adoption, effect: Effect) -> Vec<String> {
    let differences = adoption.differences.iter();
    differences
        .filter(|difference| difference.effect == effect)
        .map(ToString::to_string)
        .collect()
}
