//! Backfill: what differs between an element's files and what its stream says last of each is published.
//!
//! - [`state`]: what is said of a file, small and comparable
//! - [`fold`]: what a stream said last of each file
//! - `chunk`: a range of an element's files
//! - [`level`]: what differs between them is published

pub(crate) mod chunk;
pub mod fold;
pub mod level;
pub mod state;
