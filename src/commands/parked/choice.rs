//! Which parked events a command is about.

use artstore_projectors::element_registry::ElementRegistry;
use artstore_projectors::parking::store::{self, Parked, Which};
use artstore_projectors::projector::Projector;
use artstore_projectors::query_cache::QueryCache;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::config::ConfigError;
use crate::names;

/// A projection that parks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Parks {
    /// What people search
    QueryCache,
    /// What administrators see of storage elements
    ElementRegistry,
}

impl Parks {
    pub(super) fn name(self) -> &'static str {
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
    pub(super) projection: Parks,
}

/// Which ones.
#[derive(Debug, Clone, Args)]
pub struct Filter {
    #[command(flatten)]
    pub(super) of: Of,
    /// Only of this stream, or of this source: ARTSTORE_QUERY, query, an element's name
    #[arg(long, value_parser = names::stream)]
    pub(super) stream: Option<String>,
    /// Only of this key: a file's id
    #[arg(long)]
    pub(super) key: Option<Uuid>,
}

impl Filter {
    pub(super) fn which(&self) -> Which<'_> {
        Which {
            projection: Some(self.of.projection.name()),
            stream: self.stream.as_deref(),
            key: self.key,
            sequence: None,
        }
    }

    pub(super) async fn check(&self, connection: &mut PgConnection) -> anyhow::Result<()> {
        match &self.stream {
            Some(stream) => check_stream(connection, self.of, stream).await,
            None => Ok(()),
        }
    }
}

/// Whether the projection reads the stream: of one that is mistyped nothing would be found, in silence.
pub(super) async fn check_stream(
    connection: &mut PgConnection,
    of: Of,
    stream: &str,
) -> anyhow::Result<()> {
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

pub(super) fn object(event: &Parked) -> Value {
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
pub(super) fn name(event: &Parked) -> Option<String> {
    let body: Value = serde_json::from_slice(&event.message.body).ok()?;
    let name = body.pointer("/file/original_filename")?;
    name.as_str().map(ToOwned::to_owned)
}

pub(super) async fn one(
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

pub(super) fn not_parked(of: Of, stream: &str, sequence: u64) -> ConfigError {
    ConfigError(format!(
        "message {sequence} of {stream} is not parked (any more): see `artstore parked list \
         --projection {}`",
        of.projection.name()
    ))
}
