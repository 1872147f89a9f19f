//! A source: the table that contains its rows, its rows as they are read, and what its database reports
//! about itself. `crate::relay::poll` reads new ones. A text that can't be converted to UTF-8 is read
//! nevertheless ([`crate::texts`]).

use artstore_runtime::text::{optional, text};
use artstore_schemas::element::ElementName;
use artstore_schemas::event::{File, Omitted, Status};
use artstore_schemas::ranges::Range;
use artstore_schemas::source::Source;
use chrono::{DateTime, Utc};
use futures::TryStreamExt as _;
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row};
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::publish::file_row;
use crate::publish::recorded::Recorded;
use crate::relay::relay_error::{Halt, RelayError};
use crate::texts::{self, Texts};

/// Rows of more text than this are not kept together.
const MOST_BYTES: usize = 32 * 1024 * 1024;

/// Which row it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RowRef {
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
    /// Its content.
    pub content: Content,
}

/// What a row states.
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
    /// The operation type as the element wrote it.
    pub operation_type: String,
    /// How it ended.
    pub status: Status,
    /// The file that it was about.
    pub file_id: Option<Uuid>,
    /// The file's state.
    pub state: WalState,
    /// Why it failed.
    pub error_message: Option<String>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub completed_at: Option<DateTime<Utc>>,
    /// How long it took, in milliseconds.
    pub duration_ms: Option<i32>,
    /// Who did it, as a service of the product wrote it.
    pub user_id: Option<String>,
    /// The role that finished it; none of a row from before the column.
    pub database_role: Option<String>,
    /// Values that were too large to be fetched, also of a file whose state is not taken from `_files`.
    pub large: Vec<Omitted>,
}

/// Which source of the file's state counts.
#[derive(Debug, Clone)]
pub enum WalState {
    /// The row's own: it carries the full state of a committed operation.
    Recorded(Box<Recorded>),
    /// That of `_files` in the poll's own statement: present or absent, whatever the operation.
    Joined {
        /// The row's own text.
        operation_data: String,
        /// What our API knew of an operation that was not committed.
        recorded: Option<Box<Recorded>>,
        /// None where it is absent.
        file: Option<Box<File>>,
    },
}

impl WalState {
    /// Reads the text of a row; `file`: the state of `_files`.
    pub fn read(
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
    /// What it happened to; its constraint allows letters, digits and `-`.
    pub entity: String,
    /// What happened; as the entity.
    pub action: String,
    /// What keeps events in order.
    pub ordering_key: Option<Uuid>,
    /// What it is about.
    pub subject: Option<String>,
    /// The facts: JSON.
    pub data: String,
    /// Who did it: JSON.
    pub actor: String,
    /// The role that wrote it; none of a row from before the column.
    pub database_role: Option<String>,
    /// The caller's correlation id.
    pub request_id: Option<String>,
    /// The caller's trace.
    pub traceparent: Option<String>,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
    /// Values that were too large to be fetched.
    pub large: Vec<Omitted>,
}

/// The table that contains a source's rows, and what belongs to it.
#[derive(Debug, Clone)]
pub struct SourceTable {
    pub(crate) table: String,
    pub(crate) id_column: &'static str,
    /// The sequence that positions are drawn from.
    pub sequence: String,
    poll: String,
    /// The function that converts a text to UTF-8, with its schema.
    utf8: String,
    /// Asked of the database once.
    texts: OnceCell<Texts>,
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
                utf8: texts::of_element(name),
                texts: OnceCell::new(),
                element: Some(name.clone()),
            },
            Source::Admin | Source::Query => Self {
                table: "event_outbox".to_owned(),
                id_column: "event_id",
                sequence: "public.event_outbox_position_seq".to_owned(),
                poll: include_str!("sql/outbox_poll.sql").to_owned(),
                utf8: "public.event_outbox_utf8".to_owned(),
                texts: OnceCell::new(),
                element: None,
            },
        }
    }

    /// The table's name, in the schema `public`.
    pub fn name(&self) -> &str {
        &self.table
    }

    /// The sequence that its positions are drawn from, with its schema.
    pub fn sequence(&self) -> &str {
        &self.sequence
    }

    /// The column with the row's UUID.
    pub fn id_column(&self) -> &'static str {
        self.id_column
    }

    /// All tables that belong to it, with their schema.
    pub fn relations(&self) -> Vec<String> {
        match &self.element {
            Some(element) => ["wal", "files", "wal_pruned"]
                .map(|name| format!("public.{element}_{name}"))
                .into(),
            None => vec![format!("public.{}", self.table)],
        }
    }

    /// The table with the key of its relay's lock, with its schema.
    pub fn lock_table(&self) -> String {
        match &self.element {
            Some(element) => format!("public.{element}_relay_lock"),
            None => format!("public.{}_relay_lock", self.table),
        }
    }

    /// How its texts are asked for.
    pub async fn texts(&self, connection: &mut PgConnection) -> Result<&Texts, sqlx::Error> {
        self.texts
            .get_or_try_init(async || Texts::of(connection, &self.utf8).await)
            .await
    }

    /// The statement that gives finished rows in position order. $1, $2: first and last position of each
    /// wanted range, ascending; $3: the most rows.
    pub(crate) async fn poll(&self, connection: &mut PgConnection) -> Result<String, sqlx::Error> {
        Ok(self.texts(connection).await?.sql(&self.poll))
    }

    /// Takes the finished rows in these ranges with the state of `_files` in the same statement: at most
    /// `limit`, in position order. One is in memory at a time: each may have many megabytes.
    pub async fn each_row(
        &self,
        connection: &mut PgConnection,
        ranges: &[Range],
        limit: i64,
        mut take: impl FnMut(SourceRow),
    ) -> Result<(), RelayError> {
        let (first, last): (Vec<i64>, Vec<i64>) = ranges.iter().map(|r| (r.first, r.last)).unzip();
        let poll = self.poll(connection).await?;
        let query = sqlx::query(AssertSqlSafe(poll))
            .bind(first)
            .bind(last)
            .bind(limit);
        let mut rows = query.fetch(connection);
        while let Some(row) = rows.try_next().await? {
            take(self.read(&row)?);
        }
        Ok(())
    }

    /// The finished rows in these ranges with the state of `_files`, whatever a row states about its file: at most
    /// `limit`, in position order. Fewer where they have much text; the first one always.
    pub async fn present_rows(
        &self,
        connection: &mut PgConnection,
        ranges: &[Range],
        limit: i64,
    ) -> Result<Vec<SourceRow>, RelayError> {
        let (first, last): (Vec<i64>, Vec<i64>) = ranges.iter().map(|r| (r.first, r.last)).unzip();
        let poll = self.poll(connection).await?;
        let query = sqlx::query(AssertSqlSafe(poll))
            .bind(first)
            .bind(last)
            .bind(limit);
        let mut found = query.fetch(connection);
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while let Some(row) = found.try_next().await? {
            // Read to the end, so that the connection can be used again.
            if bytes > MOST_BYTES {
                continue;
            }
            bytes += size(&row);
            let row = &row;
            let mut read = self.read(row)?;
            if let Content::Wal(wal) = &mut read.content
                && let WalState::Recorded(recorded) = &wal.state
            {
                let present: Option<Uuid> = row.try_get("file_present")?;
                let file = present
                    .map(|id| file_row::read_joined(row, id))
                    .transpose()?;
                wal.state = WalState::Joined {
                    operation_data: document(row, "operation_data")?,
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
    pub async fn ids(
        &self,
        connection: &mut PgConnection,
        ranges: &[Range],
        limit: i64,
    ) -> Result<Vec<RowRef>, RelayError> {
        let (first, last): (Vec<i64>, Vec<i64>) = ranges.iter().map(|r| (r.first, r.last)).unzip();
        let file = match self.element {
            Some(_) => "file_id::text",
            None => "{subject}",
        };
        let file = self.texts(connection).await?.sql(file);
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
                Ok(RowRef {
                    position: row.try_get("position")?,
                    id: row.try_get("id")?,
                    file: optional(row, "file")?,
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
                entity: text(row, "entity")?,
                action: text(row, "action")?,
                ordering_key: row.try_get("ordering_key")?,
                subject: optional(row, "subject")?,
                data: document(row, "data")?,
                actor: text(row, "actor")?,
                database_role: optional(row, "database_role")?,
                request_id: optional(row, "request_id")?,
                traceparent: optional(row, "traceparent")?,
                occurred_at: row.try_get("occurred_at")?,
                large: file_row::large(row)?,
            })),
        })
    }
}

fn read_wal(row: &PgRow, position: i64) -> Result<WalRow, RelayError> {
    let status = text(row, "status")?;
    let status = match status.as_str() {
        "committed" => Status::Committed,
        "rolled_back" => Status::RolledBack,
        "failed" => Status::Failed,
        _ => return Err(Halt::Status { position, status }.into()),
    };
    let file_id: Option<Uuid> = row.try_get("file_id")?;
    let present: Option<Uuid> = row.try_get("file_present")?;
    let file = present
        .map(|id| file_row::read_joined(row, id))
        .transpose()?;
    Ok(WalRow {
        operation_type: text(row, "operation_type")?,
        status,
        file_id,
        state: WalState::read(status, document(row, "operation_data")?, file_id, file),
        error_message: optional(row, "error_message")?,
        started_at: row.try_get("started_at")?,
        completed_at: row.try_get("completed_at")?,
        duration_ms: row.try_get("duration_ms")?,
        user_id: optional(row, "user_id")?,
        database_role: optional(row, "database_role")?,
        large: file_row::large(row)?,
    })
}

/// A document's text; that of no document where it is too large.
fn document(row: &PgRow, column: &str) -> Result<String, RelayError> {
    let text = optional(row, column)?;
    Ok(text.unwrap_or_else(|| "null".to_owned()))
}

pub(crate) fn size(row: &PgRow) -> usize {
    (0..row.len())
        .filter_map(|index| row.try_get_raw(index).ok())
        .filter_map(|value| value.as_bytes().ok().map(<[u8]>::len))
        .sum()
}

/// What the first statement of a poll returns.
#[derive(Debug)]
pub struct SourceSnapshot {
    /// What distinguishes this database from another: system identifier, database, timeline.
    pub identity: String,
    /// No transaction below it is in flight.
    pub xmin: u64,
    /// The last position that was drawn from the sequence.
    pub sequence_value: i64,
}

/// Takes the snapshot of the transaction that the connection is in. A standby is refused: it does
/// not know the transactions in flight.
pub async fn snapshot(
    connection: &mut PgConnection,
    sequence: &str,
) -> Result<SourceSnapshot, RelayError> {
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
    Ok(SourceSnapshot {
        identity: format!("{system}-{database}-{timeline}"),
        xmin: number(&row.try_get::<String, _>("xmin")?)?,
        sequence_value: row.try_get("sequence_value")?,
    })
}

pub(crate) fn number(text: &str) -> Result<u64, RelayError> {
    text.parse().map_err(|_| {
        RelayError::Database(sqlx::Error::Protocol(format!(
            "{text:?} is no transaction id"
        )))
    })
}
