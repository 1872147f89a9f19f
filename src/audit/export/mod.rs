//! Rows of the audit log for other systems: which ones an export has, in which order, and in which
//! format.
//!
//! - [`csv`]: a table for people
//! - [`ocsf`]: events of the Open Cybersecurity Schema Framework
//!
//! JSON lines are what `audit show --json` shows.

pub mod csv;
pub mod ocsf;

use artstore_projectors::audit_log::store::{Stored, stored};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, QueryBuilder};

use super::select::{Bounds, Filters, checked, columns};
use artstore_verification::audit::shown::Verdict;

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

    /// A row, with the end of its line. Where it is not the one that was signed, it says so.
    pub fn line(self, row: &Stored, verdict: &Verdict) -> Vec<u8> {
        let value = match self {
            Self::Csv => return csv::line(row, verdict),
            Self::Jsonl => checked(row, verdict),
            Self::Ocsf => ocsf::event(row, verdict),
        };
        let mut line = value.to_string().into_bytes();
        line.push(b'\n');
        line
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
    bounds.push(&mut query);
    filters.push(&mut query);
    query.push(" order by id limit ").push_bind(BATCH);
    let rows = query.build().fetch_all(connection).await?;
    rows.iter().map(stored).collect()
}
