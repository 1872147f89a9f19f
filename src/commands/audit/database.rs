//! The audit log's database, as its commands reach it.

use anyhow::Context as _;
use artstore_runtime::connection;
use artstore_verification::audit::log::connect;
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;

use crate::config::{Config, ConfigError};
use crate::status::database::not_connected;

pub(super) fn database(config: &Config) -> Result<PgConnectOptions, ConfigError> {
    config.admin_database()?.ok_or_else(|| {
        ConfigError("the audit log needs ADMIN_DATABASE_URL (or DB_HOST and others)".to_owned())
    })
}

pub(super) async fn connected(config: &Config) -> anyhow::Result<PgConnection> {
    let mut connection = reached(&database(config)?).await?;
    sqlx::raw_sql("set default_transaction_read_only = on")
        .execute(&mut connection)
        .await?;
    Ok(connection)
}

/// A connection to a database that has an audit log.
pub(super) async fn reached(database: &PgConnectOptions) -> anyhow::Result<PgConnection> {
    let check = "ADMIN_DATABASE_URL (or DB_HOST and others) and the server";
    let connected = connect(database).await;
    let connected = connected.map_err(|error| not_connected(database, check, error));
    let mut connection = connected.context("the audit log")?;
    let there: bool = sqlx::query_scalar("select to_regclass('public.audit_trees') is not null")
        .fetch_one(&mut connection)
        .await?;
    if !there {
        return Err(ConfigError(format!(
            "database {} has no audit_trees: where it is the admin module's, run `artstore migrate \
             up --module admin`; else correct ADMIN_DATABASE_URL",
            connection::shown(database)
        ))
        .into());
    }
    Ok(connection)
}
