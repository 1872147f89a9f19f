//! Publishing: what a publisher writes into its own database, and the relay that publishes it on the bus.
//! In the order in which data flows.
//!
//! - [`token`]: who somebody is
//! - [`publish`]: for publishers: files, their operations, and the outbox
//! - [`relay`]: finished rows become messages
//! - [`backfill`]: differences between an element's files and its stream are published
//! - [`operations`]: for operators: pending operations, and pruning
//! - [`texts`]: reading a source's texts as UTF-8

pub mod backfill;
pub mod operations;
pub mod publish;
pub mod relay;
pub mod texts;
pub mod token;
