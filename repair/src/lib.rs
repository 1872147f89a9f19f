//! Repairing a stream: `artstore relay accept-source` and `artstore relay republish`. They use the findings
//! of [`artstore_verification`], and publish as the relay does.
//!
//! - [`operator_command`]: what the commands on a stream share
//! - [`accept`]: a new epoch, after a source lost something
//! - [`republish`]: the repair of a damaged stream

pub mod accept;
pub mod operator_command;
pub mod republish;
