//! Backfill: each difference between an element's files and their last known states in its stream is
//! published.
//!
//! - [`state`]: a file's state, small and comparable
//! - [`last_known_states`]: the last known state of each file in a stream
//! - `chunk`: a range of an element's files
//! - [`differences`]: what differs between them is published

pub(crate) mod chunk;
pub mod differences;
pub mod last_known_states;
pub mod state;
