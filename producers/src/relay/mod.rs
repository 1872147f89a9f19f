//! The relay: from finished rows to messages. In the order in which data flows.
//!
//! - `options`: how one source is relayed
//! - `supervise`: a relay's life, session after session
//! - `source_relay`: what its sessions share
//! - `reconcile`: whether source and stream fit together
//! - [`election`]: one active relay per source
//! - `standby`: waiting for the election
//! - `control`: stepping aside for an operator's command
//! - [`lock_handover`]: becoming the relay for a command
//! - [`source_check`]: whether a source is fit to be read
//! - [`resume_state`]: the relay's state, read from the stream
//! - `term`: a term as the active relay
//! - `poll_loop`: poll, settle, publish, again
//! - `backfill_step`: a step of the backfill between two polls
//! - [`source`]: its table and rows
//! - `poll`: reading new ones
//! - [`prune_mark`]: the position up to which it was pruned
//! - [`seen_positions`]: the high-water mark of a source and its gaps
//! - [`rows`]: finished rows by their positions
//! - [`api_url`]: where an element's API is reached
//! - [`translate`]: a row becomes an event
//! - [`translated`]: that event, before the relay adds its state
//! - `wal_event`, `outbox_event`: each kind of row
//! - [`omit`]: what does not fit into a message
//! - [`publish`]: messages, each accepted only at its expected sequence
//! - [`progress`]: what it reports about itself
//! - [`relay_error`]: why it stops

pub mod api_url;
mod backfill_step;
mod control;
pub mod election;
pub mod lock_handover;
pub mod omit;
pub(crate) mod options;
mod outbox_event;
pub(crate) mod poll;
pub(crate) mod poll_loop;
pub mod progress;
pub mod prune_mark;
pub mod publish;
mod reconcile;
pub mod relay_error;
pub mod resume_state;
pub mod rows;
pub mod seen_positions;
pub mod source;
pub mod source_check;
pub(crate) mod source_relay;
mod standby;
mod supervise;
mod term;
pub mod translate;
pub mod translated;
mod wal_event;

pub use options::RelayOptions;
pub use supervise::{check, run};
