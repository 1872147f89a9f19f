//! Which messages of a stream are read, and the consumer for that. [`crate::stream_reader`] reads them.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use chrono::{DateTime, Utc};

/// The server removes a consumer that nobody has asked for messages for so long.
const UNUSED: Duration = Duration::from_secs(30);

/// Which messages of a stream are read.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The first one.
    pub from: Start,
    /// The last sequence; the end is at the latest after as many messages as there were when the reading
    /// began. None: there is no end.
    pub to: Option<u64>,
    /// Only messages that one of these filters fits; none: all.
    pub subjects: Vec<String>,
    /// Without bodies.
    pub headers_only: bool,
}

/// Where a reading begins.
#[derive(Debug, Clone, Copy)]
pub enum Start {
    /// At this sequence, or the first one after it that is there.
    Sequence(u64),
    /// With what the bus stored at this time or later.
    Time(DateTime<Utc>),
}

impl Selection {
    /// Everything from a sequence on.
    pub fn from(sequence: u64) -> Self {
        Self {
            from: Start::Sequence(sequence.max(1)),
            to: None,
            subjects: Vec::new(),
            headers_only: false,
        }
    }

    /// Up to the end that the stream has when the reading begins.
    #[must_use]
    pub fn up_to_now(self) -> Self {
        Self {
            to: Some(u64::MAX),
            ..self
        }
    }

    /// A consumer that delivers them.
    pub(crate) fn config(self) -> pull::Config {
        pull::Config {
            deliver_policy: match self.from {
                Start::Sequence(start_sequence) => {
                    DeliverPolicy::ByStartSequence { start_sequence }
                }
                Start::Time(start_time) => DeliverPolicy::ByStartTime { start_time },
            },
            filter_subjects: self.subjects,
            headers_only: self.headers_only,
            ack_policy: AckPolicy::None,
            memory_storage: true,
            num_replicas: 1,
            inactive_threshold: UNUSED,
            ..pull::Config::default()
        }
    }
}
