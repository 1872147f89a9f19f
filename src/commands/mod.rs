//! The commands, one file each.

pub mod audit;
mod bar;
pub mod bench;
pub mod bus;
pub mod cli;
pub mod completion;
pub mod definition;
pub mod demo;
pub mod dev;
pub mod element;
pub mod health;
pub mod help;
pub mod man;
pub mod migrate;
pub mod parked;
pub mod projection;
pub mod relay;
mod retry;
pub mod run;
pub mod search;
pub mod status;
pub mod token;
pub mod verify;
pub mod version;
pub mod wal;

use std::process::ExitCode;

use cli::{Cli, Command};
use definition::definition;

use crate::access;

/// Does it.
pub async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let Cli { config, command } = cli;
    config.check_element()?;
    let attempt = command.attempt();
    if attempt.is_some() || command.records_its_actor() {
        access::pass(&config, attempt).await?;
    }
    match command {
        Command::Migrate(command) => migrate::run(&config, command).await,
        Command::Bus(command) => bus::run(&config, command).await,
        Command::Element(command) => element::run(&config, command).await,
        Command::Wal(command) => wal::run(&config, command).await,
        Command::Projection(command) => projection::run(&config, command).await,
        Command::Parked(command) => parked::run(&config, command).await,
        Command::Relay(command) => relay::run(&config, command).await,
        Command::Audit(command) => audit::run(&config, *command).await,
        Command::Run(command) => run::run(&config, command).await,
        Command::Search(command) => search::run(&config, *command).await,
        Command::Status(command) => status::run(&config, &command).await,
        Command::Verify(command) => verify::run(&config, command).await,
        Command::Health(command) => health::run(&command).await,
        Command::Dev(command) => dev::run(command).await,
        Command::Demo(command) => demo::run(command).await,
        Command::Bench(command) => bench::run(command).await,
        Command::Token(command) => token::run(&config, &command),
        Command::Version(command) => version::run(&command),
        Command::Completion(command) => completion::run(&command, definition()),
        Command::Man(command) => man::run(&command, definition()),
        Command::Help(command) => help::run(&command, definition()),
    }
}
