//! The commands and their options, as they are parsed.

use clap::{Parser, Subcommand};

use super::{
    audit, bench, bus, completion, demo, dev, element, health, help, man, migrate, parked,
    projection, relay, run, search, status, token, verify, version, wal,
};
use crate::access::Attempt;
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
    /// Backfill an element's stream from its files
    #[command(subcommand)]
    Element(element::ElementCommand),
    /// Resolve operations that a dead process left pending, number rows, and prune an element's log
    #[command(subcommand)]
    Wal(wal::Wal),
    /// Repair, rebuild, pause or list what people read from the streams
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
    /// Show what a token is worth here
    #[command(subcommand)]
    Token(token::TokenCommand),
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
    /// What it does that needs a right; none for a command that only reads, runs as a service, or works
    /// on the installation with the rights of its owner.
    pub fn attempt(&self) -> Option<Attempt> {
        match self {
            Self::Projection(command) => command.attempt(),
            Self::Parked(command) => command.attempt(),
            Self::Wal(command) => command.attempt(),
            Self::Relay(command) => command.attempt(),
            Self::Element(command) => command.attempt(),
            Self::Audit(command) => command.attempt(),
            Self::Migrate(_)
            | Self::Bus(_)
            | Self::Run(_)
            | Self::Status(_)
            | Self::Search(_)
            | Self::Verify(_)
            | Self::Token(_)
            | Self::Health(_)
            | Self::Dev(_)
            | Self::Demo(_)
            | Self::Bench(_)
            | Self::Version(_)
            | Self::Completion(_)
            | Self::Man(_)
            | Self::Help(_) => None,
        }
    }

    /// Whether it records an event although it needs no right: its actor is the token's, where there is one.
    pub(crate) fn records_its_actor(&self) -> bool {
        matches!(self, Self::Search(_))
    }

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
            | Self::Token(_)
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
