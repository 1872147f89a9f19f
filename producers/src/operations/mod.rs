//! What operators do with an element's operations.
//!
//! - [`pending`]: operations that nobody finished, and what became of them
//! - [`resolve`]: finishing one of them by a person's decision
//! - [`number`]: positions for finished ones that have none
//! - [`prune`]: finished ones are removed that the stream holds

pub mod number;
pub mod pending;
pub mod prune;
pub mod resolve;
