//! From the rows of a source to its stream: every finished row becomes one message, in order, whatever
//! writers do and wherever the relay is killed; what must not be published is refused.
//!
//! - `gaps`: positions, gaps, bounds
//! - `crashes`: killed and frozen at every step
//! - `large_rows`: rows that no message can hold
//! - `stream_limits`: a limit that somebody gives to a stream in use
//! - `api_urls`: where an element's API is reached, as messages state it
//! - `reserved`: events with the names of the relay's own records
//! - `halted_sources`: what one source's publisher or owner can do to the others
//! - `stepping_aside`: many requests for the lock
//! - `refusals`: sources and streams that are not what they were

mod api_urls;
mod crashes;
mod gaps;
mod halted_sources;
pub mod large_rows;
pub mod refusals;
mod reserved;
mod stepping_aside;
mod stream_limits;
