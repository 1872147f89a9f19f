//! A projection's tables built again from the streams, beside the live ones, which stay in use all the
//! while. In the order in which it happens:
//!
//! - [`build`]: a rebuild from its beginning to its comparison
//! - `session`: one session does it all, under a lock: two rebuilds can't run at once, and one that
//!   has lost its session can't commit
//! - `shadow`: tables like the live ones in a schema of their own; what can't be swapped is refused
//! - `table_properties`: rights, settings and indexes of the live tables, also those added meanwhile
//! - `fill`: the streams from the beginning, through the same commit as the live workers'
//! - `parked`: what is parked on both sides, and what operators decide about it meanwhile
//! - `retry_parked`: parked events in the rebuilt tables, tried again
//! - [`compare`]: row by row, under one snapshot of the live tables, at its checkpoints
//! - `lock`: locks the live tables for a moment, or gives up for now
//! - `product_rows`: copies rows of the product's own services
//! - [`swap`]: exchanges both, with their checkpoints and parked events
//! - [`rollback`]: swaps them back
//! - [`snapshot`]: the tables as they were at some sequence of each stream
//! - [`abandon`]: removes what an earlier command left
//! - [`remove`]: removes a snapshot, or the tables from before the last swap
//! - `error`: why a rebuild or a rollback ends

pub mod abandon;
pub mod build;
pub mod compare;
mod error;
pub(crate) mod fill;
mod lock;
mod parked;
mod product_rows;
pub mod remove;
mod retry_parked;
pub mod rollback;
mod session;
mod shadow;
pub mod snapshot;
pub mod swap;
mod table_properties;

use chrono::{DateTime, Utc};

pub use self::error::RebuildError;

/// Where a projection's tables are built.
pub fn shadow_schema(projection: &str) -> String {
    schema("rebuild", projection)
}

/// Where the tables are that were live before.
pub fn previous_schema(projection: &str) -> String {
    schema("previous", projection)
}

/// Where the tables of a moment are.
pub fn snapshot_schema(projection: &str, made: DateTime<Utc>) -> String {
    let made = made.format("%Y%m%d_%H%M%S");
    format!("{}_{made}", schema("snapshot", projection))
}

fn schema(what: &str, projection: &str) -> String {
    format!("artstore_{what}_{}", projection.replace('-', "_"))
}

/// What a rebuild is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It applies events.
    Filling {
        /// The stream.
        stream: String,
        /// Events of all streams that are applied.
        applied: u64,
        /// Events of all streams that there are to apply.
        total: u64,
    },
    /// It builds an index.
    Indexing {
        /// The index.
        index: String,
        /// Its number.
        number: usize,
        /// How many there are.
        of: usize,
    },
    /// It compares rows.
    Comparing {
        /// The table.
        table: &'static str,
        /// So many rows were compared.
        rows: u64,
    },
    /// It brings product's rows along.
    Copying {
        /// The table.
        table: &'static str,
    },
    /// It did not get the live tables for itself, and tries again.
    Waiting {
        /// The try.
        attempt: u32,
        /// Who is in the way.
        holders: Vec<String>,
    },
}

/// Called at each step.
pub type OnStep<'a> = &'a mut (dyn FnMut(Step) + Send);
