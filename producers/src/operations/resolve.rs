//! Finishing an operation for its dead process, by an operator's decision ([`crate::operations::pending`]
//! shows and proposes). The trigger assigns the row its position, and the relay publishes it with the
//! file's state as `_files` has it then: the cache is right in the end, whatever was decided.

use artstore_runtime::text::{optional, text};
use artstore_schemas::actor::Actor;
use artstore_schemas::element::ElementName;
use artstore_schemas::event::Status;
use artstore_schemas::source::Source;
use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use uuid::Uuid;

use crate::operations::pending::{self, Limits, Pending, Proposal};
use crate::relay::relay_error::RelayError;
use crate::relay::source::SourceTable;
use crate::relay::source_check;
use crate::texts::Texts;

/// `lock_not_available`: `nowait`, or `lock_timeout`.
const LOCKED: &str = "55P03";

/// What was decided.
#[derive(Debug, Clone)]
pub struct Resolution {
    /// How the operation ends; none takes what is proposed, where that is certain.
    pub outcome: Option<Status>,
    /// Who decided.
    pub actor: Actor,
    /// Why; without it, what speaks for the proposal.
    pub reason: Option<String>,
    /// Also where its process may be alive. A row that a living transaction has locked is refused
    /// all the same.
    pub force: bool,
    /// Only look.
    pub dry_run: bool,
}

/// An operation that was finished, or would be.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// As it was.
    pub pending: Pending,
    /// How it ended.
    pub outcome: Status,
    /// Why.
    pub reason: String,
    /// Its position in the source; none for a dry run.
    pub position: Option<i64>,
}

/// Why an operation was not finished. Nothing of it was changed then.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There is no such operation.
    #[error("element {0} has no such operation")]
    Unknown(ElementName),
    /// Somebody was faster, its process itself or another person.
    #[error("it is finished already: {status}{}{}", at(.completed_at), by(.resolver))]
    Finished {
        /// How.
        status: String,
        /// When.
        completed_at: Option<DateTime<Utc>>,
        /// Who decided, where it was not its own process.
        resolver: Option<String>,
    },
    /// A transaction is at work on it.
    #[error(
        "a living transaction has locked it: its process is at work, or somebody else resolves it; look again"
    )]
    Locked,
    /// Its process may be alive.
    #[error(
        "its process may still be running: {0}; wait, or make sure that it is dead and add --force"
    )]
    MayBeRunning(String),
    /// There is no proposal to take.
    #[error("what became of it is not certain: {0}; decide with --as")]
    Unclear(String),
    /// The table is not as it has to be, so that the operation might never be published.
    #[error(transparent)]
    Source(RelayError),
    /// The database refused, or could not be reached.
    #[error("the database refused: {}", artstore_runtime::words::refused(.0))]
    Database(sqlx::Error),
}

impl From<sqlx::Error> for Refused {
    fn from(error: sqlx::Error) -> Self {
        match error.as_database_error().and_then(|e| e.code()) {
            Some(code) if code == LOCKED => Self::Locked,
            _ => Self::Database(error),
        }
    }
}

fn at(completed_at: &Option<DateTime<Utc>>) -> String {
    completed_at.map_or_else(String::new, |at| format!(" at {}", at.format("%F %T UTC")))
}

fn by(resolver: &Option<String>) -> String {
    let said = |by: &String| format!(", resolved by {by}");
    resolver.as_ref().map_or_else(String::new, said)
}

/// Finishes one operation, in one transaction that locks its row. Of two at once, one does.
pub async fn resolve(
    connection: &mut PgConnection,
    element: &ElementName,
    id: Uuid,
    limits: Limits,
    decision: &Resolution,
) -> Result<Resolved, Refused> {
    let mut transaction = connection.begin().await?;
    let resolved = within(&mut transaction, element, id, limits, decision).await;
    match &resolved {
        Ok(resolved) if resolved.position.is_some() => transaction.commit().await?,
        // Taken back here and now: another look must not find our own locks.
        Ok(_) | Err(_) => transaction.rollback().await?,
    }
    resolved
}

async fn within(
    transaction: &mut PgConnection,
    element: &ElementName,
    id: Uuid,
    limits: Limits,
    decision: &Resolution,
) -> Result<Resolved, Refused> {
    // `nowait` is for the row; a migration may have locked the table.
    sqlx::query("set local lock_timeout = '5s'")
        .execute(&mut *transaction)
        .await?;
    let table = SourceTable::of(&Source::Element(element.clone()));
    source_check::check(transaction, &table)
        .await
        .map_err(Refused::Source)?;
    lock(transaction, element, id).await?;
    let pending = pending::one(transaction, element, id, limits)
        .await?
        .ok_or_else(|| Refused::Unknown(element.clone()))?;
    let (outcome, reason) = decide(&pending, decision)?;
    let actor = &decision.actor;
    let position = if decision.dry_run {
        // Not even a position is drawn.
        None
    } else {
        Some(finish(transaction, element, &pending, outcome, &reason, actor).await?)
    };
    Ok(Resolved {
        pending,
        outcome,
        reason,
        position,
    })
}

/// Locks the row of an operation that is still pending.
async fn lock(
    connection: &mut PgConnection,
    element: &ElementName,
    id: Uuid,
) -> Result<(), Refused> {
    let texts = Texts::of_element(connection, element).await?;
    let resolver = texts.sql("{operation_data -> 'resolved' -> 'by' ->> 'name'}");
    let sql = format!(
        "select {} as status, completed_at, {resolver} as resolver \
         from public.{element}_wal where transaction_id = $1 for update nowait",
        texts.sql("{status}")
    );
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(id)
        .fetch_optional(connection)
        .await?
        .ok_or_else(|| Refused::Unknown(element.clone()))?;
    let status = text(&row, "status")?;
    if status != "pending" {
        return Err(Refused::Finished {
            status,
            completed_at: row.try_get("completed_at")?,
            resolver: optional(&row, "resolver")?,
        });
    }
    Ok(())
}

fn decide(pending: &Pending, decision: &Resolution) -> Result<(Status, String), Refused> {
    if let (Proposal::MayBeRunning(reason), false) = (&pending.proposal, decision.force) {
        return Err(Refused::MayBeRunning(reason.clone()));
    }
    let (outcome, proposed) = match (decision.outcome, &pending.proposal) {
        (None, Proposal::Certain(status, reason)) => (*status, reason.as_str()),
        (None, Proposal::Unclear(reason) | Proposal::MayBeRunning(reason)) => {
            return Err(Refused::Unclear(reason.clone()));
        }
        // What speaks for another outcome is no reason for this one.
        (Some(outcome), Proposal::Certain(status, reason)) if outcome == *status => {
            (outcome, reason.as_str())
        }
        (Some(outcome), _) => (outcome, "its process died before it finished"),
    };
    let reason = decision.reason.as_deref().unwrap_or(proposed);
    Ok((outcome, reason.to_owned()))
}

/// Who decided and why is in the row, under a key of ours beside what the writer put there:
/// `resolved`. The marker of our API goes from a row that is resolved as committed, because it
/// would say that the row carries the file's state, and a pending row never does. Nobody measured
/// how long it took.
async fn finish(
    connection: &mut PgConnection,
    element: &ElementName,
    pending: &Pending,
    outcome: Status,
    reason: &str,
    actor: &Actor,
) -> Result<i64, Refused> {
    let who = name(actor);
    let resolved = json!({"resolved": {"by": {"name": who, "actor": actor}, "reason": reason}});
    let error_message = match outcome {
        Status::Committed => None,
        Status::RolledBack | Status::Failed => Some(format!("{reason} (resolved by {who})")),
    };
    // Data that is no object can't hold a key: it is kept under one.
    let sql = format!(
        "update public.{element}_wal set status = $2, error_message = $3, \
             completed_at = clock_timestamp(), duration_ms = null, \
             file_id = coalesce(file_id, $4), \
             operation_data = case jsonb_typeof(operation_data) \
                 when 'object' then operation_data - $5::text[] \
                 else jsonb_build_object('operation_data', operation_data) end || $6 \
         where transaction_id = $1 and status = 'pending' returning position"
    );
    let marker: &[&str] = match outcome {
        Status::Committed if pending.ours => &["artstore", "file"],
        Status::Committed | Status::RolledBack | Status::Failed => &[],
    };
    let position: Option<i64> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(pending.id)
        .bind(outcome.as_str())
        .bind(error_message)
        .bind(pending.file.as_ref().map(|file| file.id))
        .bind(marker)
        .bind(resolved)
        .fetch_one(connection)
        .await?;
    position.ok_or_else(|| {
        Refused::Database(sqlx::Error::Protocol(
            "the finished row has no position: its trigger is missing".to_owned(),
        ))
    })
}

/// An actor in a word or two.
fn name(actor: &Actor) -> String {
    let known = actor.name.as_ref().or(actor.id.as_ref());
    known.map_or_else(|| "an operator".to_owned(), Clone::clone)
}
