//! Reading the bus into read models, in the order in which data flows.
//!
//! - [`projector`]: what turns events into rows
//! - [`runtime`]: workers that read the streams, and commit rows with their checkpoint
//! - [`parking`]: events that can't be applied, set aside in order
//! - [`rebuild`]: tables built again beside the live ones, compared and swapped
//! - [`query_cache`]: the projection that people search
//! - [`search`]: finding files in the query cache
//! - [`read_your_writes`]: waiting until a write is visible
//! - [`audit_log`]: the projection that records who did what, and can prove it
//! - [`element_registry`]: the projection that administrators see
//! - [`kit`]: a test kit for authors of projectors
//! - [`projection_names`]: the names of our projections
//! - [`projector_error`]: why a worker stops

pub mod audit_log;
pub mod element_registry;
pub mod kit;
pub mod parking;
pub mod projection_names;
pub mod projector;
pub mod projector_error;
pub mod query_cache;
pub mod read_your_writes;
pub mod rebuild;
pub mod runtime;
pub mod search;
