//! Damage of a stream that an operator accepted. A stream is never rewritten: the record
//! `source.damage-accepted` lists the ranges of sequences that readers skip. What they lack is
//! published again after it. The last record of a stream lists all ranges of the earlier ones.

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

/// The damaged ranges, each list ascending.
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
    /// The damaged ranges.
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
    /// Whether each list is ascending, and lies in a stream up to this sequence.
    pub fn is_up_to(&self, sequence: u64) -> bool {
        let is_good = |list: &Vec<Sequences>| {
            let mut before = 0;
            list.iter().all(|range| {
                let good = before < range.first && range.first <= range.last;
                before = range.last;
                good && range.last <= sequence
            })
        };
        [&self.holes, &self.ignored, &self.breaks]
            .into_iter()
            .all(is_good)
    }

    /// The hole that this sequence is in.
    pub fn hole_around(&self, sequence: u64) -> Option<Sequences> {
        around(&self.holes, sequence)
    }

    /// The range of messages to be passed over that this sequence is in.
    pub fn ignored_around(&self, sequence: u64) -> Option<Sequences> {
        around(&self.ignored, sequence)
    }

    /// These ranges and newer ones; where they overlap the newer one counts. No range is gone through
    /// one by one.
    pub fn with(&self, newer: &Self) -> Self {
        let messages = joined(newer.ignored.clone(), &newer.breaks);
        let holes = self.holes.iter().copied();
        let holes = holes.filter(|hole| around(&messages, hole.first).is_none());
        Self {
            holes: joined(holes.collect(), &newer.holes),
            ignored: joined(without(&self.ignored, &messages), &newer.ignored),
            breaks: joined(without(&self.breaks, &messages), &newer.breaks),
        }
    }

    /// Whether nothing is listed.
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
            // Nothing comes after the last number that there is.
            let Some(after) = hole.last.checked_add(1) else {
                return left;
            };
            next = after;
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

    /// Whether this sequence is listed, in whichever list.
    pub fn covers(&self, sequence: u64) -> bool {
        self.covers_hole(sequence, sequence)
            || self.ignores(sequence)
            || self.covers_break(sequence)
    }

    /// Adds a hole. Ranges are added in ascending order; what touches the one before is one with it.
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
    around(list, sequence).is_some()
}

fn around(list: &[Sequences], sequence: u64) -> Option<Sequences> {
    let after = list.partition_point(|r| r.first <= sequence);
    let range = list.get(after.checked_sub(1)?)?;
    (range.last >= sequence).then_some(*range)
}

/// What of a list is not in another; both are ascending.
fn without(list: &[Sequences], other: &[Sequences]) -> Vec<Sequences> {
    let mut left = Vec::new();
    let mut other = other.iter().peekable();
    for range in list {
        let mut next = Some(range.first);
        while other.next_if(|taken| taken.last < range.first).is_some() {}
        while let Some(taken) = other.peek().filter(|taken| taken.first <= range.last) {
            if let Some(first) = next.filter(|next| taken.first > *next) {
                left.push(Sequences {
                    first,
                    last: taken.first - 1,
                });
            }
            // Nothing comes after the last number that there is.
            next = taken.last.checked_add(1);
            // It may reach into the next range, too.
            if taken.last > range.last {
                break;
            }
            other.next();
        }
        if let Some(first) = next.filter(|next| *next <= range.last) {
            left.push(Sequences {
                first,
                last: range.last,
            });
        }
    }
    left
}

/// What is in either list, ascending.
fn joined(mut list: Vec<Sequences>, other: &[Sequences]) -> Vec<Sequences> {
    list.extend(other);
    list.sort_unstable_by_key(|range| range.first);
    let mut joined = Vec::new();
    list.into_iter().for_each(|range| add(&mut joined, range));
    joined
}

fn add(list: &mut Vec<Sequences>, new: Sequences) {
    match list.last_mut() {
        Some(before) if before.last.saturating_add(1) >= new.first => {
            before.last = before.last.max(new.last)
        }
        _ => list.push(new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_comes_after_the_last_sequence() {
        let whole = Sequences {
            first: 1,
            last: u64::MAX,
        };
        let damage = |list| Damage {
            ignored: list,
            ..Damage::default()
        };
        let hole = Damage {
            holes: vec![whole],
            ..Damage::default()
        };
        assert_eq!(hole.left_of_hole(1, u64::MAX), []);
        let (all, some) = (
            damage(vec![whole]),
            damage(vec![Sequences { first: 5, ..whole }]),
        );
        assert_eq!(all.with(&some).ignored, [whole]);
        let breaks = Damage {
            breaks: vec![Sequences { first: 5, ..whole }],
            ..Damage::default()
        };
        assert_eq!(all.with(&breaks).ignored, [Sequences { last: 4, ..whole }]);
    }

    #[test]
    fn a_sequence_in_both_lists_is_taken_once() {
        let (all, some) = (Sequences { first: 1, last: 9 }, Sequences::one(6));
        let old = Damage {
            ignored: vec![Sequences { first: 2, last: 9 }],
            breaks: vec![all],
            ..Damage::default()
        };
        let newer = Damage {
            ignored: vec![all],
            breaks: vec![some],
            ..Damage::default()
        };
        let both = old.with(&newer);
        assert_eq!((both.ignored, both.breaks), (vec![all], vec![some]));
    }

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
    fn a_list_lies_in_its_stream_and_ascends() {
        let damage = |ranges: &[(u64, u64)]| Damage {
            ignored: ranges
                .iter()
                .map(|&(first, last)| Sequences { first, last })
                .collect(),
            ..Damage::default()
        };
        assert!(damage(&[]).is_up_to(0) && damage(&[(1, 3), (4, 9)]).is_up_to(9));
        for bad in [
            &[(1, 10)][..],
            &[(0, 1)],
            &[(3, 2)],
            &[(3, 4), (4, 5)],
            &[(5, 6), (1, 2)],
            &[(1, 1 << 62)],
            &[(1, u64::MAX)],
        ] {
            assert!(!damage(bad).is_up_to(9), "{bad:?}");
        }
    }

    #[test]
    fn of_the_same_place_the_newer_finding_counts() {
        let mut known = Damage::default();
        known.add_hole(2, 3);
        known.ignored = vec![Sequences {
            first: 5,
            last: 1 << 62,
        }];
        known.add_break(4);
        let mut newer = Damage::default();
        newer.add_ignored(4);
        newer.add_break(7);
        newer.add_hole(20, 21);
        let both = known.with(&newer);
        let ranges = |list: &[Sequences]| -> Vec<(u64, u64)> {
            list.iter().map(|r| (r.first, r.last)).collect()
        };
        assert_eq!(ranges(&both.holes), [(2, 3), (20, 21)]);
        assert_eq!(ranges(&both.ignored), [(4, 6), (8, 1 << 62)]);
        assert_eq!(ranges(&both.breaks), [(7, 7)]);
        assert_eq!(known.with(&Damage::default()), known);
    }

    #[test]
    fn a_hole_that_grew_is_one_hole() {
        let mut damage = Damage::default();
        damage.add_hole(3, 4);
        damage.add_hole(5, 7);
        assert!(damage.covers_hole(3, 7), "readers meet it as one");
    }
}
