//! What runs a projection: workers, one per stream, each with its session, its consumer and its
//! checkpoint.
//!
//! - [`workers`]: all workers of a projection
//! - `share`: how processes share the streams
//! - `runner`: one worker: one projection, one stream, session after session
//! - `worker`: what it works with, and the check of its stream
//! - `worker_election`: waiting for its stream's lock
//! - [`database`]: sessions of the read model
//! - [`consumer`]: a stream, read from a checkpoint on
//! - `commit`: rows and checkpoint together
//! - [`checkpoint`]: how far a projection has come
//! - [`pause`]: a projection that a person has paused
//! - [`presence`]: which processes work on the streams, as the database shows it
//! - [`progress`]: what the workers report about themselves
//! - [`lag`]: how far a projection is behind, measured from outside

pub mod checkpoint;
pub(crate) mod commit;
pub mod consumer;
pub mod database;
pub mod lag;
pub mod pause;
pub mod presence;
pub mod progress;
pub(crate) mod runner;
pub(crate) mod share;
pub(crate) mod worker;
mod worker_election;
pub mod workers;
