//! What operators do with an element's operations.
//!
//! - [`pending`]: operations that nobody finished, and what became of them
//! - [`resolve`]: finishing one of them by an operator's decision
//! - [`number`]: positions for finished ones that have none
//! - [`prune`]: removing finished ones that the stream contains

pub mod number;
pub mod pending;
pub mod prune;
pub mod resolve;
