//! Finished rows by their positions, for whoever checks what was published: read with the same statement
//! as the relay's polls. It only reads.

use futures::TryStreamExt as _;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use uuid::Uuid;

use crate::relay::relay_error::RelayError;
use crate::relay::source::{self, Content, SourceRow, SourceTable, WalState};

/// The most rows of one read.
const MAX_ROWS: usize = 1_000;

/// A read takes no more rows beyond this much text.
const MAX_BYTES: usize = 16 * 1024 * 1024;

impl SourceRow {
    /// Whether our API committed it: it carries the file's state itself, and it was finished in
    /// the transaction that held the file's row, so its order among the file's changes is certain.
    pub fn is_recorded(&self) -> bool {
        match &self.content {
            Content::Wal(row) => matches!(row.state, WalState::Recorded(_)),
            Content::Outbox(_) => false,
        }
    }
}

/// Reads the rows from position `first` to `last`, in their order. A read may end early: the
/// number is the position up to which nothing was left out.
pub async fn between(
    connection: &mut PgConnection,
    table: &SourceTable,
    first: i64,
    last: i64,
) -> Result<(Vec<SourceRow>, i64), RelayError> {
    let limit = i64::try_from(MAX_ROWS).unwrap_or(i64::MAX);
    let poll = table.poll(connection).await?;
    let query = sqlx::query(AssertSqlSafe(poll))
        .bind(vec![first])
        .bind(vec![last])
        .bind(limit);
    let mut rows: Vec<SourceRow> = Vec::new();
    let mut bytes = 0;
    let mut read = query.fetch(connection);
    while let Some(row) = read.try_next().await? {
        bytes += source::size(&row);
        rows.push(table.read(&row)?);
        if bytes > MAX_BYTES {
            break;
        }
    }
    let cut = rows.len() >= MAX_ROWS || bytes > MAX_BYTES;
    let complete = match rows.last() {
        Some(row) if cut => row.position,
        _ => last,
    };
    Ok((rows, complete))
}

/// Reads the rows at these positions, in the order of the positions.
pub async fn at(
    connection: &mut PgConnection,
    table: &SourceTable,
    positions: &[i64],
) -> Result<Vec<SourceRow>, RelayError> {
    let mut sorted = positions.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut rows = Vec::with_capacity(sorted.len());
    let poll = table.poll(connection).await?;
    for chunk in sorted.chunks(MAX_ROWS) {
        let read = sqlx::query(AssertSqlSafe(poll.clone()))
            .bind(chunk)
            .bind(chunk)
            .bind(i64::try_from(chunk.len()).unwrap_or(i64::MAX))
            .fetch_all(&mut *connection)
            .await?;
        for row in &read {
            rows.push(table.read(row)?);
        }
    }
    Ok(rows)
}

/// The positions of the finished rows with these ids.
pub async fn positions(
    connection: &mut PgConnection,
    table: &SourceTable,
    ids: &[Uuid],
) -> Result<Vec<(Uuid, i64)>, RelayError> {
    let sql = format!(
        "select {id} as id, position from public.{} where {id} = any($1) and position is not null",
        table.table,
        id = table.id_column
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(ids);
    let rows = rows.fetch_all(connection).await?;
    rows.iter()
        .map(|row| Ok((row.try_get("id")?, row.try_get("position")?)))
        .collect()
}

/// The highest position that can be seen; 0 where there is none.
pub async fn highest(
    connection: &mut PgConnection,
    table: &SourceTable,
) -> Result<i64, RelayError> {
    let sql = format!(
        "select coalesce(max(position), 0) from public.{}",
        table.table
    );
    Ok(sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_one(connection)
        .await?)
}

/// Whether a row has a position above this one.
pub(crate) async fn any_above(
    connection: &mut PgConnection,
    table: &SourceTable,
    position: i64,
) -> Result<bool, RelayError> {
    let sql = format!(
        "select exists (select 1 from public.{} where position > $1)",
        table.table
    );
    Ok(sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(position)
        .fetch_one(connection)
        .await?)
}

/// How many rows have a position above this one.
pub async fn above(
    connection: &mut PgConnection,
    table: &SourceTable,
    position: i64,
) -> Result<i64, RelayError> {
    let sql = format!(
        "select count(*) from public.{} where position > $1",
        table.table
    );
    Ok(sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(position)
        .fetch_one(connection)
        .await?)
}

/// Finished rows that have no position, so that no relay sees them: the first of them, and how
/// many there are. It reads the whole table.
pub async fn unnumbered(
    connection: &mut PgConnection,
    table: &SourceTable,
    most: usize,
) -> Result<(Vec<Uuid>, u64), RelayError> {
    // A row of an outbox is finished from the start.
    let finished = match table.element {
        Some(_) => "status in ('committed', 'rolled_back', 'failed')",
        None => "true",
    };
    let sql = format!(
        "select {} from public.{} where position is null and {finished}",
        table.id_column, table.table
    );
    let mut found = Vec::new();
    let mut count = 0;
    let mut read = sqlx::query_scalar::<_, Uuid>(AssertSqlSafe(sql)).fetch(connection);
    while let Some(id) = read.try_next().await? {
        count += 1;
        if found.len() < most {
            found.push(id);
        }
    }
    Ok((found, count))
}

/// The identity of the source's database, as messages carry it. A standby is refused.
pub async fn identity(
    connection: &mut PgConnection,
    table: &SourceTable,
) -> Result<String, RelayError> {
    Ok(source::snapshot(connection, &table.sequence)
        .await?
        .identity)
}
