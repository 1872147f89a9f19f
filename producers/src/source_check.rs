//! Whether a source is fit to be read: asked on every connection, before the first poll. A bypass
//! of the trigger or a replaced sequence would hide rows, so nothing is published then.

use sqlx::{AssertSqlSafe, PgConnection, Row};

use crate::relay_error::{Halt, RelayError};
use crate::source::SourceTable;

/// Checks trigger, sequence, index and constraint of a source's table.
pub async fn check(connection: &mut PgConnection, table: &SourceTable) -> Result<(), RelayError> {
    let standby: bool = sqlx::query_scalar("select pg_is_in_recovery()")
        .fetch_one(&mut *connection)
        .await?;
    if standby {
        return Err(Halt::Standby.into());
    }
    let row = sqlx::query(include_str!("sql/source_check.sql"))
        .bind(format!("public.{}", table.table))
        .bind(&table.sequence)
        .bind(
            table
                .element
                .as_ref()
                .map(|element| format!("public.{element}_wal_pruned")),
        )
        .fetch_one(&mut *connection)
        .await?;
    if !row.try_get::<bool, _>("table")? {
        return Err(Halt::NoTable {
            database: row.try_get("database")?,
            table: table.table.clone(),
        }
        .into());
    }
    let problems = [
        (
            "trigger",
            "its position trigger is missing, disabled, not `enable always`, not `security definer` with a fixed search_path, or not the last to fire",
        ),
        (
            "sequence",
            "its position sequence is missing, cycles, caches, steps by more than one, or belongs to a column",
        ),
        (
            "index",
            "its unique index on the position is missing or not valid",
        ),
        (
            "guard",
            "the constraint that a finished row has a position is missing or not validated",
        ),
        (
            "floor",
            "the table that says how far it was pruned is missing",
        ),
    ];
    for (column, problem) in problems {
        if !row.try_get::<Option<bool>, _>(column)?.unwrap_or(false) {
            return Err(Halt::NotMigrated {
                table: table.table.clone(),
                problem: problem.to_owned(),
            }
            .into());
        }
    }
    readable(connection, table).await
}

async fn readable(connection: &mut PgConnection, table: &SourceTable) -> Result<(), RelayError> {
    let sql = format!("select position from public.{} limit 0", table.table);
    sqlx::query(AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}
