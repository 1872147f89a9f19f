//! What the relay and the projector's workers have in common: each opens a session of PostgreSQL,
//! holds a lock with it, works, and starts again when something fails. Also how everything else connects.
//! What they do in a session is theirs; nothing here knows events, streams or tables of ours.
//!
//! - [`connection`]: opening any connection, with the settings that our SQL relies on
//! - [`server`]: the properties of a server and its database
//! - [`relation`]: whether a table shows all of its rows
//! - [`text`]: texts that need not be UTF-8
//! - [`words`]: PostgreSQL's messages, as people are shown them
//! - [`session`]: opening one that the server ends when its process freezes, and refusing a pooler
//! - [`pulse`]: deadlines for waiting on a server
//! - [`holder`]: who holds a lock or a position
//! - [`duty_lock`]: locks that elect, and that only the roles of a duty can hold
//! - [`unavailable`]: whether a server is unavailable for now
//! - [`retry`]: waiting before another try
//! - [`restart`]: from one session to the next
//! - [`progress`]: what a service does now, and what is wrong
//! - [`crash`]: named points at which a test ends the process
//! - [`files`]: files that are replaced atomically
//! - [`configuration`]: a setting that can't be used
//! - [`secret`]: a text that no output shows
//! - [`secret_file`]: files that hold one
//! - [`count`]: numbers of things in texts for people

pub mod configuration;
pub mod connection;
pub mod count;
pub mod crash;
pub mod duty_lock;
pub mod files;
pub mod holder;
pub mod progress;
pub mod pulse;
pub mod relation;
pub mod restart;
pub mod retry;
pub mod secret;
pub mod secret_file;
pub mod server;
pub mod session;
pub mod text;
pub mod unavailable;
pub mod words;
