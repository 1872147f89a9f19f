//! `artstore search`: files of the query cache, for people or as JSON. It waits for what the
//! caller wrote, asks, records the search as an event, and prints.

mod arguments;
mod record;
pub(crate) mod table;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use artstore_projectors::projector::Projector as _;
use artstore_projectors::query_cache::QueryCache;
use artstore_projectors::read_your_writes::{self, WaitError};
use artstore_projectors::runtime::pause;
use artstore_projectors::search::filters::Filters;
use artstore_projectors::search::hit::Hit;
use artstore_projectors::search::query::Search;
use artstore_projectors::search::search_error::SearchError;
use artstore_projectors::search::{self, SearchResult};
use artstore_runtime::connection;
use artstore_schemas::source::Source;
use serde::Serialize;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use uuid::Uuid;

pub use arguments::SearchCommand;
use record::milliseconds;

use crate::config::{Config, ConfigError};
use crate::names;
use crate::status::database::not_connected;
use crate::terminal;

/// How long connecting may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs the command: exit code 0, also where nothing was found; 1 where the search could not be
/// recorded, which is said after the hits.
pub async fn run(config: &Config, command: SearchCommand) -> anyhow::Result<ExitCode> {
    let asked = command.search(config)?;
    let database = config.query_database()?.ok_or_else(|| {
        ConfigError("search needs QUERY_DATABASE_URL (or DATABASE_HOST and others)".to_owned())
    })?;
    let mut connection = connect(&database).await?;
    let waited = wait(&mut connection, &command).await?;
    if let Some(element) = &asked.filters.storage_element {
        element_is_known(&mut connection, element).await?;
    }
    if command.explain {
        let plan = search::explain(&mut connection, &asked).await;
        print(&plan.map_err(failed)?.join("\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let found = search::search(&mut connection, &asked).await;
    let found = found.map_err(failed)?;
    // Before anything is printed: whoever reads only the first lines and closes the pipe has
    // searched all the same.
    let recorded = record::record(&mut connection, &asked, &found).await;
    if command.json {
        let event = recorded.as_ref().ok().copied();
        let answer = Answer::new(&asked, &found, waited, event);
        print(&serde_json::to_string(&answer)?)?;
    } else {
        print(table::show(&asked, &found, terminal::width()).trim_end())?;
    }
    recorded.context(
        "the search was not recorded, though every search has to be; check event_outbox in the \
         query database (`artstore migrate up --module query`) and the right to insert there",
    )?;
    connection.close().await?;
    Ok(ExitCode::SUCCESS)
}

/// Refuses an element that the cache knows nothing of: of one that is mistyped nothing would be found,
/// in silence. A cache that was filled before the bus has files of elements without a stream.
async fn element_is_known(connection: &mut PgConnection, element: &str) -> anyhow::Result<()> {
    let streams: Vec<String> = sqlx::query_scalar(
        "select stream from public.projection_checkpoints where projection = $1 order by 1",
    )
    .bind(QueryCache::NAME)
    .fetch_all(&mut *connection)
    .await
    .map_err(|error| failed(error.into()))?;
    let read = streams
        .iter()
        .filter_map(|stream| Source::of_stream(stream));
    let known: Vec<String> = read
        .filter(|source| matches!(source, Source::Element(_)))
        .map(|source| source.to_string())
        .collect();
    if known.iter().any(|known| known == element) {
        return Ok(());
    }
    let has_files: bool = sqlx::query_scalar(
        "select exists (select from public.file_metadata_cache where storage_element_id = $1)",
    )
    .bind(element)
    .fetch_one(connection)
    .await
    .map_err(|error| failed(error.into()))?;
    if has_files {
        return Ok(());
    }
    let known = names::listed(known).map_or_else(
        || "it has read no element's stream".to_owned(),
        |known| format!("it has read those of {known}"),
    );
    Err(ConfigError(format!(
        "the query cache knows no element {element}; {known}"
    ))
    .into())
}

async fn connect(database: &PgConnectOptions) -> anyhow::Result<PgConnection> {
    let options = database
        .clone()
        .application_name("artstore search")
        .log_statements(tracing::log::LevelFilter::Trace);
    tokio::time::timeout(PATIENCE, connection::open(&options))
        .await
        .unwrap_or(Err(sqlx::Error::PoolTimedOut))
        .map_err(|error| not_connected(database, "QUERY_DATABASE_URL", error))
}

async fn wait(
    connection: &mut PgConnection,
    command: &SearchCommand,
) -> anyhow::Result<Option<Duration>> {
    if command.at_least.is_empty() {
        return Ok(None);
    }
    let timeout = Duration::from_secs(command.timeout);
    let waited =
        read_your_writes::wait(connection, QueryCache::NAME, &command.at_least, timeout).await;
    match waited {
        Ok(waited) => Ok(Some(waited)),
        Err(WaitError::Database(error)) => Err(failed(error.into())),
        Err(error @ WaitError::NotYet { .. }) => {
            match pause::load(connection, QueryCache::NAME).await {
                Ok(Some(pause)) => Err(anyhow!(
                    "{error}; {name} is {pause}; to resume: artstore projection resume {name}",
                    name = QueryCache::NAME
                )),
                _ => Err(anyhow!("{error} (--timeout SECONDS)")),
            }
        }
        Err(error @ WaitError::Checkpoint { .. }) => Err(error.into()),
    }
}

/// A question that can't be asked is a wrong usage.
fn failed(error: SearchError) -> anyhow::Error {
    match error {
        SearchError::Invalid(text) => ConfigError(text).into(),
        SearchError::NotMigrated(_) | SearchError::Database(_) => error.into(),
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        // Whoever reads it has enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        printed => Ok(printed?),
    }
}

/// The answer as JSON: one object. Its form is in `docs/search.md`.
#[derive(Serialize)]
struct Answer<'a> {
    query: &'a str,
    mode: &'static str,
    filters: &'a Filters,
    sort: &'static str,
    order: &'static str,
    limit: u32,
    offset: u32,
    total: i64,
    total_exact: bool,
    took_ms: i32,
    waited_ms: Option<i32>,
    event_id: Option<Uuid>,
    hits: &'a [Hit],
    next: Option<&'a str>,
    suggestions: Option<Suggested<'a>>,
}

#[derive(Serialize)]
struct Suggested<'a> {
    similar: &'a [String],
    hints: Vec<String>,
}

impl<'a> Answer<'a> {
    fn new(
        asked: &'a Search,
        found: &'a SearchResult,
        waited: Option<Duration>,
        event_id: Option<Uuid>,
    ) -> Self {
        Self {
            query: &asked.text,
            mode: asked.mode.as_str(),
            filters: &asked.filters,
            sort: asked.sort.as_str(),
            order: asked.order().as_str(),
            limit: asked.page.limit,
            offset: asked.page.offset,
            total: found.total,
            total_exact: found.total_exact,
            took_ms: milliseconds(found.took),
            waited_ms: waited.map(milliseconds),
            event_id,
            hits: &found.hits,
            next: found.next.as_deref(),
            suggestions: found.suggestions.as_ref().map(|suggestions| Suggested {
                similar: &suggestions.similar,
                hints: suggestions.hints.iter().map(ToString::to_string).collect(),
            }),
        }
    }
}
