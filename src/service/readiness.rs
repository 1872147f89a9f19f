//! Whether a part is caught up within its limits and able to write. Pure: from what is known to the
//! reasons why it is not ready.

use artstore_runtime::count::counted;
use std::time::{Duration, Instant};

use serde::Serialize;

/// A measurement that is older than this no longer counts.
pub(super) const STALE: Duration = Duration::from_secs(5);

/// How often things are measured from outside.
pub(super) const EVERY: Duration = Duration::from_secs(1);

/// The longest that a measurement may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

// While one measurement hangs, the others are made again before they are stale.
const _: () = assert!(PATIENCE.as_millis() + EVERY.as_millis() < STALE.as_millis());

/// How far behind still counts as caught up.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many events may wait.
    pub events: u64,
    /// How long the oldest of them may have waited.
    pub seconds: u64,
}

/// What `/health/ready` reports.
#[derive(Debug, Serialize)]
pub struct Readiness {
    /// Whether everything is ready.
    pub ready: bool,
    /// Why not, where it is not about one source or stream alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Each source or stream.
    pub parts: Vec<Part>,
}

/// What it reports about one source and its stream.
#[derive(Debug, Serialize)]
pub struct Part {
    /// The projection; none for a relay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub projection: Option<&'static str>,
    /// The element's name, `admin` or `query`.
    pub source: String,
    /// Its stream.
    pub stream: String,
    /// Whether it is ready.
    pub ready: bool,
    /// Whether another process has it, and this one would take over.
    pub standby: bool,
    /// Why it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How many events wait; none where that is not known now.
    pub lag_events: Option<u64>,
    /// For how long the oldest may have been waiting; keeps growing while nothing can be
    /// measured.
    pub lag_seconds: Option<f64>,
}

impl Readiness {
    /// Not ready as a whole.
    pub(super) fn not(reason: impl Into<String>) -> Self {
        Self {
            ready: false,
            reason: Some(reason.into()),
            parts: Vec::new(),
        }
    }

    /// Ready where every part is, and nothing else is wrong.
    pub(super) fn of(parts: Vec<Part>, reason: Option<String>) -> Self {
        Self {
            ready: reason.is_none() && parts.iter().all(|part| part.ready),
            reason,
            parts,
        }
    }
}

impl Limits {
    /// What is too much.
    pub(super) fn exceeded(self, events: Option<u64>, seconds: f64) -> Option<String> {
        let Self {
            events: most,
            seconds: longest,
        } = self;
        match events {
            Some(events) if events > most => Some(format!(
                "{} behind, more than {most} (--ready-lag-events)",
                counted(events, "event")
            )),
            // Limits are given in whole seconds.
            Some(_) | None if seconds > longest as f64 => Some(format!(
                "{seconds:.0} s behind, more than {longest} s (--ready-lag-seconds)"
            )),
            Some(_) | None => None,
        }
    }
}

/// Whether something was seen a short while ago.
pub(super) fn is_fresh(seen: Option<Instant>, limit: Duration) -> bool {
    seen.is_some_and(|seen| seen.elapsed() <= limit)
}

/// For how long something was not seen, as a text for people.
pub(super) fn ago(seen: Option<Instant>) -> String {
    match seen {
        Some(seen) => format!("for {} s", seen.elapsed().as_secs()),
        None => "since the start".to_owned(),
    }
}

/// What the tests of relay and projector share.
#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub const LIMITS: Limits = Limits {
        events: 10,
        seconds: 30,
    };

    pub fn ago_by(seconds: u64) -> Instant {
        Instant::now()
            .checked_sub(Duration::from_secs(seconds))
            .expect("the machine has been up for so long")
    }
}
