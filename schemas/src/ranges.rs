//! A set of positions as ascending ranges, and its text in the `artstore-gaps` header.
//!
//! The text is a comma-separated list. Each item is the distance from the end of the range before
//! it (from 0 for the first), followed by `+n` where the range has n more positions:
//! `3,4+2` is {3, 7, 8, 9}.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A range of positions, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Range {
    /// The first position.
    pub first: i64,
    /// The last position, never below the first.
    pub last: i64,
}

/// Ascending ranges that neither touch nor overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges(Vec<Range>);

/// A text that is no list of ranges.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no list of ranges: expected items like `3` or `3+2`, separated by commas")]
pub struct InvalidRanges {
    text: String,
}

impl InvalidRanges {
    /// Shows the beginning of a text, which may be as long as its writer wanted.
    fn of(text: &str) -> Self {
        Self {
            text: text.chars().take(100).collect(),
        }
    }
}

impl Ranges {
    /// The ranges, ascending.
    pub fn as_slice(&self) -> &[Range] {
        &self.0
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many positions the set holds.
    pub fn positions(&self) -> i64 {
        self.0.iter().map(|r| r.last - r.first + 1).sum()
    }

    /// Whether the set holds this position.
    pub fn contains(&self, position: i64) -> bool {
        let after = self.0.partition_point(|r| r.first <= position);
        after > 0 && self.0[after - 1].last >= position
    }

    /// Adds a position. Cheap where positions come nearly ascending.
    pub fn insert(&mut self, position: i64) {
        let index = self.0.partition_point(|r| r.first <= position);
        if index > 0 && self.0[index - 1].last >= position {
            return;
        }
        let after_one = index > 0 && self.0[index - 1].last + 1 == position;
        let before_one = self.0.get(index).is_some_and(|r| r.first == position + 1);
        match (after_one, before_one) {
            (true, true) => {
                self.0[index - 1].last = self.0[index].last;
                self.0.remove(index);
            }
            (true, false) => self.0[index - 1].last = position,
            (false, true) => self.0[index].first = position,
            (false, false) => self.0.insert(
                index,
                Range {
                    first: position,
                    last: position,
                },
            ),
        }
    }

    /// What is in either set.
    pub fn union(&self, other: &Self) -> Self {
        let mut all: Vec<Range> = self.0.iter().chain(&other.0).copied().collect();
        all.sort_by_key(|range| range.first);
        let mut merged: Vec<Range> = Vec::with_capacity(all.len());
        for range in all {
            match merged.last_mut() {
                Some(before) if range.first <= before.last.saturating_add(1) => {
                    before.last = before.last.max(range.last);
                }
                _ => merged.push(range),
            }
        }
        Self(merged)
    }

    /// What of the set is at or below a position.
    pub fn up_to(&self, last: i64) -> Self {
        self.0
            .iter()
            .filter(|range| range.first <= last)
            .map(|range| Range {
                first: range.first,
                last: range.last.min(last),
            })
            .collect()
    }

    /// What is in this set and not in the other.
    pub fn minus(&self, other: &Self) -> Self {
        let last = self.0.last().map_or(0, |range| range.last);
        let gaps = other.gaps(last).0;
        let mut left = Vec::new();
        let mut first = 0;
        for range in &self.0 {
            while gaps.get(first).is_some_and(|gap| gap.last < range.first) {
                first += 1;
            }
            let overlapping = gaps[first..].iter().take_while(|g| g.first <= range.last);
            left.extend(overlapping.map(|gap| Range {
                first: gap.first.max(range.first),
                last: gap.last.min(range.last),
            }));
        }
        Self(left)
    }

    /// What is not in the set, from 1 to `last`.
    pub fn gaps(&self, last: i64) -> Self {
        let mut gaps = Vec::new();
        let mut next = 1;
        for range in self.up_to(last).0 {
            if range.first > next {
                gaps.push(Range {
                    first: next,
                    last: range.first - 1,
                });
            }
            // Nothing comes after the last number that there is.
            let Some(after) = range.last.checked_add(1) else {
                return Self(gaps);
            };
            next = after;
        }
        if next <= last {
            gaps.push(Range { first: next, last });
        }
        Self(gaps)
    }

    /// The first range.
    pub fn first(&self) -> Option<Range> {
        self.0.first().copied()
    }
}

/// Collects ranges that are ascending already; ranges that touch become one.
impl FromIterator<Range> for Ranges {
    fn from_iter<I: IntoIterator<Item = Range>>(ranges: I) -> Self {
        let mut merged: Vec<Range> = Vec::new();
        for range in ranges {
            match merged.last_mut() {
                Some(before) if before.last.checked_add(1) == Some(range.first) => {
                    before.last = range.last;
                }
                _ => merged.push(range),
            }
        }
        Self(merged)
    }
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = 0;
        for (index, range) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{}", range.first - before)?;
            if range.last > range.first {
                write!(f, "+{}", range.last - range.first)?;
            }
            before = range.last;
        }
        Ok(())
    }
}

impl FromStr for Ranges {
    type Err = InvalidRanges;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let mut ranges = Vec::new();
        let mut before = 0_i64;
        for item in text.split(',') {
            let range = parse_item(item, before).ok_or_else(|| InvalidRanges::of(text))?;
            before = range.last;
            ranges.push(range);
        }
        let ranges = Self(ranges);
        // One text for one set: ranges that touch, or a spare sign, are not ours.
        if ranges.to_string() != text || ranges.0.windows(2).any(|w| w[0].last + 1 == w[1].first) {
            return Err(InvalidRanges::of(text));
        }
        Ok(ranges)
    }
}

fn parse_item(item: &str, before: i64) -> Option<Range> {
    let (distance, more) = item.split_once('+').unwrap_or((item, "0"));
    let distance: i64 = distance.parse().ok().filter(|d| *d > 0)?;
    let first = before.checked_add(distance)?;
    let more: i64 = more.parse().ok().filter(|m| *m >= 0)?;
    let last = first.checked_add(more)?;
    Some(Range { first, last })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_comes_after_the_last_number() {
        let whole: Ranges = "1+9223372036854775806".parse().expect("all positions");
        assert_eq!(whole.gaps(i64::MAX), Ranges::default());
        let last: Ranges = "9223372036854775807".parse().expect("the last one");
        assert_eq!(last.gaps(i64::MAX).to_string(), "1+9223372036854775805");
        assert_eq!(whole.minus(&last).to_string(), "1+9223372036854775805");
    }

    /// It goes into logs and rows.
    #[test]
    fn an_error_shows_the_beginning_of_a_text() {
        let long = "1,".repeat(5_000_000);
        let error = long.parse::<Ranges>().expect_err("it ends with a comma");
        assert!(error.to_string().len() < 200);
    }

    proptest! {
        /// Whatever the order of insertion: the set and what is not in it are those of a plain set.
        #[test]
        fn a_set_is_what_was_put_into_it(positions in prop::collection::vec(1_i64..60, 0..80), last in 1_i64..70) {
            let mut ranges = Ranges::default();
            for position in &positions {
                ranges.insert(*position);
            }
            prop_assert_eq!(ranges.to_string().parse(), Ok(ranges.clone()));
            let (low, high): (Vec<i64>, Vec<i64>) = positions.iter().partition(|p| *p % 3 == 0);
            let of = |some: Vec<i64>| {
                let mut ranges = Ranges::default();
                some.into_iter().for_each(|p| ranges.insert(p));
                ranges
            };
            prop_assert_eq!(&of(low.clone()).union(&of(high.clone())), &ranges);
            prop_assert_eq!(ranges.minus(&of(low)), of(high));
            let (gaps, cut) = (ranges.gaps(last), ranges.up_to(last));
            for p in 1..70 {
                prop_assert_eq!(ranges.contains(p), positions.contains(&p));
                prop_assert_eq!(gaps.contains(p), p <= last && !positions.contains(&p));
                prop_assert_eq!(cut.contains(p), p <= last && positions.contains(&p));
            }
        }
    }

    #[test]
    fn reads_what_the_documentation_says() {
        let ranges: Ranges = "3,4+2".parse().expect("valid");
        assert_eq!(
            ranges.as_slice(),
            [Range { first: 3, last: 3 }, Range { first: 7, last: 9 }]
        );
        assert_eq!(ranges.positions(), 4);
        assert!(ranges.contains(3) && ranges.contains(8));
        assert!(!ranges.contains(4) && !ranges.contains(10) && !ranges.contains(1));
        for bad in ["x", "0", "1,", "-1", "1+", "3,0", "3,1", "3++2", "3+0"] {
            assert!(bad.parse::<Ranges>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn text_and_set_are_the_same(steps in prop::collection::vec((2_i64..100, 0_i64..100), 0..50)) {
            let mut before = 0;
            let ranges: Ranges = steps.iter().map(|(gap, more)| {
                let range = Range { first: before + gap, last: before + gap + more };
                before = range.last;
                range
            }).collect();
            prop_assert_eq!(ranges.to_string().parse::<Ranges>().expect("valid"), ranges);
        }
    }
}
