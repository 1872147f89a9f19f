//! Positions that jump: what a relay keeps of those that it saw fits into a message, whatever the stream said and in which
//! order they come.

#![no_main]

use artstore_producers::relay::seen_positions::{MAX_GAPS, SeenPositions};
use artstore_schemas::ranges::Ranges;
use artstore_schemas::size::MAX_GAPS_BYTES;
use libfuzzer_sys::arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (text, steps) = data.split_at(data.iter().position(|byte| *byte == 0).unwrap_or(0));
    let gaps = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse::<Ranges>().ok());
    let gaps = gaps.unwrap_or_default();
    let last = gaps.as_slice().last().map_or(0, |range| range.last);
    let began = gaps.as_slice().len();
    let mut seen = SeenPositions::from_stream(last.saturating_add(1), &gaps);
    let mut steps = Unstructured::new(steps);
    // Without input it goes on with zeroes for ever.
    while !steps.is_empty() {
        let Ok(step) = steps.arbitrary::<u8>() else {
            break;
        };
        let (first, end) = seen.wanted();
        if first.is_empty() {
            break;
        }
        let index = usize::from(step >> 2) % first.len();
        let Ok(position) = steps.int_in_range(first[index]..=end[index]) else {
            break;
        };
        if position < first[index] || position > end[index] || first[index] > end[index] {
            break;
        }
        match step & 3 {
            0 => seen.bound(u64::from(step)),
            1 => {
                let found = [position];
                assert!(seen.settle(u64::from(step), position, &found) >= 0);
            }
            _ => {
                let before = seen.gaps();
                if !seen.see(position) {
                    assert_eq!(seen.gaps(), before);
                }
            }
        }
        let gaps = seen.gaps();
        let slice = gaps.as_slice();
        assert!(
            slice
                .iter()
                .all(|gap| gap.first <= gap.last && gap.last <= seen.high_water_mark())
        );
        assert!(slice.windows(2).all(|pair| pair[0].last < pair[1].first));
        if began < MAX_GAPS {
            assert!(slice.len() <= MAX_GAPS + 1 && gaps.to_string().len() <= MAX_GAPS_BYTES);
        }
    }
});
