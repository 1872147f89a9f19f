//! An event that can't be applied is set aside: parked. It fences its key, and later events of that
//! key are parked behind it, in order; everything else flows. Parked events and the checkpoint that
//! passes them commit together, and so does the checkpoint's generation, which changes with what is
//! parked: a worker that remembers other fences can't commit.
//!
//! - [`apply`]: a batch, without what can't be applied
//! - [`store`]: the table `projection_parked`
//! - [`retry`]: applying parked events of a key, in order

pub mod apply;
pub mod retry;
pub mod store;

use std::collections::HashSet;

use uuid::Uuid;

/// So many events one after another that can't be applied are a bug, not data.
pub const MOST_IN_ROW: i32 = 20;

/// What a worker knows of parked events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fences {
    /// Keys with parked events: later ones wait behind them.
    pub keys: HashSet<Uuid>,
    /// How many events one after another could not be applied.
    pub in_row: i32,
}
