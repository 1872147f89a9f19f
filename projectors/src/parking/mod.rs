//! Parked events (dead letters). An event that can't be applied is set aside: parked. It fences its key:
//! later events of that key are parked after it, in order; everything else flows. Parked events and the
//! checkpoint that passes them commit together. So does the checkpoint's generation, which changes with
//! what is parked: a worker that remembers other fences can't commit.
//!
//! - `apply`: a batch, without what can't be applied
//! - `fences`: the keys whose events are not applied
//! - [`store`]: the table `projection_parked`
//! - [`discarded`]: the table `projection_discarded`: discarded events are skipped
//! - [`retry`]: applying parked events of a key, in order

pub(crate) mod apply;
pub mod discarded;
pub(crate) mod fences;
pub mod retry;
pub mod store;

pub(crate) use self::fences::MOST_IN_ROW;
pub use self::fences::{Fences, Keys};
