//! What can be asked for, one file a command.

mod again;
pub mod audit;
mod bar;
pub mod bench;
pub mod bus;
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
pub mod run;
pub mod search;
pub mod status;
pub mod verify;
pub mod version;
pub mod wal;

use std::process::ExitCode;

use artstore_runtime::relation;
use artstore_runtime::words::words;
use clap::{Parser, Subcommand};
use tokio::sync::watch;

use crate::config::Config;

/// ArtStore's event backbone: storage elements' write-ahead logs, through NATS JetStream, into
/// the query cache and the audit log.
#[derive(Debug, Parser)]
#[command(
    name = "artstore",
    version,
    max_term_width = 80,
    disable_help_subcommand = true
)]
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
    /// Create, take over or change the tables of a module
    #[command(subcommand)]
    Migrate(migrate::MigrateCommand),
    /// Make the streams on NATS, back them up and restore them
    #[command(subcommand)]
    Bus(bus::BusCommand),
    /// Bring an element's stream level with its files
    #[command(subcommand)]
    Element(element::ElementCommand),
    /// Resolve operations that a dead process left pending, number rows, and prune an element's log
    #[command(subcommand)]
    Wal(wal::Wal),
    /// Mend what people read from the streams
    #[command(subcommand)]
    Projection(projection::Projection),
    /// Look at events that could not be applied, apply them again, or give them up
    #[command(subcommand)]
    Parked(parked::ParkedCommand),
    /// Decide about a source that was set back, or a stream that was damaged
    #[command(subcommand)]
    Relay(relay::RelayCommand),
    /// Read the audit log, and prove that it is what was signed
    #[command(subcommand)]
    Audit(Box<audit::AuditCommand>),
    /// Run a part of the system until it is stopped
    #[command(subcommand)]
    Run(run::Run),
    /// Show how sources, streams and projections are, and what to do where something is wrong
    Status(status::StatusCommand),
    /// Find files in the query cache
    Search(Box<search::SearchCommand>),
    /// Prove that every finished row is exactly one message that says the same, and name what is not
    Verify(verify::Verify),
    /// Ask a running service how it is: what a container's health check calls
    Health(health::Health),
    /// Run everything on a private NATS and PostgreSQL, until Ctrl-C
    Dev(dev::Dev),
    /// Run everything on real files, and prove that nothing is lost, double or different
    Demo(demo::Demo),
    /// Measure speed beside the raw limit of NATS and PostgreSQL, in the same run
    Bench(bench::Bench),
    /// Show the version
    Version(version::Version),
    /// Print the script with which a shell completes commands and options
    Completion(completion::Completion),
    /// Write the manual pages into a folder
    Man(man::Man),
    /// Show a command's help, or all settings: artstore help settings
    Help(help::Help),
}

impl Command {
    /// Services say what they do, migrations how far they are; other commands only what is wrong.
    pub fn usual_log_level(&self) -> &'static str {
        match self {
            Self::Run(_) | Self::Migrate(_) => "info",
            Self::Bus(_)
            | Self::Projection(_)
            | Self::Element(_)
            | Self::Wal(_)
            | Self::Parked(_)
            | Self::Relay(_)
            | Self::Audit(_)
            | Self::Search(_)
            | Self::Status(_)
            | Self::Verify(_)
            | Self::Health(_)
            | Self::Dev(_)
            | Self::Demo(_)
            | Self::Bench(_)
            | Self::Version(_)
            | Self::Completion(_)
            | Self::Man(_)
            | Self::Help(_) => "warn",
        }
    }
}

/// Does it.
pub async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let Cli { config, command } = cli;
    config.check_element()?;
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
        Command::Version(command) => version::run(&command),
        Command::Completion(command) => completion::run(&command),
        Command::Man(command) => man::run(&command),
        Command::Help(command) => help::run(&command),
    }
}

/// Becomes true at the first SIGINT or SIGTERM. A second one ends the process at once: somebody who
/// asks twice does not want to wait.
pub(crate) fn stop_signal() -> anyhow::Result<watch::Receiver<bool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (asked, stop) = watch::channel(false);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        let mut signalled = async || {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        signalled().await;
        // Nobody listens any more: the process is ending already.
        if asked.send(true).is_ok() {
            tracing::info!("stopping");
        }
        signalled().await;
        eprintln!("artstore: a second signal: ended at once, with nothing settled");
        std::process::exit(1);
    });
    Ok(stop)
}

/// An error with its causes, each said once: many texts hold those of their causes already.
pub fn error_text(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let database = cause.downcast_ref::<sqlx::Error>();
        let said = database.map_or_else(|| cause.to_string(), words);
        if text.is_empty() {
            text = said;
        } else if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        // What is behind it are its own words again.
        if database.is_some() {
            break;
        }
    }
    let advice = error
        .chain()
        .find_map(|cause| relation::advice(cause.downcast_ref()?));
    match advice {
        Some(advice) => format!("{text}: {advice}"),
        None => text,
    }
}
