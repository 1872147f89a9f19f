//! `artstore parked`: events that a projection could not apply, and those that are parked after them.

mod choice;
mod discard;
mod list;
mod retry;
mod show;
mod undo;

use std::process::ExitCode;

use artstore_projectors::element_registry::ElementRegistry;
use artstore_projectors::query_cache::QueryCache;
use artstore_projectors::runtime::database::connect;
use clap::Subcommand;
use sqlx::Connection as _;

use crate::access::Attempt;
use crate::command_event::Home;
use crate::config::{Config, ConfigError};
use choice::Parks;

/// What to do with parked events.
#[derive(Debug, Subcommand)]
pub enum ParkedCommand {
    /// List them; exit code 1 where there are any
    List(list::List),
    /// Show one with its headers and its body
    Show(show::Show),
    /// Apply them again, those of a key in order; exit code 1 where one still can't be applied
    Retry(retry::Retry),
    /// Give one up: it is as if it had never been published to this projection, also for tables that
    /// are built later
    Discard(discard::Discard),
    /// Take a discard back: the event is parked again, and all later ones of its key behind it
    Undiscard(undo::Undiscard),
}

impl ParkedCommand {
    /// What it does that needs a right.
    pub fn attempt(&self) -> Option<Attempt> {
        let (command, projection) = match self {
            Self::List(_) | Self::Show(_) => return None,
            Self::Retry(command) => ("parked retry", command.filter.of.projection),
            Self::Discard(command) => ("parked discard", command.of.projection),
            Self::Undiscard(command) => ("parked undiscard", command.of.projection),
        };
        let home = match projection {
            Parks::QueryCache => Home::Query,
            Parks::ElementRegistry => Home::Admin,
        };
        Some(Attempt::on_projection(command, projection.name(), home))
    }
}

/// Runs the command.
pub async fn run(config: &Config, command: ParkedCommand) -> anyhow::Result<ExitCode> {
    let of = match &command {
        ParkedCommand::List(command) => command.filter.of,
        ParkedCommand::Show(command) => command.of,
        ParkedCommand::Retry(command) => command.filter.of,
        ParkedCommand::Discard(command) => command.of,
        ParkedCommand::Undiscard(command) => command.of,
    };
    let (database, needs) = match of.projection {
        Parks::QueryCache => (
            config.query_database()?,
            "QUERY_DATABASE_URL (or DATABASE_HOST and others)",
        ),
        Parks::ElementRegistry => (
            config.admin_database()?,
            "ADMIN_DATABASE_URL (or DB_HOST and others)",
        ),
    };
    let database = database.ok_or_else(|| ConfigError(format!("parked needs {needs}")))?;
    let name = "artstore parked";
    let mut connection = match of.projection {
        Parks::QueryCache => connect::<QueryCache>(&database, name).await?,
        Parks::ElementRegistry => connect::<ElementRegistry>(&database, name).await?,
    };
    // What a person decides is on the disk.
    sqlx::raw_sql("set synchronous_commit = on")
        .execute(&mut connection)
        .await?;
    let code = match command {
        ParkedCommand::List(command) => list::list(&mut connection, &command).await?,
        ParkedCommand::Show(command) => show::show(&mut connection, &command).await?,
        ParkedCommand::Retry(command) => retry::again(config, &mut connection, &command).await?,
        ParkedCommand::Discard(command) => discard::discard(&mut connection, &command).await?,
        ParkedCommand::Undiscard(command) => undo::undo(config, &mut connection, &command).await?,
    };
    connection.close().await?;
    Ok(code)
}
