//! Applies parked events again, those of a key in order. The last one removes the fence.

use artstore_runtime::crash;
use artstore_schemas::damage::Damage;
use artstore_schemas::envelope::Envelope;
use artstore_schemas::source::Source;
use sqlx::{Connection as _, PgConnection};

use super::store::{self, Parked, Which};
use crate::projector::{At, Projector, ReadMessage as _, Rejection};

/// Events of a key that are applied in one transaction.
const BATCH: i64 = 500;

/// What came of a key.
#[derive(Debug, Clone, Default)]
pub struct Retried {
    /// How many events were applied.
    pub applied: u64,
    /// How many were skipped: an operator accepted their messages as damage since.
    pub passed_over: u64,
    /// The event that still can't be applied, and why; those behind it wait on.
    pub stuck: Option<(Parked, String)>,
}

/// Why nothing more was tried.
#[derive(Debug, thiserror::Error)]
pub enum RetryError {
    /// The database.
    #[error("{}", artstore_runtime::words::words(.0))]
    Database(#[from] sqlx::Error),
    /// No event can be applied.
    #[error("{0}; this is a bug or a wrong set-up")]
    Halt(String),
    /// The checkpoint that the parked events belong to is gone.
    #[error(
        "projection {projection} has no checkpoint of stream {stream}: its parked events are of tables that are gone"
    )]
    NoCheckpoint {
        /// The projection.
        projection: String,
        /// The stream.
        stream: String,
    },
}

/// Applies the parked events of a key, or one event without a key, in their order. Each transaction
/// takes the checkpoint's row first, so that the worker waits, and then finds another generation.
/// Messages that were accepted as damage are skipped, as every reader does. `record` writes what
/// is to be committed with it.
pub async fn retry<P: Projector>(
    projector: &P,
    connection: &mut PgConnection,
    source: &Source,
    which: &Which<'_>,
    damage: &Damage,
    mut record: impl AsyncFnMut(&mut PgConnection, &Retried) -> Result<(), sqlx::Error>,
) -> Result<Retried, RetryError> {
    let stream = source.stream();
    let mut all = Retried::default();
    loop {
        let mut transaction = connection.begin().await?;
        if !store::renew(&mut transaction, P::NAME, &stream).await? {
            return Err(RetryError::NoCheckpoint {
                projection: P::NAME.to_owned(),
                stream,
            });
        }
        crash::point("parked.locked");
        let parked = store::list(&mut transaction, which, BATCH).await?;
        let mut now = Retried::default();
        for event in &parked {
            if damage.ignores(event.sequence) {
                store::remove(&mut transaction, event).await?;
                now.passed_over += 1;
                continue;
            }
            match one(projector, &mut transaction, source, event).await? {
                None => {
                    store::remove(&mut transaction, event).await?;
                    now.applied += 1;
                }
                Some(reason) => {
                    store::tried(&mut transaction, event, &reason).await?;
                    now.stuck = Some((event.clone(), reason));
                    break;
                }
            }
        }
        if parked.is_empty() {
            transaction.rollback().await?;
            return Ok(all);
        }
        record(&mut transaction, &now).await?;
        crash::point("parked.applied");
        transaction.commit().await?;
        all.applied += now.applied;
        all.passed_over += now.passed_over;
        if now.stuck.is_some() {
            all.stuck = now.stuck;
            return Ok(all);
        }
    }
}

/// Applies one event; the reason where it can't be.
async fn one<P: Projector>(
    projector: &P,
    transaction: &mut PgConnection,
    source: &Source,
    parked: &Parked,
) -> Result<Option<String>, RetryError> {
    let at = At {
        sequence: parked.sequence,
        published: parked.published,
    };
    let envelope = match Envelope::from_headers(&parked.message.headers) {
        Ok(envelope) => envelope,
        Err(error) => return Ok(Some(error.to_string())),
    };
    let taken = P::Message::of_message(source, at, Some(&envelope), &parked.message);
    let message = match taken {
        Ok(message) => message,
        Err(reason) => return Ok(Some(reason)),
    };
    let mut savepoint = transaction.begin().await?;
    match projector.apply(&mut savepoint, source, &[message]).await {
        Ok(()) => {
            savepoint.commit().await?;
            Ok(None)
        }
        Err(Rejection::Event(reason)) => {
            savepoint.rollback().await?;
            Ok(Some(reason))
        }
        Err(Rejection::Retry(error)) => Err(error.into()),
        Err(Rejection::Halt(reason) | Rejection::Evidence(reason)) => Err(RetryError::Halt(reason)),
    }
}
