//! Repairing a stream: what `artstore relay accept-source` and `artstore relay republish` do. They use what
//! [`artstore_verification`] finds, and publish as the relay does.
//!
//! - [`operator_command`]: what the commands on a stream share
//! - [`accept`]: a new epoch, after a source lost something
//! - [`republish`]: a damaged stream is repaired

pub mod accept;
pub mod operator_command;
pub mod republish;
