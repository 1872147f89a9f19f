//! From a message to its row. The bytes of a row name the mapping that made it, and old mappings stay
//! here for ever: a type that is added later must not change what an old row is derived to. So a
//! mapping reads headers and body by itself, whatever the types of `artstore_schemas` become.

mod v1;

use artstore_schemas::source::Source;
use chrono::{DateTime, Utc};

use super::row::Row;
pub use crate::projector::RawMessage;

/// The mapping of new rows.
pub const NEWEST: u32 = 1;

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

/// The row of a message. Every message has one, readable or not. None: this version does not know
/// that mapping.
pub fn row(mapping: u32, source: &Source, record: &Record) -> Option<Row> {
    match mapping {
        1 => Some(v1::row(source, record)),
        _ => None,
    }
}
