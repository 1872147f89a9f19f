//! Backfill: what differs between an element's files and what its stream says last of each is published.
//!
//! - [`state`]: what is reported about a file, small and comparable
//! - [`last_known_states`]: what a stream said last of each file
//! - `chunk`: a range of an element's files
//! - [`differences`]: what differs between them is published

pub(crate) mod chunk;
pub mod differences;
pub mod last_known_states;
pub mod state;
