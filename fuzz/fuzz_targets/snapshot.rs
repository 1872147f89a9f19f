//! The file of a backup, or what the server sends for it: what comes out does not depend on how the bytes come, and is
//! never much more than they are.

#![no_main]

use artstore::bus_backup::archive::{Archive, BadArchive};
use artstore::bus_backup::frames::Frames;
use libfuzzer_sys::fuzz_target;

/// What is kept, and whether it is whole.
fn passed(data: &[u8], step: usize) -> (Vec<u8>, Option<u64>) {
    let (mut archive, mut kept) = (Archive::default(), Vec::new());
    for bytes in data.chunks(step) {
        let taken = archive.take(bytes, |bytes| {
            kept.extend_from_slice(bytes);
            Ok::<_, BadArchive>(())
        });
        if taken.is_err() {
            return (kept, None);
        }
    }
    (kept, archive.finish().ok())
}

fuzz_target!(|data: &[u8]| {
    let Some((step, data)) = data.split_first() else {
        return;
    };
    let whole = passed(data, usize::MAX);
    assert_eq!(passed(data, usize::from(*step) + 1), whole);
    let mut frames = Frames::default();
    frames.push(data);
    let mut raw = 0;
    while let Ok(Some(frame)) = frames.read() {
        raw += frame.raw.len();
        assert!(frame.data.is_none_or(|data| data.len() <= 4 << 20));
    }
    assert!(raw <= data.len());
});
