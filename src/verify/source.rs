//! A source against its stream: every finished row is exactly one message, and the messages of
//! one file stand in the order of their positions where that is the order of the changes.

use std::collections::HashMap;

use artstore_producers::source::SourceTable;
use artstore_schemas::bus::Bus;
use artstore_schemas::source::Source;
use sqlx::{AssertSqlSafe, PgConnection, Row};
use uuid::Uuid;

use super::stream;

/// What was found.
#[derive(Debug, Default)]
pub struct SourceReport {
    /// Finished rows.
    pub finished: usize,
    /// Messages.
    pub published: usize,
    /// Rows without a message.
    pub missing: Vec<Uuid>,
    /// Messages without a row, and every message beyond the first of a row.
    pub extra: Vec<Uuid>,
    /// Messages whose position is not their row's.
    pub different: Vec<Uuid>,
    /// Messages that stand behind a later position of the same file, of rows that our own API
    /// committed: they finish in the transaction that holds the file's row.
    pub disordered: Vec<Uuid>,
    /// The same of other writers' rows. Not a finding: two of their transactions may finish side
    /// by side, and then either order is right.
    pub overtaken: Vec<Uuid>,
}

impl SourceReport {
    /// Whether all is as it should be.
    pub fn is_clean(&self) -> bool {
        [
            &self.missing,
            &self.extra,
            &self.different,
            &self.disordered,
        ]
        .iter()
        .all(|found| found.is_empty())
    }
}

/// Compares. Rows that are finished while it runs may show as missing.
pub async fn compare(
    connection: &mut PgConnection,
    bus: &Bus,
    source: &Source,
) -> anyhow::Result<SourceReport> {
    let messages = stream::read(bus, source).await?;
    let mut rows = finished(connection, source).await?;
    let mut report = SourceReport {
        finished: rows.len(),
        published: messages.len(),
        ..SourceReport::default()
    };
    let mut highest: HashMap<String, i64> = HashMap::new();
    for message in messages {
        let Some(position) = message.position else {
            continue;
        };
        let row = rows.remove(&message.id);
        let ordered = row.as_ref().is_some_and(|row| row.ordered);
        match row {
            None => report.extra.push(message.id),
            Some(row) if row.position != position => report.different.push(message.id),
            Some(_) => {}
        }
        let Some(key) = message.subject else { continue };
        let before = highest.entry(key).or_insert(position);
        if position < *before {
            let found = match ordered {
                true => &mut report.disordered,
                false => &mut report.overtaken,
            };
            found.push(message.id);
        }
        *before = position.max(*before);
    }
    report.missing = rows.into_keys().collect();
    Ok(report)
}

/// A finished row.
struct Finished {
    position: i64,
    ordered: bool,
}

async fn finished(
    connection: &mut PgConnection,
    source: &Source,
) -> anyhow::Result<HashMap<Uuid, Finished>> {
    let table = SourceTable::of(source);
    let ordered = match source {
        Source::Element(_) => "status = 'committed' and operation_data ? 'artstore'",
        Source::Admin | Source::Query => "false",
    };
    let sql = format!(
        "select {} as id, position, {ordered} as ordered from public.{} \
         where position is not null",
        table.id_column(),
        table.name()
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .fetch_all(connection)
        .await?;
    rows.into_iter()
        .map(|row| {
            let finished = Finished {
                position: row.try_get("position")?,
                ordered: row.try_get("ordered")?,
            };
            Ok((row.try_get("id")?, finished))
        })
        .collect()
}
