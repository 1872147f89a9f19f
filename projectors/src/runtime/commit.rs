//! One batch: its rows, its parked events, and the checkpoint after it, in one transaction.

use artstore_runtime::crash;
use artstore_schemas::source::Source;
use chrono::{DateTime, Utc};
use sqlx::{Connection as _, PgConnection};

use crate::parking::apply::{self, Applied, Refused};
use crate::parking::{Fences, store};
use crate::projector::{Projector, Rejection};
use crate::projector_error::{Halt, Previous, WorkerError};
use crate::runtime::checkpoint::{self, Advance, Checkpoint};
use crate::runtime::consumer::Batch;

/// Commits batches of one stream.
pub(crate) struct Commit<'a, P> {
    pub(crate) projector: &'a P,
    pub(crate) source: &'a Source,
    pub(crate) stream_created_at: DateTime<Utc>,
}

/// What became of a batch that was applied as a whole.
enum Whole {
    Applied,
    /// One of its events can't be applied.
    Refused,
}

impl<P: Projector> Commit<'_, P> {
    /// Rows, parked events and checkpoint in one transaction; within another one, in a savepoint.
    pub(crate) async fn batch(
        &self,
        connection: &mut PgConnection,
        old: Option<&Checkpoint>,
        fences: &Fences,
        batch: &mut Batch<P::Message>,
    ) -> Result<(Checkpoint, Applied), WorkerError> {
        let mut transaction = connection.begin().await?;
        let plain = apply::is_plain(self.projector, &batch.entries, fences);
        let whole = match plain {
            true => self.whole(&mut transaction, batch).await?,
            false => Whole::Refused,
        };
        let applied = match whole {
            Whole::Applied => Applied::all(fences),
            Whole::Refused => {
                transaction.rollback().await?;
                transaction = connection.begin().await?;
                self.partly(&mut transaction, fences, batch).await?
            }
        };
        let last = &batch.last;
        crash::point("projector.applied");
        if !applied.parked.is_empty() {
            sqlx::raw_sql("set local synchronous_commit = on")
                .execute(&mut *transaction)
                .await?;
            store::park(&mut transaction, &applied.parked).await?;
            crash::point("projector.parked");
        }
        let generation = old.map_or(0, |old| old.generation);
        let new = Checkpoint {
            last_sequence: last.sequence,
            last_event_id: last.event_id,
            stream_created_at: self.stream_created_at,
            version: i32::try_from(P::VERSION).unwrap_or(i32::MAX),
            source_high: last.high_water_mark,
            source_missing: last.gaps.to_string(),
            generation: generation + i64::from(!applied.parked.is_empty()),
            parks_in_row: applied.fences.in_row,
        };
        let stream = self.source.stream();
        let advance = checkpoint::advance(&mut transaction, P::NAME, &stream, old, &new).await?;
        if advance == Advance::Fenced {
            transaction.rollback().await?;
            return Err(WorkerError::Fenced {
                stream,
                sequence: old.map_or(0, |old| old.last_sequence),
            });
        }
        crash::point("projector.advanced");
        transaction.commit().await?;
        Ok((new, applied))
    }

    /// Applies a batch as a whole, as nearly all can be.
    async fn whole(
        &self,
        transaction: &mut PgConnection,
        batch: &mut Batch<P::Message>,
    ) -> Result<Whole, WorkerError> {
        // Lent to the projector: nothing is copied.
        let entries = &mut batch.entries;
        let lent = entries.iter_mut().map(|entry| entry.lend());
        let messages: Vec<P::Message> = lent.collect::<Option<_>>().unwrap_or_default();
        let applied = self
            .projector
            .apply(transaction, self.source, &messages)
            .await;
        for (entry, message) in entries.iter_mut().zip(messages) {
            entry.taken = Some(message);
        }
        match applied {
            Ok(()) => Ok(Whole::Applied),
            Err(Rejection::Event(_)) if P::PARKS => Ok(Whole::Refused),
            Err(rejection) => Err(self.rejected(rejection, batch)),
        }
    }

    /// Applies what can be applied of a batch.
    async fn partly(
        &self,
        transaction: &mut PgConnection,
        fences: &Fences,
        batch: &Batch<P::Message>,
    ) -> Result<Applied, WorkerError> {
        let applied = apply::apply(
            self.projector,
            transaction,
            self.source,
            &batch.entries,
            fences,
        );
        applied.await.map_err(|refused| match refused {
            Refused::Rejected(rejection) => self.rejected(rejection, batch),
            Refused::TooMany(last) => Halt::TooManyParked {
                projection: P::NAME,
                stream: self.source.stream(),
                sequence: last.sequence,
                id: Previous(last.event_id),
                reason: last.reason.unwrap_or_default(),
            }
            .into(),
        })
    }

    fn rejected(&self, rejection: Rejection, batch: &Batch<P::Message>) -> WorkerError {
        let projection = P::NAME;
        let stream = self.source.stream();
        match rejection {
            Rejection::Retry(error) => error.into(),
            Rejection::Halt(reason) => Halt::Tables {
                projection,
                stream,
                reason,
            }
            .into(),
            Rejection::Evidence(reason) => Halt::Evidence {
                projection,
                stream,
                reason,
            }
            .into(),
            Rejection::Event(reason) => Halt::Event {
                projection,
                stream,
                sequence: batch.last.sequence,
                id: Previous(batch.last.event_id),
                reason,
            }
            .into(),
        }
    }
}
