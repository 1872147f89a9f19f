//! One source of a relay at one moment: whether it is ready, and its lag.

use std::time::{Duration, Instant};

use artstore_producers::relay::progress::RelayState;
use artstore_runtime::progress::Stage;
use chrono::Utc;

use crate::service::readiness::{Limits, STALE, ago, is_fresh};

/// Rows wait for so long with nothing stored: whoever has the lock makes no progress.
const UNSEEN: Duration = Duration::from_secs(10);

/// What asking for the stream gave.
#[derive(Debug, Clone, Default)]
pub(super) struct Reached {
    pub(super) last: Option<Instant>,
    pub(super) error: Option<String>,
}

/// One source at one moment.
pub(super) struct View<'a> {
    pub(super) started: Instant,
    pub(super) stale: Duration,
    pub(super) state: &'a RelayState,
    pub(super) reached: &'a Reached,
}

impl View<'_> {
    /// Why the source is not ready.
    pub(super) fn reason(&self, limits: Limits) -> Option<String> {
        let state = self.state;
        if let Some(problem) = &state.problem {
            return Some(problem.to_string());
        }
        if !is_fresh(self.reached.last, STALE) {
            let why = self.reached.error.as_deref().unwrap_or("no answer yet");
            let ago = ago(self.reached.last);
            return Some(format!("the stream was not reached {ago}: {why}"));
        }
        match state.stage {
            Stage::Starting => Some("not elected yet".to_owned()),
            Stage::Stopping => Some("stopping".to_owned()),
            Stage::Standby if is_fresh(state.other_holder_seen, STALE) => {
                let waiting = state.waiting.map(|waiting| waiting.elapsed());
                waiting.filter(|waiting| *waiting >= UNSEEN).map(|waiting| {
                    format!(
                        "standby, but rows have been waiting for {} s and nothing is stored: \
                         `artstore status` says why",
                        waiting.as_secs()
                    )
                })
            }
            Stage::Standby => Some(format!(
                "standby, but the active relay's lock was not seen {}",
                ago(state.other_holder_seen)
            )),
            Stage::Active if !self.measured() => Some(format!(
                "the source has not answered a poll {}",
                ago(state.polled)
            )),
            Stage::Active => limits.exceeded(self.lag_events(), self.lag_seconds()),
        }
    }

    /// Whether what the relay knows of its backlog is of now.
    fn measured(&self) -> bool {
        self.state.stage == Stage::Active && is_fresh(self.state.sign(), self.stale)
    }

    pub(super) fn lag_events(&self) -> Option<u64> {
        // A backlog of nothing is only believed while nothing is wrong.
        let believed = self.state.problem.is_none() || self.state.backlog.rows > 0;
        (self.measured() && believed).then_some(self.state.backlog.rows)
    }

    /// No finished row has been waiting for longer. It counts on while nothing can be measured.
    pub(super) fn lag_seconds(&self) -> f64 {
        let backlog = &self.state.backlog;
        if let Some(caught_up) = backlog.caught_up {
            return caught_up.elapsed().as_secs_f64();
        }
        let own = backlog.oldest.and_then(|o| (Utc::now() - o).to_std().ok());
        let since = self.state.active_since.unwrap_or(self.started);
        own.unwrap_or_else(|| since.elapsed()).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use artstore_producers::relay::progress::Backlog;
    use artstore_runtime::progress::Problem;

    use super::*;
    use crate::service::readiness::tests::{LIMITS, ago_by};

    fn readiness(
        state: &RelayState,
        reached: Option<Instant>,
    ) -> (Option<String>, Option<u64>, f64) {
        let reached = Reached {
            last: reached,
            error: None,
        };
        let view = View {
            started: ago_by(50),
            stale: STALE,
            state,
            reached: &reached,
        };
        (view.reason(LIMITS), view.lag_events(), view.lag_seconds())
    }

    fn well() -> RelayState {
        RelayState {
            stage: Stage::Active,
            active_since: Some(ago_by(40)),
            polled: Some(Instant::now()),
            backlog: Backlog {
                caught_up: Some(Instant::now()),
                ..Backlog::default()
            },
            ..RelayState::default()
        }
    }

    #[test]
    fn ready_while_polls_are_answered_and_the_stream_is_reached() {
        let (reason, events, seconds) = readiness(&well(), Some(Instant::now()));
        assert_eq!((reason, events), (None, Some(0)));
        assert!(seconds < 1.0);
        let (reason, ..) = readiness(&well(), Some(ago_by(20)));
        assert!(reason.is_some_and(|r| r.contains("not reached for 20 s")));
    }

    #[test]
    fn a_poll_that_is_not_answered_makes_the_lag_unknown_and_grow() {
        let mut state = well();
        state.polled = Some(ago_by(20));
        state.backlog.caught_up = Some(ago_by(20));
        let (reason, events, seconds) = readiness(&state, Some(Instant::now()));
        assert!(reason.is_some_and(|r| r.contains("has not answered a poll for 20 s")));
        assert_eq!(events, None);
        assert!((20.0..21.0).contains(&seconds));
    }

    #[test]
    fn a_backlog_counts_by_its_rows_and_by_its_age() {
        let mut state = well();
        state.backlog.rows = 11;
        let (reason, ..) = readiness(&state, Some(Instant::now()));
        assert!(reason.is_some_and(|r| r.contains("11 events behind")));
        state.backlog.rows = 1;
        state.backlog.caught_up = Some(ago_by(31));
        let (reason, ..) = readiness(&state, Some(Instant::now()));
        assert!(reason.is_some_and(|r| r.contains("31 s behind")));
        // Never caught up: the rows' own time counts, and one in the future counts for nothing.
        state.backlog.caught_up = None;
        state.backlog.oldest = Some(Utc::now() - chrono::TimeDelta::seconds(100));
        assert!(readiness(&state, None).2 > 99.0);
        state.backlog.oldest = Some(Utc::now() + chrono::TimeDelta::days(1));
        assert!(readiness(&state, None).2 >= 40.0);
    }

    #[test]
    fn a_relay_that_stands_by_is_ready_as_long_as_it_sees_the_active_one() {
        let mut state = RelayState {
            stage: Stage::Standby,
            other_holder_seen: Some(Instant::now()),
            ..RelayState::default()
        };
        assert_eq!(readiness(&state, Some(Instant::now())).0, None);
        state.other_holder_seen = Some(ago_by(9));
        assert!(readiness(&state, Some(Instant::now())).0.is_some());
    }

    #[test]
    fn a_halt_is_a_reason_and_hides_a_lag_of_nothing() {
        let mut state = well();
        state.problem = Some(Problem {
            text: "set back".to_owned(),
            halted: true,
        });
        let (reason, events, _) = readiness(&state, Some(Instant::now()));
        assert_eq!(reason.as_deref(), Some("halted: set back"));
        assert_eq!(events, None);
    }
}
