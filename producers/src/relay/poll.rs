//! One poll of a source: a read-only repeatable-read transaction that returns rows, the snapshot they were
//! seen in, and, if there are new gaps, their bound. Rows go to [`crate::relay::translate`], gaps to
//! [`crate::relay::seen_positions`]. Nothing is written to the source.

use std::collections::HashSet;

use artstore_schemas::source::Source;
use futures::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};

use crate::backfill::chunk::{self, Chunk, Wanted};
use crate::relay::api_url::{self, ApiUrl};
use crate::relay::prune_mark;
use crate::relay::relay_error::RelayError;
use crate::relay::seen_positions::{MANY_GAPS, SeenPositions};
use crate::relay::source::{SourceRow, SourceTable, number, size, snapshot};

/// The most rows of one poll.
const MAX_ROWS: i64 = 1_000;

/// A poll stops taking rows beyond this much text, and asks for fewer rows the next time.
const MAX_POLL_BYTES: usize = 32 * 1024 * 1024;

/// What a poll found.
#[derive(Debug)]
pub struct Poll {
    /// Rows in position order: wanted positions, and new ones.
    pub rows: Vec<SourceRow>,
    /// Everything wanted up to this position was read.
    pub complete: i64,
    /// Every transaction below this one had ended before the snapshot.
    pub xmin_horizon: u64,
    /// The bound of the gaps that this poll is the first to find; taken only when there are some.
    pub bound: Option<u64>,
    /// The source's identity, as this poll's snapshot shows it.
    pub identity: String,
    /// The last position that was drawn from the sequence.
    pub sequence_value: i64,
    /// Up to where the source was pruned, in this poll's snapshot: rows at or below it are not seen.
    pub prune_mark: i64,
    /// Where the element states that its API is reached; none where nobody has set it.
    pub(crate) api_url: Option<ApiUrl>,
    /// The chunk of `_files` that was asked for; only where everything wanted was read.
    pub(crate) chunk: Option<Chunk>,
}

/// Polls one source.
#[derive(Debug)]
pub struct Poller {
    table: SourceTable,
    limit: i64,
}

impl Poller {
    /// For one source.
    pub fn new(source: &Source) -> Self {
        Self {
            table: SourceTable::of(source),
            limit: MAX_ROWS,
        }
    }

    /// Reads everything that is wanted, up to a limit; and, from the same snapshot, the chunk of
    /// `_files` behind `files`, where there is one and the limit was not reached.
    pub(crate) async fn poll(
        &mut self,
        connection: &mut PgConnection,
        seen_positions: &SeenPositions,
        files: Option<Wanted>,
    ) -> Result<Poll, RelayError> {
        // Read before the snapshot: who holds no lock now has ended by then, visibly.
        let holders = if seen_positions.gap_count() > MANY_GAPS {
            Some(self.xmin_horizon_of_holders(connection).await?)
        } else {
            None
        };
        let mut transaction = connection
            .begin_with("begin isolation level repeatable read read only")
            .await?;
        let seen = snapshot(&mut transaction, &self.table.sequence).await?;
        let (rows, cut) = self.rows(&mut transaction, seen_positions).await?;
        let prune_mark = prune_mark::read(&mut transaction, &self.table).await?;
        let api_url = api_url::stored(&mut transaction, &self.table).await?;
        let complete = match rows.last() {
            Some(last) if cut => last.position,
            _ => i64::MAX,
        };
        // Of rows that the limit cut off, `_files` may show the effect already.
        let chunk = match (files, &self.table.element) {
            (Some(wanted), Some(element)) if complete == i64::MAX => {
                let texts = self.table.texts(&mut transaction).await?;
                Some(chunk::read(&mut transaction, element, texts, wanted.after).await?)
            }
            _ => None,
        };
        // Assigned after the snapshot: above the id of whoever holds a number below those seen.
        let bound = if leaves_gaps(seen_positions, &rows) {
            let id: String = sqlx::query_scalar("select pg_current_xact_id()::text")
                .fetch_one(&mut *transaction)
                .await?;
            Some(number(&id)?)
        } else {
            None
        };
        transaction.commit().await?;
        Ok(Poll {
            rows,
            complete,
            xmin_horizon: holders.unwrap_or(seen.xmin),
            bound,
            identity: seen.identity,
            sequence_value: seen.sequence_value,
            prune_mark,
            api_url,
            chunk,
        })
    }

    async fn rows(
        &mut self,
        connection: &mut PgConnection,
        seen_positions: &SeenPositions,
    ) -> Result<(Vec<SourceRow>, bool), RelayError> {
        let (first, last) = seen_positions.wanted();
        let poll = self.table.poll(connection).await?;
        let query = sqlx::query(AssertSqlSafe(poll))
            .bind(first)
            .bind(last)
            .bind(self.limit);
        let mut rows = Vec::new();
        let mut bytes = 0;
        let mut read: i64 = 0;
        let mut stream = query.fetch(connection);
        while let Some(row) = stream.try_next().await? {
            read += 1;
            if bytes <= MAX_POLL_BYTES {
                bytes += size(&row);
                rows.push(self.table.read(&row)?);
            }
        }
        drop(stream);
        let taken = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        let cut = read >= self.limit || taken < read;
        self.limit = if taken < read {
            taken.max(1)
        } else {
            (self.limit * 2).min(MAX_ROWS)
        };
        Ok((rows, cut))
    }

    /// The least transaction id among those who hold a number: every transaction below it that
    /// drew one has ended. The highest number where nobody holds one; 0, which settles nothing, where a
    /// holder shows no id each time. One that shows no id and is gone the next time has ended: on a busy
    /// source there is always one of those.
    async fn xmin_horizon_of_holders(
        &self,
        connection: &mut PgConnection,
    ) -> Result<u64, RelayError> {
        const LOOKS: usize = 4;
        let mut least = u64::MAX;
        let mut unknown: Option<HashSet<String>> = None;
        for _ in 0..LOOKS {
            let mut still = HashSet::new();
            for (holder, id) in self.holders(connection).await? {
                // The next times are about those alone: who came since holds no number of a known gap.
                if unknown
                    .as_ref()
                    .is_some_and(|asked| !asked.contains(&holder))
                {
                    continue;
                }
                match id {
                    Some(id) => least = least.min(id),
                    None => {
                        still.insert(holder);
                    }
                }
            }
            if still.is_empty() {
                return Ok(least);
            }
            unknown = Some(still);
        }
        Ok(0)
    }

    async fn holders(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Vec<(String, Option<u64>)>, RelayError> {
        let rows = sqlx::query(include_str!("sql/holders.sql"))
            .bind(&self.table.sequence)
            .fetch_all(connection)
            .await?;
        rows.iter()
            .map(|row| {
                let next = number(&row.try_get::<String, _>("next")?)?;
                let id: Option<i64> = row.try_get("transaction_id")?;
                Ok((row.try_get("holder")?, id.map(|id| widen(id, next))))
            })
            .collect()
    }
}

/// The 64-bit transaction id behind the 32 bits that a lock shows, near `next`.
fn widen(id: i64, next: u64) -> u64 {
    const EPOCH: u64 = 1 << 32;
    let low = u64::try_from(id).unwrap_or(0);
    let near = (next & !(EPOCH - 1)) | low;
    if near > next.saturating_add(EPOCH / 2) {
        near.saturating_sub(EPOCH)
    } else {
        near
    }
}

fn leaves_gaps(seen_positions: &SeenPositions, rows: &[SourceRow]) -> bool {
    let mut high_water_mark = seen_positions.high_water_mark();
    seen_positions.needs_bound()
        || rows
            .iter()
            .filter(|row| row.position > seen_positions.high_water_mark())
            .any(|row| {
                let skipped = row.position > high_water_mark + 1;
                high_water_mark = row.position;
                skipped
            })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_id_is_widened_near_the_present_one() {
        let epoch = 1_u64 << 32;
        assert_eq!(widen(5, 10), 5);
        assert_eq!(widen(5, epoch + 10), epoch + 5);
        // Assigned just after `next` was read.
        assert_eq!(widen(12, epoch + 10), epoch + 12);
        // From before the wrap-around.
        assert_eq!(widen(4_294_967_290, epoch + 10), 4_294_967_290);
    }
}
