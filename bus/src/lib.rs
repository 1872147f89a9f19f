//! NATS: the connection, the streams, and how they are read. What a message contains is in
//! [`artstore_schemas`]; nothing here knows databases.
//!
//! - [`link`]: whether the connection to NATS stands
//! - [`refusals`]: what the server says that the connection's user may not do
//! - [`bus`]: the connection and the streams
//! - [`requests`]: what is asked of JetStream, with a refusal named at once
//! - `pull`: asking a consumer for messages, and what comes back
//! - [`deliveries`]: what a consumer of ours delivers, and nothing else
//! - [`snapshot`]: a whole stream, as the server gives and takes it
//! - [`breaks`]: epochs and damage, as recorded in a stream

pub mod breaks;
pub mod bus;
pub mod deliveries;
pub mod link;
mod pull;
pub mod refusals;
pub mod requests;
pub mod snapshot;
