//! Searches and downloads compared with the messages of the query module's stream: each event has exactly
//! one row, equal in every field. Rows that the product's own services wrote have no event.

use std::collections::{HashMap, HashSet};

use anyhow::Context as _;
use artstore_bus::breaks;
use artstore_bus::connection::Bus;
use artstore_projectors::projector::Received;
use artstore_schemas::event::{Event, FileDownloaded, OutboxEvent, SearchPerformed, decode_data};
use artstore_schemas::source::Source;
use chrono::{DateTime, Utc};
use sqlx::{Connection as _, FromRow, PgConnection, Row as _};
use uuid::Uuid;

use super::candidates::MOST;
use super::checkpoints;
use super::messages::{self, Messages, Wanted};
use crate::finding::{Finding, Kind};

/// How many messages are compared at once.
const BATCH: usize = 1_000;

/// Ranges of event ids that rows are counted by.
const BUCKETS: usize = 1 << 16;

/// What was compared and found.
#[derive(Debug, Default)]
pub struct History {
    /// Searches and downloads in the stream.
    pub events: u64,
    /// Rows that do not agree; the first [`MOST`].
    pub findings: Vec<Finding>,
    /// Whether there are more, or some were not looked at.
    pub truncated: bool,
}

impl History {
    fn add(&mut self, finding: Finding) {
        if self.findings.len() < MOST {
            self.findings.push(finding);
        } else {
            self.truncated = true;
        }
    }
}

/// The most ids of suspect rows that are searched for in the stream at a time.
const MOST_IDS: i64 = 500_000;

/// The columns of both tables, those of the other one empty.
#[derive(Debug, Clone, PartialEq, FromRow)]
struct HistoryRow {
    event_id: Uuid,
    search: bool,
    created_at: DateTime<Utc>,
    username: Option<String>,
    milliseconds: i32,
    query_text: Option<String>,
    search_mode: Option<String>,
    filters_applied: Option<String>,
    results_count: Option<i32>,
    file_id: Option<String>,
    bytes_transferred: Option<i64>,
    was_resumed: Option<bool>,
    storage_element_id: Option<String>,
}

const ROWS: &str = "select event_id, true as search, \
         least(greatest(created_at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00') as created_at, username, \
         response_time_ms as milliseconds, query_text, search_mode, filters_applied, results_count, \
         null::text as file_id, null::bigint as bytes_transferred, null::boolean as was_resumed, \
         null::text as storage_element_id \
     from public.search_history where event_id = any($1) \
     union all \
     select event_id, false, \
         least(greatest(created_at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00'), \
         username, download_time_ms, null, null, null, null, \
         file_id::text, bytes_transferred, was_resumed, storage_element_id \
     from public.download_statistics where event_id = any($1)";

/// Compares.
pub async fn compare(
    bus: &Bus,
    query: &mut PgConnection,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> anyhow::Result<History> {
    let mut snapshot = query.begin().await?;
    sqlx::raw_sql("set transaction isolation level repeatable read read only")
        .execute(&mut *snapshot)
        .await?;
    let counted = sqlx::query(
        "select ('x' || left(event_id::text, 4))::bit(16)::integer as bucket, count(*) as rows \
         from (select event_id from public.search_history where event_id is not null \
               union all \
               select event_id from public.download_statistics where event_id is not null) r \
         group by 1",
    )
    .fetch_all(&mut *snapshot)
    .await?;
    let stored = checkpoints::stored(&mut snapshot, &[Source::Query]).await?;
    snapshot.rollback().await?;
    let place = checkpoints::places(bus, stored).await?.remove(0);
    let mut unexplained = vec![0_i64; BUCKETS];
    for row in &counted {
        let bucket = usize::try_from(row.try_get::<i32, _>("bucket")?)?;
        unexplained[bucket] = row.try_get("rows")?;
    }
    let all = unexplained.clone();
    let mut history = History::default();
    if place.provable > 0 {
        let wanted = Wanted {
            from: 1,
            to: place.provable,
            partitions: None,
            headers_only: false,
        };
        let damage = breaks::damage(bus, &Source::Query).await?;
        let mut messages = Messages::open(bus, &Source::Query, &wanted).await?;
        let mut batch = Vec::with_capacity(BATCH);
        while let Some(message) = messages.next().await? {
            let sequence = message.sequence;
            // What readers skip has no effect.
            if damage.ignores(sequence) {
                continue;
            }
            let received = messages::received(&Source::Query, &message);
            batch.extend(received.filter(|event| wanted_row(event).is_some()));
            if batch.len() >= BATCH {
                progress(sequence, place.provable);
                compare_batch(query, &batch, &mut unexplained, &mut history).await?;
                batch.clear();
            }
        }
        messages.close().await;
        compare_batch(query, &batch, &mut unexplained, &mut history).await?;
        progress(place.provable, place.provable);
    }
    find_extra(bus, query, &all, &unexplained, &mut history).await?;
    Ok(history)
}

fn bucket(id: Uuid) -> usize {
    usize::from(u16::from_be_bytes([id.as_bytes()[0], id.as_bytes()[1]]))
}

async fn compare_batch(
    query: &mut PgConnection,
    batch: &[Received],
    unexplained: &mut [i64],
    history: &mut History,
) -> anyhow::Result<()> {
    let ids: Vec<Uuid> = batch.iter().map(|event| event.envelope.id).collect();
    let rows: Vec<HistoryRow> = sqlx::query_as(ROWS).bind(ids).fetch_all(query).await?;
    let mut found: HashMap<Uuid, Vec<HistoryRow>> = HashMap::new();
    for row in rows {
        found.entry(row.event_id).or_default().push(row);
    }
    for event in batch {
        history.events += 1;
        let Some(wanted) = wanted_row(event) else {
            continue;
        };
        let id = event.envelope.id;
        let rows = found.remove(&id).unwrap_or_default();
        unexplained[bucket(id)] -= i64::try_from(rows.len()).context("rows of one event")?;
        let table = wanted.table();
        let (kind, detail) = match rows.as_slice() {
            [] => (
                Kind::RowMissing,
                format!("{table} has no row of this event"),
            ),
            [row] if *row == wanted => continue,
            [row] => (Kind::RowDifferent, row.differences(&wanted)),
            rows => (
                Kind::RowExtra,
                format!("{} rows are of this event, one should be", rows.len()),
            ),
        };
        let mut finding = finding(kind, id, detail);
        finding.sequence = Some(event.sequence);
        finding.position = event.envelope.position;
        history.add(finding);
    }
    Ok(())
}

/// Rows whose event the stream does not have. Where more rows stand in a range than events of it
/// were met, the stream is read once more, to its present end.
async fn find_extra(
    bus: &Bus,
    query: &mut PgConnection,
    counted: &[i64],
    unexplained: &[i64],
    history: &mut History,
) -> anyhow::Result<()> {
    let mut suspect: Vec<usize> = (0..BUCKETS).filter(|b| unexplained[*b] > 0).collect();
    if suspect.is_empty() {
        return Ok(());
    }
    // Their ids are in memory while the stream is read.
    let mut rows = 0;
    let fits = suspect.iter().position(|bucket| {
        rows += counted[*bucket];
        rows > MOST_IDS
    });
    if let Some(fits) = fits {
        suspect.truncate(fits.max(1));
        history.truncated = true;
    }
    let ranges: Vec<i32> = suspect
        .iter()
        .map(|b| i32::try_from(*b))
        .collect::<Result<_, _>>()?;
    let rows: Vec<Uuid> = sqlx::query_scalar(
        "select event_id from (select event_id from public.search_history \
             union select event_id from public.download_statistics) r \
         where event_id is not null \
           and ('x' || left(event_id::text, 4))::bit(16)::integer = any($1)",
    )
    .bind(ranges)
    .fetch_all(query)
    .await?;
    let mut rows: HashSet<Uuid> = rows.into_iter().collect();
    let end = bus.stream_info(&Source::Query.stream()).await?;
    let wanted = Wanted {
        from: 1,
        to: end.state.last_sequence,
        partitions: None,
        headers_only: true,
    };
    if wanted.to > 0 {
        let mut messages = Messages::open(bus, &Source::Query, &wanted).await?;
        while let Some(message) = messages.next().await? {
            if let Some(envelope) = message.envelope() {
                rows.remove(&envelope.id);
            }
        }
        messages.close().await;
    }
    let mut extra: Vec<Uuid> = rows.into_iter().collect();
    extra.sort_unstable();
    let detail = "the stream has no such event".to_owned();
    for id in extra {
        history.add(finding(Kind::RowExtra, id, detail.clone()));
    }
    Ok(())
}

fn finding(kind: Kind, id: Uuid, detail: String) -> Finding {
    Finding {
        kind,
        source: Source::Query.to_string(),
        id: Some(id),
        sequence: None,
        position: None,
        detail,
        repair: format!("artstore projection repair query-cache --event {id}"),
    }
}

/// The row that an event makes; none for one that makes none.
fn wanted_row(event: &Received) -> Option<HistoryRow> {
    let Event::Outbox(body) = &event.event else {
        return None;
    };
    let empty = |body: &OutboxEvent, search: bool| HistoryRow {
        event_id: event.envelope.id,
        search,
        created_at: body.operation.occurred_at,
        username: body.actor.name.clone(),
        milliseconds: 0,
        query_text: None,
        search_mode: None,
        filters_applied: None,
        results_count: None,
        file_id: None,
        bytes_transferred: None,
        was_resumed: None,
        storage_element_id: None,
    };
    let event_type = &event.envelope.event_type;
    match body.operation.kind.as_str() {
        "search.performed" => {
            let data: SearchPerformed = decode_data(event_type, body.data.as_ref()).ok()?;
            let row = empty(body, true);
            Some(HistoryRow {
                username: data.username.or(row.username),
                milliseconds: data.response_time_ms,
                query_text: data.query_text,
                search_mode: Some(data.search_mode),
                filters_applied: data.filters_applied,
                results_count: Some(data.results_count),
                ..row
            })
        }
        "file.downloaded" => {
            let data: FileDownloaded = decode_data(event_type, body.data.as_ref()).ok()?;
            let row = empty(body, false);
            Some(HistoryRow {
                username: data.username.or(row.username),
                milliseconds: data.download_time_ms,
                file_id: Some(data.file_id.to_string()),
                bytes_transferred: Some(data.bytes_transferred),
                was_resumed: Some(data.was_resumed),
                storage_element_id: Some(data.storage_element_id),
                ..row
            })
        }
        _ => None,
    }
}

impl HistoryRow {
    fn table(&self) -> &'static str {
        match self.search {
            true => "search_history",
            false => "download_statistics",
        }
    }

    fn differences(&self, wanted: &Self) -> String {
        let mut found = vec![self.table().to_owned()];
        let time = match self.search {
            true => "response_time_ms",
            false => "download_time_ms",
        };
        macro_rules! compare {
            ($($name:expr => $field:ident),* $(,)?) => {
                $(if self.$field != wanted.$field {
                    found.push(format!(
                        "{}: is {:?}, should be {:?}", $name, self.$field, wanted.$field
                    ));
                })*
            };
        }
        compare! {
            "table" => search, "created_at" => created_at, "username" => username,
            time => milliseconds, "query_text" => query_text, "search_mode" => search_mode,
            "filters_applied" => filters_applied, "results_count" => results_count,
            "file_id" => file_id, "bytes_transferred" => bytes_transferred,
            "was_resumed" => was_resumed, "storage_element_id" => storage_element_id,
        }
        found.join("; ")
    }
}
