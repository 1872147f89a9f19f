//! What a repair has done.

use serde::Serialize;
use uuid::Uuid;

/// What was done.
#[derive(Debug, Default, Serialize)]
pub struct Repaired {
    /// Checkpoints that were reset.
    pub checkpoints: Vec<RepairedCheckpoint>,
    /// Files whose rows were derived again.
    pub files: Vec<RepairedRow>,
    /// Events whose rows were derived again.
    pub events: Vec<RepairedRow>,
    /// Rows that name an event but whose id is none of a file: removed.
    pub odd_rows: u64,
}

/// A checkpoint that was reset.
#[derive(Debug, Serialize)]
pub struct RepairedCheckpoint {
    /// The stream.
    pub stream: String,
    /// Where it stood.
    pub from: u64,
    /// Where it stands now: the projector continues after it.
    pub to: u64,
    /// What was wrong.
    pub problem: String,
}

/// A row that was derived again.
#[derive(Debug, Serialize)]
pub struct RepairedRow {
    /// The file or event.
    pub id: Uuid,
    /// Whether the streams contain it, so that it has a row now.
    pub present: bool,
}
