//! What a publisher writes into its own database, in its own transaction.
//!
//! - [`files`]: the change of a file
//! - [`file_row`]: a row of `_files`, as it is read
//! - [`wal`]: the operation that it belongs to
//! - `recorded`: what a finished row contains about it
//! - [`outbox`]: an event of the admin or query module
//! - [`publish_error`]: why none of them was written

pub mod file_row;
pub mod files;
pub mod outbox;
pub mod publish_error;
pub(crate) mod recorded;
pub mod wal;
