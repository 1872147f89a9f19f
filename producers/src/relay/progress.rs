//! What a relay reports about itself while it runs: plain numbers, written by [`crate::relay`], read at
//! any time by whoever shows them. Nothing here decides anything.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use artstore_runtime::progress::{Problem, Since, Stage};
use chrono::{DateTime, Utc};

use crate::backfill::differences::BackfillCounts;
use crate::relay::resume_state::ResumeState;

/// One relay's numbers. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct RelayProgress(Arc<Mutex<RelayState>>);

impl RelayProgress {
    /// As they are now, all of one moment.
    pub fn read(&self) -> RelayState {
        self.lock().clone()
    }

    /// Shows why the relay has not begun yet; none: it begins now.
    pub fn waits(&self, why: Option<String>) {
        self.update(|state| {
            state.stage = Stage::Starting;
            state.problem = why.map(|text| Problem {
                text,
                halted: false,
            });
        });
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut RelayState)) {
        let mut state = self.lock();
        let before = state.stage;
        change(&mut state);
        let (stage, problem) = (state.stage, state.problem.is_some());
        state.since.follow(before, stage, problem);
    }

    fn lock(&self) -> MutexGuard<'_, RelayState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a relay knows of itself. Counters count from the start of the process.
#[derive(Debug, Clone, Default)]
pub struct RelayState {
    /// What it does now.
    pub stage: Stage,
    /// When it last got the lock.
    pub active_since: Option<Instant>,
    /// The stream's last sequence, as far as this relay has read or written it.
    pub sequence: u64,
    /// The position of that message.
    pub position: Option<i64>,
    /// The highest position in the stream.
    pub high_water_mark: i64,
    /// How many positions below it are neither in the stream nor known to be aborted.
    pub gap_positions: i64,
    /// How many aborted positions were found: those drawn by transactions that rolled back.
    pub aborted: u64,
    /// How many messages were stored and acknowledged.
    pub published: u64,
    /// How often the relay went back to read the stream's end, or started again.
    pub retries: u64,
    /// When the source last answered a poll.
    pub polled: Option<Instant>,
    /// When the last batch was acknowledged.
    pub stored: Option<Instant>,
    /// What was left to publish after the last poll and what was published since.
    pub backlog: Backlog,
    /// What was compared so far, while the stream is backfilled from its element.
    pub backfill: Option<BackfillCounts>,
    /// Since when the relay has taken nothing above the oldest gap, because there is no room for more
    /// gaps; none where it takes everything.
    pub full: Option<Instant>,
    /// Since when rows have been waiting with nothing stored, by this relay or by another one; it continues
    /// when the lock changes hands.
    pub waiting: Option<Instant>,
    /// When another relay was last seen to hold the lock.
    pub other_holder_seen: Option<Instant>,
    /// Why the last session ended; none once a later one has published or has found nothing to
    /// publish.
    pub problem: Option<Problem>,
    /// Since when it has been so.
    pub since: Since,
}

impl RelayState {
    /// The last sign that the relay makes progress: a poll that was answered, or an acknowledged batch.
    pub fn sign(&self) -> Option<Instant> {
        self.polled.max(self.stored)
    }

    /// Shows the positions that the stream's end states.
    pub(crate) fn record(&mut self, resume_state: &ResumeState) {
        self.high_water_mark = resume_state.seen_positions.high_water_mark();
        self.gap_positions = resume_state.seen_positions.gaps().positions();
    }
}

/// Finished rows that are not published.
#[derive(Debug, Clone, Default)]
pub struct Backlog {
    /// How many: those that the last poll saw, and, where it was cut at its limit, also the numbers
    /// drawn above its last row. An upper bound then, since numbers of open and of aborted
    /// transactions count.
    pub rows: u64,
    /// A moment up to which everything that was finished is published: the last poll all of whose
    /// rows are.
    pub caught_up: Option<Instant>,
    /// Before there is such a moment: what the oldest unpublished row states about its own time.
    pub oldest: Option<DateTime<Utc>>,
}
