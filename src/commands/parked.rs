//! `artstore parked`: events that a projection could not apply, and what waits behind them.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use artstore_projectors::database::connect;
use artstore_projectors::element_registry::ElementRegistry;
use artstore_projectors::parking::discarded;
use artstore_projectors::parking::retry::{Retried, retry};
use artstore_projectors::parking::store::{self, Group, Parked, Which};
use artstore_projectors::projector::Projector;
use artstore_projectors::query_cache::QueryCache;
use artstore_schemas::breaks;
use artstore_schemas::bus::Bus;
use artstore_schemas::damage::Damage;
use artstore_schemas::source::Source;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use super::projection::record;
use crate::config::{Config, ConfigError};
use crate::operator;

/// So many are listed.
const MOST: i64 = 100_000;

/// So many lines are shown to people.
const SHOWN: usize = 50;

/// What to do with parked events.
#[derive(Debug, Subcommand)]
pub enum ParkedCommand {
    /// List them; exit code 1 where there are any
    List(List),
    /// Show one with its headers and its body
    Show(Show),
    /// Apply them again, those of a key in order; exit code 1 where one still can't be applied
    Retry(Retry),
    /// Give one up for good: it is as if it had never been published to this projection, also for
    /// tables that are built later
    Discard(Discard),
}

/// A projection that parks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Parks {
    /// What people search
    QueryCache,
    /// What administrators see of storage elements
    ElementRegistry,
}

impl Parks {
    fn name(self) -> &'static str {
        match self {
            Self::QueryCache => QueryCache::NAME,
            Self::ElementRegistry => ElementRegistry::NAME,
        }
    }
}

/// Of which projection.
#[derive(Debug, Clone, Copy, Args)]
pub struct Of {
    /// The projection
    #[arg(long, value_enum, default_value = "query-cache")]
    projection: Parks,
}

/// Which ones.
#[derive(Debug, Clone, Args)]
pub struct Filter {
    #[command(flatten)]
    of: Of,
    /// Only of this stream: ARTSTORE_WAL_storage_elem_01, ARTSTORE_QUERY
    #[arg(long)]
    stream: Option<String>,
    /// Only of this key: a file's id
    #[arg(long)]
    key: Option<Uuid>,
}

impl Filter {
    fn which(&self) -> Which<'_> {
        Which {
            projection: Some(self.of.projection.name()),
            stream: self.stream.as_deref(),
            key: self.key,
            sequence: None,
        }
    }

    /// Whether the projection reads the stream: of one that is mistyped nothing would be found, in silence.
    async fn check(&self, connection: &mut PgConnection) -> anyhow::Result<()> {
        let Some(stream) = &self.stream else {
            return Ok(());
        };
        let projection = self.of.projection.name();
        let read: Vec<String> = sqlx::query_scalar(
            "select stream from projection_checkpoints where projection = $1 order by 1",
        )
        .bind(projection)
        .fetch_all(connection)
        .await?;
        if read.contains(stream) {
            return Ok(());
        }
        let read = match read.join(", ") {
            none if none.is_empty() => "it has read none".to_owned(),
            streams => format!("it has read {streams}"),
        };
        Err(ConfigError(format!(
            "--stream: {projection} has read nothing of a stream {stream}; {read}"
        ))
        .into())
    }
}

/// All that are parked.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    filter: Filter,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One event.
#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    of: Of,
    /// Its stream
    stream: String,
    /// Its sequence there
    sequence: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is tried again: without a filter, everything.
#[derive(Debug, Args)]
pub struct Retry {
    #[command(flatten)]
    filter: Filter,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is given up.
#[derive(Debug, Args)]
pub struct Discard {
    #[command(flatten)]
    of: Of,
    /// Its stream
    stream: String,
    /// Its sequence there
    sequence: u64,
    /// Why, in words: it goes into the audit log
    #[arg(long)]
    reason: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub async fn run(config: &Config, command: ParkedCommand) -> anyhow::Result<ExitCode> {
    let of = match &command {
        ParkedCommand::List(command) => command.filter.of,
        ParkedCommand::Show(command) => command.of,
        ParkedCommand::Retry(command) => command.filter.of,
        ParkedCommand::Discard(command) => command.of,
    };
    let (database, needs) = match of.projection {
        Parks::QueryCache => (
            config.query_database()?,
            "QUERY_DATABASE_URL (or DATABASE_HOST and others)",
        ),
        Parks::ElementRegistry => (
            config.admin_database()?,
            "ADMIN_DATABASE_URL (or DB_HOST and others)",
        ),
    };
    let database = database.ok_or_else(|| ConfigError(format!("parked needs {needs}")))?;
    let name = "artstore parked";
    let mut connection = match of.projection {
        Parks::QueryCache => connect::<QueryCache>(&database, name).await?,
        Parks::ElementRegistry => connect::<ElementRegistry>(&database, name).await?,
    };
    // What a person decides is on the disk.
    sqlx::raw_sql("set synchronous_commit = on")
        .execute(&mut connection)
        .await?;
    let code = match command {
        ParkedCommand::List(command) => list(&mut connection, &command).await?,
        ParkedCommand::Show(command) => show(&mut connection, &command).await?,
        ParkedCommand::Retry(command) => again(config, &mut connection, &command).await?,
        ParkedCommand::Discard(command) => discard(&mut connection, &command).await?,
    };
    connection.close().await?;
    Ok(code)
}

async fn list(connection: &mut PgConnection, command: &List) -> anyhow::Result<ExitCode> {
    command.filter.check(connection).await?;
    let parked = store::list(connection, &command.filter.which(), MOST).await?;
    let code = match parked.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    };
    if command.json {
        let all: Vec<Value> = parked.iter().map(object).collect();
        println!("{:#}", Value::Array(all));
        return Ok(code);
    }
    let mut keys = BTreeMap::new();
    for event in &parked {
        // A key at a time; what has no key by itself.
        let alone = event.key.is_none().then_some(event.sequence);
        let waiting = keys.entry((&event.stream, event.key, alone));
        waiting.or_insert((event, 0_usize)).1 += 1;
    }
    let mut heads: Vec<_> = keys.values().collect();
    heads.sort_by_key(|(event, _)| (&event.stream, event.sequence));
    for (event, all) in heads.iter().take(SHOWN) {
        show_head(event, all - 1);
    }
    if heads.len() > SHOWN {
        println!("and {} more: --json lists them", heads.len() - SHOWN);
    }
    match parked.len() {
        0 => println!("Nothing is parked."),
        count => println!(
            "{count} events of {} keys are parked. When the cause is mended: artstore parked retry",
            keys.len()
        ),
    }
    Ok(code)
}

/// The first one of a key: it says why the others wait.
fn show_head(event: &Parked, behind: usize) {
    let waiting = match behind {
        0 => String::new(),
        behind => format!(", {behind} behind it"),
    };
    println!(
        "{} {}  {}{waiting}  since {}, tried {} times",
        event.stream,
        event.sequence,
        event
            .key
            .map_or_else(|| "no key".to_owned(), |key| key.to_string()),
        event.parked_at.format("%Y-%m-%d %H:%M:%S"),
        // What only waited was not tried.
        event.attempts + i32::from(event.reason.is_some())
    );
    let reason = event.reason.as_deref();
    println!(
        "    {}",
        reason.unwrap_or("those before it were given up: it waits for a retry")
    );
}

fn object(event: &Parked) -> Value {
    json!({
        "projection": event.projection,
        "stream": event.stream,
        "sequence": event.sequence,
        "key": event.key,
        "event_id": event.event_id,
        "reason": event.reason,
        "attempts": event.attempts,
        "parked_at": event.parked_at,
        "subject": event.message.subject,
        "bytes": event.message.body.len(),
    })
}

async fn one(
    connection: &mut PgConnection,
    of: Of,
    stream: &str,
    sequence: u64,
) -> anyhow::Result<Parked> {
    let which = Which {
        projection: Some(of.projection.name()),
        stream: Some(stream),
        key: None,
        sequence: Some(sequence),
    };
    let found = store::list(connection, &which, 1).await?.pop();
    found.ok_or_else(|| not_parked(stream, sequence).into())
}

fn not_parked(stream: &str, sequence: u64) -> ConfigError {
    ConfigError(format!(
        "message {sequence} of {stream} is not parked (any more): see artstore parked list"
    ))
}

async fn show(connection: &mut PgConnection, command: &Show) -> anyhow::Result<ExitCode> {
    let event = one(connection, command.of, &command.stream, command.sequence).await?;
    let headers: serde_json::Map<String, Value> = event
        .message
        .headers
        .iter()
        .map(|(name, values)| {
            let values: Vec<&str> = values.iter().map(|value| value.as_str()).collect();
            (name.to_string(), json!(values))
        })
        .collect();
    let body = String::from_utf8_lossy(&event.message.body).into_owned();
    if command.json {
        let mut all = object(&event);
        all["headers"] = headers.into();
        all["body"] = body.into();
        println!("{all:#}");
        return Ok(ExitCode::SUCCESS);
    }
    println!("message   {} of {}", event.sequence, event.stream);
    println!("subject   {}", event.message.subject);
    let reason = event.reason.as_deref();
    println!(
        "reason    {}",
        reason.unwrap_or("it waits behind an earlier event of its key")
    );
    for (name, values) in &headers {
        for value in values.as_array().into_iter().flatten() {
            println!("  {name}: {}", value.as_str().unwrap_or_default());
        }
    }
    match serde_json::from_str::<Value>(&body) {
        Ok(body) => println!("{body:#}"),
        Err(_) => println!("{body:?}"),
    }
    Ok(ExitCode::SUCCESS)
}

/// What happened to one key.
struct Outcome {
    stream: String,
    key: Option<Uuid>,
    retried: Retried,
}

async fn again(
    config: &Config,
    connection: &mut PgConnection,
    command: &Retry,
) -> anyhow::Result<ExitCode> {
    command.filter.check(connection).await?;
    let wanted = store::groups(connection, &command.filter.which()).await?;
    let bus = match wanted.is_empty() {
        true => None,
        false => Some(Bus::connect(&config.bus("artstore parked retry")).await?),
    };
    let mut outcomes = Vec::new();
    for Group { stream, key, alone } in wanted {
        let source = Source::of_stream(&stream)
            .ok_or_else(|| anyhow!("stream {stream} is none of a source"))?;
        let projection = command.filter.of.projection;
        let which = Which {
            projection: Some(projection.name()),
            stream: Some(&stream),
            key,
            sequence: alone,
        };
        let damage = match &bus {
            Some(bus) => breaks::damage(bus, &source).await?,
            None => Damage::default(),
        };
        let operator = operator::operator(connection).await?;
        let record = async |transaction: &mut PgConnection, retried: &Retried| {
            let stuck = retried.stuck.as_ref();
            let facts = json!({
                "stream": stream,
                "key": key,
                "applied": retried.applied,
                "passed_over": retried.passed_over,
                "stuck_at": stuck.map(|(event, _)| event.sequence),
                "reason": stuck.map(|(_, reason)| reason),
                "operator": operator,
            });
            record(transaction, projection.name(), "retry", facts).await
        };
        let retried = match projection {
            Parks::QueryCache => {
                retry(&QueryCache, connection, &source, &which, &damage, record).await
            }
            Parks::ElementRegistry => {
                retry(
                    &ElementRegistry,
                    connection,
                    &source,
                    &which,
                    &damage,
                    record,
                )
                .await
            }
        };
        let retried = retried.with_context(|| format!("stream {stream}"))?;
        if !command.json {
            tell(&stream, key, &retried);
        }
        outcomes.push(Outcome {
            stream,
            key,
            retried,
        });
    }
    let stuck = outcomes
        .iter()
        .filter(|one| one.retried.stuck.is_some())
        .count();
    let applied: u64 = outcomes.iter().map(|one| one.retried.applied).sum();
    if command.json {
        let all: Vec<Value> = outcomes
            .iter()
            .map(|one| {
                let stuck = one.retried.stuck.as_ref();
                json!({
                    "stream": one.stream,
                    "key": one.key,
                    "applied": one.retried.applied,
                    "stuck_at": stuck.map(|(event, _)| event.sequence),
                    "reason": stuck.map(|(_, reason)| reason),
                })
            })
            .collect();
        println!(
            "{:#}",
            json!({"applied": applied, "stuck": stuck, "keys": all})
        );
    } else {
        println!(
            "{applied} events applied; {stuck} of {} keys wait on.",
            outcomes.len()
        );
    }
    Ok(match stuck {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn tell(stream: &str, key: Option<Uuid>, retried: &Retried) {
    let key = key.map_or_else(|| "no key".to_owned(), |key| key.to_string());
    match &retried.stuck {
        None => println!("{stream}  {key}  level: {} events applied", retried.applied),
        Some((event, reason)) => println!(
            "{stream}  {key}  waits on at {}, {} events applied: {reason}",
            event.sequence, retried.applied
        ),
    }
}

async fn discard(connection: &mut PgConnection, command: &Discard) -> anyhow::Result<ExitCode> {
    if command.reason.trim().is_empty() {
        return Err(ConfigError("--reason: say why, in words".to_owned()).into());
    }
    let projection = command.of.projection.name();
    let mut transaction = connection.begin().await?;
    // A retry or another discard is over, or waits and finds what is left.
    if !store::renew(&mut transaction, projection, &command.stream).await? {
        return Err(ConfigError(format!(
            "projection {projection} has no checkpoint of stream {}: nothing of it is parked",
            command.stream
        ))
        .into());
    }
    let event = one(
        &mut transaction,
        command.of,
        &command.stream,
        command.sequence,
    )
    .await?;
    if !discarded::discard(&mut transaction, &event, &command.reason).await? {
        return Err(not_parked(&command.stream, command.sequence).into());
    }
    let operator = operator::operator(&mut transaction).await?;
    let facts = json!({
        "stream": event.stream,
        "sequence": event.sequence,
        "key": event.key,
        "event_id": event.event_id,
        "was": event.reason,
        "reason": command.reason,
        "operator": operator,
    });
    record(&mut transaction, projection, "discard", facts.clone()).await?;
    transaction.commit().await?;
    match command.json {
        true => println!("{facts:#}"),
        false => println!(
            "message {} of {} is given up: {} stays as it was without it. Those behind it wait on: \
             artstore parked retry",
            event.sequence,
            event.stream,
            event
                .key
                .map_or_else(|| "the read model".to_owned(), |key| format!("file {key}"))
        ),
    }
    Ok(ExitCode::SUCCESS)
}
