//! A chunk of `_files`: all rows of a range of ids, read in the poll's own snapshot by
//! [`crate::relay::source`]. It goes to [`crate::backfill::differences`].

use std::collections::BTreeMap;

use artstore_schemas::element::ElementName;
use artstore_schemas::event::{File, Omitted};
use futures::TryStreamExt as _;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use uuid::Uuid;

use crate::publish::file_row;
use crate::relay::relay_error::RelayError;
use crate::relay::source::size;
use crate::texts::Texts;

/// The most rows of a chunk.
const MAX_ROWS: i64 = 1_000;

/// A chunk ends beyond this much text.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// The chunk after an id; none: the first one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) after: Option<Uuid>,
}

/// Every row of `_files` behind `after` and up to `upto`, at one moment.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) after: Option<Uuid>,
    /// None: to the end of the table.
    pub(crate) upto: Option<Uuid>,
    /// By id.
    pub(crate) files: Vec<File>,
    /// What of them was too large to be fetched.
    pub(crate) large: BTreeMap<Uuid, Vec<Omitted>>,
}

/// Reads the rows after `after`, as many as fit.
pub(crate) async fn read(
    connection: &mut PgConnection,
    element: &ElementName,
    texts: &Texts,
    after: Option<Uuid>,
) -> Result<Chunk, RelayError> {
    // A range of the primary key, so that a chunk costs the same anywhere in the table.
    let behind = if after.is_some() {
        "where f.file_id > $2"
    } else {
        ""
    };
    let sql = format!(
        "select {} from public.{element}_files f {behind} order by f.file_id limit $1",
        file_row::shown_columns(texts)
    );
    let mut query = sqlx::query(AssertSqlSafe(sql)).bind(MAX_ROWS);
    if let Some(after) = after {
        query = query.bind(after);
    }
    let mut rows = query.fetch(connection);
    let mut files: Vec<File> = Vec::new();
    let mut large = BTreeMap::new();
    let mut bytes = 0;
    let mut read = 0;
    while let Some(row) = rows.try_next().await? {
        read += 1;
        // Read to the end, so that the connection can be used again.
        if bytes <= MAX_BYTES {
            bytes += size(&row);
            let id = row.try_get("file_id")?;
            let measured = file_row::large(&row)?;
            if !measured.is_empty() {
                large.insert(id, measured);
            }
            files.push(file_row::read_joined(&row, id)?);
        }
    }
    let all = read < MAX_ROWS && bytes <= MAX_BYTES;
    Ok(Chunk {
        after,
        upto: files.last().filter(|_| !all).map(|file| file.id),
        files,
        large,
    })
}
