//! Applies streams from their beginning, or from where an earlier command ended, up to a sequence: through
//! the same commit as the live workers', with checkpoints and parked events of the shadow's own.

use std::time::{Duration, Instant};

use artstore_bus::breaks;
use artstore_bus::connection::Bus;
use artstore_runtime::crash;
use artstore_schemas::source::Source;
use chrono::{DateTime, SubsecRound as _, Utc};
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use super::{OnStep, RebuildError, Step};
use crate::parking::{Fences, fences};
use crate::projector::Projector;
use crate::projector_error::WorkerError;
use crate::runtime::checkpoint::{self, Checkpoint};
use crate::runtime::commit::Commit;
use crate::runtime::consumer::{CheckedReader, ReadPosition};

const MOST_MESSAGES: usize = 1_000;
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// While others wait, the clock is checked behind each so many.
const MOST_IN_A_HURRY: usize = 100;

/// How long it waits for a message before it looks around.
const PATIENCE: Duration = Duration::from_secs(2);

/// A stream that gives nothing for so long stands still.
const STALL: Duration = Duration::from_secs(30);

/// How far a stream is to be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its source.
    pub source: Source,
    /// The last message.
    pub sequence: u64,
}

/// Fills the tables that the session's search path names.
pub(crate) struct Fill<'a, P> {
    pub(crate) projector: &'a P,
    pub(crate) bus: &'a Bus,
    pub(crate) stop: CancellationToken,
    /// It gives up at this time, while others wait for it.
    pub(crate) deadline: Option<Instant>,
}

/// How a fill ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filled {
    Done,
    /// Not before the deadline.
    Late,
}

impl<P: Projector> Fill<'_, P> {
    /// Applies all streams, one after another.
    pub(crate) async fn fill(
        &mut self,
        connection: &mut PgConnection,
        targets: &[Target],
        on_step: OnStep<'_>,
    ) -> Result<Filled, RebuildError> {
        let mut applied = 0;
        let mut streams = Vec::new();
        for target in targets {
            let checkpoint = checkpoint::load(connection, P::NAME, &target.source.stream()).await?;
            let at = checkpoint.as_ref().map_or(0, |at| at.last_sequence);
            if at < target.sequence {
                streams.push((target, target.sequence - at));
            }
        }
        let total = streams.iter().map(|(_, events)| events).sum();
        for (target, _) in streams {
            let mut report = |more: u64| {
                applied += more;
                on_step(Step::Filling {
                    stream: target.source.stream(),
                    applied,
                    total,
                });
            };
            report(0);
            if self.stream(connection, target, &mut report).await? == Filled::Late {
                return Ok(Filled::Late);
            }
        }
        Ok(Filled::Done)
    }

    /// Applies one stream; a consumer that was lost is recreated.
    async fn stream(
        &mut self,
        connection: &mut PgConnection,
        target: &Target,
        report: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Filled, RebuildError> {
        let stream = target.source.stream();
        let bus = self.bus;
        let info = self.in_time(bus.stream_info(&stream)).await?;
        let Some(info) = info else {
            return Ok(Filled::Late);
        };
        let first = info.state.first_sequence;
        let checkpoint = checkpoint::load(connection, P::NAME, &stream).await?;
        if checkpoint.is_none() && first > 1 && target.sequence > 0 {
            let damage = self.in_time(breaks::damage(bus, &target.source)).await?;
            let Some(damage) = damage else {
                return Ok(Filled::Late);
            };
            if !damage.covers_hole(1, first - 1) {
                return Err(RebuildError::NoBeginning { stream, first });
            }
        }
        let created = info.created.trunc_subsecs(6);
        let mut moved = Instant::now();
        let mut hole_at = None;
        loop {
            let checkpoint = checkpoint::load(connection, P::NAME, &stream).await?;
            let at = checkpoint.as_ref().map_or(0, |at| at.last_sequence);
            let mut reading = Reading {
                target,
                created,
                checkpoint,
                hole_at: hole_at.take(),
                moved,
            };
            let error = match self.read(connection, &mut reading, report).await {
                Ok(filled) => return Ok(filled),
                Err(error) => error,
            };
            moved = reading.moved;
            match &error {
                RebuildError::Worker(WorkerError::Hole { expected, .. }) => {
                    hole_at = Some(*expected);
                }
                RebuildError::Worker(WorkerError::Consumer { .. } | WorkerError::Bus(_)) => {}
                _ => return Err(error),
            }
            if self.is_late() {
                return Ok(Filled::Late);
            }
            if moved.elapsed() >= STALL {
                tracing::warn!(stream, %error, "the stream stands still");
                return Err(stalled(target, at, moved));
            }
            tracing::debug!(stream, %error, "the consumer is recreated");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn read(
        &mut self,
        connection: &mut PgConnection,
        reading: &mut Reading<'_>,
        report: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Filled, RebuildError> {
        let target = reading.target;
        let stream = target.source.stream();
        let mut fences = Fences {
            keys: fences::load(connection, P::NAME, &stream).await?,
            in_row: reading.checkpoint.as_ref().map_or(0, |at| at.parks_in_row),
        };
        let last = ReadPosition::behind(reading.checkpoint.as_ref());
        let opened = CheckedReader::open(self.bus, P::NAME, &target.source, last, reading.hole_at);
        let Some(reader) = self.in_time(opened).await? else {
            return Ok(Filled::Late);
        };
        let mut reader: CheckedReader<P::Message> = reader.until(target.sequence);
        let commit = Commit {
            projector: self.projector,
            source: &target.source,
            stream_created_at: reading.created,
        };
        let most = match self.deadline {
            Some(_) => MOST_IN_A_HURRY,
            None => MOST_MESSAGES,
        };
        while !reader.is_at_end() {
            let batch = reader.batch(most, MOST_BYTES, PATIENCE);
            let Some(batch) = self.in_time(batch).await? else {
                return Ok(Filled::Late);
            };
            let at = reading.checkpoint.as_ref().map_or(0, |at| at.last_sequence);
            let Some(mut batch) = batch else {
                if !reader.is_at_end() && reading.moved.elapsed() >= STALL {
                    return Err(stalled(target, at, reading.moved));
                }
                continue;
            };
            let committed =
                commit.batch(connection, reading.checkpoint.as_ref(), &fences, &mut batch);
            let (reached, applied) = committed.await?;
            crash::point("rebuild.filled");
            report(reached.last_sequence - at);
            reading.checkpoint = Some(reached);
            reading.moved = Instant::now();
            fences = applied.fences;
        }
        Ok(Filled::Done)
    }

    /// Waits for the bus until it is asked to stop. None: the deadline was there before.
    async fn in_time<T, E: Into<WorkerError>>(
        &mut self,
        answer: impl Future<Output = Result<T, E>>,
    ) -> Result<Option<T>, RebuildError> {
        if self.is_late() {
            return Ok(None);
        }
        let deadline = self.deadline;
        let late = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            answer = answer => Ok(Some(answer.map_err(Into::<WorkerError>::into)?)),
            () = late => Ok(None),
            () = self.stop.cancelled() => Err(RebuildError::Stopped),
        }
    }

    fn is_late(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
    }
}

/// Where the reading of a stream stands.
struct Reading<'a> {
    target: &'a Target,
    created: DateTime<Utc>,
    checkpoint: Option<Checkpoint>,
    /// Where a message did not come already.
    hole_at: Option<u64>,
    /// When something was applied last.
    moved: Instant,
}

fn stalled(target: &Target, sequence: u64, moved: Instant) -> RebuildError {
    RebuildError::Stalled {
        stream: target.source.stream(),
        sequence,
        target: target.sequence,
        seconds: moved.elapsed().as_secs(),
    }
}
