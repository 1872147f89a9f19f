//! `artstore bus init`: the streams of all configured sources, and the one of signed audit heads. The
//! modules below back up and restore whole streams.

mod backup;
mod permissions;
mod progress;
mod restore;

use artstore_runtime::count::{by, counted};
use std::process::ExitCode;

use artstore_bus::accounts::role::Role;
use artstore_bus::connection::Bus;
use artstore_bus::stream_name::{AUDIT_HEADS, StreamName};
use artstore_bus::streams::{Limits, StreamChange};
use artstore_schemas::source::Source;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::config::Config;

/// What to do with the bus.
#[derive(Debug, Subcommand)]
pub enum BusCommand {
    /// Make the streams; calling it again changes nothing, and nothing that would lose data is done
    Init(Init),
    /// Write the accounts and permissions of the NATS server for the configured sources, and a key for each role;
    /// calling it again keeps the keys
    Permissions(permissions::Permissions),
    /// Back up the streams into a folder, while they are in use
    Backup(backup::Backup),
    /// Check a backup without restoring it: its manifest, and each file's size, digest and form
    CheckBackup(backup::CheckBackup),
    /// Restore streams that were lost, and check what came back; a stream that exists is refused
    Restore(restore::Restore),
}

/// How the streams are made.
#[derive(Debug, Args)]
pub struct Init {
    /// How many servers keep each message
    #[arg(long, env = "ARTSTORE_REPLICAS", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=5))]
    replicas: u8,
    /// Take away limits at which an existing stream removes messages or refuses new ones
    #[arg(long)]
    remove_limits: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub async fn run(config: &Config, command: BusCommand) -> anyhow::Result<ExitCode> {
    match command {
        BusCommand::Init(init) => run_init(config, &init).await,
        BusCommand::Permissions(permissions) => permissions::run(config, &permissions),
        BusCommand::Backup(backup) => backup::run(config, &backup).await,
        BusCommand::CheckBackup(check) => backup::check(&check),
        BusCommand::Restore(restore) => restore::run(config, &restore).await,
    }
}

async fn run_init(config: &Config, init: &Init) -> anyhow::Result<ExitCode> {
    let streams: Vec<StreamName> = config
        .named_elements()?
        .into_iter()
        .map(Source::Element)
        .chain([Source::Admin, Source::Query])
        .map(|source| StreamName::of(&source))
        .chain([StreamName::audit_heads()])
        .collect();
    let bus = Bus::connect(&config.bus(Role::Operator, "artstore bus init")?).await?;
    let limits = match init.remove_limits {
        true => Limits::Remove,
        false => Limits::Refuse,
    };
    bus.check_streams(&streams, init.replicas.into(), limits)
        .await?;
    let mut report = Vec::new();
    for stream in &streams {
        let change = bus
            .ensure_with(stream, init.replicas.into(), limits)
            .await?;
        let (change, missing) = match change {
            StreamChange::Created => ("created", 0),
            StreamChange::Updated => ("updated", 0),
            StreamChange::LimitsRemoved { missing } => ("limits removed", missing),
            StreamChange::Unchanged => ("unchanged", 0),
        };
        if init.json {
            report.push(json!({
                "stream": stream.as_str(), "change": change, "missing": missing,
            }));
            continue;
        }
        println!("{:<48} {change}", stream.as_str());
        if missing > 0 {
            let lost = counted(missing, "message");
            let are = by(missing, "is", "are");
            let says = match stream.as_str() {
                AUDIT_HEADS => "`artstore audit verify` says more",
                _ => "`artstore verify` says which",
            };
            println!("  {lost} {are} missing in it: {says}");
        }
    }
    if init.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    Ok(ExitCode::SUCCESS)
}
