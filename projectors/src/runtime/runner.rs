//! One worker: one projection, one stream. It elects itself by a lock, reads from the checkpoint
//! on, and commits each batch's rows with the checkpoint that follows from them.
//! Nothing is carried over an error: it starts again from the state in the database.

use std::sync::Arc;
use std::time::{Duration, Instant};

use artstore_bus::bus_error::BusError;
use artstore_runtime::crash;
use artstore_runtime::duty_lock::{DutyLock, HeldLock};
use artstore_runtime::progress::{Problem, Stage};
use artstore_runtime::pulse::kept_alive;
use artstore_runtime::restart::Restarts;
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::parking::{Fences, fences};
use crate::projector::Projector;
use crate::projector_error::{Previous, WorkerError};
use crate::runtime::checkpoint::{self, Checkpoint};
use crate::runtime::commit::Commit;
use crate::runtime::consumer::{CheckedReader, ReadPosition};
use crate::runtime::database::{lock_of, release};
use crate::runtime::pause;
use crate::runtime::presence;
use crate::runtime::progress::{WorkerProgress, WorkerState};
use crate::runtime::share::{self, Held};
use crate::runtime::worker::{Task, Worker};

const MOST_MESSAGES: usize = 1_000;
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// How long a quiet worker waits before it shows the database that it is alive.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// How often a busy worker checks whether its process has more than its share.
const LOOK: Duration = Duration::from_secs(2);

/// How long NATS may take to report the settings of the stream: the database's session must not be
/// silent for long meanwhile.
const ASK: Duration = Duration::from_secs(1);

/// A session that lived for so long and finds its checkpoint moved has done nothing wrong.
const FENCED: Duration = Duration::from_secs(1);

/// How often in a row it may be moved sooner than that.
const MOST_MOVED: u32 = 3;

/// Runs a worker until `stop` is set. Errors are logged once each and tried again: a person or
/// a restart may repair them. When it is asked to stop, it commits the current batch and releases its
/// lock. Returns the last error, if it had not recovered when it was stopped.
pub(crate) async fn run<P: Projector>(
    task: Task<P>,
    stop: CancellationToken,
) -> Result<(), WorkerError> {
    let (progress, pulse) = (task.progress.clone(), Arc::clone(&task.pulse));
    let bus = task.bus.clone();
    let mut worker = Worker {
        stream: task.source.stream(),
        task,
        hole_at: None,
    };
    let mut restarts = Restarts::new(Duration::from_millis(50), Duration::from_secs(2));
    let mut halted_at = None;
    let mut moved = 0;
    loop {
        let begun = Instant::now();
        // Where one of both servers is lost, what the other one has for this session is given up.
        let session = async {
            let session = worker.session(&stop);
            bus.link
                .unless_lost(session)
                .await
                .map_err(BusError::from)?
        };
        let error = match pulse.while_answered(session).await {
            Ok(End::Stop) => return stopped_at(halted_at, &progress),
            Ok(End::GivenAway) => {
                progress.update(becomes_standby);
                continue;
            }
            Err(error @ WorkerError::NotDrained(_)) => return Err(error),
            // Ordinary: a rebuild has swapped the tables, or a person has moved or paused it.
            Err(WorkerError::Fenced { sequence, .. })
                if begun.elapsed() >= FENCED || moved < MOST_MOVED =>
            {
                moved = match begun.elapsed() >= FENCED {
                    true => 1,
                    false => moved + 1,
                };
                tracing::info!(
                    sequence,
                    "the checkpoint was moved by a command or another worker: continuing from there"
                );
                progress.update(becomes_standby);
                continue;
            }
            Err(error) => error,
        };
        let text = error.to_string();
        let halted = error.needs_a_person();
        if restarts.is_news(begun.elapsed(), &text) {
            if halted {
                tracing::error!(
                    projection = P::NAME,
                    error = text,
                    "the projection has halted"
                );
            } else {
                tracing::warn!(
                    projection = P::NAME,
                    error = text,
                    "the worker starts again"
                );
            }
        }
        progress.update(|state| {
            state.stage = Stage::Starting;
            state.retries += 1;
            state.problem = Some(Problem { text, halted });
        });
        halted_at = halted.then_some(error);
        if !restarts.continues(&stop).await {
            return stopped_at(halted_at, &progress);
        }
    }
}

/// Between two sessions of which the first ended in order.
fn becomes_standby(state: &mut WorkerState) {
    state.stage = Stage::Standby;
    state.other_holder_seen = Some(Instant::now());
}

/// The result after a stop: the halt that the worker is still in, also where it was just trying again.
fn stopped_at(
    halted_at: Option<WorkerError>,
    progress: &WorkerProgress,
) -> Result<(), WorkerError> {
    let mut halted = false;
    progress.update(|state| {
        state.stage = Stage::Stopping;
        halted = state.problem.as_ref().is_some_and(|problem| problem.halted);
    });
    match halted_at {
        Some(error) if halted => Err(error),
        Some(_) | None => Ok(()),
    }
}

/// How a session ended.
enum End {
    Stop,
    /// Another process is to have the stream.
    GivenAway,
}

/// Where a worker continues.
struct Start<M> {
    checkpoint: Option<Checkpoint>,
    fences: Fences,
    created: DateTime<Utc>,
    reader: CheckedReader<M>,
}

impl<P: Projector> Worker<P> {
    /// From connecting to an error or the end.
    async fn session(&mut self, stop: &CancellationToken) -> Result<End, WorkerError> {
        let mut lock = lock_of(presence::lock_name(P::NAME, &self.stream));
        let elected = tokio::select! {
            elected = self.elect(&mut lock) => elected?,
            () = stop.cancelled() => return Ok(End::Stop),
        };
        let (mut connection, key, mut held) = elected;
        let lock = (&lock, key);
        crash::point("projector.elected");
        let end = self.work(&mut connection, lock, &mut held, stop).await?;
        release(connection, lock, &self.stream).await?;
        match end {
            End::Stop => tracing::info!(stream = self.stream, "stopped: nothing is in hand"),
            End::GivenAway => {
                tracing::info!(
                    stream = self.stream,
                    "given away: another process has fewer"
                );
            }
        }
        Ok(end)
    }

    /// Reads after the checkpoint, commits, and repeats.
    async fn work(
        &mut self,
        connection: &mut PgConnection,
        (lock, key): (&DutyLock, HeldLock),
        held: &mut Held,
        stop: &CancellationToken,
    ) -> Result<End, WorkerError> {
        let Start {
            mut checkpoint,
            mut fences,
            created,
            mut reader,
        } = tokio::select! {
            start = self.start(connection) => start?,
            () = stop.cancelled() => return Ok(End::Stop),
        };
        crash::point("projector.reading");
        tracing::info!(stream = self.stream, "active");
        // What the session before has left is settled before there is more of it.
        let Task {
            bus,
            source,
            projector,
            ..
        } = &self.task;
        projector.settle(connection, bus, source).await?;
        let progress = self.task.progress.clone();
        let mut looked = Instant::now();
        let mut too_much = false;
        loop {
            let batch = tokio::select! {
                batch = kept_alive(connection, reader.batch(MOST_MESSAGES, MOST_BYTES, PATIENCE)) => {
                    batch?
                }
                () = stop.cancelled() => return Ok(End::Stop),
            };
            if let Err(WorkerError::Hole { expected, .. }) = &batch {
                self.hole_at = Some(*expected);
            }
            let batch = batch?;
            if let Some(reason) = reader.take_recreated() {
                progress.update(|state| state.recreated = Some((Instant::now(), reason)));
            }
            let quiet = batch.is_none();
            if let Some(batch) = batch {
                crash::point("projector.received");
                let begun = Instant::now();
                let span = tracing::info_span!(
                    "batch",
                    stream = self.stream,
                    stream.sequence = batch.last.sequence,
                    event.id = %Previous(batch.last.event_id),
                    events = batch.entries.len(),
                );
                // Not cut off by a stop: it is committed or rolled back first.
                let mut batch = batch;
                let Task {
                    projector, source, ..
                } = &self.task;
                let commit = Commit {
                    projector: &**projector,
                    source,
                    stream_created_at: created,
                };
                let committed = commit.batch(connection, checkpoint.as_ref(), &fences, &mut batch);
                let (reached, applied) = committed.instrument(span).await?;
                checkpoint = Some(reached);
                for parked in &applied.parked {
                    parked.log();
                }
                progress.update(|state| {
                    state.applied += (batch.entries.len() - applied.parked.len()) as u64;
                    state.parked += applied.parked.len() as u64;
                    state.commits.take(begun.elapsed());
                    state.well();
                });
                fences = applied.fences;
                crash::point("projector.committed");
            }
            let Task {
                bus,
                source,
                projector,
                ..
            } = &self.task;
            projector.settle(connection, bus, source).await?;
            // Where nothing is new, the question also shows the database that this worker is alive.
            if quiet || looked.elapsed() >= LOOK {
                looked = Instant::now();
                self.check_unmoved(connection, checkpoint.as_ref()).await?;
                // The key was replaced, and whoever has the new one is active.
                if !lock.is_held(connection, key).await? {
                    return Err(self.fenced(checkpoint.as_ref()));
                }
                let processes = share::processes(connection).await?;
                let limited = kept_alive(connection, self.limited()).await?;
                progress.update(|state| state.limited(limited, &self.stream));
                // Seen twice: a session that is about to end makes no difference.
                let before = std::mem::replace(&mut too_much, held.is_too_much(processes));
                if before && held.give_away(processes) {
                    return Ok(End::GivenAway);
                }
            }
        }
    }

    /// Why the stream, or one that the projector publishes to, removes messages, or will. None also where
    /// NATS does not report it now.
    async fn limited(&self) -> Option<String> {
        let Task { bus, projector, .. } = &self.task;
        let own = async { bus.limit(&self.stream).await.ok().flatten() };
        let both = async { tokio::join!(own, projector.limited(bus)) };
        let (own, published) = tokio::time::timeout(ASK, both).await.ok()?;
        own.or(published)
    }

    /// Whether the checkpoint still is where this worker left it: a person may have repaired it while
    /// the stream was quiet.
    async fn check_unmoved(
        &self,
        connection: &mut PgConnection,
        known: Option<&Checkpoint>,
    ) -> Result<(), WorkerError> {
        let now = checkpoint::load(connection, P::NAME, &self.stream).await?;
        match now.as_ref() == known {
            true => Ok(()),
            false => Err(self.fenced(known)),
        }
    }

    fn fenced(&self, known: Option<&Checkpoint>) -> WorkerError {
        WorkerError::Fenced {
            stream: self.stream.clone(),
            sequence: known.map_or(0, |known| known.last_sequence),
        }
    }

    async fn start(
        &mut self,
        connection: &mut PgConnection,
    ) -> Result<Start<P::Message>, WorkerError> {
        let checkpoint = checkpoint::load(connection, P::NAME, &self.stream).await?;
        // Read after the checkpoint: a pause that came before it has changed its generation already.
        if pause::load(connection, P::NAME).await?.is_some() {
            return Err(self.fenced(checkpoint.as_ref()));
        }
        let created = self.check_stream(checkpoint.as_ref());
        let created = kept_alive(connection, created).await??;
        let Task {
            bus,
            source,
            projector,
            ..
        } = &self.task;
        let begun = projector.begin(connection, bus, source, checkpoint.as_ref());
        begun.await?;
        let fences = Fences {
            keys: fences::load(connection, P::NAME, &self.stream).await?,
            in_row: checkpoint
                .as_ref()
                .map_or(0, |checkpoint| checkpoint.parks_in_row),
        };
        // Read after the checkpoint: what was parked since has changed the generation.
        let last = ReadPosition::behind(checkpoint.as_ref());
        let reader = CheckedReader::open(bus, P::NAME, source, last, self.hole_at.take());
        let reader = kept_alive(connection, reader).await??;
        Ok(Start {
            checkpoint,
            fences,
            created,
            reader,
        })
    }
}
