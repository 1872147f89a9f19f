//! What a row of the cache states about its own event, compared with that event: id, position, file, and
//! where the element is reached. No `_files` contains these fields. Rows are read in the order of their
//! sequences, beside the stream's headers: each once, none kept in memory.

use std::collections::HashSet;

use artstore_bus::connection::Bus;
use artstore_projectors::projector::Projector as _;
use artstore_projectors::query_cache::QueryCache;
use artstore_projectors::runtime::checkpoint;
use artstore_schemas::source::Source;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use uuid::Uuid;

use super::checkpoints::CheckedCheckpoint;
use super::messages::{Messages, Wanted};

/// How many rows are fetched at once.
const PAGE: usize = 5_000;

struct Rows<'a> {
    connection: &'a mut PgConnection,
    page: std::vec::IntoIter<Row>,
    ended: bool,
}

struct Row {
    id: String,
    event_id: Uuid,
    sequence: i64,
    position: Option<i64>,
    url: Option<String>,
    /// Whether the URL is the one that most of the element's rows have.
    usual: bool,
}

impl Rows<'_> {
    async fn next(&mut self) -> anyhow::Result<Option<Row>> {
        if let Some(row) = self.page.next() {
            return Ok(Some(row));
        }
        if self.ended {
            return Ok(None);
        }
        let rows = sqlx::query(AssertSqlSafe(format!(
            "fetch forward {PAGE} from artstore_provenance"
        )))
        .persistent(false)
        .fetch_all(&mut *self.connection)
        .await?;
        self.ended = rows.len() < PAGE;
        let rows = rows.iter().map(|row| {
            Ok(Row {
                id: row.try_get("id")?,
                event_id: row.try_get("event_id")?,
                sequence: row.try_get("sequence")?,
                position: row.try_get("source_position")?,
                url: row.try_get("url")?,
                usual: row.try_get("usual")?,
            })
        });
        let rows: Vec<Row> = rows.collect::<sqlx::Result<_>>()?;
        self.page = rows.into_iter();
        Ok(self.page.next())
    }
}

/// Finds rows of one element that do not fit their event.
pub async fn find(
    bus: &Bus,
    query: &mut PgConnection,
    place: &CheckedCheckpoint,
    candidates: &mut HashSet<Uuid>,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> anyhow::Result<()> {
    let source = &place.source;
    let upto = declare(query, place).await?;
    let mut rows = Rows {
        connection: query,
        page: Vec::new().into_iter(),
        ended: false,
    };
    let mut differs = |row: &Row| candidates.extend(row.id.parse::<Uuid>().ok());
    let mut row = rows.next().await?;
    if upto > 0 {
        let wanted = Wanted {
            from: 1,
            to: upto,
            partitions: None,
            headers_only: true,
        };
        let mut messages = Messages::open(bus, source, &wanted).await?;
        while let Some(message) = messages.next().await? {
            let sequence = message.sequence;
            if sequence % 10_000 == 1 {
                progress(sequence, upto);
            }
            let here = i64::try_from(sequence).unwrap_or(i64::MAX);
            while let Some(held) = row.take_if(|row| row.sequence <= here) {
                let envelope = (held.sequence == here)
                    .then(|| message.envelope())
                    .flatten();
                let fits = envelope.is_some_and(|e| {
                    e.id == held.event_id
                        && e.position == held.position
                        && e.subject.as_deref() == Some(held.id.as_str())
                });
                if !fits || !held.usual && !url_fits(bus, source, &held).await? {
                    differs(&held);
                }
                row = rows.next().await?;
            }
        }
        messages.close().await;
        progress(upto, upto);
    }
    // Behind the checkpoint, or without a sequence.
    while let Some(held) = row {
        differs(&held);
        row = rows.next().await?;
    }
    sqlx::raw_sql("close artstore_provenance")
        .execute(rows.connection)
        .await?;
    Ok(())
}

/// The rows, kept by the server on disk, so that no snapshot is held open for as long as the stream
/// is read; and the checkpoint of the same moment.
async fn declare(query: &mut PgConnection, place: &CheckedCheckpoint) -> anyhow::Result<u64> {
    let mut transaction = query.begin().await?;
    // A cursor takes no parameters here; a stream's name is checked, and has no quote in it.
    let stream = place.source.stream();
    sqlx::raw_sql(AssertSqlSafe(format!(
        "set transaction isolation level repeatable read; \
         declare artstore_provenance no scroll cursor with hold for \
         select id::text as id, event_id, coalesce(stream_sequence, 9223372036854775807) as sequence, \
             source_position, storage_element_url::text as url, \
             coalesce('=' || storage_element_url, '') = ( \
                 select mode() within group (order by coalesce('=' || u.storage_element_url, '')) \
                 from public.file_metadata_cache u \
                 where u.event_id is not null and u.stream = '{stream}' \
             ) as usual \
         from public.file_metadata_cache \
         where event_id is not null and stream = '{stream}' \
         order by sequence"
    )))
    .execute(&mut *transaction)
    .await?;
    let checkpoint = checkpoint::load(&mut transaction, QueryCache::NAME, &stream).await?;
    transaction.commit().await?;
    Ok(match place.is_unsound() {
        true => place.provable,
        false => checkpoint.map_or(0, |checkpoint| checkpoint.last_sequence),
    })
}

/// A message that is gone or can't be read states no URL that fits.
async fn url_fits(bus: &Bus, source: &Source, row: &Row) -> anyhow::Result<bool> {
    let sequence = u64::try_from(row.sequence).unwrap_or(0);
    let Some(message) = bus.message_at(&source.stream(), sequence).await? else {
        return Ok(false);
    };
    let body: Option<serde_json::Value> = serde_json::from_slice(&message.body).ok();
    Ok(body.is_some_and(|body| body["element"]["api_url"].as_str() == row.url.as_deref()))
}
