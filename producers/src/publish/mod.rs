//! What a publisher writes into its own database, in its own transaction.
//!
//! - [`files`]: the change of a file
//! - [`wal`]: the operation that it belongs to
//! - [`outbox`]: an event of the admin or query module

pub mod files;
pub mod outbox;
pub mod wal;
