//! Accounts of the NATS server, and what each user of ours may do there.
//!
//! Each source has an account with its stream, in which its relay publishes. The signed audit heads have one.
//! Readers are in an account without any stream: it imports what reading needs, request by request. A server's
//! answer to a request can go to any subject of the account that asked, so an account of readers must have
//! no stream, and no account may have another one's. Commands of operators come from an account of their own.
//!
//! - [`role`]: who connects, and the file of the key
//! - [`key`]: the key of a user, made and read
//! - `rights`: the subjects that a user publishes and subscribes to
//! - [`configuration`]: the accounts as the server reads them

pub mod configuration;
pub mod key;
mod rights;
pub mod role;
