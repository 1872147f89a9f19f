//! What the workers of a projection report of themselves while they run: plain numbers, written by
//! `crate::runtime::runner` and [`crate::runtime::workers`], read at any time by whoever shows them.
//! Nothing here decides anything.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use artstore_runtime::progress::{Problem, Since, Stage};
use artstore_schemas::source::Source;

/// The numbers of all workers of one projection. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct ProjectorProgress(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    waiting: Option<String>,
    listed: Option<Instant>,
    workers: BTreeMap<Source, WorkerState>,
}

impl ProjectorProgress {
    /// Each worker's numbers, all of one moment.
    pub fn workers(&self) -> BTreeMap<Source, WorkerState> {
        self.lock().workers.clone()
    }

    /// When the streams were last listed.
    pub fn listed(&self) -> Option<Instant> {
        self.lock().listed
    }

    /// Shows why no worker has begun yet; none: they begin now.
    pub fn waits(&self, why: Option<String>) {
        self.lock().waiting = why;
    }

    /// Why no worker has begun yet.
    pub fn waiting(&self) -> Option<String> {
        self.lock().waiting.clone()
    }

    pub(crate) fn list(&self) {
        self.lock().listed = Some(Instant::now());
    }

    pub(crate) fn of(&self, source: &Source) -> WorkerProgress {
        self.lock().workers.entry(source.clone()).or_default();
        WorkerProgress {
            all: self.clone(),
            source: source.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One worker's part of it.
#[derive(Debug, Clone)]
pub struct WorkerProgress {
    all: ProjectorProgress,
    source: Source,
}

impl WorkerProgress {
    pub(crate) fn update(&self, change: impl FnOnce(&mut WorkerState)) {
        let mut all = self.all.lock();
        let state = all.workers.entry(self.source.clone()).or_default();
        let before = state.stage;
        change(state);
        let problem = state.problem.is_some();
        state.since.follow(before, state.stage, problem);
    }
}

/// What a worker knows of itself. Counters count from the start of the process.
#[derive(Debug, Clone, Default)]
pub struct WorkerState {
    /// What it does now.
    pub stage: Stage,
    /// How many events were applied and committed.
    pub applied: u64,
    /// How many were parked, by themselves or behind another one.
    pub parked: u64,
    /// How long the commits took, from the start of each transaction; one a batch.
    pub commits: Durations,
    /// How often the worker started again after an error.
    pub retries: u64,
    /// The last successful commit, or question to the database while there was nothing to commit.
    pub sign: Option<Instant>,
    /// When another worker was last seen to hold the lock.
    pub other_holder_seen: Option<Instant>,
    /// Why its stream removes messages, or will; none where it does not.
    pub limited: Option<String>,
    /// When and why its consumer was last recreated because it delivered nothing.
    pub recreated: Option<(Instant, String)>,
    /// Why the last session ended; none after a later sign of life.
    pub problem: Option<Problem>,
    /// Since when it has been so.
    pub since: Since,
}

impl WorkerState {
    /// A sign of life: whatever was wrong before is over.
    pub(crate) fn well(&mut self) {
        self.sign = Some(Instant::now());
        self.problem = self.limited.clone().map(|text| Problem {
            text,
            halted: false,
        });
    }

    /// A limit at which the stream removes messages: what it contains is still applied.
    pub(crate) fn limited(&mut self, limited: Option<String>, stream: &str) {
        if let Some(limited) = limited.as_ref().filter(|_| self.limited.is_none()) {
            tracing::error!(stream, "{limited}");
        }
        self.limited = limited;
        self.well();
    }
}

/// How long something took, by bounds.
#[derive(Debug, Clone, Default)]
pub struct Durations {
    counts: [u64; Self::BOUNDS.len()],
    count: u64,
    sum: Duration,
}

impl Durations {
    /// The upper bounds in seconds; each is counted with those below it when it is read.
    pub(crate) const BOUNDS: [f64; 10] =
        [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

    pub(crate) fn take(&mut self, duration: Duration) {
        self.count += 1;
        self.sum += duration;
        let seconds = duration.as_secs_f64();
        if let Some(index) = Self::BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.counts[index] += 1;
        }
    }

    /// Each bound with how many took at most so long.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let counts = self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        Self::BOUNDS.into_iter().zip(counts)
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How long all took together.
    pub fn sum(&self) -> Duration {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_counted_with_all_bounds_above_them() {
        let mut durations = Durations::default();
        for milliseconds in [1, 2, 3, 40, 60_000] {
            durations.take(Duration::from_millis(milliseconds));
        }
        let counts: Vec<u64> = durations.cumulative().map(|(_, count)| count).collect();
        assert_eq!(counts, [2, 3, 3, 3, 4, 4, 4, 4, 4, 4]);
        assert_eq!(durations.count(), 5, "the longest is beyond every bound");
        assert_eq!(durations.sum(), Duration::from_millis(60_046));
    }
}
