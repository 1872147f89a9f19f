//! The database as it was at one moment, for several connections: what is read by one fits what is
//! read by another, whatever is written meanwhile.

use std::time::Duration;

use artstore_runtime::connection;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection};

/// Connections that all see the same moment.
pub struct Moment {
    /// They are lent out and come back.
    pub connections: Vec<PgConnection>,
}

impl Moment {
    /// Now, for so many connections.
    pub async fn of(database: &PgConnectOptions, connections: usize) -> anyhow::Result<Self> {
        let mut first = connect(database).await?;
        sqlx::raw_sql("begin isolation level repeatable read, read only")
            .execute(&mut first)
            .await?;
        let snapshot: String = sqlx::query_scalar("select pg_export_snapshot()")
            .fetch_one(&mut first)
            .await?;
        let mut all = vec![first];
        for _ in 1..connections {
            let mut other = connect(database).await?;
            // The name is PostgreSQL's own: hex digits and dashes.
            let sql = format!(
                "begin isolation level repeatable read, read only; \
                 set transaction snapshot '{snapshot}'"
            );
            sqlx::raw_sql(AssertSqlSafe(sql))
                .execute(&mut other)
                .await?;
            all.push(other);
        }
        Ok(Self { connections: all })
    }

    /// Ends it.
    pub async fn close(self) {
        for connection in self.connections {
            // It only read: nothing is lost.
            drop(connection.close().await);
        }
    }
}

/// Connects as a reader.
pub async fn connect(database: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let options = database
        .clone()
        .application_name("artstore audit")
        .log_statements(tracing::log::LevelFilter::Trace)
        .log_slow_statements(tracing::log::LevelFilter::Off, Duration::ZERO);
    connection::open(&options).await
}
