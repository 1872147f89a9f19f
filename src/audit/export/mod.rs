//! Rows of the audit log for other systems: which ones an export has, in which order, and in which
//! form.
//!
//! - [`csv`]: a table for people
//! - [`ocsf`]: events of the Open Cybersecurity Schema Framework
//!
//! JSON lines are what `audit show --json` shows.

pub mod csv;
pub mod ocsf;

use std::collections::BTreeMap;

use artstore_projectors::audit_log::store::{Stored, stored};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, QueryBuilder};

use super::select::{Filters, columns, object};

/// Rows that are read at once.
const BATCH: i64 = 1_000;

/// The form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A JSON object a line, with everything that is signed and the signature
    Jsonl,
    /// A table with a line of names; no cell is a formula
    Csv,
    /// An OCSF 1.5.0 event a line
    Ocsf,
}

impl Format {
    /// What comes before the first row.
    pub fn header(self) -> Vec<u8> {
        match self {
            Self::Csv => csv::header(),
            Self::Jsonl | Self::Ocsf => Vec::new(),
        }
    }

    /// A row, with the end of its line.
    pub fn line(self, row: &Stored) -> Vec<u8> {
        let value = match self {
            Self::Csv => return csv::line(row),
            Self::Jsonl => object(row),
            Self::Ocsf => ocsf::event(row),
        };
        let mut line = value.to_string().into_bytes();
        line.push(b'\n');
        line
    }
}

/// What the log had when the export began. Rows are only added, so the same bounds are the same rows
/// at any later time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// How many rows each stream's log had.
    pub streams: BTreeMap<String, i64>,
    /// The last one of the product's own rows.
    pub product: i64,
}

impl Bounds {
    /// What there is now.
    pub async fn now(connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let streams: Vec<(String, i64)> =
            sqlx::query_as("select stream, size from public.audit_trees")
                .fetch_all(&mut *connection)
                .await?;
        let product = sqlx::query_scalar(
            "select coalesce(max(id), 0) from public.audit_logs where format = 0",
        )
        .fetch_one(connection)
        .await?;
        Ok(Self {
            streams: streams.into_iter().collect(),
            product,
        })
    }
}

/// The next rows behind an id, in the order of their ids; none: that was all.
pub async fn batch(
    connection: &mut PgConnection,
    filters: &Filters,
    bounds: &Bounds,
    behind: i64,
) -> Result<Vec<Stored>, sqlx::Error> {
    let mut query = QueryBuilder::new(format!(
        "select {} from public.audit_logs as log where id > ",
        columns()
    ));
    query.push_bind(behind);
    query
        .push(" and case when format = 0 then id <= ")
        .push_bind(bounds.product);
    query
        .push(" else stream_sequence <= (select size from unnest(")
        .push_bind(bounds.streams.keys().cloned().collect::<Vec<_>>());
    query
        .push("::text[], ")
        .push_bind(bounds.streams.values().copied().collect::<Vec<_>>());
    query.push("::bigint[]) as bound (stream, size) where bound.stream = log.stream) end");
    filters.push(&mut query);
    query.push(" order by id limit ").push_bind(BATCH);
    let rows = query.build().fetch_all(connection).await?;
    rows.iter().map(stored).collect()
}
