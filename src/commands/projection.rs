//! `artstore projection`: what operators do about read models.

mod list;
mod pause;
mod place;
mod progress;
mod rebuild;
mod remove;
mod repair;
mod report;
mod rollback;
mod touched;

use std::process::ExitCode;

use clap::Subcommand;
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;

use crate::config::{Config, ConfigError};
use crate::service::Projection as Projected;

/// What to do about read models.
#[derive(Debug, Subcommand)]
pub enum Projection {
    /// The projections: version, streams, what waits, what was built beside them
    List(list::List),
    /// One projection, stream by stream
    Status(list::Status),
    /// Build a projection again from the streams, beside its live tables; compare both, and swap them
    /// when they are equal. Projectors run all the while
    Rebuild(rebuild::Rebuild),
    /// Return to the tables that were live before the last swap; they go on from their own checkpoints
    Rollback(rollback::Rollback),
    /// Remove a snapshot, or the tables of before the last swap
    Remove(remove::Remove),
    /// Stop a projection: what people read stays as it is, and its streams wait
    Pause(pause::Pause),
    /// Let a projection go on
    Resume(pause::Resume),
    /// Mend a read model from the streams: unsound checkpoints, and the rows that are named. Sources
    /// and streams stay as they are; projectors may run
    Repair(repair::Repair),
}

/// Runs the command.
pub async fn run(config: &Config, command: Projection) -> anyhow::Result<ExitCode> {
    match command {
        Projection::List(command) => list::list(config, &command).await,
        Projection::Status(command) => list::status(config, &command).await,
        Projection::Rebuild(command) => rebuild::rebuild(config, &command).await,
        Projection::Rollback(command) => rollback::rollback(config, &command).await,
        Projection::Remove(command) => remove::remove(config, &command).await,
        Projection::Pause(command) => pause::pause(config, &command).await,
        Projection::Resume(command) => pause::resume(config, &command).await,
        Projection::Repair(command) => repair::repair(config, command).await,
    }
}

/// The database of a projection.
fn database(config: &Config, projection: Projected) -> Result<PgConnectOptions, ConfigError> {
    let (database, variable) = match projection {
        Projected::QueryCache => (config.query_database()?, "QUERY_DATABASE_URL"),
        Projected::AuditLog | Projected::ElementRegistry => {
            (config.admin_database()?, "ADMIN_DATABASE_URL")
        }
    };
    database.ok_or_else(|| ConfigError(format!("{} needs {variable}", projection.name())))
}

async fn connect(config: &Config, projection: Projected) -> anyhow::Result<PgConnection> {
    let database = database(config, projection)?;
    let mut connection = projection.connect(&database).await?;
    // What a person decides is on the disk.
    sqlx::raw_sql("set synchronous_commit = on; set lock_timeout = '30s'")
        .execute(&mut connection)
        .await?;
    Ok(connection)
}
