//! From the streams to the read models: rows that are as if each event had been applied once, in order,
//! whatever is killed, and events that can't be applied.
//!
//! - `crashes`: killed and frozen at every step
//! - `batches`: a backlog is applied in large batches
//! - `interleaving`: two streams in every order
//! - `deliveries`: what others can do to a projector's consumers
//! - `hostile`: messages that only somebody with a relay's key can publish
//! - `parking`: events that can't be applied, and what operators do with them
//! - `pausing`: nothing is applied while a projection is paused
//! - `registry`: the element registry
//! - `kit`: the kit for authors of projectors

mod batches;
mod crashes;
mod deliveries;
mod hostile;
mod interleaving;
mod kit;
pub mod parking;
mod pausing;
pub mod registry;
