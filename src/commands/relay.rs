//! `artstore relay accept-source` and `artstore relay republish`: an operator's decision when a
//! source and its stream no longer belong together, or a stream is damaged. Both show first;
//! only with --yes they publish. Exit codes: 0 nothing to do, or done; 1 there is something to decide,
//! or it was refused; 2 usage.

mod accept_source;
mod choice;
mod republish;

use std::process::ExitCode;

use artstore_bus::accounts::role::Role;
use artstore_bus::connection::Bus;
use clap::Subcommand;

use crate::access::Attempt;
use crate::config::Config;
use choice::Choice;

/// Which decision.
#[derive(Debug, Subcommand)]
pub enum RelayCommand {
    /// Show what a source that was set back, restored or promoted has lost; continue from it with --yes
    AcceptSource(accept_source::AcceptSource),
    /// Show how a stream is damaged; publish again what it lacks with --yes
    Republish(Choice),
}

impl RelayCommand {
    /// What it does that needs a right. Without --yes it only shows.
    pub fn attempt(&self) -> Option<Attempt> {
        let (command, choice) = match self {
            Self::AcceptSource(command) => ("relay accept-source", &command.choice),
            Self::Republish(choice) => ("relay republish", choice),
        };
        let source = choice.source.to_string();
        choice
            .yes
            .then(|| Attempt::on_source(command, Some(&source)))
    }
}

/// Runs the command.
pub async fn run(config: &Config, command: RelayCommand) -> anyhow::Result<ExitCode> {
    // A name that is mistyped is known before anything is asked.
    let (name, choice) = match &command {
        RelayCommand::AcceptSource(command) => ("relay accept-source", &command.choice),
        RelayCommand::Republish(choice) => ("relay republish", choice),
    };
    let decision = choice.decision(name)?;
    choice.options(config)?;
    match command {
        RelayCommand::AcceptSource(command) => {
            let bus = Bus::connect(&config.bus(Role::Operator, "artstore relay accept-source")?)
                .await?
                .patient();
            accept_source::run(config, &bus, &command, decision).await
        }
        RelayCommand::Republish(choice) => {
            let bus = Bus::connect(&config.bus(Role::Operator, "artstore relay republish")?)
                .await?
                .patient();
            republish::run(config, &bus, &choice, decision).await
        }
    }
}
