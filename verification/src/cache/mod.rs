//! The read model compared with its sources: checkpoints with streams, the cache with the
//! elements' `_files` and the streams, searches and downloads with their messages.
//!
//! - [`checkpoints`]: which sequence a checkpoint really stands for
//! - `candidates`: files that have to be checked one by one
//! - `provenance`: what a row states about its own event
//! - `confirm`: candidates, checked again until it is certain what they are
//! - `element_files`: what elements' databases report about some files
//! - `verdict`: what one cycle says of a file
//! - `rows`: a row and a file, field by field
//! - [`stream_files`]: the streams' events of some files
//! - `history`: searches and downloads
//! - `explained`: findings that parked or discarded events explain
//! - [`messages`]: messages of a stream
//! - `compare`: the same for `demo` and tests, in memory, on a system at rest

pub(crate) mod candidates;
pub mod checkpoints;
mod compare;
pub(crate) mod confirm;
mod element_files;
mod explained;
pub(crate) mod history;
pub mod messages;
mod provenance;
pub(crate) mod rows;
pub mod stream_files;
mod verdict;

use artstore_runtime::count::counted;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use artstore_bus::bus_error::BusError;
use artstore_bus::connection::Bus;
use artstore_producers::relay::source::SourceTable;
use artstore_producers::relay::{api_url, source_check};
use artstore_projectors::projector::Projector as _;
use artstore_projectors::query_cache::QueryCache;
use artstore_projectors::runtime::database::PROJECTION_TABLES;
use artstore_projectors::runtime::workers;
use artstore_runtime::{connection, relation, words};
use artstore_schemas::element::ElementName;
use artstore_schemas::source::Source;
use serde::Serialize;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};
use uuid::Uuid;

pub use compare::{CacheReport, compare};
pub use confirm::PendingFiles;

use super::finding::{Finding, Kind};
use confirm::Confirm;

/// What is compared. No debug output: the databases have their passwords.
pub struct Scope<'a> {
    /// The bus.
    pub bus: &'a Bus,
    /// The read model's database.
    pub query: &'a PgConnectOptions,
    /// Elements and their databases. Rows of an element that is not among them, but has a stream,
    /// are not compared with any `_files`.
    pub elements: &'a [(ElementName, PgConnectOptions)],
    /// Whether searches and downloads are compared.
    pub history: bool,
    /// Sources whose rows no relay publishes now: nothing of them is waited for.
    pub unpublished: &'a BTreeSet<Source>,
    /// Sources whose events no projector applies now: nothing of them is waited for.
    pub unapplied: &'a BTreeSet<Source>,
    /// How long relay and projector may take to catch up, in all, before the rest counts as in
    /// flight.
    pub patience: Duration,
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Sums of digests, then pages that differ: rows.
    Compare,
    /// Rows against their events: messages of one stream.
    Provenance,
    /// Candidates, checked again: files.
    Confirm,
    /// Searches and downloads: messages.
    History,
}

/// How far it is.
#[derive(Debug, Clone, Copy)]
pub struct CacheCheckProgress {
    /// What is being done.
    pub stage: Stage,
    /// How many of them.
    pub done: u64,
    /// How many there are.
    pub total: u64,
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Files on the elements.
    pub files: u64,
    /// Rows that the projector wrote.
    pub rows: u64,
    /// Searches and downloads in the stream.
    pub events: u64,
    /// Files that were checked one by one.
    pub candidates: u64,
    /// Of them, how many did not come to stand still in time: no finding.
    pub in_flight: u64,
    /// Of them, files that differ because of operations that are pending, by element: no finding, but
    /// they do not agree either where the operation was left behind.
    pub pending: BTreeMap<ElementName, PendingFiles>,
    /// Whether so many files differ that the rest was left for the next time.
    pub truncated: bool,
    /// What does not agree, by kind and id.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether all that can be checked agrees, and nothing is left behind that can't.
    pub fn is_clean(&self) -> bool {
        let left_behind = self.pending.values().any(|pending| pending.left_behind > 0);
        self.findings.is_empty() && !self.truncated && !left_behind
    }
}

/// Compares, while everything continues. Memory does not depend on how many files there are; nothing
/// is written. A file that keeps changing is in flight, never a finding.
pub async fn verify(
    scope: &Scope<'_>,
    progress: &mut (dyn FnMut(CacheCheckProgress) + Send),
) -> anyhow::Result<Report> {
    let bus = scope.bus;
    let mut query = connect(scope.query).await.context("the query database")?;
    let mut elements = Vec::new();
    for (element, database) in scope.elements {
        let connection = connect(database).await;
        let mut connection = connection.with_context(|| format!("element {element}"))?;
        let table = SourceTable::of(&Source::Element(element.clone()));
        source_check::shows_all(&mut connection, &table).await?;
        elements.push((element.clone(), connection));
    }
    let tables = QueryCache::TABLES.iter().chain(PROJECTION_TABLES);
    let tables: Vec<String> = tables.map(|table| format!("public.{table}")).collect();
    if let Some(unfit) = relation::unfit(&mut query, &tables).await? {
        anyhow::bail!("the query database: {unfit}");
    }
    let streams = element_streams(bus).await?;
    let sources: Vec<Source> = streams.iter().cloned().map(Source::Element).collect();
    let mut report = Report::default();
    let mut report_stage = |stage: Stage, done: u64, total: u64| {
        progress(CacheCheckProgress { stage, done, total });
    };

    let rows = checkpoints::highest_rows(&mut query).await?;
    let history = scope.history.then_some(Source::Query);
    let all: Vec<Source> = sources.into_iter().chain(history).collect();
    let stored = checkpoints::stored(&mut query, &all).await?;
    let mut places = checkpoints::places(bus, stored).await?;
    checkpoints::compare_rows(&mut places, &rows);
    report.findings.extend(
        places
            .iter()
            .filter_map(checkpoints::CheckedCheckpoint::finding),
    );

    let unknown: Vec<String> = streams
        .iter()
        .filter(|stream| !elements.iter().any(|(element, _)| element == *stream))
        .map(ElementName::to_string)
        .collect();
    let found = candidates::find(&mut elements, &mut query, &unknown, &mut |done, total| {
        report_stage(Stage::Compare, done, total);
    })
    .await?;
    report.files = found.files_of_elements;
    report.rows = found.rows;
    report.truncated = found.truncated;
    let mut candidates = found.files;
    for place in &places[..streams.len()] {
        provenance::find(bus, &mut query, place, &mut candidates, &mut |d, t| {
            report_stage(Stage::Provenance, d, t);
        })
        .await?;
    }
    report.candidates = candidates.len() as u64;
    let confirm = Confirm {
        bus,
        streams: &streams,
        unpublished: scope.unpublished,
        unapplied: scope.unapplied,
        rows_behind: places.iter().any(|place| place.rows_behind),
        deadline: Instant::now() + scope.patience,
    };
    let confirmed = confirm
        .all(&mut elements, &mut query, candidates, &mut |d, t| {
            report_stage(Stage::Confirm, d, t);
        })
        .await?;
    report.in_flight = confirmed.in_flight;
    report.pending = confirmed.pending;
    report.findings.extend(confirmed.findings);
    report.findings.extend(odd_ids(&mut query).await?);
    for (element, connection) in &mut elements {
        let found = other_urls(element, connection, &mut query).await?;
        report.findings.extend(found);
    }
    if scope.history {
        let history = history::compare(bus, &mut query, &mut |d, t| {
            report_stage(Stage::History, d, t);
        })
        .await?;
        report.events = history.events;
        report.findings.extend(history.findings);
        report.truncated |= history.truncated;
    }
    explained::by_parked_events(&mut query, &mut report.findings).await?;
    report
        .findings
        .sort_by_key(|finding| (finding.kind, finding.id));
    Ok(report)
}

/// The elements that have a stream.
pub async fn element_streams(bus: &Bus) -> Result<Vec<ElementName>, BusError> {
    let sources = workers::list(bus).await?;
    let mut elements: Vec<ElementName> = sources
        .into_iter()
        .filter_map(|source| match source {
            Source::Element(element) => Some(element),
            Source::Admin | Source::Query => None,
        })
        .collect();
    elements.sort();
    Ok(elements)
}

/// Rows that name an event, but whose id is none that a file can have: nobody compares them with
/// anything.
async fn odd_ids(query: &mut PgConnection) -> anyhow::Result<Vec<Finding>> {
    let rows: Vec<(String, String, Option<Uuid>)> = sqlx::query_as(
        "select id::text, storage_element_id, event_id from public.file_metadata_cache \
         where event_id is not null \
           and id !~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' order by id limit 1000",
    )
    .fetch_all(query)
    .await?;
    let findings = rows.into_iter().map(|(id, source, event)| Finding {
        kind: Kind::RowExtra,
        source,
        id: event,
        sequence: None,
        position: None,
        detail: format!("the cache has a row {id:?}, which is no file's id"),
        repair: checkpoints::REPAIR.to_owned(),
    });
    Ok(findings.collect())
}

/// Rows with another API URL than the element itself: one finding for all of them. Their events state it,
/// so no repair of the cache helps; a backfill publishes the files again.
async fn other_urls(
    element: &ElementName,
    source: &mut PgConnection,
    query: &mut PgConnection,
) -> anyhow::Result<Option<Finding>> {
    let table = SourceTable::of(&Source::Element(element.clone()));
    let Some(stored) = api_url::stored(source, &table).await? else {
        return Ok(None);
    };
    let (rows, other): (i64, Option<String>) = sqlx::query_as(
        "select count(*), min(coalesce(storage_element_url, 'none')) from public.file_metadata_cache \
         where event_id is not null and storage_element_id = $1 \
           and storage_element_url is distinct from $2",
    )
    .bind(element.as_str())
    .bind(&stored.url)
    .fetch_one(query)
    .await?;
    Ok((rows > 0).then(|| Finding {
        kind: Kind::RowDifferent,
        source: element.to_string(),
        id: None,
        sequence: None,
        position: None,
        detail: format!(
            "storage_element_url of {}, {} for one, is not what the element says: {}",
            counted(rows, "row"),
            other.unwrap_or_default(),
            stored.url.as_deref().unwrap_or("none")
        ),
        repair: format!("artstore element backfill {element}"),
    }))
}

async fn connect(database: &PgConnectOptions) -> anyhow::Result<PgConnection> {
    let options = database
        .clone()
        .application_name("artstore verify")
        .log_statements(tracing::log::LevelFilter::Trace)
        // Whole tables are read here: that takes its time.
        .log_slow_statements(tracing::log::LevelFilter::Off, Duration::ZERO);
    let connected = tokio::time::timeout(Duration::from_secs(10), connection::open(&options))
        .await
        .unwrap_or(Err(sqlx::Error::PoolTimedOut));
    connected.map_err(|error| {
        let what = words::not_connected(connection::shown(&options), &error);
        anyhow::Error::from(error).context(format!("{what}; check its URL and the server"))
    })
}
