//! Whether the connection to NATS is up. Nobody answers what was sent before it was lost: whoever waits for
//! an answer stops waiting at once, not when the deadline is over. Filled by the connection's events
//! ([`crate::connection`]).

use std::future::Future;
use std::time::{Duration, Instant};

use async_nats::Event;
use tokio::sync::watch;

/// A connection's state.
#[derive(Debug, Clone, Default)]
pub struct Link(watch::Sender<State>);

#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// How often it was lost.
    losses: u64,
    /// Since when it has been lost; none while it stands.
    since: Option<Instant>,
}

/// The connection was lost while something was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection to NATS was lost")]
pub struct Lost;

impl Link {
    /// Takes an event of the connection.
    pub(crate) fn hear(&self, event: &Event) {
        match event {
            Event::Disconnected => self.0.send_modify(|state| {
                state.losses += 1;
                state.since.get_or_insert_with(Instant::now);
            }),
            Event::Connected => self.0.send_modify(|state| state.since = None),
            _ => {}
        }
    }

    /// For how long there has been no connection; none while there is one.
    pub(crate) fn lost_for(&self) -> Option<Duration> {
        self.0.borrow().since.map(|since| since.elapsed())
    }

    /// Waits for the answer to what is sent now, or until the connection is lost.
    pub async fn unless_lost<T>(&self, call: impl Future<Output = T>) -> Result<T, Lost> {
        let mut state = self.0.subscribe();
        let before = state.borrow_and_update().losses;
        tokio::select! {
            biased;
            // On the heap: it may be all that a worker does.
            done = Box::pin(call) => Ok(done),
            Ok(_) = state.wait_for(|now| now.losses > before) => Err(Lost),
        }
    }
}
