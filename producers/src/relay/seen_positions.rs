//! The high-water mark of a source and the gaps below it. The relay updates it with the rows of each
//! poll; every message carries it as it is after that message.
//!
//! Positions are drawn from a sequence, so they become visible out of order and some never do. A
//! *gap* is a range below the highest position seen that was not seen itself. Each gap has a
//! *bound*: a transaction id above the id of every transaction that can hold one of its positions.
//! Once all transactions below the bound have ended and a later poll did not find a position,
//! nobody will ever write it: it is *aborted*.

use artstore_schemas::ranges::{Range, Ranges};
use artstore_schemas::size::MAX_GAPS_BYTES;

/// How many gaps are kept at most; beyond that nothing new is taken until some are settled.
pub const MAX_GAPS: usize = 1_000;

/// Beyond this many gaps, the lock that `nextval` leaves shows who still holds a number.
/// (`xmin` is held back by every writer of the whole cluster.)
pub(crate) const MANY_GAPS: usize = 300;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Gap {
    range: Range,
    /// None until a poll took one.
    bound: Option<u64>,
}

/// The highest position seen and the gaps below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeenPositions {
    high_water_mark: i64,
    gaps: Vec<Gap>,
}

impl SeenPositions {
    /// As a message in the stream states. Bounds are taken afresh by the next poll, which is safe:
    /// a later bound only waits longer.
    pub fn from_stream(high_water_mark: i64, gaps: &Ranges) -> Self {
        let gap = |range: &Range| Gap {
            range: *range,
            bound: None,
        };
        Self {
            high_water_mark,
            gaps: gaps.as_slice().iter().map(gap).collect(),
        }
    }

    /// The high-water mark: the highest position seen.
    pub fn high_water_mark(&self) -> i64 {
        self.high_water_mark
    }

    /// The gaps below it, as a message carries them.
    pub fn gaps(&self) -> Ranges {
        self.gaps.iter().map(|gap| gap.range).collect()
    }

    /// How many gaps there are.
    pub(crate) fn gap_count(&self) -> usize {
        self.gaps.len()
    }

    /// The ranges that a poll reads, ascending: every gap, and everything above `high_water_mark`.
    pub fn wanted(&self) -> (Vec<i64>, Vec<i64>) {
        // Nothing is above the last number that there is.
        let above = self.high_water_mark.checked_add(1).map(|first| Range {
            first,
            last: i64::MAX,
        });
        self.gaps
            .iter()
            .map(|gap| gap.range)
            .chain(above)
            .map(|range| (range.first, range.last))
            .unzip()
    }

    /// Records a position that was just seen, if there is room for the gap that it leaves.
    /// False: there is not, and nothing was changed.
    ///
    /// A position that was seen before can't come: a poll reads only gaps and what is new.
    #[must_use]
    pub fn see(&mut self, position: i64) -> bool {
        if self.adds_gap(position) && self.is_full() {
            return false;
        }
        if position > self.high_water_mark {
            self.extend(position);
        } else {
            self.fill(position);
        }
        true
    }

    /// Whether a gap has no bound yet, so that the poll has to take one.
    pub(crate) fn needs_bound(&self) -> bool {
        self.gaps.iter().any(|gap| gap.bound.is_none())
    }

    /// Gives every gap without a bound this one: a transaction id that was assigned after the
    /// snapshot in which those positions turned out to be gaps.
    pub fn bound(&mut self, bound: u64) {
        for gap in &mut self.gaps {
            gap.bound.get_or_insert(bound);
        }
    }

    /// Settles aborted positions, which nobody can write any more, and returns how many. `xmin_horizon`:
    /// every transaction below it had ended before the poll's snapshot. `complete`: the poll read
    /// everything up to this position. `found`: what it saw, ascending.
    pub fn settle(&mut self, xmin_horizon: u64, complete: i64, found: &[i64]) -> i64 {
        let mut aborted = 0;
        let mut left = Vec::with_capacity(self.gaps.len());
        for gap in &self.gaps {
            let decided = gap.bound.is_some_and(|bound| bound <= xmin_horizon);
            if !decided || gap.range.last > complete {
                left.push(*gap);
                continue;
            }
            let from = found.partition_point(|p| *p < gap.range.first);
            let to = found.partition_point(|p| *p <= gap.range.last);
            // What was found stays a gap until its message is in the stream.
            left.extend(found[from..to].iter().map(|position| Gap {
                range: Range {
                    first: *position,
                    last: *position,
                },
                bound: gap.bound,
            }));
            let found_here = i64::try_from(to - from).unwrap_or(i64::MAX);
            aborted += gap.range.last - gap.range.first + 1 - found_here;
        }
        self.gaps = left;
        aborted
    }

    fn adds_gap(&self, position: i64) -> bool {
        if position > self.high_water_mark {
            return position - 1 > self.high_water_mark;
        }
        let range = self.gaps[self.index_of(position)].range;
        range.first < position && position < range.last
    }

    /// Whether one more gap could exceed a limit. An item of the header's text is at most the
    /// digits of two 63-bit numbers, a plus sign and a comma.
    pub fn is_full(&self) -> bool {
        const LONGEST_ITEM: usize = 40;
        self.gaps.len() >= MAX_GAPS
            || (self.gaps.len() * LONGEST_ITEM > MAX_GAPS_BYTES
                && self.gaps().to_string().len() + LONGEST_ITEM > MAX_GAPS_BYTES)
    }

    fn extend(&mut self, position: i64) {
        if position - 1 > self.high_water_mark {
            self.gaps.push(Gap {
                range: Range {
                    first: self.high_water_mark + 1,
                    last: position - 1,
                },
                bound: None,
            });
        }
        self.high_water_mark = position;
    }

    fn fill(&mut self, position: i64) {
        let index = self.index_of(position);
        let gap = self.gaps[index];
        let Range { first, last } = gap.range;
        let piece = |first: i64, last: i64| Gap {
            range: Range { first, last },
            bound: gap.bound,
        };
        // Either end may be the end of all numbers.
        let lower = (first < position).then(|| piece(first, position - 1));
        let upper = (position < last).then(|| piece(position + 1, last));
        let pieces = [lower, upper].into_iter().flatten();
        self.gaps.splice(index..=index, pieces);
    }

    fn index_of(&self, position: i64) -> usize {
        self.gaps
            .partition_point(|gap| gap.range.first <= position)
            .checked_sub(1)
            .filter(|index| self.gaps[*index].range.last >= position)
            .expect("a poll reads only gaps and what is above the high-water mark")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seen(positions: &[i64]) -> SeenPositions {
        let mut seen = SeenPositions::default();
        for position in positions {
            assert!(seen.see(*position));
        }
        seen
    }

    #[test]
    fn a_late_position_fills_its_gap_and_no_other() {
        let positions = seen(&[2, 5, 9, 3]);
        assert_eq!(positions.high_water_mark(), 9);
        // 1, 4, 6..8
        assert_eq!(positions.gaps().to_string(), "1,3,2+2");
        assert_eq!(
            positions.wanted(),
            (vec![1, 4, 6, 10], vec![1, 4, 8, i64::MAX])
        );
    }

    #[test]
    fn a_position_is_aborted_only_after_its_bound_and_a_poll_that_reached_it() {
        let mut positions = seen(&[5]);
        assert!(positions.needs_bound());
        assert_eq!(positions.settle(u64::MAX, i64::MAX, &[]), 0, "no bound yet");
        positions.bound(100);
        assert_eq!(
            positions.settle(99, i64::MAX, &[]),
            0,
            "a holder may be alive"
        );
        assert_eq!(
            positions.settle(100, 3, &[]),
            0,
            "the poll was cut before the end"
        );
        assert_eq!(positions.settle(100, i64::MAX, &[2]), 3, "1, 3 and 4");
        assert_eq!(
            positions.gaps().to_string(),
            "2",
            "found, not yet published"
        );
        assert!(positions.see(2));
        assert!(positions.gaps().is_empty());
    }

    #[test]
    fn a_later_gap_keeps_its_own_later_bound() {
        let mut positions = seen(&[2]);
        positions.bound(10);
        assert!(positions.see(4));
        positions.bound(20);
        assert_eq!(positions.settle(10, i64::MAX, &[]), 1);
        assert_eq!(positions.gaps().to_string(), "3");
    }

    #[test]
    fn a_gap_may_reach_the_end_of_all_numbers() {
        let range = |first, last| Range { first, last };
        let all = Ranges::from_iter([range(1, i64::MAX)]);
        let mut positions = SeenPositions::from_stream(i64::MAX, &all);
        assert!(positions.see(i64::MAX) && positions.see(1));
        assert_eq!(positions.gaps().as_slice(), [range(2, i64::MAX - 1)]);
        let mut positions = SeenPositions::default();
        assert!(positions.see(i64::MAX));
        assert_eq!(positions.gaps().as_slice(), [range(1, i64::MAX - 1)]);
        assert_eq!(positions.wanted(), (vec![1], vec![i64::MAX - 1]));
    }

    #[test]
    fn a_full_state_takes_what_adds_no_gap() {
        let mut positions = SeenPositions::default();
        let mut position = 0;
        while positions.see(position + 2) {
            position += 2;
        }
        assert_eq!(positions.gap_count(), MAX_GAPS);
        assert!(positions.gaps().to_string().len() <= MAX_GAPS_BYTES);
        assert!(positions.see(position + 1), "the next number leaves no gap");
        assert!(positions.see(1), "the oldest gap is filled");
        assert!(positions.see(position + 3), "and there is room again");
    }

    proptest! {
        /// Whatever the order in which numbers become visible: seen + gaps is everything up to
        /// high-water mark, and a state read back from a message continues the same.
        #[test]
        fn nothing_is_both_seen_and_missing(order in Just((1..60_i64).collect::<Vec<_>>()).prop_shuffle(), cut in 0_usize..59) {
            let mut positions = SeenPositions::default();
            for (index, position) in order.iter().enumerate() {
                prop_assert!(positions.see(*position));
                if index == cut {
                    positions = SeenPositions::from_stream(positions.high_water_mark(), &positions.gaps());
                }
                let missing = positions.gaps();
                for p in 1..=positions.high_water_mark() {
                    prop_assert_eq!(missing.contains(p), !order[..=index].contains(&p));
                }
            }
            prop_assert!(positions.gaps().is_empty());
        }
    }
}
