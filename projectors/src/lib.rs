//! Reading the bus into read models, in the order in which data flows.
//!
//! - [`consumer`]: a stream, read on from a checkpoint
//! - [`projector`]: what turns events into rows
//! - [`checkpoint`]: how far a projection has come
//! - [`runner`]: one worker: one projection, one stream
//! - [`workers`]: all workers of a projection
//! - [`query_cache`]: the projection that people search
//! - [`projector_error`]: why a worker stops
//! - [`read_your_writes`]: waiting until a write is visible
//! - [`search`]: finding files in the query cache

pub mod checkpoint;
pub mod consumer;
pub mod projector;
pub mod projector_error;
pub mod query_cache;
pub mod read_your_writes;
pub mod runner;
pub mod search;
pub mod workers;
