//! The tables of the three kinds of database, migrated up and down step by step.
//!
//! The SQL comes from the folders beside this one (`admin/`, `query/`, `storage/`, and `outbox/`,
//! which admin and query share) and is embedded. It goes into the database of one connection. A
//! version table of ours in that database records what was applied, and from which text.
//!
//! - `module`: which database it is, its tables and its steps
//! - `step`: one step, as embedded
//! - `part`: its parts, and how each is run
//! - `lock`: one migrator of a module at a time
//! - `history`: the version table
//! - `guard`: databases that are not migrated
//! - `runner`: up, down, redo, status; a step's parts in their order
//! - `check`: rows that prevent a step, or that it would lose
//! - `transaction`, `concurrent`, `batched`: the ways in which a part is run
//! - `holders`: who holds locks on the tables now
//! - `patience`: waiting for tables that others hold
//! - `plan`: what would be run
//! - `adopt`: takes over tables that the product created
//! - `catalogue`, `existing`: what version 1 creates, and what exists
//! - `later`: what later steps need
//! - `compare`, `column`: how they differ
//! - `difference`: what a difference means
//! - `repair`: what adoption adds, on a database in use
//! - `grant`: the least rights for a role of ours
//! - `password`: what PostgreSQL keeps of one
//! - [`roles`]: one role for each duty, with timeouts and limits
//! - `error`: what can go wrong, and what to do then

mod adopt;
mod batched;
mod catalogue;
mod check;
mod column;
mod compare;
mod concurrent;
mod difference;
mod error;
mod existing;
mod grant;
mod guard;
mod history;
pub mod holders;
mod later;
mod lock;
mod module;
mod part;
mod password;
mod patience;
mod plan;
mod repair;
pub mod roles;
mod runner;
mod step;
mod transaction;

pub use adopt::{
    Adoption, OLD_ROWS_ORDER, OldRows, Origin, WrittenAnew, adopt, inspect, owned_by_others,
    tables_present,
};
pub use difference::{Difference, Effect};
pub use error::{FoundTables, MigrateError, StepProgress};
pub use existing::catalogue;
pub use grant::{Grant, GrantError, Purpose, grant};
pub use module::{Module, latest};
pub use patience::DEFAULT_PATIENCE;
pub use plan::{Goal, PlannedPart, PlannedStep, plan};
pub use runner::{Migrator, Status, StepStatus, down, status, up};
pub use step::{Direction, Step};
