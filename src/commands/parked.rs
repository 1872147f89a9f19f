//! `artstore parked`: events that a projection could not apply, and what waits behind them.

mod discard;
mod list;
mod retry;
mod show;
mod undo;

use std::process::ExitCode;

use artstore_projectors::element_registry::ElementRegistry;
use artstore_projectors::parking::store::{self, Parked, Which};
use artstore_projectors::projector::Projector;
use artstore_projectors::query_cache::QueryCache;
use artstore_projectors::runtime::database::connect;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::config::{Config, ConfigError};
use crate::names;

/// What to do with parked events.
#[derive(Debug, Subcommand)]
pub enum ParkedCommand {
    /// List them; exit code 1 where there are any
    List(list::List),
    /// Show one with its headers and its body
    Show(show::Show),
    /// Apply them again, those of a key in order; exit code 1 where one still can't be applied
    Retry(retry::Retry),
    /// Give one up: it is as if it had never been published to this projection, also for tables that
    /// are built later
    Discard(discard::Discard),
    /// Take a discard back: the event is parked again, and all later ones of its key behind it
    Undiscard(undo::Undiscard),
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
    /// Only of this stream, or of this source: ARTSTORE_QUERY, query, an element's name
    #[arg(long, value_parser = names::stream)]
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

    async fn check(&self, connection: &mut PgConnection) -> anyhow::Result<()> {
        match &self.stream {
            Some(stream) => check_stream(connection, self.of, stream).await,
            None => Ok(()),
        }
    }
}

/// Whether the projection reads the stream: of one that is mistyped nothing would be found, in silence.
async fn check_stream(connection: &mut PgConnection, of: Of, stream: &str) -> anyhow::Result<()> {
    let projection = of.projection.name();
    let read: Vec<String> = sqlx::query_scalar(
        "select stream from projection_checkpoints where projection = $1 order by 1",
    )
    .bind(projection)
    .fetch_all(connection)
    .await?;
    if read.iter().any(|read| read == stream) {
        return Ok(());
    }
    let read = match names::listed(read) {
        None => "it has read none".to_owned(),
        Some(streams) => format!("it has read {streams}"),
    };
    Err(ConfigError(format!(
        "--stream: {projection} has read nothing of a stream {stream}; {read}"
    ))
    .into())
}

/// Runs the command.
pub async fn run(config: &Config, command: ParkedCommand) -> anyhow::Result<ExitCode> {
    let of = match &command {
        ParkedCommand::List(command) => command.filter.of,
        ParkedCommand::Show(command) => command.of,
        ParkedCommand::Retry(command) => command.filter.of,
        ParkedCommand::Discard(command) => command.of,
        ParkedCommand::Undiscard(command) => command.of,
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
        ParkedCommand::List(command) => list::list(&mut connection, &command).await?,
        ParkedCommand::Show(command) => show::show(&mut connection, &command).await?,
        ParkedCommand::Retry(command) => retry::again(config, &mut connection, &command).await?,
        ParkedCommand::Discard(command) => discard::discard(&mut connection, &command).await?,
        ParkedCommand::Undiscard(command) => undo::undo(config, &mut connection, &command).await?,
    };
    connection.close().await?;
    Ok(code)
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
        "file": name(event),
        "parked_at": event.parked_at,
        "subject": event.message.subject,
        "bytes": event.message.body.len(),
    })
}

/// The name of the file that an event is about, as the event says it.
fn name(event: &Parked) -> Option<String> {
    let body: Value = serde_json::from_slice(&event.message.body).ok()?;
    let name = body.pointer("/file/original_filename")?;
    name.as_str().map(ToOwned::to_owned)
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
    let found = store::list(&mut *connection, &which, 1).await?.pop();
    match found {
        Some(found) => Ok(found),
        None => {
            check_stream(connection, of, stream).await?;
            Err(not_parked(of, stream, sequence).into())
        }
    }
}

fn not_parked(of: Of, stream: &str, sequence: u64) -> ConfigError {
    ConfigError(format!(
        "message {sequence} of {stream} is not parked (any more): see `artstore parked list \
         --projection {}`",
        of.projection.name()
    ))
}
