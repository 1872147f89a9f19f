//! ArtStore's event backbone: one program. From settings to the commands; the parts that carry
//! events are crates of their own.
//!
//! - [`names`]: elements, sources and streams, as people name them
//! - [`day_or_time`]: a moment, as people give it to a command
//! - [`config`]: all settings
//! - [`audit_keys`]: those of the audit log, read into keys
//! - [`telemetry`]: the process's own log
//! - [`system`]: the whole system in one process
//! - `terminal`: what a terminal shows
//! - [`error_text`]: an error as people read it
//! - [`troubleshooting`]: which section of the documents is about a message
//! - `signals`: requests to stop
//! - [`service`]: how a running part shows its health and its numbers
//! - [`status`]: the state of everything, at one moment
//! - [`audit`]: rows of the audit log, selected and exported
//! - [`repair`]: repairing a read model from the streams
//! - [`bus_backup`]: backups of streams, and restoring them
//! - [`operator`]: who gave a command
//! - [`access`]: which commands need a token
//! - [`commands`]: the commands

pub mod access;
pub mod audit;
pub mod audit_keys;
pub mod bus_backup;
pub mod command_event;
pub mod commands;
pub mod config;
pub mod day_or_time;
pub mod error_text;
pub mod names;
pub mod operator;
pub mod repair;
pub mod service;
mod signals;
pub mod status;
pub mod system;
pub mod telemetry;
mod terminal;
pub mod troubleshooting;
