//! Whether a source is fit to be read: checked on every connection, before the first poll. A bypassed
//! trigger or a replaced sequence would hide rows, so nothing is published then.

use artstore_runtime::relation;
use artstore_schemas::ranges::Range;
use sqlx::{PgConnection, Row};

use crate::relay::relay_error::{Halt, RelayError};
use crate::relay::source::SourceTable;

/// Checks that a source's tables show all of their rows, then trigger, sequence, index and constraint.
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
        .bind(table.lock_table())
        .fetch_one(&mut *connection)
        .await?;
    if !row.try_get::<bool, _>("table")? {
        return Err(Halt::NoTable {
            database: row.try_get("database")?,
            table: table.table.clone(),
        }
        .into());
    }
    shows_all(connection, table).await?;
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
        (
            "lock",
            "the table with the key of its relay's lock is missing",
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

/// Checks that each table that belongs to a source is a table, and shows this role all of its rows.
/// Where one does not, rows would never be published, and files would look gone.
pub async fn shows_all(
    connection: &mut PgConnection,
    table: &SourceTable,
) -> Result<(), RelayError> {
    match relation::unfit(connection, &table.relations()).await? {
        Some(unfit) => Err(Halt::Unfit(unfit).into()),
        None => Ok(()),
    }
}

/// Every column that a poll reads may be read.
async fn readable(connection: &mut PgConnection, table: &SourceTable) -> Result<(), RelayError> {
    let nothing = Range { first: 0, last: 0 };
    table.each_row(connection, &[nothing], 0, |_| ()).await
}
