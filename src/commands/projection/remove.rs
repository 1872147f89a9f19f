//! `artstore projection remove`: a snapshot that nobody reads any more, or the tables from before the last
//! swap.

use std::process::ExitCode;

use artstore_projectors::element_registry::ElementRegistry;
use artstore_projectors::projector::Projector;
use artstore_projectors::query_cache::QueryCache;
use artstore_projectors::rebuild::remove::{kept, remove as take};
use clap::Args;
use serde_json::json;
use sqlx::Connection as _;

use super::database::{connect, database};
use crate::config::{Config, ConfigError};
use crate::operator::record;
use crate::service::Projection as Projected;
use crate::{names, operator};

/// What is to go.
#[derive(Debug, Args)]
pub struct Remove {
    /// The projection
    #[arg(value_enum)]
    pub(super) projection: Projected,
    /// Its schema, as `artstore projection status` names it
    schema: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub async fn remove(config: &Config, command: &Remove) -> anyhow::Result<ExitCode> {
    match command.projection {
        Projected::QueryCache => of::<QueryCache>(config, command).await,
        Projected::ElementRegistry => of::<ElementRegistry>(config, command).await,
        Projected::AuditLog => Err(ConfigError(
            "the audit log is never replaced: there are no other tables of it".to_owned(),
        )
        .into()),
    }
}

async fn of<P: Projector>(config: &Config, command: &Remove) -> anyhow::Result<ExitCode> {
    let schema = &command.schema;
    let mut connection = connect(config, command.projection).await?;
    let there = kept(&mut connection, P::NAME).await?;
    if !there.contains(schema) {
        let there = names::listed(there).map_or_else(
            || "there is none".to_owned(),
            |there| format!("there are: {there}"),
        );
        return Err(ConfigError(format!(
            "{schema} is neither a snapshot of {name} nor its tables of before the last swap; {there}",
            name = P::NAME
        ))
        .into());
    }
    let operator = operator::operator(&mut connection).await?;
    connection.close().await?;
    let database = database(config, command.projection)?;
    let facts = json!({"schema": schema, "operator": operator});
    take::<P>(&database, schema, async |transaction| {
        record(transaction, P::NAME, "remove", facts).await
    })
    .await?;
    match command.json {
        true => println!("{:#}", json!({"projection": P::NAME, "removed": schema})),
        false => println!("schema {schema} is removed"),
    }
    Ok(ExitCode::SUCCESS)
}
