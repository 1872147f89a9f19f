//! Which positions have their message, as the message checker finds it: those whose row
//! agrees or was pruned, and those whose row the source lost.

use std::collections::{BTreeSet, HashSet};

use artstore_schemas::ranges::Ranges;
use serde::Serialize;
use uuid::Uuid;

/// The most lost messages that are listed one by one; all are counted.
pub const MOST_LISTED: usize = 100_000;

/// A message whose row the source does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LostMessage {
    /// Its sequence.
    pub sequence: u64,
    /// Its row's position.
    pub position: i64,
    /// Its event.
    pub id: Uuid,
    /// The file that it is about.
    pub file: Option<String>,
}

/// Positions with a message that counts.
#[derive(Debug, Default)]
pub(crate) struct Agreement {
    /// Positions whose message and row agree, or whose row was pruned.
    pub(crate) agreed: Ranges,
    /// Messages whose row is there: not those whose row was pruned.
    pub(crate) rows: u64,
    /// The sequence of the last message whose row agrees or was pruned; 0 where there is none.
    pub(crate) last: u64,
    /// Messages whose row the source does not hold; the first [`MOST_LISTED`].
    pub(crate) lost: Vec<LostMessage>,
    /// How many there are.
    pub(crate) lost_count: u64,
    /// Their positions.
    pub(crate) lost_positions: Ranges,
    /// The files that they are about, of an element's stream.
    pub(crate) lost_files: BTreeSet<String>,
}

impl Agreement {
    /// Whether a position has its message already.
    pub(crate) fn holds(&self, position: i64) -> bool {
        self.agreed.contains(position)
    }

    /// The highest position that has its message; 0 where there is none.
    pub(crate) fn highest(&self) -> i64 {
        self.agreed.as_slice().last().map_or(0, |range| range.last)
    }

    /// A message whose row agrees.
    pub(crate) fn agrees(&mut self, sequence: u64, position: i64) {
        self.rows += 1;
        self.pruned(sequence, position);
    }

    /// A message whose row was pruned.
    pub(crate) fn pruned(&mut self, sequence: u64, position: i64) {
        self.agreed.insert(position);
        self.last = sequence;
    }

    /// A message whose row the source does not hold.
    pub(crate) fn lost(&mut self, message: LostMessage, is_of_file: bool) {
        self.lost_count += 1;
        self.lost_positions.insert(message.position);
        if is_of_file {
            self.lost_files.extend(message.file.clone());
        }
        if self.lost.len() < MOST_LISTED {
            self.lost.push(message);
        }
    }

    /// The rows that seem to be lost; the first [`MOST_LISTED`].
    pub(crate) fn lost_rows(&self) -> impl Iterator<Item = Uuid> {
        self.lost.iter().map(|lost| lost.id)
    }

    /// Lost messages with a position that is not their row's, or that of a row which has its own message:
    /// nothing was lost. `elsewhere`: rows that have another position.
    pub(crate) fn strangers(
        &self,
        elsewhere: &HashSet<Uuid>,
    ) -> impl Iterator<Item = &LostMessage> {
        let is_stranger =
            |lost: &&LostMessage| self.holds(lost.position) || elsewhere.contains(&lost.id);
        self.lost.iter().filter(is_stranger)
    }
}
