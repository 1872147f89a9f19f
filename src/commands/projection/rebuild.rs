//! `artstore projection rebuild`. Exit code 0: swapped, or equal, or the snapshot exists; 1: the tables
//! differ, or it could not be done; 2: wrong usage.

mod arguments;
mod failure;
mod run;
mod swap;

use std::process::ExitCode;

use anyhow::Context as _;
use artstore_bus::accounts::role::Role;
use artstore_bus::connection::Bus;
use artstore_projectors::element_registry::ElementRegistry;
use artstore_projectors::projector::Projector;
use artstore_projectors::query_cache::QueryCache;
use artstore_projectors::rebuild::RebuildError;
use artstore_projectors::rebuild::abandon::abandon;
use artstore_projectors::rebuild::build::Rebuild as Build;
use artstore_projectors::rebuild::snapshot;
use artstore_runtime::pulse::Pulse;
use serde_json::json;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};

pub use self::arguments::Rebuild;
use self::run::Run;
use super::as_of::AsOfArgument;
use super::database::{connect, database};
use super::progress::RebuildDisplay;
use crate::commands::audit;
use crate::config::{Config, ConfigError};
use crate::operator;
use crate::operator::record;
use crate::service::Projection as Projected;
use crate::signals::stop_signal;

/// Runs the command.
pub async fn rebuild(config: &Config, command: &Rebuild) -> anyhow::Result<ExitCode> {
    match command.projection {
        Projected::QueryCache => of(QueryCache, config, command).await,
        Projected::ElementRegistry => of(ElementRegistry, config, command).await,
        Projected::AuditLog => compare_audit_log(config, command).await,
    }
}

/// The audit log is evidence: it is derived again row by row, and must come out identical.
async fn compare_audit_log(config: &Config, command: &Rebuild) -> anyhow::Result<ExitCode> {
    if command.as_of.is_some() || command.accept_differences || command.keep || command.abandon {
        return Err(ConfigError(
            "the audit log is only derived again and compared: --as-of, --accept-differences, --keep \
             and --abandon do not go with it"
                .to_owned(),
        )
        .into());
    }
    let verify = audit::Verify::against_stream(command.audit.clone(), command.json);
    let code = audit::verify(config, &verify).await?;
    let mut connection = connect(config, command.projection).await?;
    let operator = operator::operator(&mut connection).await?;
    let outcome = match code == ExitCode::SUCCESS {
        true => "equal",
        false => "different",
    };
    let facts = json!({"outcome": outcome, "operator": operator});
    let name = command.projection.name();
    record(&mut connection, name, "rebuild", facts).await?;
    connection.close().await?;
    Ok(code)
}

async fn of<P: Projector>(
    projector: P,
    config: &Config,
    command: &Rebuild,
) -> anyhow::Result<ExitCode> {
    let database = database(config, command.projection)?;
    if command.abandon {
        return remove::<P>(&database, command.json).await;
    }
    let stop = stop_signal()?;
    let bus = Bus::connect(&config.bus(Role::Reader, "artstore projection rebuild")?)
        .await?
        .patient();
    if let Some(AsOfArgument(as_of)) = &command.as_of {
        let places = snapshot::check(&projector, &bus, as_of).await;
        places.map_err(|error| match matches!(error, RebuildError::BadPlace(_)) {
            true => anyhow::Error::from(ConfigError(error.to_string())),
            false => error.into(),
        })?;
    }
    let purpose = match &command.as_of {
        Some(AsOfArgument(as_of)) => format!("as of {as_of}"),
        None => "swap".to_owned(),
    };
    let mut build = Build::begin(projector, &bus, &database, &purpose, stop.clone()).await?;
    let operator = operator::operator(build.connection()).await?;
    let mut run = Run {
        config,
        command,
        stop,
        bus: &bus,
        operator,
        progress: RebuildDisplay::new(command.json),
        name: P::NAME,
        resumed: build.is_resumed(),
    };
    if build.is_resumed() && !command.json {
        eprintln!("continuing with what an earlier command has built");
    }
    let pulse = Pulse::of(database.clone(), "artstore projection rebuild (pulse)");
    let building = async {
        match &command.as_of {
            Some(AsOfArgument(as_of)) => run.snapshot(&mut build, as_of).await,
            None => run.build(&mut build).await,
        }
    };
    let done = pulse.while_answered(building).await;
    run.progress.finish();
    let done = match done {
        Ok(done) => done,
        Err(error) => return Err(run.failed(build, error).await),
    };
    match done.kept {
        true => build.keep().await?,
        false => build.drop().await?,
    }
    bus.client.drain().await.context("NATS")?;
    print!("{}", done.said);
    Ok(done.code)
}

/// Removes what an earlier command left, and records that with it.
async fn remove<P: Projector>(
    database: &PgConnectOptions,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    abandon::<P>(database, async |transaction: &mut PgConnection| {
        let operator = operator::operator(transaction).await?;
        let facts = json!({"outcome": "abandoned", "operator": operator});
        record(transaction, P::NAME, "rebuild", facts).await
    })
    .await?;
    match as_json {
        true => println!(
            "{:#}",
            json!({"projection": P::NAME, "outcome": "abandoned"})
        ),
        false => println!("{}: nothing of a rebuild is left", P::NAME),
    }
    Ok(ExitCode::SUCCESS)
}
