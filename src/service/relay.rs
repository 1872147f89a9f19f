//! What a relay shows: its own progress, and, asked from outside, whether the streams exist.

mod metrics;
mod view;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use artstore_bus::connection::Bus;
use artstore_producers::relay::progress::RelayProgress;
use artstore_runtime::progress::Stage;
use artstore_schemas::source::Source;

use self::view::{Reached, View};
use super::Role;
use super::metrics::Text;
use super::readiness::{EVERY, Limits, PATIENCE, Part, Readiness, STALE};
use artstore_verification::proven::{Proven, ProvenState};

/// The relays of a process.
pub struct RelayRole {
    started: Instant,
    limits: Limits,
    poll_interval: Duration,
    sources: Vec<Watched>,
}

/// A source's relay of this process, as others see it.
#[derive(Clone)]
pub struct ShownRelay {
    /// The relay's own connection.
    pub bus: Bus,
    /// The source.
    pub source: Source,
    /// What the relay reports.
    pub progress: RelayProgress,
}

struct Watched {
    relay: ShownRelay,
    reached: Mutex<Reached>,
    /// Where the source is checked continuously.
    proven: Option<Proven>,
}

impl RelayRole {
    /// Of these sources.
    pub fn new(relays: Vec<ShownRelay>, poll_interval: Duration, limits: Limits) -> Self {
        let sources = relays.into_iter().map(|relay| Watched {
            relay,
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
        let watched = self.sources.iter_mut().find(|w| w.relay.source == *source);
        if let Some(watched) = watched {
            watched.proven = Some(proven);
        }
        self
    }

    /// How far the sources that are checked continuously are proven.
    pub fn proven(&self) -> Vec<(Source, ProvenState)> {
        let proven = |w: &Watched| Some((w.relay.source.clone(), w.proven.as_ref()?.read()));
        self.sources.iter().filter_map(proven).collect()
    }

    /// Asks for the streams again and again, until it is aborted. A quiet relay would not notice
    /// that it can't reach them.
    pub async fn measure(self: Arc<Self>) {
        loop {
            let asked = self.sources.iter().map(Watched::reach);
            futures::future::join_all(asked).await;
            tokio::time::sleep(EVERY).await;
        }
    }

    fn part(&self, watched: &Watched) -> Part {
        let state = watched.relay.progress.read();
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
            source: watched.relay.source.to_string(),
            stream: watched.relay.source.stream(),
            ready: reason.is_none(),
            standby: state.stage == Stage::Standby,
            reason,
            lag_events: view.lag_events().filter(|_| active),
            lag_seconds: active.then(|| view.lag_seconds()),
        }
    }
}

impl Watched {
    async fn reach(&self) {
        let stream = self.relay.source.stream();
        let asked = tokio::time::timeout(PATIENCE, self.relay.bus.stream_info(&stream)).await;
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

impl Role for RelayRole {
    fn readiness(&self) -> Readiness {
        let parts = self.sources.iter().map(|watched| self.part(watched));
        Readiness::of(parts.collect(), None)
    }

    fn metrics(&self, text: &mut Text) {
        self.write_metrics(text);
    }
}
