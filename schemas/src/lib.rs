//! The contract of the bus: the names of messages, and what their headers and bodies contain. In the
//! order in which an event takes shape. No network, no files.
//!
//! - [`element`]: the name of a storage element
//! - [`actor`]: who did it
//! - [`json`]: free-form JSON that `jsonb` and other readers would not change
//! - [`timestamp`]: times as text
//! - [`event`]: the typed bodies, by type and version
//! - [`source`]: who publishes, and the stream that it publishes to
//! - [`event_schema`]: one form of a body
//! - [`registry`]: every version of a body and its JSON Schema
//! - `rules`: what a body's schema requires beyond its types
//! - [`subject`]: the subject of a message and its partition
//! - [`pairs`]: a map as a list of pairs, for JSON
//! - [`ranges`]: sets of positions, as a header contains them
//! - [`envelope`]: the headers
//! - [`epoch`]: a source that was accepted after a break, and which messages survive it
//! - [`damage`]: damaged ranges of a stream, which readers skip
//! - [`record`]: what distinguishes a relay's records from a publisher's events
//! - [`size`]: how large a message may be

pub mod actor;
pub mod damage;
pub mod element;
pub mod envelope;
pub mod epoch;
pub mod event;
pub mod event_schema;
pub mod json;
pub mod pairs;
pub mod ranges;
pub mod record;
pub mod registry;
mod rules;
pub mod size;
pub mod source;
pub mod subject;
pub mod timestamp;
