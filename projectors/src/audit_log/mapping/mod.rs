//! From a message to its row. The bytes of a row name the mapping that made it, and old mappings stay
//! here for ever: a type that is added later must not change what an old row is derived to. So a
//! mapping reads headers and body by itself, whatever the types of `artstore_schemas` become.

mod record;
mod v1;

use artstore_schemas::source::Source;

pub use self::record::Record;
use self::v1::Mapping;
use super::row::Row;
pub use crate::projector::RawMessage;

/// The mapping of new rows.
pub const NEWEST: u32 = 2;

/// The row of a message. Every message has one, readable or not. None: this version does not know
/// that mapping.
pub fn row(mapping: u32, source: &Source, record: &Record) -> Option<Row> {
    match mapping {
        1 => Some(v1::row(Mapping::One, source, record)),
        2 => Some(v1::row(Mapping::Two, source, record)),
        _ => None,
    }
}
