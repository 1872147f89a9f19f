//! Damaged ranges: what is joined, clipped and taken out, up to the last number that there is. Two lists of three, as the
//! record has them.

#![no_main]

use artstore_fuzz::parts;
use artstore_schemas::damage::{Damage, Sequences};
use libfuzzer_sys::fuzz_target;

fn holds(list: &[Sequences], sequence: u64) -> bool {
    list.iter()
        .any(|range| range.first <= sequence && sequence <= range.last)
}

fuzz_target!(|data: &[u8]| {
    let read = |part: &[u8]| {
        let damage: Damage = serde_json::from_slice(part).unwrap_or_default();
        // What is not so is no record.
        damage
            .is_up_to(u64::MAX)
            .then_some(damage)
            .unwrap_or_default()
    };
    let [old, newer, hole] = parts(data);
    let (old, newer) = (read(old), read(newer));
    let hole: Sequences = serde_json::from_slice(hole).unwrap_or(Sequences::one(1));
    let both = old.with(&newer);
    assert!(both.is_up_to(u64::MAX), "{both:?}");
    let left = match hole.first <= hole.last {
        true => old.left_of_hole(hole.first, hole.last),
        false => Vec::new(),
    };
    let lists = [&old, &newer, &both].map(|d| [&d.holes, &d.ignored, &d.breaks]);
    let ends = lists
        .iter()
        .flatten()
        .flat_map(|list| list.iter())
        .chain(&left)
        .chain([&hole]);
    let ends = ends.flat_map(|range| [range.first, range.last]).take(1_000);
    for sequence in ends
        .flat_map(|s| [s.saturating_sub(1), s, s.saturating_add(1)])
        .filter(|s| *s > 0)
    {
        let taken = holds(&newer.ignored, sequence) || holds(&newer.breaks, sequence);
        let ignored = holds(&newer.ignored, sequence) || holds(&old.ignored, sequence) && !taken;
        assert_eq!(both.ignores(sequence), ignored, "{sequence}");
        let breaks = holds(&newer.breaks, sequence) || holds(&old.breaks, sequence) && !taken;
        assert_eq!(both.covers_break(sequence), breaks, "{sequence}");
        assert_eq!(
            old.ignored_around(sequence).is_some(),
            holds(&old.ignored, sequence)
        );
        assert_eq!(
            old.hole_around(sequence).is_some(),
            old.covers_hole(sequence, sequence)
        );
        let within = hole.first <= sequence && sequence <= hole.last;
        assert_eq!(
            holds(&left, sequence),
            within && !holds(&old.holes, sequence),
            "{sequence}"
        );
    }
});
