//! What is kept for how long: rows that the streams provably contain are pruned, and streams and databases
//! are backed up and restored.
//!
//! - `prune`: what is removed, and what is not
//! - `pruned_streams`: a stream that lacks what was pruned
//! - `bus_backup`: backups of the streams
//! - `database_backup`: dumps of the databases

mod bus_backup;
mod database_backup;
pub mod prune;
mod pruned_streams;
