//! `artstore projection rollback`.

use std::process::ExitCode;

use anyhow::Context as _;
use artstore_bus::accounts::role::Role;
use artstore_bus::connection::Bus;
use artstore_projectors::element_registry::ElementRegistry;
use artstore_projectors::projector::Projector;
use artstore_projectors::query_cache::QueryCache;
use artstore_projectors::rebuild::Step;
use artstore_projectors::rebuild::rollback;
use artstore_projectors::rebuild::swap::{Record, Swapped};
use clap::Args;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use super::database::{connect, database};
use super::progress::RebuildDisplay;
use super::report::streams;
use crate::config::{Config, ConfigError};
use crate::operator;
use crate::operator::record;
use crate::service::Projection as Projected;
use crate::signals::stop_signal;

/// What is to go back.
#[derive(Debug, Args)]
pub struct Rollback {
    /// The projection
    #[arg(value_enum)]
    pub(super) projection: Projected,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

struct Event {
    projection: &'static str,
    operator: Value,
}

impl Record for Event {
    async fn record(
        &mut self,
        transaction: &mut PgConnection,
        swapped: &Swapped,
    ) -> Result<(), sqlx::Error> {
        let facts = json!({"operator": self.operator, "streams": streams(swapped)});
        record(transaction, self.projection, "rollback", facts).await
    }
}

/// Runs the command.
pub async fn rollback(config: &Config, command: &Rollback) -> anyhow::Result<ExitCode> {
    match command.projection {
        Projected::QueryCache => of(QueryCache, config, command).await,
        Projected::ElementRegistry => of(ElementRegistry, config, command).await,
        Projected::AuditLog => Err(ConfigError(
            "the audit log is never replaced, so there is nothing to go back to".to_owned(),
        )
        .into()),
    }
}

async fn of<P: Projector>(
    projector: P,
    config: &Config,
    command: &Rollback,
) -> anyhow::Result<ExitCode> {
    let database = database(config, command.projection)?;
    let stop = stop_signal()?;
    let bus = Bus::connect(&config.bus(Role::Reader, "artstore projection rollback")?)
        .await?
        .patient();
    let mut connection = connect(config, command.projection).await?;
    let mut event = Event {
        projection: P::NAME,
        operator: operator::operator(&mut connection).await?,
    };
    connection.close().await?;
    let mut progress = RebuildDisplay::new(command.json);
    let done = rollback::rollback(
        &projector,
        &bus,
        &database,
        stop,
        &mut |step: Step| progress.show(&step),
        &mut event,
    )
    .await;
    progress.finish();
    let done = done?;
    bus.client.drain().await.context("NATS")?;
    if command.json {
        println!(
            "{:#}",
            json!({"projection": P::NAME, "previous": done.previous, "streams": streams(&done)})
        );
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{}: the tables of before the last swap are live again, and go on from here:",
        P::NAME
    );
    for (stream, sequence) in &done.streams {
        println!("  {stream} message {sequence}");
    }
    println!(
        "The others are in schema {}: the same command brings them back.",
        done.previous
    );
    Ok(ExitCode::SUCCESS)
}
