//! A set of positions as ascending ranges, and its text in the `artstore-missing` header.
//!
//! The text is a comma-separated list. Each item is the distance from the end of the range before
//! it (from 0 for the first), followed by `+n` where the range has n more positions:
//! `3,4+2` is {3, 7, 8, 9}.

use std::fmt;
use std::str::FromStr;

/// A range of positions, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
                Some(before) if before.last + 1 == range.first => before.last = range.last,
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
            let range = parse_item(item, before).ok_or_else(|| InvalidRanges {
                text: text.to_owned(),
            })?;
            before = range.last;
            ranges.push(range);
        }
        let ranges = Self(ranges);
        // One text for one set: ranges that touch, or a spare sign, are not ours.
        if ranges.to_string() != text || ranges.0.windows(2).any(|w| w[0].last + 1 == w[1].first) {
            return Err(InvalidRanges {
                text: text.to_owned(),
            });
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
