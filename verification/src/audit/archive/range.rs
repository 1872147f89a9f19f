//! Which rows may be archived: whole tiles from the first row on, all of them old enough, under a head
//! that was published.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::super::rows::UNIT;

/// Why no more rows may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// This row is not older than asked; without a time, it has none that can be read.
    Young(u64, Option<DateTime<Utc>>),
    /// There is no row behind it, or no published head.
    Head(u64),
}

/// The last row that may go; not above `archived` where none may. And what comes after it.
pub async fn end(
    connection: &mut PgConnection,
    stream: &str,
    archived: u64,
    published: u64,
    before: DateTime<Utc>,
) -> Result<(u64, End), sqlx::Error> {
    let young: Option<(i64, Option<DateTime<Utc>>)> = sqlx::query_as(
        "select stream_sequence, \
             case when isfinite(created_at) and created_at < timestamptz '10000-01-01 00:00:00+00' \
                 then created_at end \
         from public.audit_logs \
         where stream = $1 and stream_sequence > $2 and created_at >= $3 \
         order by stream_sequence limit 1",
    )
    .bind(stream)
    .bind(i64::try_from(archived).unwrap_or(i64::MAX))
    .bind(before)
    .fetch_optional(connection)
    .await?;
    let young = young.and_then(|(row, time)| Some((u64::try_from(row).ok()?, time)));
    let (most, end) = match young {
        Some((row, time)) if row <= published => (row - 1, End::Young(row, time)),
        // The last row under it stays: what is added later is chained to it.
        Some(_) | None => (published.saturating_sub(1), End::Head(published)),
    };
    Ok((most / UNIT * UNIT, end))
}
