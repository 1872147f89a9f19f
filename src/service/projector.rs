//! What a projector shows: of each projection its workers' progress, and its lag, measured from
//! outside of them on a connection of its own: a worker that is stuck can't hide it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use artstore_bus::connection::Bus;
use artstore_projectors::audit_log::AuditLog;
use artstore_projectors::element_registry::ElementRegistry;
use artstore_projectors::projector::Projector;
use artstore_projectors::projector_error::WorkerError;
use artstore_projectors::query_cache::QueryCache;
use artstore_projectors::runtime::database::connect;
use artstore_projectors::runtime::lag::{self, Lag};
use artstore_projectors::runtime::progress::{Durations, ProjectorProgress, WorkerState};
use artstore_runtime::progress::Stage;
use artstore_schemas::source::Source;
use chrono::Utc;
use clap::ValueEnum;
use futures::StreamExt as _;
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use tracing::Instrument as _;

use super::Role;
use super::metrics::{Kind, Text};
use super::readiness::{EVERY, Limits, PATIENCE, Part, Readiness, STALE, ago, is_fresh};

/// A worker that has given no sign of life for so long is stuck.
const SILENT: Duration = Duration::from_secs(10);

/// A standby worker looks at the lock at least so often.
const LOOKS: Duration = Duration::from_secs(10);

/// Events wait for so long with none applied: whoever has the lock does not work.
const UNSEEN: Duration = Duration::from_secs(20);

/// Streams are listed every few seconds.
const LISTED: Duration = Duration::from_secs(15);

/// How many streams are measured at once: all of an installation, so that streams that do not
/// answer keep the next question to the database waiting once and not in turns.
const AT_ONCE: usize = 64;

/// A projection that people may choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Projection {
    /// What people search.
    QueryCache,
    /// Who did what, provably.
    AuditLog,
    /// What administrators see of storage elements.
    ElementRegistry,
}

impl Projection {
    /// Its name, as in its checkpoints.
    pub fn name(self) -> &'static str {
        match self {
            Self::QueryCache => QueryCache::NAME,
            Self::AuditLog => AuditLog::NAME,
            Self::ElementRegistry => ElementRegistry::NAME,
        }
    }

    /// The version of its tables.
    pub fn version(self) -> u32 {
        match self {
            Self::QueryCache => QueryCache::VERSION,
            Self::AuditLog => AuditLog::VERSION,
            Self::ElementRegistry => ElementRegistry::VERSION,
        }
    }

    /// Connects to its tables.
    pub async fn connect(self, database: &PgConnectOptions) -> Result<PgConnection, WorkerError> {
        let name = "artstore projector (lag)";
        match self {
            Self::QueryCache => connect::<QueryCache>(database, name).await,
            Self::AuditLog => connect::<AuditLog>(database, name).await,
            Self::ElementRegistry => connect::<ElementRegistry>(database, name).await,
        }
    }
}

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

/// The last answer, and what went wrong since.
#[derive(Debug, Clone)]
struct Answer<T> {
    value: Option<T>,
    at: Option<Instant>,
    error: Option<String>,
}

impl<T> Default for Answer<T> {
    fn default() -> Self {
        Self {
            value: None,
            at: None,
            error: None,
        }
    }
}

impl<T> Answer<T> {
    fn take(&mut self, answer: Result<T, String>) {
        match answer {
            Ok(value) => {
                *self = Self {
                    value: Some(value),
                    at: Some(Instant::now()),
                    error: None,
                };
            }
            Err(error) => self.error = Some(error),
        }
    }

    fn is_fresh(&self) -> bool {
        is_fresh(self.at, STALE)
    }

    fn why(&self) -> String {
        let error = self.error.as_deref().unwrap_or("no answer yet");
        format!("{}: {error}", ago(self.at))
    }
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
    pub fn showing(
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

/// One stream at one moment.
struct View<'a> {
    started: Instant,
    state: &'a WorkerState,
    database: &'a Answer<bool>,
    lag: &'a Answer<Lag>,
    /// Since when events have been waiting with none applied.
    still: Option<Instant>,
}

impl View<'_> {
    /// Why the stream is not ready.
    fn reason(&self, limits: Limits) -> Option<String> {
        let state = self.state;
        if let Some(problem) = &state.problem {
            return Some(problem.to_string());
        }
        if !self.database.is_fresh() {
            return Some(format!(
                "the database has not answered {}",
                self.database.why()
            ));
        }
        if self.database.value == Some(false) {
            return Some("the database is read-only".to_owned());
        }
        if !self.lag.is_fresh() {
            return Some(format!("the lag could not be measured {}", self.lag.why()));
        }
        match state.stage {
            Stage::Starting => Some("the worker has no place yet".to_owned()),
            Stage::Stopping => Some("stopping".to_owned()),
            Stage::Standby if is_fresh(state.other_holder_seen, LOOKS) => {
                let still = self.still.map(|still| still.elapsed());
                still.filter(|still| *still >= UNSEEN).map(|still| {
                    format!(
                        "standby, but events have been waiting for {} s and nobody applies \
                         them: `artstore status` names who has the stream's lock",
                        still.as_secs()
                    )
                })
            }
            Stage::Standby => Some(format!(
                "standby, but the active worker's lock was not seen {}",
                ago(state.other_holder_seen)
            )),
            Stage::Active if !is_fresh(state.sign, SILENT) => Some(format!(
                "the worker is stuck: it has neither committed nor found the database well {}",
                ago(state.sign)
            )),
            Stage::Active => limits.exceeded(self.lag_events(), self.lag_seconds()),
        }
    }

    fn lag_events(&self) -> Option<u64> {
        let events = self.lag.value.filter(|_| self.lag.is_fresh())?.events();
        // A lag of nothing is only believed while nothing is wrong.
        (self.state.problem.is_none() || events > 0).then_some(events)
    }

    /// No message has been waiting for longer. It counts on while nothing can be measured.
    fn lag_seconds(&self) -> f64 {
        let unknown = self.lag.at.unwrap_or(self.started).elapsed();
        let oldest = self.lag.value.and_then(|lag| lag.oldest);
        let waiting = oldest.and_then(|oldest| (Utc::now() - oldest).to_std().ok());
        waiting
            .map_or(unknown, |waiting| waiting.max(unknown))
            .as_secs_f64()
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
        let none = Answer::default();
        let mut databases = Vec::new();
        let mut workers = Vec::new();
        for shown in &self.shown {
            let measured = shown.measured().clone();
            let name = shown.projection.name();
            for (source, state) in shown.progress.workers() {
                let lag = measured.lags.get(&source).unwrap_or(&none).clone();
                let database = measured.database.clone();
                workers.push((name, source.stream(), state, database, lag));
            }
            databases.push((name, measured.database));
        }
        let mut writable = text.family(
            "artstore_projector_database_writable",
            Kind::Gauge,
            "1 while the read model's database answers and takes writes.",
        );
        for (name, database) in &databases {
            let well = database.is_fresh() && database.value == Some(true);
            writable.sample(&[("projection", name)], u8::from(well));
        }
        let mut write = |name, kind, help, value: &dyn Fn(&View<'_>) -> Option<f64>| {
            let mut family = text.family(name, kind, help);
            for (projection, stream, state, database, lag) in &workers {
                let view = View {
                    started: self.started,
                    state,
                    database,
                    lag,
                    still: None,
                };
                if let Some(value) = value(&view) {
                    family.sample(&[("projection", projection), ("stream", stream)], value);
                }
            }
        };
        let flag = |on: bool| Some(f64::from(u8::from(on)));
        write(
            "artstore_projector_active",
            Kind::Gauge,
            "1 on the process that has this stream.",
            &|v| flag(v.state.stage == Stage::Active),
        );
        write(
            "artstore_projector_standby",
            Kind::Gauge,
            "1 while this process is a standby: another one has this stream.",
            &|v| flag(v.state.stage == Stage::Standby),
        );
        write(
            "artstore_projector_halted",
            Kind::Gauge,
            "1 while halted: an operator has to act, and /health/ready says why.",
            &|v| flag(v.state.problem.as_ref().is_some_and(|p| p.halted)),
        );
        write(
            "artstore_projector_checkpoint_sequence",
            Kind::Gauge,
            "Sequence of the last message applied, as last read from the database.",
            &|v| v.lag.value.map(|lag| lag.checkpoint as f64),
        );
        write(
            "artstore_projector_stream_sequence",
            Kind::Gauge,
            "Last sequence of the stream, as last read from NATS.",
            &|v| v.lag.value.map(|lag| lag.last as f64),
        );
        write(
            "artstore_projector_lag_up",
            Kind::Gauge,
            "1 while the lag can be measured.",
            &|v| flag(v.lag_events().is_some()),
        );
        write(
            "artstore_projector_lag_events",
            Kind::Gauge,
            "Messages that are not applied; NaN while it can't be measured.",
            &|v| Some(v.lag_events().map_or(f64::NAN, |events| events as f64)),
        );
        write(
            "artstore_projector_lag_seconds",
            Kind::Gauge,
            "Age of the oldest message that is not applied; grows while it can't be measured.",
            &|v| Some(v.lag_seconds()),
        );
        write(
            "artstore_projector_lag_age_seconds",
            Kind::Gauge,
            "Time since the lag was last measured.",
            &|v| Some(v.lag.at.unwrap_or(v.started).elapsed().as_secs_f64()),
        );
        write(
            "artstore_projector_applied_total",
            Kind::Counter,
            "Events applied and committed.",
            &|v| Some(v.state.applied as f64),
        );
        write(
            "artstore_projector_parked_total",
            Kind::Counter,
            "Parked events (dead letters): they can't be applied, or wait behind one that can't.",
            &|v| Some(v.state.parked as f64),
        );
        write(
            "artstore_projector_batches_total",
            Kind::Counter,
            "Batches committed.",
            &|v| Some(v.state.commits.count() as f64),
        );
        write(
            "artstore_projector_retries_total",
            Kind::Counter,
            "Times that the worker started again after an error.",
            &|v| Some(v.state.retries as f64),
        );
        let mut commits = text.family(
            "artstore_projector_commit_seconds",
            Kind::Histogram,
            "How long the transaction of a batch took, from its first statement to its commit.",
        );
        for (projection, stream, state, ..) in &workers {
            let labels = [("projection", *projection), ("stream", stream.as_str())];
            histogram(&mut commits, labels, &state.commits);
        }
    }
}

fn histogram(family: &mut super::metrics::Family<'_>, labels: [(&str, &str); 2], of: &Durations) {
    let [projection, stream] = labels;
    for (bound, count) in of.cumulative() {
        let bound = bound.to_string();
        family.line("_bucket", &[projection, stream, ("le", &bound)], count);
    }
    family.line("_bucket", &[projection, stream, ("le", "+Inf")], of.count());
    family.line("_sum", &labels, of.sum().as_secs_f64());
    family.line("_count", &labels, of.count());
}

#[cfg(test)]
mod tests {
    use artstore_runtime::progress::Problem;

    use super::super::readiness::tests::{LIMITS, ago_by};
    use super::*;

    fn answer<T>(value: T, seconds: u64) -> Answer<T> {
        Answer {
            value: Some(value),
            at: Some(ago_by(seconds)),
            error: None,
        }
    }

    fn behind(events: u64, seconds: i64) -> Lag {
        Lag {
            checkpoint: 7,
            last: 7 + events,
            oldest: (events > 0).then(|| Utc::now() - chrono::TimeDelta::seconds(seconds)),
        }
    }

    fn active() -> WorkerState {
        WorkerState {
            stage: Stage::Active,
            sign: Some(Instant::now()),
            ..WorkerState::default()
        }
    }

    fn readiness(
        state: &WorkerState,
        database: &Answer<bool>,
        lag: &Answer<Lag>,
    ) -> (Option<String>, Option<u64>, f64) {
        let view = View {
            started: ago_by(50),
            state,
            database,
            lag,
            still: None,
        };
        (view.reason(LIMITS), view.lag_events(), view.lag_seconds())
    }

    #[test]
    fn ready_means_caught_up_within_limits_and_able_to_write() {
        let well = answer(true, 0);
        let (reason, events, seconds) = readiness(&active(), &well, &answer(behind(0, 0), 0));
        assert_eq!((reason, events), (None, Some(0)));
        assert!(seconds < 1.0);
        for (database, lag, expected) in [
            (answer(true, 20), behind(0, 0), "has not answered for 20 s"),
            (answer(false, 0), behind(0, 0), "read-only"),
            (well.clone(), behind(11, 1), "11 events behind"),
            (well, behind(1, 31), "31 s behind"),
        ] {
            let (reason, ..) = readiness(&active(), &database, &answer(lag, 0));
            assert!(
                reason.as_ref().is_some_and(|r| r.contains(expected)),
                "{reason:?}"
            );
        }
    }

    #[test]
    fn a_lag_that_was_measured_long_ago_is_unknown_and_grows() {
        let well = answer(true, 0);
        let (reason, events, seconds) = readiness(&active(), &well, &answer(behind(0, 0), 20));
        assert!(reason.is_some_and(|r| r.contains("could not be measured for 20 s")));
        assert_eq!(events, None, "not 0");
        assert!((20.0..21.0).contains(&seconds), "{seconds}");
        let (_, events, seconds) = readiness(&active(), &well, &Answer::default());
        assert_eq!(events, None);
        assert!(seconds >= 50.0, "since the start: {seconds}");
        // A message of a server whose clock is ahead has been waiting all the same.
        let (_, _, seconds) = readiness(&active(), &well, &answer(behind(1, -60), 3));
        assert!(seconds >= 3.0, "{seconds}");
    }

    #[test]
    fn a_worker_that_is_stuck_or_halted_is_not_ready() {
        let well = answer(true, 0);
        let mut state = active();
        state.sign = Some(ago_by(11));
        let (reason, ..) = readiness(&state, &well, &answer(behind(0, 0), 0));
        assert!(reason.is_some_and(|r| r.contains("stuck")));
        state.problem = Some(Problem {
            text: "a hole".to_owned(),
            halted: true,
        });
        let (reason, events, _) = readiness(&state, &well, &answer(behind(0, 0), 0));
        assert_eq!(reason.as_deref(), Some("halted: a hole"));
        assert_eq!(events, None, "it is not believed");
    }
}
