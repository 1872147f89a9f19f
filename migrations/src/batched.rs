//! A part that fills a large table: each transaction updates a few thousand keys, in the order of
//! the keys, so that no row is locked for long. A trigger that an earlier part has created fills the rows
//! that others add meanwhile.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, PgConnection};

use crate::error::{Failure, MigrateError, Task};
use crate::part::Keys;
use crate::patience::{Waiting, is_lock_conflict};
use crate::transaction::{begin, roll_back};

const ROWS: i64 = 2_000;

/// How often the progress is reported.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// Goes through the whole table once. `sql` takes the keys as `$1`, a `text[]`.
pub(crate) async fn run(
    conn: &mut PgConnection,
    task: &Task<'_>,
    keys: &Keys,
    sql: &str,
    patience: Duration,
) -> Result<(), MigrateError> {
    let about = estimate(conn, keys)
        .await
        .map_err(|source| task.failed(Failure::Work(source)))?;
    let started = Instant::now();
    let mut reported = started;
    let (mut last, mut rows) = (None::<String>, 0_usize);
    loop {
        let mut waiting = Waiting::new(patience);
        let chunk = loop {
            match attempt(conn, task, keys, sql, last.as_deref()).await {
                Ok(chunk) => break chunk,
                Err(Failure::Work(source)) if is_lock_conflict(&source) => {
                    waiting.refused(conn, task).await?;
                }
                Err(failure) => return Err(task.failed(failure)),
            }
        };
        rows += chunk.len();
        let Some(key) = chunk.into_iter().next_back() else {
            return Ok(());
        };
        // A crash here keeps these rows; the next run goes through all again.
        artstore_runtime::crash::point("migrate.chunk");
        last = Some(key);
        if reported.elapsed() >= REPORT_EVERY {
            reported = Instant::now();
            let rate = rows as f64 / started.elapsed().as_secs_f64();
            tracing::info!(module = %task.module, step = %task.step, table = keys.table, rows,
                about, rows_per_second = rate.round(), "filling");
        }
    }
}

/// One chunk, and its keys.
async fn attempt(
    conn: &mut PgConnection,
    task: &Task<'_>,
    keys: &Keys,
    sql: &str,
    last: Option<&str>,
) -> Result<Vec<String>, Failure> {
    let mut tx = begin(conn).await.map_err(Failure::Work)?;
    match work(&mut tx, keys, sql, last).await {
        Ok(chunk) => {
            tx.commit().await.map_err(Failure::Commit)?;
            Ok(chunk)
        }
        Err(error) => {
            roll_back(tx, task.module).await;
            Err(Failure::Work(error))
        }
    }
}

async fn work(
    conn: &mut PgConnection,
    keys: &Keys,
    sql: &str,
    last: Option<&str>,
) -> Result<Vec<String>, sqlx::Error> {
    let Keys {
        table,
        column,
        kind,
    } = keys;
    // Two statements, so that neither has a condition that hides the key from the index.
    let after = if last.is_some() {
        format!("where {column} > $2::text::{kind}")
    } else {
        "where $2::text is null".to_owned()
    };
    let chunk: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!(
        "select {column}::text from {table} {after} order by {column} limit $1"
    )))
    .bind(ROWS)
    .bind(last)
    .fetch_all(&mut *conn)
    .await?;
    if !chunk.is_empty() {
        sqlx::query(AssertSqlSafe(sql.trim_end_matches(';').to_owned()))
            .bind(&chunk)
            .execute(conn)
            .await?;
    }
    Ok(chunk)
}

/// How many rows there are, as the last `analyze` saw it; -1 where there was none.
async fn estimate(conn: &mut PgConnection, keys: &Keys) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "select reltuples::bigint from pg_catalog.pg_class where oid = $1::text::regclass",
    )
    .bind(&keys.table)
    .fetch_one(conn)
    .await
}
