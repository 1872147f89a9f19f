//! Publishing: what a publisher writes into its own database, and the relay that takes it from
//! there to the bus. In the order in which data flows.
//!
//! - [`publish`]: for publishers: files, their operations, and the outbox
//! - [`relay`]: finished rows become messages
//! - [`backfill`]: what differs between an element's files and its stream is published
//! - [`operations`]: for operators: pending operations, and pruning
//! - [`texts`]: how the texts of a source are asked for

pub mod backfill;
pub mod operations;
pub mod publish;
pub mod relay;
pub mod texts;
