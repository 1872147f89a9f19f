//! Rows that prevent a step, or that it would lose: searched for before anything is changed.

use sqlx::{AssertSqlSafe, PgConnection};

use crate::error::{Failure, FoundTables, MigrateError, Task};
use crate::part::{Kind, Part, Reason};

/// How many rows are listed.
const LISTED: usize = 10;

/// Runs the checks among the parts. `accept_loss` lets those pass that only lose rows. Of an
/// `unfinished` step a table or column may be missing: what is not there holds no rows.
pub(crate) async fn run(
    conn: &mut PgConnection,
    task: &Task<'_>,
    parts: &[Part],
    accept_loss: bool,
    unfinished: bool,
) -> Result<(), MigrateError> {
    for part in parts {
        match &part.kind {
            Kind::Refuse(_) => {}
            Kind::Loses(_) if !accept_loss => {}
            Kind::Loses(_) | Kind::Transaction | Kind::Concurrently(_) | Kind::Batched(_) => {
                continue;
            }
        }
        match one(conn, task, part).await {
            Err(MigrateError::Step { source, .. }) if unfinished && is_missing(&source) => {}
            result => result?,
        }
    }
    Ok(())
}

/// `undefined_column` or `undefined_table`.
fn is_missing(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(code.as_deref(), Some("42703" | "42P01"))
}

/// The query has one column, a text that names the row.
async fn one(conn: &mut PgConnection, task: &Task<'_>, part: &Part) -> Result<(), MigrateError> {
    let (reason, loses): (&Reason, bool) = match &part.kind {
        Kind::Refuse(reason) => (reason, false),
        Kind::Loses(reason) => (reason, true),
        Kind::Transaction | Kind::Concurrently(_) | Kind::Batched(_) => return Ok(()),
    };
    let failed = |source| task.failed(Failure::Work(source));
    let query = part.sql.trim_end_matches(';');
    // As bytes: a database in SQL_ASCII may hold names that are not UTF-8.
    let rows: Vec<Vec<u8>> = sqlx::query_scalar(AssertSqlSafe(format!(
        "select convert_to(line, case getdatabaseencoding() when 'SQL_ASCII' then 'SQL_ASCII' \
             else 'UTF8' end) from ({query}) as found (line) limit {LISTED}"
    )))
    .fetch_all(&mut *conn)
    .await
    .map_err(failed)?;
    if rows.is_empty() {
        return Ok(());
    }
    let count: i64 = sqlx::query_scalar(AssertSqlSafe(format!(
        "select count(*) from ({query}) as found (line)"
    )))
    .fetch_one(conn)
    .await
    .map_err(failed)?;
    Err(MigrateError::Refused {
        module: task.module.clone(),
        step: task.step,
        direction: task.direction.word(),
        found: Box::new(FoundTables {
            problem: reason.problem.clone(),
            remedy: reason.remedy.clone(),
            rows: rows
                .iter()
                .map(|row| String::from_utf8_lossy(row).into_owned())
                .collect(),
            count,
        }),
        loses,
    })
}
