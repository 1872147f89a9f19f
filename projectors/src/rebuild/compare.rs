//! Live and rebuilt tables, row by row: first digests, both in the order of their keys; where these differ,
//! field by field, with the event that caused the row. What can't be equal is left out: the product's own
//! rows, serial numbers, the time of a write.

use std::collections::{BTreeMap, BTreeSet};

use futures::{Stream, TryStreamExt as _};
use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use uuid::Uuid;

use super::{OnStep, RebuildError, Step};
use crate::projector::{Projector, Table};

/// So many differences are kept with their fields; all are counted.
pub const MOST: usize = 10_000;

/// Rows that are checked with their fields at once.
const AT_ONCE: usize = 500;

/// Progress is reported after so many rows.
const EVERY: u64 = 5_000;

/// What came of a comparison.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Comparison {
    /// Table by table.
    pub tables: Vec<TableComparison>,
    /// The first of all differences.
    pub differences: Vec<Difference>,
    /// Whether there are more differences than are kept.
    pub truncated: bool,
}

/// What came of a table.
#[derive(Debug, Clone, Serialize)]
pub struct TableComparison {
    /// The table.
    pub table: &'static str,
    /// Columns that were left out.
    pub left_out: &'static [&'static str],
    /// Rows of the live table that come from events.
    pub rows: u64,
    /// Rows that the live table does not have.
    pub added: u64,
    /// Rows that only the live table has.
    pub removed: u64,
    /// Rows that differ.
    pub changed: u64,
    /// How many of these three are about keys with parked events.
    pub parked: u64,
    /// Rows of the product's own services: they stay.
    pub product_rows: u64,
}

/// What a swap would do to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// The live table does not have it.
    Added,
    /// Only the live table has it.
    Removed,
    /// Some of its fields are others.
    Changed,
}

/// A row that is not the same.
#[derive(Debug, Clone, Serialize)]
pub struct Difference {
    /// The table.
    pub table: &'static str,
    /// The row's key.
    pub key: String,
    /// What a swap would do to it.
    pub change: Change,
    /// The fields that differ: live, and rebuilt.
    pub fields: BTreeMap<String, (Value, Value)>,
    /// The event that touched it last: the one that the row names, and for rows that name none, or are
    /// gone, the last one of their key.
    pub event: Event,
    /// Whether the rebuilt tables lack it because of that event: it deletes what the row is about.
    pub deleted: bool,
    /// Whether its key has parked events: the tables may differ in what is parked.
    pub parked: bool,
    /// What the row is about, as events name it.
    #[serde(skip)]
    pub about: String,
}

/// What a row states about its last event.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Event {
    /// Its id.
    pub id: Option<Uuid>,
    /// Its stream.
    pub stream: Option<String>,
    /// Its sequence there.
    pub sequence: Option<i64>,
}

impl Comparison {
    /// Whether nothing differs.
    pub fn is_equal(&self) -> bool {
        self.count() == 0
    }

    /// How many rows differ.
    pub fn count(&self) -> u64 {
        let tables = self.tables.iter();
        tables.map(TableComparison::count).sum()
    }

    /// How many of them are about keys with parked events.
    pub fn parked(&self) -> u64 {
        self.tables.iter().map(|table| table.parked).sum()
    }
}

impl TableComparison {
    /// How many rows differ.
    pub fn count(&self) -> u64 {
        self.added + self.removed + self.changed
    }
}

/// Two sessions: one of them in the snapshot of the live tables, the other one with the shadow, which
/// stands still.
pub(crate) struct Sides<'a> {
    pub(crate) live: &'a mut PgConnection,
    pub(crate) shadow: &'a mut PgConnection,
    pub(crate) schema: &'a str,
    /// Keys with parked events on either side.
    pub(crate) parked: &'a BTreeSet<String>,
}

/// Compares all tables of a projection.
pub(crate) async fn compare<P: Projector>(
    sides: &mut Sides<'_>,
    on_step: OnStep<'_>,
) -> Result<Comparison, RebuildError> {
    let mut comparison = Comparison::default();
    for table in P::REBUILT {
        let columns = columns(sides.live, table).await?;
        let mut compared = TableComparison {
            table: table.name,
            left_out: table.left_out,
            rows: 0,
            added: 0,
            removed: 0,
            changed: 0,
            parked: 0,
            product_rows: product_rows(sides.live, table).await?,
        };
        let mut some = Vec::new();
        let live = rows(sides.live, digests("public", table, &columns));
        let shadow = rows(sides.shadow, digests(sides.schema, table, &columns));
        merge(live, shadow, &mut compared, &mut some, &mut *on_step).await?;
        for part in some.chunks(AT_ONCE) {
            let found = describe(sides, table, &columns, part).await?;
            compared.parked += found.iter().filter(|difference| difference.parked).count() as u64;
            let room = MOST - comparison.differences.len();
            comparison.truncated |= found.len() > room;
            comparison.differences.extend(found.into_iter().take(room));
        }
        comparison.truncated |= compared.count() > some.len() as u64;
        comparison.tables.push(compared);
    }
    Ok(comparison)
}

type Key = (String, Change);

/// Compares both sides in key order.
async fn merge(
    live: impl Stream<Item = Result<(String, Uuid), sqlx::Error>>,
    shadow: impl Stream<Item = Result<(String, Uuid), sqlx::Error>>,
    compared: &mut TableComparison,
    some: &mut Vec<Key>,
    on_step: OnStep<'_>,
) -> Result<(), sqlx::Error> {
    let (mut live, mut shadow) = (std::pin::pin!(live), std::pin::pin!(shadow));
    let (mut here, mut there) = (live.try_next().await?, shadow.try_next().await?);
    let mut seen = 0_u64;
    loop {
        let order = match (&here, &there) {
            (None, None) => break,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some((live, _)), Some((shadow, _))) => live.cmp(shadow),
        };
        let mut keep = |key: &str, change: Change| {
            if some.len() < MOST {
                some.push((key.to_owned(), change));
            }
        };
        match (order, &here, &there) {
            (std::cmp::Ordering::Less, Some((key, _)), _) => {
                compared.removed += 1;
                keep(key, Change::Removed);
            }
            (std::cmp::Ordering::Greater, _, Some((key, _))) => {
                compared.added += 1;
                keep(key, Change::Added);
            }
            (_, Some((key, one)), Some((_, other))) if one != other => {
                compared.changed += 1;
                keep(key, Change::Changed);
            }
            _ => {}
        }
        if order.is_le() {
            compared.rows += 1;
            here = live.try_next().await?;
        }
        if order.is_ge() {
            there = shadow.try_next().await?;
        }
        seen += 1;
        if seen.is_multiple_of(EVERY) {
            let table = compared.table;
            on_step(Step::Comparing { table, rows: seen });
        }
    }
    on_step(Step::Comparing {
        table: compared.table,
        rows: seen,
    });
    Ok(())
}

/// The columns that are compared.
async fn columns(connection: &mut PgConnection, table: &Table) -> Result<Vec<String>, sqlx::Error> {
    let left_out: Vec<&str> = table.left_out.to_vec();
    sqlx::query_scalar(
        "select quote_ident(attname) from pg_attribute \
         where attrelid = format('public.%I', $1)::regclass and attnum > 0 and not attisdropped \
             and attname <> all($2) order by attname",
    )
    .bind(table.name)
    .bind(left_out)
    .fetch_all(connection)
    .await
}

/// Rows of the product's own services have no event.
fn of_events(table: &Table) -> &'static str {
    match table.shared {
        Some(_) => "event_id is not null",
        None => "true",
    }
}

async fn product_rows(connection: &mut PgConnection, table: &Table) -> Result<u64, sqlx::Error> {
    let of_events = of_events(table);
    let sql = format!(
        "select count(*) from public.{} where not ({of_events})",
        table.name
    );
    let rows: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_one(connection)
        .await?;
    Ok(u64::try_from(rows).unwrap_or(0))
}

fn digests(schema: &str, table: &Table, columns: &[String]) -> String {
    let (key, name, of_events) = (table.key, table.name, of_events(table));
    let columns = columns.join(", ");
    format!(
        "select ({key})::text collate \"C\" as key, md5(row({columns})::text)::uuid \
         from {schema}.{name} where {of_events} order by key"
    )
}

fn rows(
    connection: &mut PgConnection,
    sql: String,
) -> impl Stream<Item = Result<(String, Uuid), sqlx::Error>> + '_ {
    sqlx::query_as(AssertSqlSafe(sql)).fetch(connection)
}

/// The fields that differ of some rows.
async fn describe(
    sides: &mut Sides<'_>,
    table: &Table,
    columns: &[String],
    keys: &[Key],
) -> Result<Vec<Difference>, sqlx::Error> {
    let wanted: Vec<&str> = keys.iter().map(|(key, _)| key.as_str()).collect();
    let mut live = full(sides.live, "public", table, columns, &wanted).await?;
    let mut shadow = full(sides.shadow, sides.schema, table, columns, &wanted).await?;
    let mut found = Vec::new();
    for (key, change) in keys {
        let (here, there) = (live.remove(key), shadow.remove(key));
        let event = event(there.as_ref().or(here.as_ref()).map(|row| &row.fields));
        let about: Vec<&String> = [&there, &here]
            .into_iter()
            .flatten()
            .map(|row| &row.about)
            .collect();
        let parked = about.iter().any(|about| sides.parked.contains(*about));
        let about = about
            .first()
            .map_or_else(String::new, |about| (*about).clone());
        let mut fields = BTreeMap::new();
        if let (Some(here), Some(there)) = (&here, &there) {
            for (name, live) in &here.fields {
                let rebuilt = there.fields.get(name).unwrap_or(&Value::Null);
                if live != rebuilt {
                    fields.insert(name.clone(), (live.clone(), rebuilt.clone()));
                }
            }
        }
        found.push(Difference {
            table: table.name,
            key: key.clone(),
            change: *change,
            fields,
            event,
            deleted: false,
            parked,
            about,
        });
    }
    Ok(found)
}

struct Full {
    fields: Map<String, Value>,
    about: String,
}

async fn full(
    connection: &mut PgConnection,
    schema: &str,
    table: &Table,
    columns: &[String],
    keys: &[&str],
) -> Result<BTreeMap<String, Full>, sqlx::Error> {
    let (key, name, about) = (table.key, table.name, table.about);
    let (columns, of_events) = (columns.join(", "), of_events(table));
    // As texts: numbers and times as the database shows them, whatever JSON would make of them.
    let sql = format!(
        "select ({key})::text as key, coalesce(({about})::text, '') as about, ( \
             select jsonb_object_agg(f.key, f.value) \
             from jsonb_each_text((select to_jsonb(x) from (select {columns}) x)) f) as fields \
         from {schema}.{name} where {of_events} and ({key})::text = any($1)"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(keys)
        .fetch_all(connection)
        .await?;
    let mut found = BTreeMap::new();
    for row in rows {
        let fields: Value = row.try_get("fields")?;
        let Value::Object(fields) = fields else {
            continue;
        };
        let about = row.try_get("about")?;
        found.insert(row.try_get("key")?, Full { fields, about });
    }
    Ok(found)
}

fn event(fields: Option<&Map<String, Value>>) -> Event {
    let Some(fields) = fields else {
        return Event::default();
    };
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let of_element = text("element").map(|element| format!("ARTSTORE_WAL_{element}"));
    Event {
        id: text("event_id").and_then(|id| id.parse().ok()),
        stream: text("stream").map(str::to_owned).or(of_element),
        sequence: text("stream_sequence").and_then(|sequence| sequence.parse().ok()),
    }
}
