//! How far an element's finished operations were pruned ([`crate::operations::prune`]). Up to that
//! position, its
//! *prune mark*, the stream alone contains them. A message there needs no row. A stream that ends below
//! the prune mark, or has a gap at or below it, lacks what nobody else has.

use artstore_schemas::ranges::{Range, Ranges};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::relay::relay_error::{Halt, RelayError};
use crate::relay::seen_positions::SeenPositions;
use crate::relay::source::SourceTable;

const UNDEFINED_TABLE: &str = "42P01";

/// What was pruned of a source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Everything up to this position is gone; 0 where nothing is, as of every outbox.
    pub prune_mark: i64,
    /// So many operations, all of them at or below the prune mark.
    pub operations: i64,
}

/// The prune mark of a source; 0 where nothing was pruned, as of every outbox.
///
/// Read it *behind* the rows that it shall explain: it is raised in the transaction that removes them.
/// Read it *before* the stream that it is compared with: it is raised only when the stream holds them.
pub async fn read(connection: &mut PgConnection, table: &SourceTable) -> Result<i64, RelayError> {
    Ok(pruned(connection, table).await?.prune_mark)
}

/// As [`read`], with how many operations that was. A record that is not there is an error: without it
/// a stream that lacks what was pruned looks like a good one.
pub async fn pruned(
    connection: &mut PgConnection,
    table: &SourceTable,
) -> Result<Pruned, RelayError> {
    let Some(element) = &table.element else {
        return Ok(Pruned::default());
    };
    let sql = format!("select floor, operations from public.{element}_wal_pruned");
    let found: Result<Option<(i64, i64)>, sqlx::Error> = sqlx::query_as(AssertSqlSafe(sql))
        .fetch_optional(connection)
        .await;
    match found {
        Ok(Some((prune_mark, operations))) => Ok(Pruned {
            prune_mark,
            operations,
        }),
        Ok(None) => Err(Halt::NoPruneMark {
            table: format!("{element}_wal_pruned"),
        }
        .into()),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(UNDEFINED_TABLE) => {
            Err(Halt::NotMigrated {
                table: table.table.clone(),
                problem: "the table that says how far it was pruned is missing".to_owned(),
            }
            .into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether a stream with this state has everything up to the prune mark. No number at or below it can be
/// taken for aborted any more: its row may have been pruned.
pub fn is_held(prune_mark: i64, seen_positions: &SeenPositions) -> bool {
    let first_gap = seen_positions
        .gaps()
        .as_slice()
        .first()
        .map(|range| range.first);
    seen_positions.high_water_mark() >= prune_mark
        && first_gap.is_none_or(|first| first > prune_mark)
}

/// All positions up to the prune mark.
pub fn below(prune_mark: i64) -> Ranges {
    let range = Range {
        first: 1,
        last: prune_mark,
    };
    (prune_mark > 0).then_some(range).into_iter().collect()
}
