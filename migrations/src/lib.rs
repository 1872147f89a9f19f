//! The tables of the three kinds of database, made and taken back step by step.
//!
//! The SQL comes from the folders beside this one (`admin/`, `query/`, `storage/`, and `outbox/`,
//! which admin and query share) and is embedded. It goes into the database of one connection; what
//! was applied, and from which text, is kept there in a version table of ours.
//!
//! - `module`: which database it is, its tables and its steps
//! - `step`: one step, as embedded
//! - `lock`: one migrator of a module at a time
//! - `history`: the version table
//! - `guard`: databases that are left alone
//! - `runner`: up, down, status
//! - `adopt`: takes over tables that the product made
//! - `catalogue`, `later`: what is there, what later steps need
//! - `difference`, `column`: what that means
//! - `repair`: what adoption adds, on a database in use
//! - `holders`: who has the tables now
//! - `error`: what can go wrong, and what to do then

mod adopt;
mod catalogue;
mod column;
mod difference;
mod error;
mod guard;
mod history;
pub mod holders;
mod later;
mod lock;
mod module;
mod repair;
mod runner;
mod step;

pub use adopt::{
    Adoption, OLD_ROWS_ORDER, OldRows, Origin, adopt, inspect, owned_by_others, tables_present,
};
pub use catalogue::catalogue;
pub use difference::{Difference, Effect};
pub use error::MigrateError;
pub use module::Module;
pub use runner::{Status, StepStatus, down, latest, status, up};
pub use step::Step;
