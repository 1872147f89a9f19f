//! `artstore projection`: what operators do about read models.

mod as_of;
mod database;
mod list;
mod pause;
mod progress;
mod rebuild;
mod remove;
mod repair;
mod report;
mod rollback;
mod touched;

use std::process::ExitCode;

use clap::Subcommand;

use crate::access::Attempt;
use crate::command_event::Home;
use crate::config::Config;
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
    /// Return to the tables that were live before the last swap; they continue from their own checkpoints
    Rollback(rollback::Rollback),
    /// Remove a snapshot, or the tables of before the last swap
    Remove(remove::Remove),
    /// Stop a projection: what people read stays as it is, and its streams wait
    Pause(pause::Pause),
    /// Resume a paused projection
    Resume(pause::Resume),
    /// Repair a read model from the streams: unsound checkpoints, and the rows that are named. Sources
    /// and streams stay as they are; projectors may run
    Repair(repair::Repair),
}

impl Projection {
    /// What it does that needs a right.
    pub fn attempt(&self) -> Option<Attempt> {
        let (command, projection) = match self {
            Self::List(_) | Self::Status(_) => return None,
            Self::Rebuild(command) => ("projection rebuild", command.projection),
            Self::Rollback(command) => ("projection rollback", command.projection),
            Self::Remove(command) => ("projection remove", command.projection),
            Self::Pause(command) => ("projection pause", command.projection),
            Self::Resume(command) => ("projection resume", command.projection),
            Self::Repair(command) => ("projection repair", command.projection()),
        };
        let home = match projection {
            Projected::QueryCache => Home::Query,
            Projected::AuditLog | Projected::ElementRegistry => Home::Admin,
        };
        Some(Attempt::on_projection(command, projection.name(), home))
    }
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
