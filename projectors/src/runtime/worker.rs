//! What a worker works with, and whether the stream is still the one that its checkpoint is of.

use std::sync::Arc;

use artstore_bus::breaks;
use artstore_bus::connection::Bus;
use artstore_runtime::pulse::Pulse;
use artstore_schemas::source::Source;
use chrono::{DateTime, SubsecRound as _, Utc};
use sqlx::postgres::PgConnectOptions;
use uuid::Uuid;

use crate::projector::{Projector, ReadMessage as _};
use crate::projector_error::{Halt, Previous, WorkerError};
use crate::runtime::checkpoint::Checkpoint;
use crate::runtime::progress::WorkerProgress;
use crate::runtime::share::Share;

/// What a worker works with.
pub(crate) struct Task<P> {
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) projector: Arc<P>,
    pub(crate) bus: Bus,
    pub(crate) database: PgConnectOptions,
    pub(crate) source: Source,
    pub(crate) progress: WorkerProgress,
    pub(crate) share: Share,
}

/// A worker.
pub(crate) struct Worker<P> {
    pub(crate) task: Task<P>,
    pub(crate) stream: String,
    /// Where the stream had a hole the last time.
    pub(crate) hole_at: Option<u64>,
}

impl<P: Projector> Worker<P> {
    /// Whether the stream still is the one that the checkpoint is of, and holds what was applied.
    pub(crate) async fn check_stream(
        &self,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<DateTime<Utc>, WorkerError> {
        let info = self.task.bus.stream_info(&self.stream).await?;
        // As PostgreSQL keeps it.
        let created = info.created.trunc_subsecs(6);
        let Some(checkpoint) = checkpoint else {
            return Ok(created);
        };
        let projection = P::NAME;
        let stream = self.stream.clone();
        let sequence = checkpoint.last_sequence;
        if checkpoint.version != i32::try_from(P::VERSION).unwrap_or(i32::MAX) {
            return Err(Halt::Version {
                projection,
                found: checkpoint.version,
                wanted: P::VERSION,
            }
            .into());
        }
        if checkpoint.stream_created_at != created {
            return Err(Halt::Recreated {
                projection,
                stream,
                created,
                known: checkpoint.stream_created_at,
                sequence,
            }
            .into());
        }
        if info.state.last_sequence < sequence {
            let last = info.state.last_sequence;
            // A mirror may only be late: wait for it.
            if info.config.mirror.is_some() {
                return Err(WorkerError::Consumer {
                    stream,
                    reason: format!("the mirror is at {last}, the checkpoint at {sequence}"),
                });
            }
            return Err(Halt::Behind {
                projection,
                stream,
                last,
                sequence,
            }
            .into());
        }
        let applied = self.event_at(sequence).await?;
        // Every message is applied, also one that does not count: the event before it is known.
        let skipped = P::Message::EVERYTHING && applied.is_none();
        if applied != checkpoint.last_event_id && !skipped {
            // What was applied there may have been damaged since, and that accepted.
            let damage = breaks::damage(&self.task.bus, &self.task.source).await?;
            if damage.covers_hole(sequence, sequence) || damage.ignores(sequence) {
                return Ok(created);
            }
            return Err(Halt::Spliced {
                projection,
                source_name: self.task.source.to_string(),
                stream,
                sequence,
                previous: Previous(applied),
                expected: Previous(checkpoint.last_event_id),
            }
            .into());
        }
        Ok(created)
    }

    /// The event that the stream has at this sequence; none at 0, or where it was removed.
    async fn event_at(&self, sequence: u64) -> Result<Option<Uuid>, WorkerError> {
        let message = self.task.bus.message_at(&self.stream, sequence).await?;
        let envelope = message.and_then(|message| message.envelope());
        Ok(envelope
            .filter(|envelope| envelope.source == self.task.source.ce_source())
            .map(|envelope| envelope.id))
    }
}
