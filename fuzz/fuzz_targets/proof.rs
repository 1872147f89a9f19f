//! Proofs of rows. Either a text as it comes (first byte even), or one that holds and is then changed at one place: whatever
//! is put there, no other row is proven.

#![no_main]

use artstore_fuzz::{signer, text};
use artstore_projectors::audit_log::head::{Boundary, Head, origin};
use artstore_projectors::audit_log::proof::Proof;
use artstore_projectors::audit_log::row::{Hash, Row};
use artstore_projectors::audit_log::tree::{inclusion, root};
use libfuzzer_sys::fuzz_target;

const STREAM: &str = "ARTSTORE_ADMIN";

fn sound(size: u64, index: u64) -> Proof {
    let row = |sequence| Row {
        event_type: "seen".to_owned(),
        ..Row::bare(2, STREAM.to_owned(), sequence)
    };
    let leaves: Vec<Hash> = (1..=size).map(|sequence| row(sequence).leaf()).collect();
    let head = Head {
        origin: origin(signer().verifier().name(), STREAM),
        size,
        root: root(leaves.as_slice(), size).expect("all leaves"),
        legacy: Boundary {
            rows: 0,
            last_id: 0,
            digest: [0; 32],
        },
    };
    Proof {
        row: row(index + 1).bytes(),
        index,
        hashes: inclusion(leaves.as_slice(), index, size).expect("in the tree"),
        head: head.sign(&signer()),
    }
}

fuzz_target!(|data: &[u8]| {
    let trusted = [signer().verifier().clone()];
    let [kind, size, index, at_high, at_low, removed, put @ ..] = data else {
        return;
    };
    if kind & 1 == 0 {
        if let Ok(proof) = Proof::parse(&text(&data[1..])) {
            assert_eq!(Proof::parse(&proof.to_text()).as_ref(), Ok(&proof));
            let _ = proof.check(&trusted);
        }
        return;
    }
    let size = u64::from(*size) + 1;
    let proof = sound(size, u64::from(*index) % size);
    let proven = proof.check(&trusted).expect("it holds");
    let mut changed = proof.to_text().into_bytes();
    let at = usize::from(u16::from_be_bytes([*at_high, *at_low])) % changed.len();
    let end = (at + usize::from(*removed)).min(changed.len());
    changed.splice(at..end, put.iter().copied());
    let Ok(changed) = Proof::parse(&text(&changed)) else {
        return;
    };
    if let Ok(again) = changed.check(&trusted) {
        assert_eq!((again.row, again.head), (proven.row, proven.head));
    }
});
