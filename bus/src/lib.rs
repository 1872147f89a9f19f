//! NATS: the connection, the streams, and how they are read. What a message contains is in
//! [`artstore_schemas`]; nothing here knows databases.
//!
//! - [`inbox`]: the subjects that answers go to
//! - [`link`]: whether the connection to NATS is up
//! - [`refusals`]: what the server reports that the connection's user may not do
//! - [`connection`]: the connection to NATS
//! - [`credentials`]: what a connection logs in with
//! - [`accounts`]: the accounts of the server, and what each user may do
//! - [`stream_name`]: the names of the streams
//! - [`streams`]: how the streams are created, and which settings may lose messages
//! - [`bus_error`]: why the bus can't be used
//! - [`message`]: a message as a stream has it
//! - [`requests`]: requests to JetStream; a refusal is named at once
//! - `pull`: pull requests to a consumer, and the answers
//! - [`selection`]: which messages of a stream are read
//! - [`stream_reader`]: the one reader of streams: what our own consumers deliver, and nothing else
//! - [`snapshot`]: a snapshot of a whole stream, taken from the server and restored to it
//! - [`breaks`]: epochs and damage, as records in a stream report them

pub mod accounts;
pub mod breaks;
pub mod bus_error;
pub mod connection;
pub mod credentials;
pub mod inbox;
pub mod link;
pub mod message;
mod pull;
pub mod refusals;
pub mod requests;
pub mod selection;
pub mod snapshot;
pub mod stream_name;
pub mod stream_reader;
pub mod streams;
pub mod tls;
