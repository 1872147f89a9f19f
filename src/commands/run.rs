//! `artstore run relay` and `artstore run projector`: the parts of the system as services.

use std::process::ExitCode;

use anyhow::anyhow;
use artstore_producers::relay::{self, RelayOptions};
use artstore_producers::relay_error::RelayError;
use artstore_projectors::query_cache::QueryCache;
use artstore_projectors::workers;
use artstore_schemas::bus::Bus;
use artstore_schemas::source::Source;
use clap::{Args, Subcommand};
use sqlx::postgres::PgConnectOptions;
use tokio::task::JoinSet;

use super::stop_signal;
use crate::config::{Config, ConfigError, RelaySettings};

/// Which part.
#[derive(Debug, Subcommand)]
pub enum Run {
    /// Publish finished rows of all configured sources: elements, admin, query
    Relay(RelayCommand),
    /// Build the query cache from the streams
    Projector,
}

/// Which sources, and how.
#[derive(Debug, Args)]
pub struct RelayCommand {
    /// Only these sources: an element's name, admin or query
    #[arg(long)]
    source: Vec<String>,
    #[command(flatten)]
    settings: RelaySettings,
}

/// Runs the command.
pub async fn run(config: &Config, command: Run) -> anyhow::Result<ExitCode> {
    match command {
        Run::Relay(command) => run_relay(config, &command).await,
        Run::Projector => run_projector(config).await,
    }
}

async fn run_relay(config: &Config, command: &RelayCommand) -> anyhow::Result<ExitCode> {
    let relays = relays(config, command)?;
    let stop = stop_signal()?;
    let bus = Bus::connect(&config.bus("artstore relay")).await?;
    // All are checked before the first begins: a wrong one keeps the others from publishing.
    let checks = relays.iter().map(async |options| {
        let checked = relay::check(&bus, options).await;
        checked.map_err(|error| failed(&options.source, &error))
    });
    futures::future::try_join_all(checks).await?;
    let mut running = JoinSet::new();
    for options in relays {
        let (bus, stop) = (bus.clone(), stop.clone());
        let source = options.source.clone();
        running.spawn(async move { (source, relay::run(bus, options, stop).await) });
    }
    // A source that can't be started ends the command: nothing half-configured goes on quietly.
    while let Some(ended) = running.join_next().await {
        let (source, result) = ended?;
        result.map_err(|error| failed(&source, &error))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn failed(source: &Source, error: &RelayError) -> anyhow::Error {
    let variable = match source {
        Source::Element(_) => "ARTSTORE_ELEMENTS or STORAGE_DATABASE_URL",
        Source::Admin => "ADMIN_DATABASE_URL",
        Source::Query => "QUERY_DATABASE_URL",
    };
    anyhow!("source {source} ({variable}): {error}")
}

async fn run_projector(config: &Config) -> anyhow::Result<ExitCode> {
    let database = config.query_database()?.ok_or_else(|| {
        ConfigError("the projector needs QUERY_DATABASE_URL (or DATABASE_HOST and others)".into())
    })?;
    let stop = stop_signal()?;
    let bus = Bus::connect(&config.bus("artstore projector")).await?;
    workers::run(QueryCache, bus, database, stop).await?;
    Ok(ExitCode::SUCCESS)
}

fn relays(config: &Config, command: &RelayCommand) -> Result<Vec<RelayOptions>, ConfigError> {
    let mut sources: Vec<(Source, PgConnectOptions)> = config
        .elements()?
        .into_iter()
        .map(|(name, database)| (Source::Element(name), database))
        .collect();
    let admin_by_parts = command.source == ["admin"];
    if admin_by_parts || config.admin_database_url.is_some() {
        sources.extend(config.admin_database()?.map(|d| (Source::Admin, d)));
    }
    sources.extend(config.query_database()?.map(|d| (Source::Query, d)));
    for wanted in &command.source {
        if !sources
            .iter()
            .any(|(source, _)| source.to_string() == *wanted)
        {
            return Err(ConfigError(format!(
                "--source {wanted}: no database is configured for it"
            )));
        }
    }
    let wanted =
        |source: &Source| command.source.is_empty() || command.source.contains(&source.to_string());
    sources.retain(|(source, _)| wanted(source));
    if sources.is_empty() {
        return Err(ConfigError(
            "the relay has no source: set ARTSTORE_ELEMENTS, STORAGE_DATABASE_URL with --element, \
             ADMIN_DATABASE_URL or QUERY_DATABASE_URL"
                .to_owned(),
        ));
    }
    sources
        .into_iter()
        .map(|(source, database)| {
            let api_url = match &source {
                Source::Element(name) => config.api_url(name)?,
                Source::Admin | Source::Query => None,
            };
            Ok(RelayOptions {
                source,
                database,
                api_url,
                mode: command.settings.mode(),
                poll_interval: command.settings.poll_interval(),
            })
        })
        .collect()
}
