//! Epochs of a stream. A source that was restored, or a standby that was promoted, may have lost what
//! its stream already contains. An operator's decision begins a new epoch: the relay's command publishes
//! `source.accepted`, and what the source lost is history from then on. Nothing is rewritten.
//!
//! A message of a row *survives* a break if the accepted source contains the same row: its position is at
//! or below the record's `artstore-high-water-mark` and not in its `artstore-gaps`. It has to survive every
//! later break.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::event::EventType;
use crate::ranges::{Range, Ranges};

/// The type of the event that begins an epoch.
pub fn accepted() -> EventType {
    EventType::new("source", "accepted", 1)
}

/// The facts of `artstore.source.accepted.v1`: `operation.data` in an element's stream, `data` in an
/// outbox's. What the epoch begins with (identity, high-water mark, gaps) stands in the headers too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceAccepted {
    /// The identity in the message before it.
    pub old_identity: String,
    /// The identity of the source from now on.
    pub new_identity: String,
    /// The highest position whose message and row agree; 0 where there is none.
    pub high_water_mark: i64,
    /// The positions at or below it that do not agree, and may still come.
    pub gaps: Vec<Range>,
    /// The sequence of the last message whose row the source holds; 0 where there is none.
    pub last_agreeing: u64,
    /// Messages of rows that the source does not hold any more.
    pub lost_messages: u64,
    /// Their positions; the first 1,000 ranges.
    pub lost_positions: Vec<Range>,
    /// How many files they are about.
    pub lost_files: u64,
    /// Those files; the first 1,000.
    pub files: Vec<Uuid>,
    /// Finished rows that the stream does not have, which the relay publishes next.
    pub new_rows: u64,
    /// Their positions; the first 1,000 ranges.
    pub new_positions: Vec<Range>,
    /// Where the stream lacked operations that the source was pruned of: up to which position. What
    /// they reported is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pruned_up_to: Option<i64>,
    /// Why it was accepted.
    pub reason: String,
    /// Who accepted it, as the command's system knows them.
    pub accepted_by: String,
}

/// Where an epoch begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    /// The sequence of its `source.accepted`.
    pub sequence: u64,
    /// The highest position that survived.
    pub high_water_mark: i64,
    /// The positions below it that did not.
    pub gaps: Ranges,
    /// The sequence of the last message that survived; 0 where none did.
    pub last_agreeing: u64,
    /// Where the stream lacked what the source was pruned of: up to which position.
    pub pruned_up_to: Option<i64>,
}

/// The breaks of a stream, ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Epochs(pub Vec<Epoch>);

impl Epochs {
    /// Whether the row of a message is one that the source, as it was accepted last, has to hold.
    pub fn survives(&self, sequence: u64, position: i64) -> bool {
        self.0
            .iter()
            .filter(|epoch| epoch.sequence > sequence)
            .all(|epoch| position <= epoch.high_water_mark && !epoch.gaps.contains(position))
    }

    /// The last one.
    pub fn last(&self) -> Option<&Epoch> {
        self.0.last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(sequence: u64, high_water_mark: i64, gaps: &str) -> Epoch {
        Epoch {
            sequence,
            high_water_mark,
            gaps: gaps.parse().expect("ranges"),
            last_agreeing: sequence - 1,
            pruned_up_to: None,
        }
    }

    #[test]
    fn without_a_break_everything_survives() {
        assert!(Epochs::default().survives(1, 1));
    }

    #[test]
    fn what_the_accepted_source_holds_survives_and_nothing_else_before_the_break() {
        // Positions 1 to 10 were published as 1 to 10; the source came back with 8, without 3.
        let epochs = Epochs(vec![epoch(11, 8, "3")]);
        assert!(epochs.survives(8, 8));
        assert!(!epochs.survives(9, 9), "above high_water_mark");
        assert!(!epochs.survives(3, 3), "missing");
        assert!(epochs.survives(12, 9), "the position is used again");
        assert!(epochs.survives(13, 3), "the missing one came");
    }

    #[test]
    fn a_message_has_to_survive_every_break_behind_it() {
        let epochs = Epochs(vec![epoch(11, 8, ""), epoch(21, 12, "5")]);
        assert!(epochs.survives(4, 4));
        assert!(!epochs.survives(5, 5), "lost at the second break");
        // Position 9 of the first life was lost at the first break: that the second source goes to
        // 12 does not bring it back.
        assert!(!epochs.survives(9, 9));
        assert!(epochs.survives(12, 9), "its successor");
        assert!(!epochs.survives(20, 17));
        assert!(epochs.survives(22, 17));
    }
}
