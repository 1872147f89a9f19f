//! What a relay shows: its own progress, and, asked from outside, whether the streams exist.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use artstore_bus::connection::Bus;
use artstore_producers::relay::progress::{RelayProgress, RelayState};
use artstore_runtime::progress::Stage;
use artstore_schemas::source::Source;
use chrono::Utc;

use super::Role;
use super::metrics::{Kind, Text};
use super::readiness::{EVERY, Limits, PATIENCE, Part, Readiness, STALE, ago, is_fresh};
use artstore_verification::finding::Kind as FindingKind;
use artstore_verification::proven::{Proven, ProvenState};

/// What a check of a source can find.
const FINDING_KINDS: [FindingKind; 9] = [
    FindingKind::MessageMissing,
    FindingKind::MessageExtra,
    FindingKind::MessageDoubled,
    FindingKind::MessageChanged,
    FindingKind::MessageDisordered,
    FindingKind::StreamHole,
    FindingKind::StreamBroken,
    FindingKind::MessageForeign,
    FindingKind::RowUnnumbered,
];

/// Rows wait for so long with nothing stored: whoever has the lock makes no progress.
const UNSEEN: Duration = Duration::from_secs(10);

/// The relays of a process.
pub struct RelayRole {
    started: Instant,
    limits: Limits,
    poll_interval: Duration,
    sources: Vec<Watched>,
}

struct Watched {
    source: Source,
    progress: RelayProgress,
    reached: Mutex<Reached>,
    /// Where the source is checked continuously.
    proven: Option<Proven>,
}

/// What asking for the stream gave.
#[derive(Debug, Clone, Default)]
struct Reached {
    last: Option<Instant>,
    error: Option<String>,
}

impl RelayRole {
    /// Of these sources.
    pub fn new(
        sources: Vec<(Source, RelayProgress)>,
        poll_interval: Duration,
        limits: Limits,
    ) -> Self {
        let sources = sources.into_iter().map(|(source, progress)| Watched {
            source,
            progress,
            reached: Mutex::default(),
            proven: None,
        });
        Self {
            started: Instant::now(),
            limits,
            poll_interval,
            sources: sources.collect(),
        }
    }

    /// Shows what a continuous check of a source knows.
    pub fn proving(mut self, source: &Source, proven: Proven) -> Self {
        let watched = self.sources.iter_mut().find(|w| w.source == *source);
        if let Some(watched) = watched {
            watched.proven = Some(proven);
        }
        self
    }

    /// How far the sources that are checked continuously are proven.
    pub fn proven(&self) -> Vec<(Source, ProvenState)> {
        let proven = |w: &Watched| Some((w.source.clone(), w.proven.as_ref()?.read()));
        self.sources.iter().filter_map(proven).collect()
    }

    /// Asks for the streams again and again, until it is aborted. A quiet relay would not notice
    /// that it can't reach them.
    pub async fn measure(self: Arc<Self>, bus: Bus) {
        loop {
            let asked = self.sources.iter().map(|watched| watched.reach(&bus));
            futures::future::join_all(asked).await;
            tokio::time::sleep(EVERY).await;
        }
    }

    fn part(&self, watched: &Watched) -> Part {
        let state = watched.progress.read();
        let view = View {
            started: self.started,
            stale: STALE + self.poll_interval,
            state: &state,
            reached: &watched.reached(),
        };
        let reason = view.reason(self.limits);
        let active = state.stage != Stage::Standby;
        Part {
            projection: None,
            source: watched.source.to_string(),
            stream: watched.source.stream(),
            ready: reason.is_none(),
            standby: state.stage == Stage::Standby,
            reason,
            lag_events: view.lag_events().filter(|_| active),
            lag_seconds: active.then(|| view.lag_seconds()),
        }
    }
}

impl Watched {
    async fn reach(&self, bus: &Bus) {
        let stream = self.source.stream();
        let asked = tokio::time::timeout(PATIENCE, bus.stream_info(&stream)).await;
        let mut reached = self.reached();
        match asked {
            Ok(Ok(_)) => {
                *reached = Reached {
                    last: Some(Instant::now()),
                    error: None,
                };
            }
            Ok(Err(error)) => reached.error = Some(error.to_string()),
            Err(_) => reached.error = Some("NATS does not answer".to_owned()),
        }
    }

    fn reached(&self) -> MutexGuard<'_, Reached> {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RelayRole {
    fn proven_metrics(&self, text: &mut Text) {
        let proven = self.proven();
        if proven.is_empty() {
            return;
        }
        let mut family = text.family(
            "artstore_proven_position",
            Kind::Gauge,
            "Every position up to this one has its row and its message, and they agree.",
        );
        for (source, state) in &proven {
            if let Some(position) = state.position {
                family.sample(&[("source", &source.to_string())], position);
            }
        }
        let mut family = text.family(
            "artstore_findings",
            Kind::Gauge,
            "What does not agree, by kind; `artstore verify` lists it.",
        );
        for (source, state) in &proven {
            for kind in FINDING_KINDS {
                let count = state.findings.get(&kind).copied().unwrap_or(0);
                let (source, kind) = (source.to_string(), kind.to_string());
                family.sample(&[("source", &source), ("kind", &kind)], count);
            }
        }
        let mut family = text.family(
            "artstore_proven_up",
            Kind::Gauge,
            "1 while the check goes on.",
        );
        for (source, state) in &proven {
            let on = state.problem.is_none()
                && is_fresh(state.updated, artstore_verification::proven::STALE);
            family.sample(&[("source", &source.to_string())], u8::from(on));
        }
    }
}

/// One source at one moment.
struct View<'a> {
    started: Instant,
    stale: Duration,
    state: &'a RelayState,
    reached: &'a Reached,
}

impl View<'_> {
    /// Why the source is not ready.
    fn reason(&self, limits: Limits) -> Option<String> {
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

    fn lag_events(&self) -> Option<u64> {
        // A backlog of nothing is only believed while nothing is wrong.
        let believed = self.state.problem.is_none() || self.state.backlog.rows > 0;
        (self.measured() && believed).then_some(self.state.backlog.rows)
    }

    /// No finished row has been waiting for longer. It counts on while nothing can be measured.
    fn lag_seconds(&self) -> f64 {
        let backlog = &self.state.backlog;
        if let Some(caught_up) = backlog.caught_up {
            return caught_up.elapsed().as_secs_f64();
        }
        let own = backlog.oldest.and_then(|o| (Utc::now() - o).to_std().ok());
        let since = self.state.active_since.unwrap_or(self.started);
        own.unwrap_or_else(|| since.elapsed()).as_secs_f64()
    }
}

impl Role for RelayRole {
    fn readiness(&self) -> Readiness {
        let parts = self.sources.iter().map(|watched| self.part(watched));
        Readiness::of(parts.collect(), None)
    }

    fn metrics(&self, text: &mut Text) {
        let seen: Vec<(String, String, RelayState, Reached)> = self
            .sources
            .iter()
            .map(|w| {
                (
                    w.source.to_string(),
                    w.source.stream(),
                    w.progress.read(),
                    w.reached().clone(),
                )
            })
            .collect();
        let mut write = |name, kind, help, value: &dyn Fn(&View<'_>) -> Option<f64>| {
            let mut family = text.family(name, kind, help);
            for (source, stream, state, reached) in &seen {
                let view = View {
                    started: self.started,
                    stale: STALE + self.poll_interval,
                    state,
                    reached,
                };
                if let Some(value) = value(&view) {
                    family.sample(&[("source", source), ("stream", stream)], value);
                }
            }
        };
        let flag = |on: bool| Some(f64::from(u8::from(on)));
        // A standby relay knows nothing of the lag; the active one reports it.
        let mine = |view: &View<'_>| view.state.stage != Stage::Standby;
        let read = |view: &View<'_>| mine(view) && view.state.polled.is_some();
        write(
            "artstore_relay_active",
            Kind::Gauge,
            "1 on the relay that publishes this source.",
            &|v| flag(v.state.stage == Stage::Active),
        );
        write(
            "artstore_relay_standby",
            Kind::Gauge,
            "1 while this relay is a standby: another one has this source.",
            &|v| flag(v.state.stage == Stage::Standby),
        );
        write(
            "artstore_relay_halted",
            Kind::Gauge,
            "1 while halted: an operator has to act, and /health/ready says why.",
            &|v| flag(v.state.problem.as_ref().is_some_and(|p| p.halted)),
        );
        write(
            "artstore_relay_stream_up",
            Kind::Gauge,
            "1 while the stream can be reached.",
            &|v| flag(is_fresh(v.reached.last, STALE)),
        );
        write(
            "artstore_relay_position",
            Kind::Gauge,
            "Position of the stream's last message, as this relay knows it.",
            &|v| v.state.position.map(|position| position as f64),
        );
        write(
            "artstore_relay_high_water_mark",
            Kind::Gauge,
            "High-water mark: the highest position in the stream, as this relay knows it.",
            &|v| read(v).then_some(v.state.high_water_mark as f64),
        );
        write(
            "artstore_relay_gap_positions",
            Kind::Gauge,
            "Positions in gaps: below the high-water mark, neither in the stream nor known to be aborted.",
            &|v| read(v).then_some(v.state.gap_positions as f64),
        );
        write(
            "artstore_relay_aborted_positions_total",
            Kind::Counter,
            "Aborted positions: drawn from the sequence by transactions that rolled back.",
            &|v| Some(v.state.aborted as f64),
        );
        write(
            "artstore_relay_stream_sequence",
            Kind::Gauge,
            "Last sequence of the stream, as this relay knows it.",
            &|v| read(v).then_some(v.state.sequence as f64),
        );
        write(
            "artstore_relay_published_total",
            Kind::Counter,
            "Messages stored and acknowledged.",
            &|v| Some(v.state.published as f64),
        );
        write(
            "artstore_relay_retries_total",
            Kind::Counter,
            "Times that the relay read the stream's end again or started again after an error.",
            &|v| Some(v.state.retries as f64),
        );
        write(
            "artstore_relay_lag_up",
            Kind::Gauge,
            "1 while the lag can be measured.",
            &|v| {
                if mine(v) {
                    flag(v.lag_events().is_some())
                } else {
                    None
                }
            },
        );
        write(
            "artstore_relay_lag_events",
            Kind::Gauge,
            "Finished rows that are not published; NaN while it can't be measured.",
            &|v| mine(v).then(|| v.lag_events().map_or(f64::NAN, |events| events as f64)),
        );
        write(
            "artstore_relay_lag_seconds",
            Kind::Gauge,
            "Age of the oldest finished row that is not published; grows while it can't be measured.",
            &|v| mine(v).then(|| v.lag_seconds()),
        );
        write(
            "artstore_relay_poll_age_seconds",
            Kind::Gauge,
            "Time since the source last answered a poll.",
            &|v| mine(v).then(|| v.state.polled.unwrap_or(v.started).elapsed().as_secs_f64()),
        );
        self.proven_metrics(text);
    }
}

#[cfg(test)]
mod tests {
    use artstore_producers::relay::progress::Backlog;
    use artstore_runtime::progress::Problem;

    use super::super::readiness::tests::{LIMITS, ago_by};
    use super::*;

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
