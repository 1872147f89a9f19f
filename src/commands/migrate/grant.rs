//! `artstore migrate grant`: the least rights for a role of a relay, a projector or a publisher.

use std::process::ExitCode;

use artstore_migrations::Purpose;
use clap::{Args, ValueEnum};
use serde_json::json;

use super::target::{ModuleName, connect, targets};
use crate::config::Config;

/// To whom and for what.
#[derive(Debug, Args)]
pub struct Grant {
    /// The role; it has to exist
    #[arg(long, value_name = "NAME")]
    role: String,
    /// What it is for
    #[arg(long = "for", value_enum)]
    purpose: PurposeName,
    /// Only this module; without it, every module whose database is configured
    #[arg(long, value_enum)]
    module: Option<ModuleName>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PurposeName {
    /// Reads finished rows and publishes them
    Relay,
    /// Writes the query cache
    Projector,
    /// Writes an element's tables, or an outbox
    Publisher,
    /// Removes finished operations that the stream holds (wal prune)
    Pruner,
    /// Reads the audit log and what proves it
    Auditor,
    /// Reads what status, search and verify show, and records searches
    Console,
}

/// Grants.
pub(super) async fn run(config: &Config, command: Grant) -> anyhow::Result<ExitCode> {
    let purpose = match command.purpose {
        PurposeName::Relay => Purpose::Relay,
        PurposeName::Projector => Purpose::Projector,
        PurposeName::Publisher => Purpose::Publisher,
        PurposeName::Pruner => Purpose::Pruner,
        PurposeName::Auditor => Purpose::Auditor,
        PurposeName::Console => Purpose::Console,
    };
    let mut report = Vec::new();
    for (module, database) in targets(config, command.module)? {
        let mut connection = connect(&module, &database).await?;
        let granted =
            artstore_migrations::grant(&mut connection, &module, &command.role, purpose).await?;
        if command.json {
            report.push(json!({
                "module": module.to_string(),
                "role": command.role,
                "statements": granted.statements,
            }));
            continue;
        }
        if granted.statements.is_empty() {
            println!("{module}: nothing to grant");
            continue;
        }
        println!("{module}:");
        for statement in granted.statements {
            println!("  {statement}");
        }
    }
    if command.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    Ok(ExitCode::SUCCESS)
}
