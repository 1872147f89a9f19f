//! `artstore projection repair`: repairs a read model from the streams.

use artstore_runtime::count::counted;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use artstore_bus::accounts::role::Role;
use artstore_bus::connection::Bus;
use clap::{Args, ValueEnum};
use uuid::Uuid;

use crate::config::{Config, ConfigError};
use crate::repair::{self, Damage, Repaired};
use crate::service::Projection as Projected;

/// What is to be repaired.
#[derive(Debug, Args)]
pub struct Repair {
    /// The projection
    #[arg(value_enum)]
    projection: Name,
    /// A file whose row is to be derived again; may be given often
    #[arg(long = "file", value_name = "ID")]
    files: Vec<Uuid>,
    /// An event whose row of a search or download is to be derived again; may be given often
    #[arg(long = "event", value_name = "ID")]
    events: Vec<Uuid>,
    /// All that a report of `artstore verify --json` names for this command
    #[arg(long, value_name = "REPORT.json")]
    from: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The projections that can be repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// What people search
    QueryCache,
}

impl Repair {
    /// Which projection.
    pub(super) fn projection(&self) -> Projected {
        match self.projection {
            Name::QueryCache => Projected::QueryCache,
        }
    }
}

/// Repairs it: exit code 0 when all is repaired.
pub async fn repair(config: &Config, command: Repair) -> anyhow::Result<ExitCode> {
    let database = config.query_database()?.ok_or_else(|| {
        ConfigError(
            "projection repair needs QUERY_DATABASE_URL (or DATABASE_HOST and others)".to_owned(),
        )
    })?;
    let mut damage = Damage {
        files: command.files,
        events: command.events,
    };
    if let Some(path) = &command.from {
        let read = std::fs::read_to_string(path).map_err(anyhow::Error::from);
        let reported = read.and_then(|text| repair::from_report(&text));
        let reported = reported
            .map_err(|error| ConfigError(format!("--from {}: {error:#}", path.display())))?;
        damage.files.extend(reported.files);
        damage.events.extend(reported.events);
    }
    for ids in [&mut damage.files, &mut damage.events] {
        ids.sort_unstable();
        ids.dedup();
    }
    let Name::QueryCache = command.projection;
    let bus = Bus::connect(&config.bus(Role::Reader, "artstore projection repair")?)
        .await?
        .patient();
    let repaired = repair::repair(&bus, &database, &damage).await?;
    bus.client.drain().await.context("NATS")?;
    match command.json {
        true => println!("{}", serde_json::to_string_pretty(&repaired)?),
        false => show(&repaired),
    }
    Ok(ExitCode::SUCCESS)
}

fn show(repaired: &Repaired) {
    for checkpoint in &repaired.checkpoints {
        println!(
            "checkpoint of {}: {} -> {} ({})",
            checkpoint.stream, checkpoint.from, checkpoint.to, checkpoint.problem
        );
    }
    for (what, rows) in [("file", &repaired.files), ("event", &repaired.events)] {
        for row in rows {
            let now = match row.present {
                true => "as in the streams",
                false => "no row: no stream contains it",
            };
            println!("{what:<6} {}  {now}", row.id);
        }
    }
    if repaired.odd_rows > 0 {
        println!(
            "{} removed whose id is none of a file",
            counted(repaired.odd_rows, "row")
        );
    }
    let nothing = repaired.checkpoints.is_empty()
        && repaired.files.is_empty()
        && repaired.events.is_empty()
        && repaired.odd_rows == 0;
    if nothing {
        println!("the checkpoints are sound, and no row was named: nothing was changed");
    }
}
