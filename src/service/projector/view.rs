//! One stream of a projection at one moment: whether it is ready, and its lag.

use std::time::{Duration, Instant};

use artstore_projectors::runtime::lag::Lag;
use artstore_projectors::runtime::progress::WorkerState;
use artstore_runtime::progress::Stage;
use chrono::Utc;

use crate::service::readiness::{Limits, STALE, ago, is_fresh};

/// A worker that has given no sign of life for so long is stuck.
const SILENT: Duration = Duration::from_secs(10);

/// A standby worker looks at the lock at least so often.
const LOOKS: Duration = Duration::from_secs(10);

/// Events wait for so long with none applied: whoever has the lock does not work.
const UNSEEN: Duration = Duration::from_secs(20);

/// The last answer, and what went wrong since.
#[derive(Debug, Clone)]
pub(super) struct Answer<T> {
    pub(super) value: Option<T>,
    pub(super) at: Option<Instant>,
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
    pub(super) fn take(&mut self, answer: Result<T, String>) {
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

    pub(super) fn is_fresh(&self) -> bool {
        is_fresh(self.at, STALE)
    }

    fn why(&self) -> String {
        let error = self.error.as_deref().unwrap_or("no answer yet");
        format!("{}: {error}", ago(self.at))
    }
}

/// One stream at one moment.
pub(super) struct View<'a> {
    pub(super) started: Instant,
    pub(super) state: &'a WorkerState,
    pub(super) database: &'a Answer<bool>,
    pub(super) lag: &'a Answer<Lag>,
    /// Since when events have been waiting with none applied.
    pub(super) still: Option<Instant>,
}

impl View<'_> {
    /// Why the stream is not ready.
    pub(super) fn reason(&self, limits: Limits) -> Option<String> {
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

    pub(super) fn lag_events(&self) -> Option<u64> {
        let events = self.lag.value.filter(|_| self.lag.is_fresh())?.events();
        // A lag of nothing is only believed while nothing is wrong.
        (self.state.problem.is_none() || events > 0).then_some(events)
    }

    /// No message has been waiting for longer. It counts on while nothing can be measured.
    pub(super) fn lag_seconds(&self) -> f64 {
        let unknown = self.lag.at.unwrap_or(self.started).elapsed();
        let oldest = self.lag.value.and_then(|lag| lag.oldest);
        let waiting = oldest.and_then(|oldest| (Utc::now() - oldest).to_std().ok());
        waiting
            .map_or(unknown, |waiting| waiting.max(unknown))
            .as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use artstore_runtime::progress::Problem;

    use super::*;
    use crate::service::readiness::tests::{LIMITS, ago_by};

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
