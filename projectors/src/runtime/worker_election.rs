//! The election of a worker: it waits for its stream's lock, on standby meanwhile.

use std::time::{Duration, Instant};

use artstore_runtime::duty_lock::{DutyLock, HeldLock};
use artstore_runtime::progress::{Problem, Stage};
use sqlx::PgConnection;

use crate::projector::Projector;
use crate::projector_error::WorkerError;
use crate::runtime::database::connect;
use crate::runtime::pause;
use crate::runtime::presence;
use crate::runtime::share::{self, Held};
use crate::runtime::worker::{Task, Worker};

/// How often a standby worker tries the lock.
const STANDBY: Duration = Duration::from_millis(500);

/// How long a process that has its share of the streams leaves a free one to others.
const COURTESY: Duration = Duration::from_secs(3);

impl<P: Projector> Worker<P> {
    /// Connects and waits for the stream's lock. A worker that can't reach the stream does not ask
    /// for it: another may be able to.
    pub(crate) async fn elect(
        &self,
        lock: &mut DutyLock,
    ) -> Result<(PgConnection, HeldLock, Held), WorkerError> {
        let Task {
            source, progress, ..
        } = &self.task;
        let name = presence::session_name(P::NAME, source);
        // Others count this process by its sessions, and would leave it streams that it can't reach.
        self.task.bus.stream_info(&self.stream).await?;
        let mut connection = connect::<P>(&self.task.database, &name).await?;
        let mut logged = false;
        let mut left = Instant::now();
        // It has just released the lock, or has never asked: it has its share, and looks within moments.
        progress.update(|state| state.other_holder_seen = Some(left));
        let held = loop {
            if let Some(pause) = pause::load(&mut connection, P::NAME).await? {
                let text = format!("{pause}; to resume: artstore projection resume {}", P::NAME);
                progress.update(|state| {
                    state.stage = Stage::Standby;
                    state.other_holder_seen = Some(Instant::now());
                    state.problem = Some(Problem {
                        text,
                        halted: false,
                    });
                });
                tokio::time::sleep(STANDBY).await;
                continue;
            }
            let processes = share::processes(&mut connection).await?;
            if self.task.share.has_room(processes) || left.elapsed() >= COURTESY {
                left = Instant::now();
                if let Some(held) = lock.try_lock(&mut connection).await? {
                    break held;
                }
                progress.update(|state| state.other_holder_seen = Some(left));
                if !std::mem::replace(&mut logged, true) {
                    let stream = &self.stream;
                    tracing::info!(
                        projection = P::NAME,
                        stream,
                        "standby: another worker is active"
                    );
                }
            }
            progress.update(|state| {
                state.stage = Stage::Standby;
                state.problem = None;
            });
            tokio::time::sleep(STANDBY).await;
        };
        progress.update(|state| {
            state.stage = Stage::Active;
            state.sign = Some(Instant::now());
        });
        Ok((connection, held, self.task.share.hold()))
    }
}
