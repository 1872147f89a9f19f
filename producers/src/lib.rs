//! Publishing: what a publisher writes into its own database, and the relay that takes it from
//! there to the bus. In the order in which data flows.
//!
//! For publishers:
//! - [`files`]: the change of a file
//! - [`wal`]: the operation that it belongs to
//! - [`outbox`]: an event of the admin or query module
//!
//! For operators:
//! - [`pending`]: operations that nobody finished, and what became of them
//! - [`resolve`]: finishing one of them by a person's decision
//! - [`prune`]: finished ones are removed that the stream holds
//! - `walk`: a whole stream, in order
//! - `judge`: which of its messages count
//! - [`scan`]: a whole stream beside its whole source
//! - [`mend`]: what the commands on a stream share
//! - [`accept`]: a new epoch, after a source lost something
//! - [`republish`]: a damaged stream is put right
//!
//! The relay:
//! - [`election`]: one relay a source
//! - `control`: standing down for an operator's command
//! - [`source_check`]: whether a source is fit to be read
//! - [`source`]: its table and rows
//! - [`poll`]: reading new ones
//! - [`floor`]: up to where it was pruned
//! - [`gaps`]: what was seen of a source and what is missing
//! - [`api_url`]: where an element's API is reached
//! - [`translate`]: a row becomes an event
//! - [`publish`]: messages, each accepted only in its place
//! - [`tail`]: the relay's state, read from the stream
//! - [`state`]: what is said of a file, small and comparable
//! - [`fold`]: what a stream said last of each file
//! - `chunk`: a range of an element's files
//! - [`level`]: what differs between them is published
//! - `round`: poll, settle, publish, again
//! - [`relay`]: its life, from the election to the end
//! - [`takeover`]: becoming the relay for a command
//! - [`progress`]: what it tells of itself
//! - [`relay_error`]: why it stops
//!
//! For whoever checks what was published:
//! - [`rows`]: finished rows by their positions
//! - [`form`]: whether a message can be the relay's
//! - [`order`]: the changes of one file
//! - [`fingerprint`]: what a row says and what its message says, in one form
//! - [`number`]: positions for finished rows that have none

pub mod accept;
pub mod api_url;
mod chunk;
mod control;
pub mod election;
pub mod files;
pub mod fingerprint;
pub mod floor;
pub mod fold;
pub mod form;
pub mod gaps;
mod judge;
pub mod level;
pub mod mend;
pub mod number;
mod omit;
pub mod order;
pub mod outbox;
pub mod pending;
pub mod poll;
pub mod progress;
pub mod prune;
pub mod publish;
pub mod relay;
pub mod relay_error;
pub mod republish;
pub mod resolve;
mod round;
pub mod rows;
pub mod scan;
pub mod source;
pub mod source_check;
pub mod state;
pub mod tail;
pub mod takeover;
pub mod translate;
pub mod wal;
mod walk;
