//! Whether the audit log is what was signed: every row read again, its leaf, its signature and the
//! tree computed again, and compared with signed heads and, where that is asked for, with the bus.
//! No verdict rests on a stored hash that was not computed again.
//!
//! - [`rows`]: a range of rows
//! - [`heads`]: signed heads
//! - [`log`]: the log of one stream
//! - [`against`]: rows derived again from their messages
//! - [`legacy`]: the product's own rows
//! - [`finding`]: what is wrong

pub mod against;
pub mod finding;
pub mod heads;
pub mod legacy;
pub mod log;
pub mod rows;

use std::collections::BTreeSet;

use artstore_projectors::audit_log::row::Hash;

/// The boundaries that heads say: rows, last id, digest. There is one.
#[derive(Debug, Default)]
pub struct LegacySeen(pub BTreeSet<(u64, i64, Hash)>);
