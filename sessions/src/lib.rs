//! What the relay and the projector's workers have in common: each opens a session of PostgreSQL,
//! holds a lock with it, works, and starts again when something fails. What they do in a session is
//! theirs; nothing here knows events, streams or tables.
//!
//! - [`session`]: opening one that the server ends when its process freezes, and refusing a pooler
//! - [`holder`]: who holds a lock or a number
//! - [`retry`]: waiting before another try
//! - [`restart`]: from one session to the next
//! - [`progress`]: where one is, and what is wrong

pub mod holder;
pub mod progress;
pub mod restart;
pub mod retry;
pub mod session;
