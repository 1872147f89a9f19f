//! A stream beside its source, message by message. `artstore verify` ([`crate::links`], [`crate::matching`])
//! takes the steps from `message_form` to `row_verdict`, too; the rest is the check of repairs.
//!
//! - `scan_reader`: a whole stream, in order
//! - `rows`: the rows of some messages
//! - [`message_form`]: whether a message can be the relay's
//! - [`chain`]: how a message follows from the messages before it
//! - [`fingerprint`]: the content of a row and of its message, comparable
//! - [`content`]: whether they agree
//! - [`order`]: the changes of one file
//! - `file_order`: messages that come after a later change of their file
//! - `row_verdict`: what a message is by its row
//! - [`damage`]: holes, messages that do not count, and breaks
//! - [`agreement`]: positions whose message and row agree, and rows that were lost
//! - `stream_end`: from where a relay would resume
//! - `message_checker`: which messages count
//! - [`scan`]: a whole stream beside its whole source

pub mod agreement;
pub mod chain;
pub mod content;
pub mod damage;
pub(crate) mod file_order;
pub mod fingerprint;
pub(crate) mod message_checker;
pub mod message_form;
pub mod order;
pub(crate) mod row_verdict;
pub(crate) mod rows;
pub mod scan;
pub(crate) mod scan_reader;
mod stream_end;
