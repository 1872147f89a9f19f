//! Damage of a stream that an operator accepted. A stream is never rewritten: the record
//! `source.damage-accepted` lists the places that its readers step over, and what they lack is
//! published again behind it. The last record of a stream lists all places of those before it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::EventType;

/// The type of the record.
pub fn damage_accepted() -> EventType {
    EventType::new("source", "damage-accepted", 1)
}

/// A range of sequences of a stream, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sequences {
    /// The first one.
    pub first: u64,
    /// The last one, never below the first.
    pub last: u64,
}

impl Sequences {
    /// A single one.
    pub fn one(sequence: u64) -> Self {
        Self {
            first: sequence,
            last: sequence,
        }
    }
}

/// The places, each list ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Damage {
    /// Messages that are not there any more.
    pub holes: Vec<Sequences>,
    /// Messages that are there and do not count: foreign, doubled or changed ones.
    pub ignored: Vec<Sequences>,
    /// Messages that count although they do not follow the one that counts before them.
    pub breaks: Vec<Sequences>,
}

/// The facts of `artstore.source.damage-accepted.v1`: `operation.data` in an element's stream, `data`
/// in an outbox's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DamageAccepted {
    /// The places.
    #[serde(flatten)]
    pub damage: Damage,
    /// How many rows are published again behind it.
    pub rows: u64,
    /// Of how many files the present state is published behind it.
    pub files: u64,
    /// Why it was accepted.
    pub reason: String,
    /// Who accepted it, as the command's system knows them.
    pub accepted_by: String,
}

impl Damage {
    /// Whether any place is listed.
    pub fn is_empty(&self) -> bool {
        self.holes.is_empty() && self.ignored.is_empty() && self.breaks.is_empty()
    }

    /// Whether all these messages are known to be gone.
    pub fn covers_hole(&self, first: u64, last: u64) -> bool {
        let holds = |r: &Sequences| r.first <= first && r.last >= last;
        self.holes.iter().any(holds)
    }

    /// The parts of a hole, both ends included, that nobody has accepted.
    pub fn left_of_hole(&self, first: u64, last: u64) -> Vec<Sequences> {
        let (mut left, mut next) = (Vec::new(), first);
        for hole in self.holes.iter().filter(|hole| hole.last >= first) {
            if hole.first > last {
                break;
            }
            if hole.first > next {
                let last = hole.first - 1;
                left.push(Sequences { first: next, last });
            }
            next = hole.last + 1;
        }
        if next <= last {
            left.push(Sequences { first: next, last });
        }
        left
    }

    /// Whether readers pass over this message.
    pub fn ignores(&self, sequence: u64) -> bool {
        holds(&self.ignored, sequence)
    }

    /// Whether this message counts although the chain breaks before it.
    pub fn covers_break(&self, sequence: u64) -> bool {
        holds(&self.breaks, sequence)
    }

    /// Whether this place is listed, in whichever way.
    pub fn covers(&self, sequence: u64) -> bool {
        self.covers_hole(sequence, sequence)
            || self.ignores(sequence)
            || self.covers_break(sequence)
    }

    /// Adds a hole. Places are added in ascending order; what touches the one before is one with it.
    pub fn add_hole(&mut self, first: u64, last: u64) {
        add(&mut self.holes, Sequences { first, last });
    }

    /// Adds a message to be passed over.
    pub fn add_ignored(&mut self, sequence: u64) {
        add(&mut self.ignored, Sequences::one(sequence));
    }

    /// Adds a break of the chain.
    pub fn add_break(&mut self, sequence: u64) {
        add(&mut self.breaks, Sequences::one(sequence));
    }
}

fn holds(list: &[Sequences], sequence: u64) -> bool {
    let after = list.partition_point(|r| r.first <= sequence);
    after > 0 && list[after - 1].last >= sequence
}

fn add(list: &mut Vec<Sequences>, new: Sequences) {
    match list.last_mut() {
        Some(before) if before.last + 1 >= new.first => before.last = before.last.max(new.last),
        _ => list.push(new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_covered_only_in_the_way_that_it_was_accepted() {
        let mut damage = Damage::default();
        assert!(damage.is_empty());
        damage.add_hole(3, 5);
        damage.add_break(6);
        damage.add_ignored(8);
        damage.add_ignored(9);
        assert_eq!(damage.ignored.len(), 1, "ranges");
        assert!(damage.covers_hole(3, 5) && damage.covers_hole(4, 4));
        assert!(!damage.covers_hole(3, 6) && !damage.covers_hole(2, 3));
        assert!(damage.covers_break(6) && !damage.covers_break(8));
        assert!(damage.ignores(9) && !damage.ignores(6));
        let covered: Vec<u64> = (1..12).filter(|s| damage.covers(*s)).collect();
        assert_eq!(covered, [3, 4, 5, 6, 8, 9]);
    }

    #[test]
    fn of_a_hole_remains_what_nobody_accepted() {
        let mut damage = Damage::default();
        damage.add_hole(3, 4);
        damage.add_hole(8, 20);
        let left = |first, last| -> Vec<(u64, u64)> {
            let left = damage.left_of_hole(first, last).into_iter();
            left.map(|r| (r.first, r.last)).collect()
        };
        assert_eq!(left(1, 10), [(1, 2), (5, 7)]);
        assert_eq!(left(1, 22), [(1, 2), (5, 7), (21, 22)]);
        assert_eq!(left(3, 4), []);
        assert_eq!(left(30, 31), [(30, 31)]);
    }

    #[test]
    fn a_hole_that_grew_is_one_hole() {
        let mut damage = Damage::default();
        damage.add_hole(3, 4);
        damage.add_hole(5, 7);
        assert!(damage.covers_hole(3, 7), "readers meet it as one");
    }
}
