//! A projection's database, as its commands reach it.

use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;

use crate::config::{Config, ConfigError};
use crate::service::Projection as Projected;

/// The database of a projection.
pub(super) fn database(
    config: &Config,
    projection: Projected,
) -> Result<PgConnectOptions, ConfigError> {
    let (database, variable) = match projection {
        Projected::QueryCache => (config.query_database()?, "QUERY_DATABASE_URL"),
        Projected::AuditLog | Projected::ElementRegistry => {
            (config.admin_database()?, "ADMIN_DATABASE_URL")
        }
    };
    database.ok_or_else(|| ConfigError(format!("{} needs {variable}", projection.name())))
}

pub(super) async fn connect(
    config: &Config,
    projection: Projected,
) -> anyhow::Result<PgConnection> {
    let database = database(config, projection)?;
    let mut connection = projection.connect(&database).await?;
    // What a person decides is on the disk.
    sqlx::raw_sql("set synchronous_commit = on; set lock_timeout = '30s'")
        .execute(&mut connection)
        .await?;
    Ok(connection)
}
