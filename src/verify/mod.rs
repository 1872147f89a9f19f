//! Whether source, stream and cache agree, counted from the databases and the streams themselves.
//!
//! - [`stream`]: what a stream holds
//! - [`source`]: every finished row exactly once, in order
//! - [`finding`]: what does not agree, and the command that mends it
//! - [`cache`]: the read model against `_files`, streams and messages

pub mod cache;
pub mod finding;
pub mod source;
pub mod stream;
