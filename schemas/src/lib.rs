//! The contract of the bus: what a message is called, what stands in its headers and body, and
//! how the streams that hold it are made. In the order in which an event takes shape.
//!
//! - [`element`]: the name of a storage element
//! - [`count`]: numbers of things in texts for people
//! - [`actor`]: who did it
//! - [`json`]: free-form JSON that `jsonb` and other readers would not change
//! - [`timestamp`]: times as text
//! - [`event`]: the typed bodies, by type and version
//! - [`source`]: who publishes, and the stream that it publishes to
//! - [`registry`]: every form of a body and its JSON Schema
//! - `rules`: what a body's schema says beyond its types
//! - [`subject`]: the subject of a message and its partition
//! - [`pairs`]: maps in files
//! - [`ranges`]: sets of positions, as they stand in a header
//! - [`envelope`]: the headers
//! - [`epoch`]: a source that was accepted after a break, and which messages survive it
//! - [`damage`]: places of a stream that readers step over
//! - [`record`]: what tells a relay's records from a publisher's events
//! - [`size`]: how large a message may be
//! - [`link`]: whether the connection to NATS stands
//! - [`refusals`]: what the server says that the connection's user may not do
//! - [`bus`]: the connection and the streams
//! - [`requests`]: what is asked of JetStream, with a refusal named at once
//! - `pull`: asking a consumer for messages, and what comes back
//! - [`deliveries`]: what a consumer of ours delivers, and nothing else
//! - [`snapshot`]: a whole stream, as the server gives and takes it
//! - [`breaks`]: epochs and damage, as a stream tells them
//! - [`crash`]: named points at which a test ends the process

pub mod actor;
pub mod breaks;
pub mod bus;
pub mod count;
pub mod crash;
pub mod damage;
pub mod deliveries;
pub mod element;
pub mod envelope;
pub mod epoch;
pub mod event;
pub mod json;
pub mod link;
pub mod pairs;
mod pull;
pub mod ranges;
pub mod record;
pub mod refusals;
pub mod registry;
pub mod requests;
mod rules;
pub mod size;
pub mod snapshot;
pub mod source;
pub mod subject;
pub mod timestamp;
