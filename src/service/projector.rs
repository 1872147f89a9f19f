//! What a projector shows: of each projection its workers' progress, and its lag, measured from
//! outside of them on a connection of its own: a worker that is stuck can't hide it.

mod metrics;
mod view;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use artstore_bus::connection::Bus;
use artstore_projectors::projector_error::WorkerError;
use artstore_projectors::runtime::lag::{self, Lag};
use artstore_projectors::runtime::progress::ProjectorProgress;
use artstore_runtime::progress::Stage;
use artstore_schemas::source::Source;
use futures::StreamExt as _;
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use tracing::Instrument as _;

use self::view::{Answer, View};
use super::Role;
use super::metrics::Text;
use super::projection::Projection;
use super::readiness::{EVERY, Limits, PATIENCE, Part, Readiness, ago, is_fresh};

/// Streams are listed every few seconds.
const LISTED: Duration = Duration::from_secs(15);

/// How many streams are measured at once: all of an installation, so that streams that do not
/// answer keep the next question to the database waiting once and not in turns.
const AT_ONCE: usize = 64;

/// The projector of a process.
pub struct ProjectorRole {
    started: Instant,
    limits: Limits,
    shown: Vec<Shown>,
}

/// One of its projections.
struct Shown {
    projection: Projection,
    database: PgConnectOptions,
    progress: ProjectorProgress,
    measured: Mutex<Measured>,
}

#[derive(Debug, Clone, Default)]
struct Measured {
    database: Answer<bool>,
    lags: BTreeMap<Source, Answer<Lag>>,
    /// Where events wait: since when the checkpoint has not moved.
    still: BTreeMap<Source, (u64, Instant)>,
}

impl ProjectorRole {
    /// Shows nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            started: Instant::now(),
            limits,
            shown: Vec::new(),
        }
    }

    /// Shows a projection too, whose workers write this progress.
    pub(crate) fn showing(
        mut self,
        projection: Projection,
        database: PgConnectOptions,
        progress: ProjectorProgress,
    ) -> Self {
        self.shown.push(Shown {
            projection,
            database,
            progress,
            measured: Mutex::default(),
        });
        self
    }

    /// Measures again and again, until it is aborted.
    pub async fn measure(self: Arc<Self>, bus: Bus) {
        let all = self.shown.iter().map(|shown| {
            let projection = shown.projection.name();
            let span = tracing::error_span!("measure", projection);
            shown.measure(&bus).instrument(span)
        });
        futures::future::join_all(all).await;
    }
}

impl Shown {
    async fn measure(&self, bus: &Bus) {
        let mut connection = None;
        loop {
            let read = self.checkpoints(&mut connection);
            let read = tokio::time::timeout(PATIENCE, read);
            let checkpoints = match read.await {
                Ok(Ok(checkpoints)) => Ok(checkpoints),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("the read model's database does not answer".to_owned()),
            };
            let writable = checkpoints.as_ref().map(|c| c.writable);
            self.measured()
                .database
                .take(writable.map_err(Clone::clone));
            match checkpoints {
                Ok(checkpoints) => self.measure_lags(bus, &checkpoints).await,
                Err(_) => connection = None,
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn measure_lags(&self, bus: &Bus, checkpoints: &lag::Checkpoints) {
        let sources = self.progress.workers().into_keys();
        let measurements = sources.map(async |source| {
            let before = self.measured().lags.get(&source).and_then(|lag| lag.value);
            let measured = lag::measure(bus, &source, checkpoints, before);
            let lag = match tokio::time::timeout(PATIENCE, measured).await {
                Ok(lag) => lag.map_err(|error| error.to_string()),
                Err(_) => Err("NATS does not answer".to_owned()),
            };
            let mut measured = self.measured();
            if let Ok(lag) = &lag {
                let known = measured.still.remove(&source);
                let known = known.filter(|(checkpoint, _)| *checkpoint == lag.checkpoint);
                if lag.events() > 0 {
                    let still = known.unwrap_or_else(|| (lag.checkpoint, Instant::now()));
                    measured.still.insert(source.clone(), still);
                }
            }
            measured.lags.entry(source).or_default().take(lag);
        });
        futures::stream::iter(measurements)
            .buffer_unordered(AT_ONCE)
            .collect::<()>()
            .await;
    }

    async fn checkpoints(
        &self,
        connection: &mut Option<PgConnection>,
    ) -> Result<lag::Checkpoints, WorkerError> {
        let connection = match connection {
            Some(connection) => connection,
            None => connection.insert(self.projection.connect(&self.database).await?),
        };
        lag::checkpoints(connection, self.projection.name()).await
    }

    fn measured(&self) -> MutexGuard<'_, Measured> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Role for ProjectorRole {
    fn readiness(&self) -> Readiness {
        let none = Answer::default();
        let mut parts = Vec::new();
        let mut reason = None;
        for shown in &self.shown {
            let measured = shown.measured().clone();
            let workers = shown.progress.workers();
            parts.extend(workers.iter().map(|(source, state)| {
                let view = View {
                    started: self.started,
                    state,
                    database: &measured.database,
                    lag: measured.lags.get(source).unwrap_or(&none),
                    still: measured.still.get(source).map(|(_, since)| *since),
                };
                let reason = view.reason(self.limits);
                Part {
                    projection: Some(shown.projection.name()),
                    source: source.to_string(),
                    stream: source.stream(),
                    ready: reason.is_none(),
                    standby: state.stage == Stage::Standby,
                    reason,
                    lag_events: view.lag_events(),
                    lag_seconds: Some(view.lag_seconds()),
                }
            }));
            let listed = shown.progress.listed();
            if let Some(waiting) = shown.progress.waiting() {
                reason = Some(waiting);
            } else if !is_fresh(listed, LISTED) {
                reason = Some(format!("the streams were not listed {}", ago(listed)));
            } else if workers.is_empty() {
                reason = Some("there is no stream to read: run `artstore bus init`".to_owned());
            }
        }
        Readiness::of(parts, reason)
    }

    fn metrics(&self, text: &mut Text) {
        self.write_metrics(text);
    }
}
