//! A stream beside its source, message by message, as repairs need it.
//!
//! - `scan_reader`: a whole stream, in order
//! - `message_checker`: which of its messages count
//! - [`scan`]: a whole stream beside its whole source
//! - [`message_form`]: whether a message can be the relay's
//! - [`order`]: the changes of one file
//! - [`fingerprint`]: the content of a row and of its message, comparable

pub mod fingerprint;
mod message_checker;
pub mod message_form;
pub mod order;
pub mod scan;
mod scan_reader;
