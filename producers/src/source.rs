//! Reading a source: one poll is one read-only repeatable-read transaction that gives rows, the
//! snapshot they were seen in, and, if numbers are newly missing, their bound. Rows go to
//! [`crate::translate`], what is missing to [`crate::gaps`]. Nothing is written to the source.

use std::collections::HashSet;

use artstore_schemas::element::ElementName;
use artstore_schemas::event::{File, Status};
use artstore_schemas::ranges::Range;
use artstore_schemas::source::Source;
use chrono::{DateTime, Utc};
use futures::TryStreamExt as _;
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row};
use uuid::Uuid;

use crate::chunk::{self, Chunk, Wanted};
use crate::files;
use crate::floor;
use crate::gaps::{Gaps, MANY_HOLES};
use crate::relay_error::{Halt, RelayError};
use crate::wal::Recorded;

/// The most rows of one poll.
const MAX_ROWS: i64 = 1_000;

/// A poll stops taking rows beyond this much text, and asks for fewer rows the next time.
const MAX_POLL_BYTES: usize = 32 * 1024 * 1024;

/// Which row it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Its position.
    pub position: i64,
    /// Its UUID.
    pub id: Uuid,
    /// The file that it is about; of an outbox, its subject.
    pub file: Option<String>,
}

/// A finished row.
#[derive(Debug, Clone)]
pub struct SourceRow {
    /// The row's UUID: `ce-id`.
    pub id: Uuid,
    /// Its position.
    pub position: i64,
    /// What it says.
    pub content: Content,
}

/// What a row says.
#[derive(Debug, Clone)]
pub enum Content {
    /// A finished operation of a storage element.
    Wal(Box<WalRow>),
    /// A row of an outbox.
    Outbox(Box<OutboxRow>),
}

/// A finished WAL row.
#[derive(Debug, Clone)]
pub struct WalRow {
    pub(crate) operation_type: String,
    pub(crate) status: Status,
    pub(crate) file_id: Option<Uuid>,
    pub(crate) state: WalState,
    pub(crate) error_message: Option<String>,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) completed_at: Option<DateTime<Utc>>,
    pub(crate) duration_ms: Option<i32>,
    pub(crate) user_id: Option<String>,
}

/// Whose word is taken for the file's state.
#[derive(Debug, Clone)]
pub(crate) enum WalState {
    /// The row's own: it carries the full state of a committed operation.
    Recorded(Box<Recorded>),
    /// That of `_files` in the poll's own statement: present or absent, whatever the operation.
    Joined {
        operation_data: String,
        /// What our API knew of an operation that was not committed.
        recorded: Option<Box<Recorded>>,
        file: Option<Box<File>>,
    },
}

impl WalState {
    pub(crate) fn read(
        status: Status,
        operation_data: String,
        file_id: Option<Uuid>,
        file: Option<File>,
    ) -> Self {
        match (Recorded::read(&operation_data, file_id), status) {
            (Some(recorded), Status::Committed) => Self::Recorded(Box::new(recorded)),
            (recorded, _) => Self::Joined {
                operation_data,
                recorded: recorded.map(Box::new),
                file: file.map(Box::new),
            },
        }
    }
}

/// A row of an outbox.
#[derive(Debug, Clone)]
pub struct OutboxRow {
    pub(crate) entity: String,
    pub(crate) action: String,
    pub(crate) ordering_key: Option<Uuid>,
    pub(crate) subject: Option<String>,
    pub(crate) data: String,
    pub(crate) actor: String,
    pub(crate) request_id: Option<String>,
    pub(crate) traceparent: Option<String>,
    pub(crate) occurred_at: DateTime<Utc>,
}

/// The table that a source's rows stand in, and what belongs to it.
#[derive(Debug, Clone)]
pub struct SourceTable {
    pub(crate) table: String,
    pub(crate) id_column: &'static str,
    pub(crate) sequence: String,
    pub(crate) poll: String,
    pub(crate) element: Option<ElementName>,
}

impl SourceTable {
    /// The table of a source.
    pub fn of(source: &Source) -> Self {
        match source {
            Source::Element(name) => Self {
                table: format!("{name}_wal"),
                id_column: "transaction_id",
                sequence: format!("public.{name}_wal_position_seq"),
                poll: include_str!("sql/wal_poll.sql").replace("{prefix}", name.as_str()),
                element: Some(name.clone()),
            },
            Source::Admin | Source::Query => Self {
                table: "event_outbox".to_owned(),
                id_column: "event_id",
                sequence: "public.event_outbox_position_seq".to_owned(),
                poll: include_str!("sql/outbox_poll.sql").to_owned(),
                element: None,
            },
        }
    }

    /// The table's name, in the schema `public`.
    pub fn name(&self) -> &str {
        &self.table
    }

    /// The column with the row's UUID.
    pub fn id_column(&self) -> &'static str {
        self.id_column
    }

    /// The finished rows in these ranges with the state of `_files` in the same statement: at most
    /// `limit`, in position order.
    pub(crate) async fn rows(
        &self,
        connection: &mut PgConnection,
        ranges: &[Range],
        limit: i64,
    ) -> Result<Vec<SourceRow>, RelayError> {
        let (first, last): (Vec<i64>, Vec<i64>) = ranges.iter().map(|r| (r.first, r.last)).unzip();
        let rows = sqlx::query(AssertSqlSafe(self.poll.clone()))
            .bind(first)
            .bind(last)
            .bind(limit)
            .fetch_all(connection)
            .await?;
        rows.iter().map(|row| self.read(row)).collect()
    }

    /// As [`Self::rows`], but with the state of `_files` whatever the row says of its file.
    pub(crate) async fn present_rows(
        &self,
        connection: &mut PgConnection,
        ranges: &[Range],
        limit: i64,
    ) -> Result<Vec<SourceRow>, RelayError> {
        let (first, last): (Vec<i64>, Vec<i64>) = ranges.iter().map(|r| (r.first, r.last)).unzip();
        let found = sqlx::query(AssertSqlSafe(self.poll.clone()))
            .bind(first)
            .bind(last)
            .bind(limit)
            .fetch_all(connection)
            .await?;
        let mut rows = Vec::with_capacity(found.len());
        for row in &found {
            let mut read = self.read(row)?;
            if let Content::Wal(wal) = &mut read.content
                && let WalState::Recorded(recorded) = &wal.state
            {
                let present: Option<Uuid> = row.try_get("file_present")?;
                let file = present.map(|id| files::read_joined(row, id)).transpose()?;
                wal.state = WalState::Joined {
                    operation_data: row.try_get("operation_data")?,
                    recorded: Some(recorded.clone()),
                    file: file.map(Box::new),
                };
            }
            rows.push(read);
        }
        Ok(rows)
    }

    /// Positions, ids and files (of an outbox: subjects) of the finished rows in these ranges: at
    /// most `limit`, in position order.
    pub(crate) async fn ids(
        &self,
        connection: &mut PgConnection,
        ranges: &[Range],
        limit: i64,
    ) -> Result<Vec<Found>, RelayError> {
        let (first, last): (Vec<i64>, Vec<i64>) = ranges.iter().map(|r| (r.first, r.last)).unzip();
        let file = match self.element {
            Some(_) => "file_id::text",
            None => "subject",
        };
        let sql = format!(
            "select r.position, r.id, r.file from unnest($1::bigint[], $2::bigint[]) as wanted(first, last) \
             cross join lateral (select position, {} as id, {file} as file from public.{} \
                 where position between wanted.first and wanted.last order by position limit $3) r \
             order by r.position limit $3",
            self.id_column, self.table
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(first)
            .bind(last)
            .bind(limit)
            .fetch_all(connection)
            .await?;
        rows.iter()
            .map(|row| {
                Ok(Found {
                    position: row.try_get("position")?,
                    id: row.try_get("id")?,
                    file: row.try_get("file")?,
                })
            })
            .collect()
    }

    pub(crate) fn read(&self, row: &PgRow) -> Result<SourceRow, RelayError> {
        let position = row.try_get("position")?;
        if self.element.is_some() {
            return Ok(SourceRow {
                id: row.try_get("transaction_id")?,
                position,
                content: Content::Wal(Box::new(read_wal(row, position)?)),
            });
        }
        Ok(SourceRow {
            id: row.try_get("event_id")?,
            position,
            content: Content::Outbox(Box::new(OutboxRow {
                entity: row.try_get("entity")?,
                action: row.try_get("action")?,
                ordering_key: row.try_get("ordering_key")?,
                subject: row.try_get("subject")?,
                data: row.try_get("data")?,
                actor: row.try_get("actor")?,
                request_id: row.try_get("request_id")?,
                traceparent: row.try_get("traceparent")?,
                occurred_at: row.try_get("occurred_at")?,
            })),
        })
    }
}

fn read_wal(row: &PgRow, position: i64) -> Result<WalRow, RelayError> {
    let status: String = row.try_get("status")?;
    let status = match status.as_str() {
        "committed" => Status::Committed,
        "rolled_back" => Status::RolledBack,
        "failed" => Status::Failed,
        _ => return Err(Halt::Status { position, status }.into()),
    };
    let file_id: Option<Uuid> = row.try_get("file_id")?;
    let present: Option<Uuid> = row.try_get("file_present")?;
    let file = present.map(|id| files::read_joined(row, id)).transpose()?;
    Ok(WalRow {
        operation_type: row.try_get("operation_type")?,
        status,
        file_id,
        state: WalState::read(status, row.try_get("operation_data")?, file_id, file),
        error_message: row.try_get("error_message")?,
        started_at: row.try_get("started_at")?,
        completed_at: row.try_get("completed_at")?,
        duration_ms: row.try_get("duration_ms")?,
        user_id: row.try_get("user_id")?,
    })
}

/// What a poll found.
#[derive(Debug)]
pub struct Poll {
    /// Rows in position order: wanted positions, and new ones.
    pub rows: Vec<SourceRow>,
    /// Everything wanted up to this position was read.
    pub complete: i64,
    /// Every transaction below this one had ended before the snapshot.
    pub horizon: u64,
    /// The bound of numbers that this poll is the first to miss; taken only when there are some.
    pub bound: Option<u64>,
    /// The source's identity, as this poll's snapshot shows it.
    pub identity: String,
    /// The last number that the sequence gave out.
    pub sequence_value: i64,
    /// Up to where the source was pruned, in this poll's snapshot: rows at or below it are not seen.
    pub floor: i64,
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
        gaps: &Gaps,
        files: Option<Wanted>,
    ) -> Result<Poll, RelayError> {
        // Read before the snapshot: who holds no lock now has ended by then, visibly.
        let holders = if gaps.holes() > MANY_HOLES {
            Some(self.horizon_of_holders(connection).await?)
        } else {
            None
        };
        let mut transaction = connection
            .begin_with("begin isolation level repeatable read read only")
            .await?;
        let seen = snapshot(&mut transaction, &self.table.sequence).await?;
        let (rows, cut) = self.rows(&mut transaction, gaps).await?;
        let floor = floor::read(&mut transaction, &self.table).await?;
        let complete = match rows.last() {
            Some(last) if cut => last.position,
            _ => i64::MAX,
        };
        // Of rows that the limit cut off, `_files` may show the effect already.
        let chunk = match (files, &self.table.element) {
            (Some(wanted), Some(element)) if complete == i64::MAX => {
                Some(chunk::read(&mut transaction, element, wanted.after).await?)
            }
            _ => None,
        };
        // Assigned after the snapshot: above the id of whoever holds a number below those seen.
        let bound = if leaves_holes(gaps, &rows) {
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
            horizon: holders.unwrap_or(seen.xmin),
            bound,
            identity: seen.identity,
            sequence_value: seen.sequence_value,
            floor,
            chunk,
        })
    }

    async fn rows(
        &mut self,
        connection: &mut PgConnection,
        gaps: &Gaps,
    ) -> Result<(Vec<SourceRow>, bool), RelayError> {
        let (first, last) = gaps.wanted();
        let query = sqlx::query(AssertSqlSafe(self.table.poll.clone()))
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
    /// drew one has ended. Without holders nobody does; a holder that stays without an id means
    /// wait. Who showed no id and is gone at the next look had ended: on a busy source there is
    /// always one of those.
    async fn horizon_of_holders(&self, connection: &mut PgConnection) -> Result<u64, RelayError> {
        const LOOKS: usize = 4;
        let mut least = u64::MAX;
        let mut unknown: Option<HashSet<String>> = None;
        for _ in 0..LOOKS {
            let mut still = HashSet::new();
            for (holder, id) in self.holders(connection).await? {
                // Later looks are about those alone: who came since holds no number that is missed.
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

fn leaves_holes(gaps: &Gaps, rows: &[SourceRow]) -> bool {
    let mut high = gaps.high();
    gaps.needs_bound()
        || rows
            .iter()
            .filter(|row| row.position > gaps.high())
            .any(|row| {
                let skipped = row.position > high + 1;
                high = row.position;
                skipped
            })
}

pub(crate) fn size(row: &PgRow) -> usize {
    (0..row.len())
        .filter_map(|index| row.try_get_raw(index).ok())
        .filter_map(|value| value.as_bytes().ok().map(<[u8]>::len))
        .sum()
}

/// What the first statement of a poll says.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) identity: String,
    pub(crate) xmin: u64,
    pub(crate) sequence_value: i64,
}

/// Takes the snapshot of the transaction that the connection is in. A standby is refused: it does
/// not know the transactions in flight.
pub(crate) async fn snapshot(
    connection: &mut PgConnection,
    sequence: &str,
) -> Result<Seen, RelayError> {
    let row = sqlx::query(include_str!("sql/snapshot.sql"))
        .bind(sequence)
        .fetch_one(connection)
        .await?;
    if row.try_get::<bool, _>("standby")? {
        return Err(Halt::Standby.into());
    }
    let system: String = row.try_get("system_identifier")?;
    let database: String = row.try_get("database_oid")?;
    let timeline: String = row.try_get("timeline")?;
    Ok(Seen {
        identity: format!("{system}-{database}-{timeline}"),
        xmin: number(&row.try_get::<String, _>("xmin")?)?,
        sequence_value: row.try_get("sequence_value")?,
    })
}

fn number(text: &str) -> Result<u64, RelayError> {
    text.parse().map_err(|_| {
        RelayError::Database(sqlx::Error::Protocol(format!(
            "{text:?} is no transaction id"
        )))
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
