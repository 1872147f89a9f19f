//! Every row derived again from its message on the bus, by the mapping that made it, and compared
//! leaf by leaf.

use std::collections::BTreeMap;
use std::time::Duration;

use artstore_projectors::audit_log::mapping::{self, RawMessage, Record};
use artstore_projectors::audit_log::store::{self, COLUMNS, Stored};
use artstore_schemas::bus::Bus;
use artstore_schemas::source::Source;
use futures::TryStreamExt as _;
use serde::Serialize;
use sqlx::{AssertSqlSafe, PgConnection};

use super::finding::{Finding, Kind, Layer};
use crate::verify::reader::{Message, Reader};

/// Messages at once.
const BATCH: usize = 1_000;

/// The longest that messages may take that are there.
const PATIENCE: Duration = Duration::from_secs(30);

/// What came of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct AgainstReport {
    /// Rows that were derived again.
    pub derived: u64,
    /// Rows whose message is gone from the bus: an operator accepted that after they were written.
    pub gone: u64,
    /// What differs.
    pub findings: Vec<Finding>,
}

/// Compares the rows from `first` to `last` with the stream.
pub async fn check(
    connection: &mut PgConnection,
    bus: &Bus,
    source: &Source,
    first: u64,
    last: u64,
    mut progress: impl FnMut(u64),
) -> anyhow::Result<AgainstReport> {
    let mut report = AgainstReport::default();
    let mut reader = Reader::new(bus, source, first.max(1) - 1);
    let mut next = first.max(1);
    while next <= last {
        let batch = match reader.nothing_left().await? {
            true => Vec::new(),
            false => reader.batch(BATCH, PATIENCE).await?,
        };
        let Some(end) = batch.last().map(|message| message.sequence) else {
            // The rest of the rows is of messages that the stream does not have.
            compare(connection, source, next, last, &[], &mut report).await?;
            break;
        };
        let end = end.min(last);
        compare(connection, source, next, end, &batch, &mut report).await?;
        progress(end + 1 - next);
        next = end + 1;
    }
    Ok(report)
}

async fn compare(
    connection: &mut PgConnection,
    source: &Source,
    first: u64,
    last: u64,
    messages: &[Message],
    report: &mut AgainstReport,
) -> anyhow::Result<()> {
    let stream = source.stream();
    let rows = read(connection, &stream, first, last).await?;
    let mut next = messages.iter().peekable();
    for sequence in first..=last {
        while next
            .next_if(|message| message.sequence < sequence)
            .is_some()
        {}
        let message = next.peek();
        let row = rows.get(&sequence);
        let here = message.filter(|message| message.sequence == sequence);
        let Some(row) = row else {
            if let Some(message) = here {
                let id = message.headers.get("ce-id").map_or("", |id| id.as_str());
                report.add(
                    &stream,
                    sequence,
                    None,
                    Kind::RowMissing,
                    format!("row {sequence} is missing: event {id} is on the bus"),
                );
            }
            continue;
        };
        let published = message.map(|message| message.published);
        let record = Record {
            sequence,
            published: published.unwrap_or_default(),
            message: here.map(|message| RawMessage {
                subject: message.subject.clone(),
                headers: message.headers.clone(),
                body: message.body.clone(),
            }),
        };
        let Some(derived) = mapping::row(row.row.mapping, source, &record) else {
            let text = format!(
                "row {sequence}: mapping {} is not known to this program",
                row.row.mapping
            );
            report.add(&stream, sequence, Some(row.id), Kind::RowEdited, text);
            continue;
        };
        report.derived += 1;
        if derived == row.row && row.broken.is_none() {
            continue;
        }
        if here.is_none() && message.is_some() {
            // Written while the message was there: the tree and the heads still cover it.
            report.gone += 1;
            continue;
        }
        let text = match here {
            Some(_) => format!(
                "row {sequence} is not what its message says: {}",
                differences(&derived, &row.row)
            ),
            None => format!("row {sequence} is of a message that the stream does not have"),
        };
        let kind = if here.is_some() {
            Kind::RowEdited
        } else {
            Kind::RowExtra
        };
        report.add(&stream, sequence, Some(row.id), kind, text);
    }
    Ok(())
}

impl AgainstReport {
    /// Rows up to this one were archived while the rest was compared.
    pub fn leave_out(&mut self, archived: u64) {
        self.findings.retain(|finding| {
            finding.kind != Kind::RowMissing || finding.sequence > Some(archived)
        });
    }

    fn add(&mut self, stream: &str, sequence: u64, id: Option<i64>, kind: Kind, text: String) {
        self.findings.push(Finding {
            stream: Some(stream.to_owned()),
            sequence: Some(sequence),
            id,
            kind,
            layers: [Layer::Bus].into(),
            text,
        });
    }
}

/// The names of the fields that differ.
fn differences(
    derived: &artstore_projectors::audit_log::row::Row,
    stored: &artstore_projectors::audit_log::row::Row,
) -> String {
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
