//! What an operator has accepted in a stream: breaks of its source, each of which begins a new epoch,
//! and damage, which readers skip. Both are messages that come after what they are
//! about, so they are read first.

use std::collections::HashMap;

use artstore_bus::breaks::{self, Breaks, Chain};
use artstore_bus::bus_error::BusError;
use artstore_bus::connection::Bus;
use artstore_schemas::damage::{Damage, damage_accepted};
use artstore_schemas::envelope::Envelope;
use artstore_schemas::epoch::{self, Epochs};
use artstore_schemas::source::Source;

/// Breaks and damage that were accepted up to now.
#[derive(Debug, Clone, Default)]
pub struct Accepted {
    epochs: Epochs,
    /// The damage.
    pub damage: Damage,
    /// The sequence of the last record of damage; 0 where there is none.
    damage_at: u64,
    /// Messages that pass themselves off as records, and what shows it.
    refused: HashMap<u64, String>,
    /// A message up to this sequence that is not listed here is no decision.
    end: u64,
}

impl Accepted {
    /// Reads what the stream holds up to its present end.
    pub async fn read(bus: &Bus, source: &Source) -> Result<Self, BusError> {
        let Breaks {
            epochs,
            damage,
            damage_at,
            refused,
            end,
        } = breaks::read(bus, source, Chain::Checked).await?;
        let refused = refused.into_iter();
        Ok(Self {
            epochs,
            damage,
            damage_at,
            refused: refused.map(|r| (r.sequence, r.problem)).collect(),
            end,
        })
    }

    #[cfg(test)]
    pub(crate) fn of_damage(damage: Damage) -> Self {
        Self {
            damage,
            ..Self::default()
        }
    }

    /// Why a message that claims to be a record is none.
    pub fn refused(&self, sequence: u64) -> Option<&String> {
        self.refused.get(&sequence)
    }

    /// The decision that a message is, if it is one: a record of one, which nobody has found to be
    /// forged.
    pub fn decision(&self, envelope: &Envelope, sequence: u64) -> Option<RecordedDecision> {
        let decision = RecordedDecision::of(envelope)?;
        (sequence > self.end || self.knows(decision, sequence)).then_some(decision)
    }

    /// Whether a message still reports a row: true where no later break took its row away.
    pub fn survives(&self, sequence: u64, position: i64) -> bool {
        self.epochs.survives(sequence, position)
    }

    /// Rows above this position have their messages after a break that is still to come.
    pub fn horizon(&self, sequence: u64) -> i64 {
        let after = self.epochs.0.iter().filter(|e| e.sequence > sequence);
        after
            .map(|epoch| epoch.high_water_mark)
            .min()
            .unwrap_or(i64::MAX)
    }

    /// Whether a decision is known at this sequence.
    pub fn knows(&self, decision: RecordedDecision, sequence: u64) -> bool {
        match decision {
            RecordedDecision::Epoch => self.epochs.0.iter().any(|epoch| epoch.sequence == sequence),
            // A record lists all damaged ranges of the earlier ones.
            RecordedDecision::Damage => sequence <= self.damage_at,
        }
    }

    /// How many messages do not count, or are gone, by a decision: what they contained is not known.
    pub fn damaged(&self) -> u64 {
        let lists = self.damage.holes.iter().chain(&self.damage.ignored);
        lists.map(|range| range.last - range.first + 1).sum()
    }

    /// Whether it was accepted that the stream lacks what was pruned.
    pub fn lacks_pruned(&self) -> bool {
        let mut epochs = self.epochs.0.iter();
        epochs.any(|epoch| epoch.pruned_up_to.is_some())
    }

    /// The sequence of the last decision; 0 where there is none.
    pub(crate) fn last_decision(&self) -> u64 {
        let epoch = self.epochs.last().map_or(0, |epoch| epoch.sequence);
        epoch.max(self.damage_at)
    }
}

/// An operator's decision about earlier messages of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordedDecision {
    /// A new epoch of the source begins with it: positions start over.
    Epoch,
    /// Damage is skipped.
    Damage,
}

impl RecordedDecision {
    /// The decision that a message contains.
    pub(crate) fn of(envelope: &Envelope) -> Option<Self> {
        if envelope.is_record_of(&epoch::accepted()) {
            Some(Self::Epoch)
        } else if envelope.is_record_of(&damage_accepted()) {
            Some(Self::Damage)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use artstore_schemas::epoch::Epoch;

    use super::*;

    #[test]
    fn rows_above_what_a_later_break_keeps_are_told_of_behind_it() {
        let epoch = |sequence, high_water_mark| Epoch {
            sequence,
            high_water_mark,
            gaps: artstore_schemas::ranges::Ranges::default(),
            last_agreeing: sequence - 1,
            pruned_up_to: None,
        };
        let accepted = Accepted {
            epochs: Epochs(vec![epoch(10, 8), epoch(20, 12)]),
            ..Accepted::default()
        };
        let horizons = [1, 10, 20].map(|sequence| accepted.horizon(sequence));
        assert_eq!(horizons, [8, 12, i64::MAX]);
    }
}
