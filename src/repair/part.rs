//! What is repaired in one transaction.

use artstore_bus::connection::Bus;
use artstore_projectors::query_cache::QueryCache;
use artstore_projectors::runtime::database;
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use uuid::Uuid;

/// What is repaired in one transaction.
pub(super) struct Part<'a> {
    pub(super) bus: &'a Bus,
    pub(super) query: &'a PgConnectOptions,
    pub(super) files: &'a [Uuid],
    pub(super) events: &'a [Uuid],
}

impl Part<'_> {
    pub(super) async fn connect(&self) -> anyhow::Result<PgConnection> {
        let mut connection =
            database::connect::<QueryCache>(self.query, "artstore projection repair").await?;
        sqlx::raw_sql("set synchronous_commit = on; set lock_timeout = '2s'")
            .execute(&mut connection)
            .await?;
        Ok(connection)
    }
}
