//! `artstore projection pause` and `resume`.

use std::process::ExitCode;

use anyhow::Context as _;
use artstore_projectors::runtime::pause::{self, Before};
use clap::Args;
use serde_json::json;
use sqlx::Connection as _;

use super::database::connect;
use crate::config::{Config, ConfigError};
use crate::operator;
use crate::operator::record;
use crate::service::Projection as Projected;

/// What is to be stopped.
#[derive(Debug, Args)]
pub struct Pause {
    /// The projection
    #[arg(value_enum)]
    pub(super) projection: Projected,
    /// Why, in words: it goes into the audit log
    #[arg(long)]
    reason: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Which projection is to be resumed.
#[derive(Debug, Args)]
pub struct Resume {
    /// The projection
    #[arg(value_enum)]
    pub(super) projection: Projected,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Pauses a projection.
pub async fn pause(config: &Config, command: &Pause) -> anyhow::Result<ExitCode> {
    if command.reason.trim().is_empty() {
        return Err(ConfigError("--reason: say why, in words".to_owned()).into());
    }
    let name = command.projection.name();
    let mut connection = connect(config, command.projection).await?;
    let operator = operator::operator(&mut connection).await?;
    let mut transaction = connection.begin().await?;
    let before = pause::pause(&mut transaction, name, &command.reason, &operator).await?;
    if before == Before::Running {
        let facts = json!({"reason": command.reason, "operator": operator});
        record(&mut transaction, name, "pause", facts).await?;
    }
    transaction.commit().await?;
    let known = pause::load(&mut connection, name).await?;
    let known = known.context("it was resumed at once")?;
    connection.close().await?;
    match command.json {
        true => println!(
            "{:#}",
            json!({"projection": name, "paused": true, "was_paused": before == Before::Paused, "reason": known.reason,
                "since": known.since})
        ),
        false => {
            if before == Before::Paused {
                println!("It was paused already, and stays so; this reason is not recorded.");
            }
            println!("{name}: {known}\nNothing is applied until: artstore projection resume {name}")
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Resumes a projection.
pub async fn resume(config: &Config, command: &Resume) -> anyhow::Result<ExitCode> {
    let name = command.projection.name();
    let mut connection = connect(config, command.projection).await?;
    let operator = operator::operator(&mut connection).await?;
    let mut transaction = connection.begin().await?;
    let was = pause::load(&mut transaction, name).await?;
    if pause::resume(&mut transaction, name).await? == Before::Paused {
        let facts = json!({"was": was.as_ref().map(|was| &was.reason), "operator": operator});
        record(&mut transaction, name, "resume", facts).await?;
    }
    transaction.commit().await?;
    connection.close().await?;
    match (command.json, was) {
        (true, was) => println!(
            "{:#}",
            json!({"projection": name, "was_paused": was.is_some()})
        ),
        (false, Some(was)) => println!("{name} goes on. It was {was}"),
        (false, None) => println!("{name} was not paused."),
    }
    Ok(ExitCode::SUCCESS)
}
