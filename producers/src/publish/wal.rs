//! Publishing from a storage element: an operation is opened, does its work, and is finished in
//! the transaction that changes `_files`. The trigger then assigns its position, and the
//! relay publishes it on the bus. Nothing here talks to NATS.

use artstore_schemas::actor::Actor;
use artstore_schemas::element::ElementName;
use artstore_schemas::event::{File, Status};
use artstore_schemas::size::MAX_BODY_BYTES;
use artstore_schemas::source::Source;
use chrono::Utc;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use crate::publish::publish_error::PublishError;
use crate::publish::recorded::{MARKER, Recorded};
use crate::relay::source::{WalRow, WalState};
use crate::relay::translate::Translator;

/// Room for what only the relay knows: where the element's API is reached.
const ELEMENT_BYTES: usize = 2 * 1024;

/// What an operation does. The names are those of the `operation_type` column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationType {
    /// A file is created on the element.
    FileCreate,
    /// A file's metadata change.
    FileUpdate,
    /// A file is deleted from the element.
    FileDelete,
    /// The element changes its mode; `data` states both modes.
    ModeChange,
    /// The element's `_files` was recreated.
    CacheRebuild,
    /// Finished operations were pruned ([`crate::operations::prune`]).
    WalPrune,
}

impl OperationType {
    fn as_str(self) -> &'static str {
        match self {
            Self::FileCreate => "file_create",
            Self::FileUpdate => "file_update",
            Self::FileDelete => "file_delete",
            Self::ModeChange => "mode_change",
            Self::CacheRebuild => "cache_rebuild",
            Self::WalPrune => "wal_prune",
        }
    }
}

/// What is known of an operation when it begins.
#[derive(Debug, Clone)]
pub struct Begin {
    /// What it does.
    pub kind: OperationType,
    /// Which file it is about; none for the element itself.
    pub file_id: Option<Uuid>,
    /// The caller's correlation id, kept whole.
    pub request_id: Option<String>,
    /// What else is worth recording.
    pub data: Option<Value>,
}

/// A pending operation.
#[derive(Debug, Clone)]
#[must_use = "an operation that is never finished stays pending for ever"]
pub struct PendingOperation {
    element: ElementName,
    id: Uuid,
    begin: Begin,
    actor: Actor,
}

/// Opens an operation: one pending row, in a transaction of its own if `connection` is in none.
/// The row shows an operator what was going on when the process dies.
pub async fn begin(
    connection: &mut PgConnection,
    element: &ElementName,
    actor: Actor,
    begin: Begin,
) -> Result<PendingOperation, PublishError> {
    if let Some(data) = &begin.data {
        artstore_schemas::json::check(data).map_err(|reason| PublishError::UnsafeJson {
            field: "data",
            reason,
        })?;
    }
    let operation = PendingOperation {
        element: element.clone(),
        id: Uuid::new_v4(),
        begin,
        actor,
    };
    let sql = format!(
        "insert into public.{element}_wal \
             (transaction_id, operation_type, status, file_id, operation_data, user_id, started_at) \
         values ($1, $2, 'pending', $3, $4, $5, clock_timestamp())"
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(operation.id)
        .bind(operation.begin.kind.as_str())
        .bind(operation.begin.file_id)
        .bind(sqlx::types::Json(operation.recorded(None)))
        .bind(&operation.actor.id)
        .execute(connection)
        .await?;
    Ok(operation)
}

impl PendingOperation {
    /// The operation's id, which becomes the event's.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Finishes as committed, and returns the position that readers can wait for.
    ///
    /// Call it last in the transaction that changed `_files`, with the row that the change
    /// returned ([`crate::publish::files`]); `None` means that the file is gone. The position means nothing
    /// until that transaction is committed. Refused as too large, the operation is still pending:
    /// roll the transaction back and finish it as failed.
    pub async fn commit(
        &self,
        transaction: &mut PgConnection,
        file: Option<File>,
    ) -> Result<i64, PublishError> {
        if let Some(file) = file.as_ref().filter(|f| Some(f.id) != self.begin.file_id) {
            return Err(PublishError::OtherFile {
                id: self.id,
                opened: self.begin.file_id,
                result: file.id,
            });
        }
        let recorded = self.recorded(file);
        self.check_size(&recorded)?;
        self.finish(transaction, Status::Committed, Some(&recorded), None)
            .await
    }

    /// Finishes as failed. The file's state is then read from `_files`, whatever it is.
    pub async fn fail(
        &self,
        transaction: &mut PgConnection,
        reason: &str,
    ) -> Result<i64, PublishError> {
        self.finish(transaction, Status::Failed, None, Some(reason))
            .await
    }

    /// Finishes as rolled back. The file's state is then read from `_files`, whatever it is.
    pub async fn roll_back(
        &self,
        transaction: &mut PgConnection,
        reason: &str,
    ) -> Result<i64, PublishError> {
        self.finish(transaction, Status::RolledBack, None, Some(reason))
            .await
    }

    fn recorded(&self, file: Option<File>) -> Recorded {
        Recorded {
            artstore: MARKER,
            actor: self.actor.clone(),
            request_id: self.begin.request_id.clone(),
            file,
            data: self.begin.data.clone(),
        }
    }

    /// The relay leaves large fields out of rows that it can't refuse; here they are refused.
    fn check_size(&self, recorded: &Recorded) -> Result<(), PublishError> {
        let row = WalRow {
            operation_type: self.begin.kind.as_str().to_owned(),
            status: Status::Committed,
            file_id: self.begin.file_id,
            state: WalState::Recorded(Box::new(recorded.clone())),
            error_message: None,
            started_at: Utc::now(),
            completed_at: Some(Utc::now()),
            duration_ms: Some(i32::MAX),
            user_id: None,
            // The longest name.
            database_role: Some("x".repeat(63)),
            large: Vec::new(),
        };
        let bytes = Translator::new(Source::Element(self.element.clone())).full_size(self.id, row);
        let bytes = bytes + ELEMENT_BYTES;
        if bytes > MAX_BODY_BYTES {
            return Err(PublishError::TooLarge { bytes });
        }
        Ok(())
    }

    async fn finish(
        &self,
        transaction: &mut PgConnection,
        status: Status,
        recorded: Option<&Recorded>,
        reason: Option<&str>,
    ) -> Result<i64, PublishError> {
        let sql = format!(
            "update public.{}_wal set status = $2, operation_data = coalesce($3, operation_data), \
                 error_message = $4, completed_at = clock_timestamp(), duration_ms = \
                 case when isfinite(started_at) then greatest(0, least(2147483647, \
                     extract(epoch from clock_timestamp() - started_at) * 1000))::int end \
             where transaction_id = $1 and status = 'pending' returning position",
            self.element
        );
        let position: Option<i64> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(self.id)
            .bind(status.as_str())
            .bind(recorded.map(sqlx::types::Json))
            .bind(reason)
            .fetch_optional(transaction)
            .await?;
        position.ok_or(PublishError::NotPending {
            id: self.id,
            element: self.element.clone(),
        })
    }
}
