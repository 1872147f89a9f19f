//! Parked events (dead letters). An event that can't be applied is set aside: parked. It fences its key:
//! later events of that key are parked after it, in order; everything else flows. Parked events and the
//! checkpoint that passes them commit together. So does the checkpoint's generation, which changes with
//! what is parked: a worker that remembers other fences can't commit.
//!
//! - [`apply`]: a batch, without what can't be applied
//! - [`store`]: the table `projection_parked`
//! - [`discarded`]: the table `projection_discarded`: discarded events are skipped
//! - [`retry`]: applying parked events of a key, in order

pub mod apply;
pub mod discarded;
pub mod retry;
pub mod store;

use std::collections::HashSet;
use std::sync::Arc;

use uuid::Uuid;

use self::discarded::Discarded;

/// So many events one after another that can't be applied are a bug, not data.
pub const MOST_IN_ROW: i32 = 20;

/// What a worker knows of parked events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fences {
    /// What is not applied.
    pub keys: Keys,
    /// How many events one after another could not be applied.
    pub in_row: i32,
}

/// What of a stream is not applied, as it was when the checkpoint was read: whatever changes it gives
/// the checkpoint another generation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// Keys with parked events: later ones wait behind them.
    pub parked: HashSet<Uuid>,
    /// Events that were discarded. A worker meets them where its checkpoint went back, a rebuild on its
    /// way.
    pub discarded: Arc<Discarded>,
}

impl Keys {
    /// Whether everything is applied.
    pub fn is_empty(&self) -> bool {
        self.parked.is_empty() && self.discarded.is_empty()
    }
}
