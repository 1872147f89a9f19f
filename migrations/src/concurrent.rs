//! A part outside a transaction: indexes created or dropped while others read and write. Such a
//! statement waits for older transactions, and nobody waits for it.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection, Row};

use crate::error::{Failure, MigrateError, Task};
use crate::holders;
use crate::part::built_index;
use crate::patience::{Waiting, is_lock_conflict};

/// How long a statement waits for others at first. Then we report who they are, and it waits twice as
/// long: a build that gives up late has been for nothing.
const FIRST_WAIT: Duration = Duration::from_secs(20);

/// Runs the statements, each to its end before the next.
pub(crate) async fn run(
    conn: &mut PgConnection,
    task: &Task<'_>,
    statements: &[String],
    extension: Option<&str>,
    patience: Duration,
) -> Result<(), MigrateError> {
    let failed = |source| task.failed(Failure::Work(source));
    let mut path = "pg_catalog".to_owned();
    if let Some(extension) = extension {
        let Some(schema) = schema_of(conn, extension).await.map_err(failed)? else {
            tracing::warn!(module = %task.module, step = %task.step, extension,
                "the extension is not there: going on without the indexes that need it");
            return Ok(());
        };
        path = format!("pg_catalog, {schema}");
    }
    let before = settings(conn).await.map_err(failed)?;
    let done = all(conn, task, statements, &path, patience).await;
    // Whatever came of it, the session is as the caller had it.
    let restored = set(conn, &before).await.map_err(failed);
    done.and(restored)
}

async fn all(
    conn: &mut PgConnection,
    task: &Task<'_>,
    statements: &[String],
    path: &str,
    patience: Duration,
) -> Result<(), MigrateError> {
    for statement in statements {
        let mut waiting = Waiting::concurrent(patience);
        let mut wait = FIRST_WAIT;
        let held = holders::named(conn, task.module).await?;
        if !held.is_empty() {
            tracing::info!(module = %task.module, step = %task.step, holders = held.join(", "),
                statement = first_line(statement), "waits for those who use the tables now");
        }
        while let Err(source) = one(conn, statement, path, wait.min(waiting.left())).await {
            if !is_lock_conflict(&source) {
                discard(conn, task, statement).await;
                return Err(task.failed(Failure::Work(source)));
            }
            if let Err(mut error) = waiting.refused(conn, task).await {
                // A unique one would already be enforced, though the step is given up.
                let left = discard(conn, task, statement).await;
                if let MigrateError::Blocked { index_left, .. } = &mut error {
                    *index_left = left;
                }
                return Err(error);
            }
            wait *= 2;
        }
    }
    Ok(())
}

/// One try. An index of that name that a crash left unfinished is dropped first; a finished one is kept.
async fn one(
    conn: &mut PgConnection,
    statement: &str,
    path: &str,
    wait: Duration,
) -> Result<(), sqlx::Error> {
    let wait = format!("{}ms", wait.as_millis().max(1));
    set(conn, &[&wait, "0", path].map(str::to_owned)).await?;
    if let Some(index) = built_index(statement) {
        match is_valid(conn, index).await? {
            Some(true) => return Ok(()),
            Some(false) => drop_index(conn, index).await?,
            None => {}
        }
    }
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
        .execute(conn)
        .await?;
    Ok(())
}

/// A failed build leaves an index that costs every writer and helps no reader. Returns it where it
/// stays: whoever holds the table keeps it from being dropped as well.
async fn discard(conn: &mut PgConnection, task: &Task<'_>, statement: &str) -> Option<String> {
    let index = built_index(statement)?;
    let dropped = match is_valid(conn, index).await {
        Ok(Some(false)) => drop_index(conn, index).await,
        Ok(Some(true) | None) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = dropped {
        tracing::warn!(module = %task.module, index, %error,
            "the unfinished index was not dropped: the next up or down does it");
        return Some(index.to_owned());
    }
    None
}

async fn drop_index(conn: &mut PgConnection, index: &str) -> Result<(), sqlx::Error> {
    let sql = format!("drop index concurrently if exists public.{index}");
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(conn)
        .await
        .map(drop)
}

/// None where there is no index of that name.
async fn is_valid(conn: &mut PgConnection, index: &str) -> Result<Option<bool>, sqlx::Error> {
    sqlx::query_scalar(
        "select indisvalid from pg_catalog.pg_index where indexrelid = to_regclass('public.' || $1)",
    )
    .bind(index)
    .fetch_optional(conn)
    .await
}

async fn schema_of(
    conn: &mut PgConnection,
    extension: &str,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select extnamespace::regnamespace::text from pg_catalog.pg_extension where extname = $1",
    )
    .bind(extension)
    .fetch_optional(conn)
    .await
}

const NAMES: [&str; 3] = ["lock_timeout", "statement_timeout", "search_path"];

async fn settings(conn: &mut PgConnection) -> Result<[String; 3], sqlx::Error> {
    let row = sqlx::query(
        "select current_setting('lock_timeout'), current_setting('statement_timeout'),
             current_setting('search_path')",
    )
    .fetch_one(conn)
    .await?;
    Ok([row.try_get(0)?, row.try_get(1)?, row.try_get(2)?])
}

async fn set(conn: &mut PgConnection, values: &[String; 3]) -> Result<(), sqlx::Error> {
    for (name, value) in NAMES.iter().zip(values) {
        sqlx::query("select set_config($1, $2, false)")
            .bind(name)
            .bind(value)
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}

fn first_line(statement: &str) -> &str {
    statement.lines().next().unwrap_or(statement)
}
