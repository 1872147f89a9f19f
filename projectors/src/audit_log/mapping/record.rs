//! What a mapping makes a row of.

use chrono::{DateTime, Utc};

use crate::projector::RawMessage;

/// What is at one sequence of a stream.
#[derive(Debug, Clone)]
pub struct Record {
    /// The sequence.
    pub sequence: u64,
    /// When the bus stored it; of a message that is gone, the next one that is there.
    pub published: DateTime<Utc>,
    /// The message; none where it is gone, and an operator accepted that.
    pub message: Option<RawMessage>,
}
