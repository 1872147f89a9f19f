//! A stream beside its source, message by message, as repairs need it.
//!
//! - `walk`: a whole stream, in order
//! - `judge`: which of its messages count
//! - [`scan`]: a whole stream beside its whole source
//! - [`form`]: whether a message can be the relay's
//! - [`order`]: the changes of one file
//! - [`fingerprint`]: what a row says and what its message says, in one form

pub mod fingerprint;
pub mod form;
mod judge;
pub mod order;
pub mod scan;
mod walk;
