//! Backfill: publishes the files whose state differs from their last known state in the element's stream.
//!
//! - `state`: the state of a file, small and comparable
//! - `last_known_states`: the last state of each file that a stream contains
//! - `chunk`: a range of an element's files
//! - [`differences`]: the differences, published
//! - `run`: a backfill for a command

pub(crate) mod chunk;
pub mod differences;
pub(crate) mod last_known_states;
mod run;
pub(crate) mod state;

pub use run::run;
