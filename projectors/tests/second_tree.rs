//! Another implementation of RFC 6962 comes to the same roots and proofs, on a thousand random
//! trees.

use artstore_projectors::audit_log::row::{Hash, leaf_hash};
use artstore_projectors::audit_log::tile::{Edge, Tiles};
use artstore_projectors::audit_log::tree::{
    consistency, inclusion, is_consistent, is_included, root,
};
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use proptest::prelude::*;
use sha2::Sha256;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_second_implementation_agrees(
        entries in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..8), 1..400),
        at in any::<prop::sample::Index>(),
        before in any::<prop::sample::Index>(),
    ) {
        let leaves: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry)).collect();
        let size = leaves.len() as u64;
        let mut stored = Tiles::default();
        stored.0.extend(Edge::default().append(&leaves).0);
        let mut other = MemoryBackedTree::<Sha256, Vec<u8>>::new();
        let old = before.index(leaves.len()) + 1;
        let mut old_root = None;
        for (entry, count) in entries.iter().zip(1..) {
            other.push(entry.clone());
            if count == old {
                old_root = Some(other.root());
            }
        }
        let whole = root(&stored, size).expect("all tiles");
        let theirs = other.root();
        prop_assert_eq!(theirs.as_bytes().as_slice(), whole.as_slice());

        let index = at.index(leaves.len());
        let ours = inclusion(&stored, index as u64, size).expect("all tiles");
        let theirs = other.prove_inclusion(index);
        prop_assert_eq!(theirs.as_bytes(), ours.concat());
        prop_assert!(is_included(index as u64, size, &leaves[index], &ours, &whole));
        let fits = other.root().verify_inclusion(&entries[index], index as u64, &theirs);
        prop_assert!(fits.is_ok());

        let old_root = old_root.expect("an older size");
        let mut older: Hash = [0; 32];
        older.copy_from_slice(old_root.as_bytes());
        prop_assert_eq!(Some(older), root(&stored, old as u64));
        let ours = consistency(&stored, old as u64, size).expect("all tiles");
        prop_assert!(is_consistent(old as u64, size, &older, &whole, &ours));
        if old < leaves.len() {
            let theirs = other.prove_consistency(leaves.len() - old);
            prop_assert_eq!(theirs.as_bytes(), ours.concat());
        }
    }
}
