//! Takes archived rows out of the table, the first ones first, a batch a transaction.

use artstore_schemas::crash;
use sqlx::{Connection as _, PgConnection};

use super::Archived;

/// Rows of a transaction.
const BATCH: i64 = 1_000;

/// How many rows that are archived are still there.
pub async fn left(connection: &mut PgConnection, archived: &Archived) -> Result<u64, sqlx::Error> {
    let count: i64 = sqlx::query_scalar(
        "select count(*) from public.audit_logs where stream = $1 and stream_sequence <= $2",
    )
    .bind(&archived.stream)
    .bind(i64::try_from(archived.last).unwrap_or(i64::MAX))
    .fetch_one(connection)
    .await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Removes them; returns how many.
pub async fn remove(
    connection: &mut PgConnection,
    archived: &Archived,
    mut progress: impl FnMut(u64),
) -> Result<u64, sqlx::Error> {
    let mut removed = 0;
    loop {
        let mut transaction = connection.begin().await?;
        // What the trigger of the table asks for.
        sqlx::raw_sql("set local artstore.audit_archive = 'on'")
            .execute(&mut *transaction)
            .await?;
        let done = sqlx::query(
            "delete from public.audit_logs where id in ( \
                 select id from public.audit_logs where stream = $1 and stream_sequence <= $2 \
                 order by stream_sequence limit $3)",
        )
        .bind(&archived.stream)
        .bind(i64::try_from(archived.last).unwrap_or(i64::MAX))
        .bind(BATCH)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        if done.rows_affected() == 0 {
            return Ok(removed);
        }
        removed += done.rows_affected();
        progress(removed);
        crash::point("audit.archive.removed");
    }
}
