//! Every row derived again from its message on the bus, by the mapping that made it, and compared
//! leaf by leaf: with the row, or, where it was archived, with the stored tree. So
//! no verdict on archived rows rests on a stored hash.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use artstore_bus::connection::Bus;
use artstore_bus::message::Message;
use artstore_projectors::audit_log::mapping::{self, NEWEST, RawMessage, Record};
use artstore_projectors::audit_log::note::VerifierKey;
use artstore_projectors::audit_log::row::Row;
use artstore_projectors::audit_log::store::{self, COLUMNS, Stored};
use artstore_projectors::audit_log::tile::{TileId, Tiles};
use artstore_schemas::source::Source;
use chrono::{DateTime, TimeDelta, Utc};
use futures::TryStreamExt as _;
use serde::Serialize;
use sqlx::{AssertSqlSafe, PgConnection};

use super::archive::{LEAST_RETENTION, recorded};
use super::finding::{Finding, Findings, Kind, Layer};
use super::rows::UNIT;
use crate::reader::Reader;

/// Messages at once.
const BATCH: usize = 1_000;

/// How long existing messages may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// Clocks of an event and of who archives differ by less.
const CLOCKS: TimeDelta = TimeDelta::days(1);

/// What came of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct AgainstReport {
    /// Rows that were derived again.
    pub derived: u64,
    /// Rows whose message is gone from the bus: an operator accepted that after they were written.
    pub gone: u64,
    /// What differs.
    pub findings: Findings,
}

/// Compares the rows from `first` to `last` with the stream. An error where the bus does not answer:
/// silence is not the end of a stream.
pub async fn check(
    connection: &mut PgConnection,
    bus: &Bus,
    source: &Source,
    trusted: &[VerifierKey],
    (first, last): (u64, u64),
    mut progress: impl FnMut(u64),
) -> anyhow::Result<AgainstReport> {
    let mut comparison = Comparison {
        stream: source.stream(),
        source,
        trusted,
        archived: Gone::default(),
        report: AgainstReport::default(),
    };
    comparison.archived(connection).await?;
    let mut next = first.max(1);
    let stream = source.stream();
    let end = bus
        .stream_info(&stream)
        .await?
        .state
        .last_sequence
        .min(last);
    let mut reader = Reader::new(bus, source, next - 1);
    while next <= end {
        let batch = reader.batch(BATCH, PATIENCE).await?;
        let Some(read) = batch.last().map(|message| message.sequence) else {
            ensure!(
                reader.nothing_left().await?,
                "stream {stream} did not answer for {} s at message {next}: nothing is known of the \
                 rows from there on",
                PATIENCE.as_secs()
            );
            // Its last messages are gone.
            break;
        };
        let read = read.min(last);
        comparison.compare(connection, (next, read), &batch).await?;
        progress(read + 1 - next);
        next = read + 1;
    }
    while next <= last {
        // The rest of the rows is of messages that the stream does not have.
        let read = last.min(next + BATCH as u64 - 1);
        comparison.compare(connection, (next, read), &[]).await?;
        next = read + 1;
    }
    Ok(comparison.report)
}

/// How far a log is archived.
#[derive(Default)]
struct Gone {
    last: u64,
    /// Rows that happened later than this could not be archived.
    before: DateTime<Utc>,
}

struct Comparison<'a> {
    stream: String,
    source: &'a Source,
    trusted: &'a [VerifierKey],
    archived: Gone,
    report: AgainstReport,
}

impl Comparison<'_> {
    /// How far the log is archived now.
    async fn archived(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let recorded = recorded::read(connection, self.trusted).await?;
        let now = Utc::now();
        let at = recorded.at.unwrap_or(now).min(now);
        self.archived = Gone {
            last: recorded.archives.get(&self.stream).map_or(0, |a| a.last),
            before: at - TimeDelta::days(LEAST_RETENTION) + CLOCKS,
        };
        Ok(())
    }

    async fn compare(
        &mut self,
        connection: &mut PgConnection,
        (first, last): (u64, u64),
        messages: &[Message],
    ) -> anyhow::Result<()> {
        let rows = read(connection, &self.stream, first, last).await?;
        let missing = (first..=last).rev().find(|n| !rows.contains_key(n));
        if missing.is_some_and(|missing| missing > self.archived.last) {
            // Maybe archived meanwhile: recorded before it was removed.
            self.archived(connection).await?;
        }
        let tiles = self.tiles(connection, first, last).await?;
        let mut next = messages.iter().peekable();
        for sequence in first..=last {
            while next
                .next_if(|message| message.sequence < sequence)
                .is_some()
            {}
            let message = next.peek().copied();
            let here = message.filter(|message| message.sequence == sequence);
            let record = Record {
                sequence,
                published: message.map(|m| m.published).unwrap_or_default(),
                message: here.map(|message| RawMessage::from(message.clone())),
            };
            match rows.get(&sequence) {
                Some(row) => self.there(row, &record, message),
                None if sequence <= self.archived.last => self.archived_row(&record, &tiles),
                None => self.missing(sequence, here),
            }
        }
        Ok(())
    }

    /// A row that exists.
    fn there(&mut self, row: &Stored, record: &Record, message: Option<&Message>) {
        let sequence = record.sequence;
        let Some(derived) = mapping::row(row.row.mapping, self.source, record) else {
            let text = format!(
                "row {sequence}: mapping {} is not known to this program",
                row.row.mapping
            );
            self.add(sequence, Some(row.id), Kind::RowEdited, text);
            return;
        };
        self.report.derived += 1;
        if derived == row.row && row.broken.is_none() {
            return;
        }
        let here = record.message.is_some();
        if !here && message.is_some() {
            // Written while the message was there: the tree and the heads still cover it.
            self.report.gone += 1;
            return;
        }
        let (kind, text) = match here {
            true => (
                Kind::RowEdited,
                format!(
                    "row {sequence} is not what its message says: {}",
                    differences(&derived, &row.row)
                ),
            ),
            false => (
                Kind::RowExtra,
                format!("row {sequence} is of a message that the stream does not have"),
            ),
        };
        self.add(sequence, Some(row.id), kind, text);
    }

    /// A row that is gone and that the log records as archived: its leaf in the stored tree is that of
    /// its message, by one of the mappings, and it was old enough.
    fn archived_row(&mut self, record: &Record, tiles: &Tiles) {
        let sequence = record.sequence;
        let derived: Vec<Row> = (1..=NEWEST)
            .filter_map(|mapping| mapping::row(mapping, self.source, record))
            .collect();
        let place = TileId {
            level: 0,
            index: (sequence - 1) / UNIT,
        };
        let at = usize::try_from((sequence - 1) % UNIT).unwrap_or(usize::MAX);
        let stored = tiles.0.get(&place).and_then(|tile| tile.get(at));
        let row = derived.iter().find(|row| stored == Some(&row.leaf()));
        let Some(row) = row else {
            if record.message.is_some() {
                let text = format!(
                    "row {sequence} was archived, and its leaf in the stored tree is not that of its \
                     message"
                );
                self.add(sequence, None, Kind::RowEdited, text);
            } else {
                self.report.gone += 1;
            }
            return;
        };
        self.report.derived += 1;
        let time = row.time().filter(|time| *time > self.archived.before);
        if let Some(time) = time {
            let text = format!(
                "row {sequence} of {} was taken out as archived; rows are kept for {LEAST_RETENTION} \
                 days",
                time.format("%Y-%m-%d")
            );
            self.add(sequence, None, Kind::RowMissing, text);
        }
    }

    fn missing(&mut self, sequence: u64, here: Option<&Message>) {
        let Some(message) = here else {
            return;
        };
        let id = message.headers.get("ce-id").map_or("", |id| id.as_str());
        let text = format!("row {sequence} is missing: event {id} is on the bus");
        self.add(sequence, None, Kind::RowMissing, text);
    }

    /// The leaves of archived rows of a range.
    async fn tiles(
        &self,
        connection: &mut PgConnection,
        first: u64,
        last: u64,
    ) -> Result<Tiles, sqlx::Error> {
        let last = last.min(self.archived.last);
        if last < first {
            return Ok(Tiles::default());
        }
        let places: Vec<TileId> = ((first - 1) / UNIT..=(last - 1) / UNIT)
            .map(|index| TileId { level: 0, index })
            .collect();
        store::tiles(connection, &self.stream, &places).await
    }

    fn add(&mut self, sequence: u64, id: Option<i64>, kind: Kind, text: String) {
        self.report.findings.add(Finding {
            stream: Some(self.stream.clone()),
            sequence: Some(sequence),
            id,
            kind,
            layers: [Layer::Bus].into(),
            text,
        });
    }
}

/// The names of the fields that differ.
fn differences(derived: &Row, stored: &Row) -> String {
    let fields = |row| match serde_json::to_value(row) {
        Ok(serde_json::Value::Object(fields)) => fields,
        Ok(_) | Err(_) => serde_json::Map::new(),
    };
    let stored = fields(stored);
    let names: Vec<String> = fields(derived)
        .into_iter()
        .filter(|(name, value)| stored.get(name) != Some(value))
        .map(|(name, _)| name)
        .collect();
    names.join(", ")
}

async fn read(
    connection: &mut PgConnection,
    stream: &str,
    first: u64,
    last: u64,
) -> Result<BTreeMap<u64, Stored>, sqlx::Error> {
    let sql = format!(
        "select {COLUMNS} from public.audit_logs \
         where stream = $1 and stream_sequence between $2 and $3 order by stream_sequence"
    );
    let mut rows = sqlx::query(AssertSqlSafe(sql))
        .bind(stream)
        .bind(i64::try_from(first).unwrap_or(i64::MAX))
        .bind(i64::try_from(last).unwrap_or(i64::MAX))
        .fetch(connection);
    let mut found = BTreeMap::new();
    while let Some(row) = rows.try_next().await? {
        let stored = store::stored(&row)?;
        found.insert(stored.row.sequence, stored);
    }
    Ok(found)
}
