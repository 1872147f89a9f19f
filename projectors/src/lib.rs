//! Reading the bus into read models, in the order in which data flows.
//!
//! - [`consumer`]: a stream, read on from a checkpoint
//! - [`projector`]: what turns events into rows
//! - [`checkpoint`]: how far a projection has come
//! - [`parking`]: events that can't be applied, set aside in order
//! - [`pause`]: a projection that a person has stopped
//! - [`database`]: sessions of the read model
//! - [`runner`]: one worker: one projection, one stream
//! - `share`: how processes share the streams
//! - [`presence`]: who works on them, as the database sees it
//! - [`workers`]: all workers of a projection
//! - [`rebuild`]: tables built again beside the live ones, compared and swapped
//! - [`progress`]: what they tell of themselves
//! - [`lag`]: how far a projection is behind, measured from outside
//! - [`audit_log`]: the projection that tells who did what, and can prove it
//! - [`element_registry`]: the projection that administrators see
//! - [`query_cache`]: the projection that people search
//! - [`kit`]: tests for authors of projectors
//! - [`projector_error`]: why a worker stops
//! - [`read_your_writes`]: waiting until a write is visible
//! - [`search`]: finding files in the query cache

pub mod audit_log;
pub mod checkpoint;
mod commit;
pub mod consumer;
pub mod database;
pub mod element_registry;
pub mod kit;
pub mod lag;
pub mod parking;
pub mod pause;
pub mod presence;
pub mod progress;
pub mod projector;
pub mod projector_error;
pub mod query_cache;
pub mod read_your_writes;
pub mod rebuild;
pub mod runner;
pub mod search;
mod share;
pub mod workers;
