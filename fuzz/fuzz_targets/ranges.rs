//! Sets of positions: a text is a set's own, and what is done with sets is what sets do, up to the last number that there
//! is. Nothing is as large as a number says.

#![no_main]

use artstore_fuzz::{parts, text};
use artstore_schemas::ranges::{Range, Ranges};
use libfuzzer_sys::fuzz_target;

fn check(ranges: &Ranges) {
    let slice = ranges.as_slice();
    assert!(
        slice.iter().all(|r| 1 <= r.first && r.first <= r.last),
        "{slice:?}"
    );
    let apart = |pair: &[Range]| pair[0].last < pair[1].first && pair[1].first - pair[0].last > 1;
    assert!(slice.windows(2).all(apart), "{slice:?}");
    assert_eq!(ranges.to_string().parse().as_ref(), Ok(ranges));
}

fuzz_target!(|data: &[u8]| {
    let [one, other, last] = parts(data);
    let read = |part: &[u8]| match text(part).parse::<Ranges>() {
        Ok(ranges) => {
            assert_eq!(ranges.to_string(), text(part));
            ranges
        }
        Err(error) => {
            assert!(error.to_string().len() < 2_000);
            Ranges::default()
        }
    };
    let (one, other) = (read(one), read(other));
    let last: i64 = text(last).parse().unwrap_or(i64::MAX);
    let (both, left) = (one.union(&other), one.minus(&other));
    let (gaps, below) = (one.gaps(last), one.up_to(last));
    let mut more = one.clone();
    more.insert(last.max(1));
    for ranges in [&one, &other, &both, &left, &gaps, &below, &more] {
        check(ranges);
    }
    let sets = [&one, &other, &both, &left, &gaps, &below];
    let ends = sets
        .iter()
        .flat_map(|ranges| ranges.as_slice())
        .flat_map(|r| [r.first, r.last]);
    let near = ends.chain([1, last]).take(1_000);
    for position in near
        .flat_map(|p| [p.saturating_sub(1), p, p.saturating_add(1)])
        .filter(|p| *p > 0)
    {
        let (here, there) = (one.contains(position), other.contains(position));
        assert_eq!(both.contains(position), here || there, "{position}");
        assert_eq!(left.contains(position), here && !there, "{position}");
        assert_eq!(
            gaps.contains(position),
            !here && position <= last,
            "{position}"
        );
        assert_eq!(
            below.contains(position),
            here && position <= last,
            "{position}"
        );
        assert_eq!(
            more.contains(position),
            here || position == last.max(1),
            "{position}"
        );
    }
    if last > 0 {
        assert_eq!(gaps.positions() + below.positions(), last);
    }
});
