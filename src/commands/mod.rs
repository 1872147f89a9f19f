//! What can be asked for, one file a command.

pub mod bench;
pub mod bus;
pub mod demo;
pub mod dev;
pub mod migrate;
pub mod run;
pub mod search;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::sync::watch;

use crate::config::Config;

/// ArtStore's event backbone: storage elements' write-ahead logs, through NATS JetStream, into
/// the query cache.
#[derive(Debug, Parser)]
#[command(name = "artstore", version, max_term_width = 100)]
pub struct Cli {
    /// All settings.
    #[command(flatten)]
    pub config: Config,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create or change the tables of a module, step by step, up and down
    #[command(subcommand)]
    Migrate(migrate::Migrate),
    /// Make the streams on NATS
    #[command(subcommand)]
    Bus(bus::BusCommand),
    /// Run a part of the system until it is stopped
    #[command(subcommand)]
    Run(run::Run),
    /// Find files in the query cache
    Search(Box<search::SearchCommand>),
    /// Run everything on a private NATS and PostgreSQL, until Ctrl-C
    Dev(dev::Dev),
    /// Run everything on real files, and prove that nothing is lost, double or different
    Demo(demo::Demo),
    /// Measure speed beside the raw limit of NATS and PostgreSQL, in the same run
    Bench(bench::Bench),
}

impl Command {
    /// Services say what they do; other commands only what is wrong.
    pub fn usual_log_level(&self) -> &'static str {
        match self {
            Self::Run(_) => "info",
            Self::Migrate(_)
            | Self::Bus(_)
            | Self::Search(_)
            | Self::Dev(_)
            | Self::Demo(_)
            | Self::Bench(_) => "warn",
        }
    }
}

/// Does it.
pub async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let Cli { config, command } = cli;
    match command {
        Command::Migrate(command) => migrate::run(&config, command).await,
        Command::Bus(command) => bus::run(&config, command).await,
        Command::Run(command) => run::run(&config, command).await,
        Command::Search(command) => search::run(&config, *command).await,
        Command::Dev(command) => dev::run(command).await,
        Command::Demo(command) => demo::run(command).await,
        Command::Bench(command) => bench::run(command).await,
    }
}

/// Becomes true at the first SIGINT or SIGTERM.
pub(crate) fn stop_signal() -> anyhow::Result<watch::Receiver<bool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (asked, stop) = watch::channel(false);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        // Nobody listens any more: the process is ending already.
        if asked.send(true).is_ok() {
            tracing::info!("stopping");
        }
        asked.closed().await;
    });
    Ok(stop)
}
