//! `artstore projection repair`: mends a read model from the streams.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use artstore_producers::outbox::{self, OutboxInsert};
use artstore_projectors::pause;
use artstore_schemas::bus::Bus;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::config::{Config, ConfigError};
use crate::operator;
use crate::repair::{self, Damage, Mended};
use crate::service::Projection as Projected;

/// What to do about read models.
#[derive(Debug, Subcommand)]
pub enum Projection {
    /// Mend a read model from the streams: unsound checkpoints, and the rows that are named. Sources
    /// and streams stay as they are; projectors may run
    Repair(Repair),
    /// Stop a projection: what people read stays as it is, and its streams wait
    Pause(Pause),
    /// Let a projection go on
    Resume(Resume),
}

/// What is to be stopped.
#[derive(Debug, Args)]
pub struct Pause {
    /// The projection
    #[arg(value_enum)]
    projection: Projected,
    /// Why, in words: it goes into the audit log
    #[arg(long)]
    reason: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is to go on.
#[derive(Debug, Args)]
pub struct Resume {
    /// The projection
    #[arg(value_enum)]
    projection: Projected,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is to be mended.
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

/// The projections that can be mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// What people search
    QueryCache,
}

/// Runs the command: exit code 0 when all is mended.
pub async fn run(config: &Config, command: Projection) -> anyhow::Result<ExitCode> {
    let command = match command {
        Projection::Repair(command) => command,
        Projection::Pause(command) => return pause(config, &command).await,
        Projection::Resume(command) => return resume(config, &command).await,
    };
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
    let bus = Bus::connect(&config.bus("artstore projection repair"))
        .await?
        .patient();
    let mended = repair::repair(&bus, &database, &damage).await?;
    bus.client.drain().await.context("NATS")?;
    match command.json {
        true => println!("{}", serde_json::to_string_pretty(&mended)?),
        false => show(&mended),
    }
    Ok(ExitCode::SUCCESS)
}

/// The database of a projection.
fn database(config: &Config, projection: Projected) -> Result<PgConnectOptions, ConfigError> {
    let (database, variable) = match projection {
        Projected::QueryCache => (config.query_database()?, "QUERY_DATABASE_URL"),
        Projected::AuditLog | Projected::ElementRegistry => {
            (config.admin_database()?, "ADMIN_DATABASE_URL")
        }
    };
    database.ok_or_else(|| ConfigError(format!("{} needs {variable}", projection.name())))
}

async fn connect(config: &Config, projection: Projected) -> anyhow::Result<PgConnection> {
    let database = database(config, projection)?;
    let mut connection = projection.connect(&database).await?;
    // What a person decides is on the disk.
    sqlx::raw_sql("set synchronous_commit = on; set lock_timeout = '30s'")
        .execute(&mut connection)
        .await?;
    Ok(connection)
}

async fn pause(config: &Config, command: &Pause) -> anyhow::Result<ExitCode> {
    if command.reason.trim().is_empty() {
        return Err(ConfigError("--reason: say why, in words".to_owned()).into());
    }
    let name = command.projection.name();
    let mut connection = connect(config, command.projection).await?;
    let operator = operator::operator(&mut connection).await?;
    let mut transaction = connection.begin().await?;
    let new = pause::pause(&mut transaction, name, &command.reason, &operator).await?;
    if new {
        let facts = json!({"reason": command.reason, "operator": operator});
        record(&mut transaction, name, "pause", facts).await?;
    }
    transaction.commit().await?;
    let known = pause::load(&mut connection, name).await?;
    let known = known.context("it was resumed at once")?;
    connection.close().await?;
    match command.json {
        true => println!(
            "{:#}",
            json!({"projection": name, "paused": true, "reason": known.reason, "since": known.since})
        ),
        false => {
            println!("{name}: {known}\nNothing is applied until: artstore projection resume {name}")
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn resume(config: &Config, command: &Resume) -> anyhow::Result<ExitCode> {
    let name = command.projection.name();
    let mut connection = connect(config, command.projection).await?;
    let operator = operator::operator(&mut connection).await?;
    let mut transaction = connection.begin().await?;
    let was = pause::load(&mut transaction, name).await?;
    if pause::resume(&mut transaction, name).await? {
        let facts = json!({"was": was.as_ref().map(|was| &was.reason), "operator": operator});
        record(&mut transaction, name, "resume", facts).await?;
    }
    transaction.commit().await?;
    connection.close().await?;
    match (command.json, was) {
        (true, was) => println!(
            "{:#}",
            json!({"projection": name, "was_paused": was.is_some()})
        ),
        (false, Some(was)) => println!("{name} goes on. It was {was}"),
        (false, None) => println!("{name} was not paused."),
    }
    Ok(ExitCode::SUCCESS)
}

/// The event of a command, committed with what it did.
pub(super) async fn record(
    transaction: &mut PgConnection,
    projection: &str,
    action: &str,
    facts: Value,
) -> Result<(), sqlx::Error> {
    let event = OutboxInsert {
        entity: "projection".to_owned(),
        action: action.to_owned(),
        ordering_key: None,
        subject: Some(projection.to_owned()),
        data: facts,
        request_id: None,
        traceparent: None,
    };
    let actor = operator::actor(&format!("projection {action}"));
    let inserted = outbox::insert(transaction, &actor, &event).await;
    inserted.map_err(|error| sqlx::Error::Protocol(error.to_string()))?;
    Ok(())
}

fn show(mended: &Mended) {
    for checkpoint in &mended.checkpoints {
        println!(
            "checkpoint of {}: {} -> {} ({})",
            checkpoint.stream, checkpoint.from, checkpoint.to, checkpoint.problem
        );
    }
    for (what, rows) in [("file", &mended.files), ("event", &mended.events)] {
        for row in rows {
            let now = match row.present {
                true => "as the streams tell",
                false => "no row: the streams do not tell of it",
            };
            println!("{what:<6} {}  {now}", row.id);
        }
    }
    if mended.odd_rows > 0 {
        println!(
            "{} rows removed whose id is none of a file",
            mended.odd_rows
        );
    }
    let nothing = mended.checkpoints.is_empty()
        && mended.files.is_empty()
        && mended.events.is_empty()
        && mended.odd_rows == 0;
    if nothing {
        println!("the checkpoints are sound, and no row was named: nothing was changed");
    }
}
