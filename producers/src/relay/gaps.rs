//! What has been seen of a source, and what is missing below it. The relay feeds it with the rows
//! of each poll; every message carries it as it is after that message.
//!
//! Positions are drawn from a sequence, so they become visible out of order and some never do. A
//! *hole* is a range below the highest position seen that was not seen itself. Each hole has a
//! *bound*: a transaction id above the id of every transaction that can hold one of its numbers.
//! Once all transactions below the bound have ended and a poll that looked did not find a number,
//! nobody will ever write it: it is *void*.

use artstore_schemas::ranges::{Range, Ranges};
use artstore_schemas::size::MAX_MISSING_BYTES;

/// How many holes are kept at most; beyond that nothing new is taken until some are settled.
pub const MAX_HOLES: usize = 1_000;

/// Beyond this many holes, the lock that `nextval` leaves tells who still holds a number.
/// (`xmin` is held back by every writer of the whole cluster.)
pub const MANY_HOLES: usize = 300;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hole {
    range: Range,
    /// None until a poll took one.
    bound: Option<u64>,
}

/// The highest position seen and the holes below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gaps {
    high: i64,
    holes: Vec<Hole>,
}

impl Gaps {
    /// As a message in the stream says. Bounds are taken afresh by the next poll, which is safe:
    /// a later bound only waits longer.
    pub fn from_stream(high: i64, missing: &Ranges) -> Self {
        let hole = |range: &Range| Hole {
            range: *range,
            bound: None,
        };
        Self {
            high,
            holes: missing.as_slice().iter().map(hole).collect(),
        }
    }

    /// The highest position seen.
    pub fn high(&self) -> i64 {
        self.high
    }

    /// What is missing below it, as a message carries it.
    pub fn missing(&self) -> Ranges {
        self.holes.iter().map(|hole| hole.range).collect()
    }

    /// How many holes there are.
    pub fn holes(&self) -> usize {
        self.holes.len()
    }

    /// The ranges that a poll reads, ascending: every hole, and everything above `high`.
    pub fn wanted(&self) -> (Vec<i64>, Vec<i64>) {
        let above = Range {
            first: self.high.saturating_add(1),
            last: i64::MAX,
        };
        self.holes
            .iter()
            .map(|hole| hole.range)
            .chain([above])
            .map(|range| (range.first, range.last))
            .unzip()
    }

    /// Takes a position that was just seen, if there is room for the holes that it leaves.
    /// False: there is not, and nothing was changed.
    ///
    /// A position that was seen before can't come: a poll reads only what is missing or new.
    #[must_use]
    pub fn see(&mut self, position: i64) -> bool {
        if self.adds_hole(position) && self.is_full() {
            return false;
        }
        if position > self.high {
            self.extend(position);
        } else {
            self.fill(position);
        }
        true
    }

    /// Whether a hole has no bound yet, so that the poll has to take one.
    pub fn needs_bound(&self) -> bool {
        self.holes.iter().any(|hole| hole.bound.is_none())
    }

    /// Gives every hole without a bound this one: a transaction id that was assigned after the
    /// snapshot in which those numbers turned out to be missing.
    pub fn bound(&mut self, bound: u64) {
        for hole in &mut self.holes {
            hole.bound.get_or_insert(bound);
        }
    }

    /// Forgets numbers that nobody can write any more, and returns how many. `horizon`: every
    /// transaction below it had ended before the poll's snapshot. `complete`: the poll read
    /// everything up to this position. `found`: what it saw, ascending.
    pub fn settle(&mut self, horizon: u64, complete: i64, found: &[i64]) -> i64 {
        let mut void = 0;
        let mut left = Vec::with_capacity(self.holes.len());
        for hole in &self.holes {
            let decided = hole.bound.is_some_and(|bound| bound <= horizon);
            if !decided || hole.range.last > complete {
                left.push(*hole);
                continue;
            }
            let from = found.partition_point(|p| *p < hole.range.first);
            let to = found.partition_point(|p| *p <= hole.range.last);
            // What was found stays a hole until its message is in the stream.
            left.extend(found[from..to].iter().map(|position| Hole {
                range: Range {
                    first: *position,
                    last: *position,
                },
                bound: hole.bound,
            }));
            let found_here = i64::try_from(to - from).unwrap_or(i64::MAX);
            void += hole.range.last - hole.range.first + 1 - found_here;
        }
        self.holes = left;
        void
    }

    fn adds_hole(&self, position: i64) -> bool {
        if position > self.high {
            return position - 1 > self.high;
        }
        let range = self.holes[self.index_of(position)].range;
        range.first < position && position < range.last
    }

    /// Whether one hole more could pass a limit. An item of the header's text is at most the
    /// digits of two 63-bit numbers, a plus sign and a comma.
    pub fn is_full(&self) -> bool {
        const LONGEST_ITEM: usize = 40;
        self.holes.len() >= MAX_HOLES
            || (self.holes.len() * LONGEST_ITEM > MAX_MISSING_BYTES
                && self.missing().to_string().len() + LONGEST_ITEM > MAX_MISSING_BYTES)
    }

    fn extend(&mut self, position: i64) {
        if position - 1 > self.high {
            self.holes.push(Hole {
                range: Range {
                    first: self.high + 1,
                    last: position - 1,
                },
                bound: None,
            });
        }
        self.high = position;
    }

    fn fill(&mut self, position: i64) {
        let index = self.index_of(position);
        let hole = self.holes[index];
        let Range { first, last } = hole.range;
        let piece = |first: i64, last: i64| Hole {
            range: Range { first, last },
            bound: hole.bound,
        };
        // Either end may be the end of all numbers.
        let lower = (first < position).then(|| piece(first, position - 1));
        let upper = (position < last).then(|| piece(position + 1, last));
        let pieces = [lower, upper].into_iter().flatten();
        self.holes.splice(index..=index, pieces);
    }

    fn index_of(&self, position: i64) -> usize {
        self.holes
            .partition_point(|hole| hole.range.first <= position)
            .checked_sub(1)
            .filter(|index| self.holes[*index].range.last >= position)
            .expect("a poll reads only what is missing or above high")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seen(positions: &[i64]) -> Gaps {
        let mut gaps = Gaps::default();
        for position in positions {
            assert!(gaps.see(*position));
        }
        gaps
    }

    #[test]
    fn a_late_number_fills_its_hole_and_no_other() {
        let gaps = seen(&[2, 5, 9, 3]);
        assert_eq!(gaps.high(), 9);
        // 1, 4, 6..8
        assert_eq!(gaps.missing().to_string(), "1,3,2+2");
        assert_eq!(gaps.wanted(), (vec![1, 4, 6, 10], vec![1, 4, 8, i64::MAX]));
    }

    #[test]
    fn a_number_is_void_only_after_its_bound_and_a_look_that_reached_it() {
        let mut gaps = seen(&[5]);
        assert!(gaps.needs_bound());
        assert_eq!(gaps.settle(u64::MAX, i64::MAX, &[]), 0, "no bound yet");
        gaps.bound(100);
        assert_eq!(gaps.settle(99, i64::MAX, &[]), 0, "a holder may be alive");
        assert_eq!(
            gaps.settle(100, 3, &[]),
            0,
            "the poll was cut before the end"
        );
        assert_eq!(gaps.settle(100, i64::MAX, &[2]), 3, "1, 3 and 4");
        assert_eq!(gaps.missing().to_string(), "2", "found, not yet published");
        assert!(gaps.see(2));
        assert!(gaps.missing().is_empty());
    }

    #[test]
    fn a_later_hole_keeps_its_own_later_bound() {
        let mut gaps = seen(&[2]);
        gaps.bound(10);
        assert!(gaps.see(4));
        gaps.bound(20);
        assert_eq!(gaps.settle(10, i64::MAX, &[]), 1);
        assert_eq!(gaps.missing().to_string(), "3");
    }

    #[test]
    fn a_hole_may_reach_the_end_of_all_numbers() {
        let range = |first, last| Range { first, last };
        let all = Ranges::from_iter([range(1, i64::MAX)]);
        let mut gaps = Gaps::from_stream(i64::MAX, &all);
        assert!(gaps.see(i64::MAX) && gaps.see(1));
        assert_eq!(gaps.missing().as_slice(), [range(2, i64::MAX - 1)]);
        let mut gaps = Gaps::default();
        assert!(gaps.see(i64::MAX));
        assert_eq!(gaps.missing().as_slice(), [range(1, i64::MAX - 1)]);
    }

    #[test]
    fn a_full_state_takes_what_adds_no_hole() {
        let mut gaps = Gaps::default();
        let mut position = 0;
        while gaps.see(position + 2) {
            position += 2;
        }
        assert_eq!(gaps.holes(), MAX_HOLES);
        assert!(gaps.missing().to_string().len() <= MAX_MISSING_BYTES);
        assert!(gaps.see(position + 1), "the next number leaves no hole");
        assert!(gaps.see(1), "the oldest hole is filled");
        assert!(gaps.see(position + 3), "and there is room again");
    }

    proptest! {
        /// Whatever the order in which numbers become visible: seen + missing is everything up to
        /// high, and a state read back from a message goes on the same.
        #[test]
        fn nothing_is_both_seen_and_missing(order in Just((1..60_i64).collect::<Vec<_>>()).prop_shuffle(), cut in 0_usize..59) {
            let mut gaps = Gaps::default();
            for (index, position) in order.iter().enumerate() {
                prop_assert!(gaps.see(*position));
                if index == cut {
                    gaps = Gaps::from_stream(gaps.high(), &gaps.missing());
                }
                let missing = gaps.missing();
                for p in 1..=gaps.high() {
                    prop_assert_eq!(missing.contains(p), !order[..=index].contains(&p));
                }
            }
            prop_assert!(gaps.missing().is_empty());
        }
    }
}
