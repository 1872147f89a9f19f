//! Removes archived rows from the table, the first ones first, one batch per transaction.

use artstore_runtime::crash;
use sqlx::{Connection as _, PgConnection};

use super::Archived;

/// Rows of a transaction.
const BATCH: i64 = 1_000;

/// How many rows that are archived are still there.
pub async fn left(connection: &mut PgConnection, archived: &Archived) -> Result<u64, sqlx::Error> {
    let count: i64 = sqlx::query_scalar(
        "select count(*) from public.audit_logs \
         where stream = $1 and stream_sequence > 0 and stream_sequence <= $2",
    )
    .bind(&archived.stream)
    .bind(last(archived))
    .fetch_one(connection)
    .await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Removes them; returns how many. Rows that have no place in a log (below the first one) are no
/// archived ones and stay.
pub async fn remove(
    connection: &mut PgConnection,
    archived: &Archived,
    mut progress: impl FnMut(u64),
) -> Result<u64, sqlx::Error> {
    let mut removed = 0;
    // Each batch begins after the last one: the index still has the rows before it for a while.
    let mut behind = 0;
    loop {
        let mut transaction = connection.begin().await?;
        // What the trigger of the table asks for.
        sqlx::raw_sql("set local artstore.audit_archive = 'on'")
            .execute(&mut *transaction)
            .await?;
        let (done, end): (i64, Option<i64>) = sqlx::query_as(
            "with gone as ( \
                 delete from public.audit_logs where id in ( \
                     select id from public.audit_logs \
                     where stream = $1 and stream_sequence > $2 and stream_sequence <= $3 \
                     order by stream_sequence limit $4) \
                 returning stream_sequence) \
             select count(*), max(stream_sequence) from gone",
        )
        .bind(&archived.stream)
        .bind(behind)
        .bind(last(archived))
        .bind(BATCH)
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        let Some(end) = end else {
            return Ok(removed);
        };
        behind = end;
        removed += u64::try_from(done).unwrap_or(0);
        progress(removed);
        crash::point("audit.archive.removed");
    }
}

fn last(archived: &Archived) -> i64 {
    i64::try_from(archived.last).unwrap_or(i64::MAX)
}
