//! Damage that was found is repaired by commands: what they refuse, what they change, and where relay and
//! projectors continue.
//!
//! - `republish`: a damaged stream gets the rows again
//! - `accept_source`: a source that lost something is accepted
//! - `accept_in_use`: the same, while it is in use
//! - `projection`: checkpoints and rows of a read model

mod accept_in_use;
mod accept_source;
mod projection;
mod republish;
