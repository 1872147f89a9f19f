//! The Merkle tree over the leaves of a stream (RFC 6962): roots, proofs and their verification.
//! No database access: it asks [`Subtrees`] for what it needs of a stored tree.

use aws_lc_rs::digest::{Context, SHA256};

use super::row::{Hash, sha256};

/// The hash of two subtrees.
pub fn node(left: &Hash, right: &Hash) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(&[1]);
    context.update(left);
    context.update(right);
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// Complete subtrees of a tree: those of 2^height leaves that begin at a multiple of it.
pub trait Subtrees {
    /// The hash of the `index`-th complete subtree of this height; none where it is not known.
    fn subtree(&self, height: u32, index: u64) -> Option<Hash>;
}

/// Leaves in memory.
impl Subtrees for [Hash] {
    fn subtree(&self, height: u32, index: u64) -> Option<Hash> {
        let size = 1_usize.checked_shl(height)?;
        let begin = usize::try_from(index).ok()?.checked_mul(size)?;
        let leaves = self.get(begin..begin.checked_add(size)?)?;
        Some(perfect(leaves))
    }
}

/// The root of a power of two of hashes.
pub fn perfect(hashes: &[Hash]) -> Hash {
    match hashes {
        [one] => *one,
        _ => {
            let (left, right) = hashes.split_at(hashes.len() / 2);
            node(&perfect(left), &perfect(right))
        }
    }
}

/// The root of the first `size` leaves; of none, SHA-256 of nothing.
pub fn root(tree: &(impl Subtrees + ?Sized), size: u64) -> Option<Hash> {
    match size {
        0 => Some(sha256(&[])),
        _ => range(tree, 0, size),
    }
}

/// The hash of the leaves from `begin` up to `end`, which is a subtree of some tree.
fn range(tree: &(impl Subtrees + ?Sized), begin: u64, end: u64) -> Option<Hash> {
    let length = end - begin;
    if length.is_power_of_two() && begin.is_multiple_of(length) {
        return tree.subtree(length.trailing_zeros(), begin / length);
    }
    let middle = begin + split(length);
    let left = range(tree, begin, middle)?;
    let right = range(tree, middle, end)?;
    Some(node(&left, &right))
}

/// The largest power of two below a length of at least 2.
fn split(length: u64) -> u64 {
    1 << (63 - (length - 1).leading_zeros())
}

/// A tree that only grows, of which only the roots of its complete parts are kept: enough for its
/// root at each size on the way.
#[derive(Debug, Clone, Default)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    /// Adds a leaf; or a complete subtree, where all are of the same height.
    pub fn push(&mut self, hash: Hash) {
        let (mut hash, mut pairs) = (hash, self.size);
        while pairs & 1 == 1 {
            let left = self.peaks.pop().expect("a peak for each bit of the size");
            hash = node(&left, &hash);
            pairs >>= 1;
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// How many were added.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root, with an incomplete subtree behind what was added where there is one.
    pub fn root(&self, tail: Option<Hash>) -> Hash {
        let mut parts = self.peaks.iter().copied().chain(tail).rev();
        let last = parts.next().unwrap_or_else(|| sha256(&[]));
        parts.fold(last, |right, left| node(&left, &right))
    }
}

/// The proof that a leaf is in the tree of this size: hashes from the leaf's sibling upwards.
pub fn inclusion(tree: &(impl Subtrees + ?Sized), index: u64, size: u64) -> Option<Vec<Hash>> {
    if index >= size {
        return None;
    }
    let (mut begin, mut end) = (0, size);
    let mut proof = Vec::new();
    while end - begin > 1 {
        let middle = begin + split(end - begin);
        if index < middle {
            proof.push(range(tree, middle, end)?);
            end = middle;
        } else {
            proof.push(range(tree, begin, middle)?);
            begin = middle;
        }
    }
    proof.reverse();
    Some(proof)
}

/// The proof that the first `old` leaves of the tree of size `new` are those of the older tree.
pub fn consistency(tree: &(impl Subtrees + ?Sized), old: u64, new: u64) -> Option<Vec<Hash>> {
    if old > new {
        return None;
    }
    if old == 0 || old == new {
        return Some(Vec::new());
    }
    let (mut begin, mut end) = (0, new);
    let mut proof = Vec::new();
    let mut whole = true;
    while old != end {
        let middle = begin + split(end - begin);
        if old <= middle {
            proof.push(range(tree, middle, end)?);
            end = middle;
        } else {
            proof.push(range(tree, begin, middle)?);
            begin = middle;
            whole = false;
        }
    }
    if !whole {
        proof.push(range(tree, begin, end)?);
    }
    proof.reverse();
    Some(proof)
}

/// Whether the proof leads from the leaf to the root (RFC 9162, 2.1.3.2).
pub fn is_included(index: u64, size: u64, leaf: &Hash, proof: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut place, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            hash = node(sibling, &hash);
            while place & 1 == 0 && place != 0 {
                place >>= 1;
                last >>= 1;
            }
        } else {
            hash = node(&hash, sibling);
        }
        place >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// Whether the proof leads from the older root to the newer one (RFC 9162, 2.1.4.2).
pub fn is_consistent(old: u64, new: u64, old_root: &Hash, new_root: &Hash, proof: &[Hash]) -> bool {
    if old > new {
        return false;
    }
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    if old == 0 {
        return proof.is_empty() && *old_root == sha256(&[]);
    }
    let mut rest = proof.iter();
    let first = if old.is_power_of_two() {
        old_root
    } else {
        match rest.next() {
            Some(first) => first,
            None => return false,
        }
    };
    let (mut place, mut last) = (old - 1, new - 1);
    while place & 1 == 1 {
        place >>= 1;
        last >>= 1;
    }
    let (mut older, mut newer) = (*first, *first);
    for hash in rest {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            older = node(hash, &older);
            newer = node(hash, &newer);
            while place & 1 == 0 && place != 0 {
                place >>= 1;
                last >>= 1;
            }
        } else {
            newer = node(&newer, hash);
        }
        place >>= 1;
        last >>= 1;
    }
    last == 0 && older == *old_root && newer == *new_root
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::super::row::leaf_hash;
    use super::*;

    fn hex(text: &str) -> Hash {
        let bytes = HEXLOWER.decode(text.as_bytes()).expect("hex");
        bytes.try_into().expect("32 bytes")
    }

    /// The eight entries that the reference implementations of RFC 6962 are tested with.
    fn reference() -> Vec<Hash> {
        let entries = [
            "",
            "00",
            "10",
            "2021",
            "3031",
            "40414243",
            "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        ];
        entries
            .iter()
            .map(|entry| leaf_hash(&HEXLOWER.decode(entry.as_bytes()).expect("hex")))
            .collect()
    }

    #[test]
    fn roots_are_the_known_ones() {
        let roots = [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let leaves = reference();
        for (size, expected) in (0..).zip(roots) {
            assert_eq!(root(leaves.as_slice(), size), Some(hex(expected)), "{size}");
        }
    }

    #[test]
    fn proofs_are_the_known_ones() {
        let leaves = reference();
        let inclusions: [(u64, u64, &[&str]); 3] = [
            (0, 1, &[]),
            (
                5,
                8,
                &[
                    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
                ],
            ),
            (
                2,
                3,
                &["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
            ),
        ];
        for (index, size, expected) in inclusions {
            let expected: Vec<Hash> = expected.iter().map(|h| hex(h)).collect();
            assert_eq!(inclusion(leaves.as_slice(), index, size), Some(expected));
        }
        let consistencies: [(u64, u64, &[&str]); 3] = [
            (
                1,
                8,
                &[
                    "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                    "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
                ],
            ),
            (
                6,
                8,
                &[
                    "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
                ],
            ),
            (
                2,
                5,
                &[
                    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                ],
            ),
        ];
        for (old, new, expected) in consistencies {
            let expected: Vec<Hash> = expected.iter().map(|h| hex(h)).collect();
            assert_eq!(consistency(leaves.as_slice(), old, new), Some(expected));
        }
    }

    fn leaves(size: u64) -> Vec<Hash> {
        (0..size).map(|n| leaf_hash(&n.to_be_bytes())).collect()
    }

    #[test]
    fn a_frontier_has_every_root_on_the_way() {
        let all = leaves(70);
        let mut single = Frontier::default();
        let mut fours = Frontier::default();
        for (size, leaf) in (1..).zip(&all) {
            single.push(*leaf);
            let whole = root(all.as_slice(), size).expect("all leaves");
            assert_eq!(single.root(None), whole);
            let at = usize::try_from(size).expect("small");
            if size % 4 == 0 {
                fours.push(perfect(&all[at - 4..at]));
            }
            let open = &all[at - at % 4..at];
            let tail = root(open, open.len() as u64).filter(|_| !open.is_empty());
            assert_eq!(fours.root(tail), whole);
        }
        assert_eq!(
            Some(Frontier::default().root(None)),
            root(all.as_slice(), 0)
        );
    }

    #[test]
    fn every_proof_of_every_small_tree_holds_and_no_other() {
        let all = leaves(20);
        for size in 0..=20 {
            let whole = root(all.as_slice(), size).expect("all leaves");
            for index in 0..size {
                let leaf = &all[usize::try_from(index).expect("small")];
                let proof = inclusion(all.as_slice(), index, size).expect("in the tree");
                assert!(is_included(index, size, leaf, &proof, &whole));
                for other in 0..20 {
                    let holds = is_included(other, size, leaf, &proof, &whole);
                    assert_eq!(holds, other == index, "{index} of {size} as {other}");
                }
                let mut longer = proof.clone();
                longer.push(whole);
                assert!(!is_included(index, size, leaf, &longer, &whole));
                assert!(proof.is_empty() || !is_included(index, size, leaf, &proof[1..], &whole));
            }
            for old in 0..=size {
                let older = root(all.as_slice(), old).expect("all leaves");
                let proof = consistency(all.as_slice(), old, size).expect("older");
                assert!(
                    is_consistent(old, size, &older, &whole, &proof),
                    "{old}, {size}"
                );
                let wrong = [9; 32];
                assert!(!is_consistent(old, size, &wrong, &whole, &proof));
                // Of the empty tree every tree is a continuation.
                assert_eq!(
                    is_consistent(old, size, &older, &wrong, &proof),
                    old == 0 && size > 0
                );
            }
        }
    }

    proptest! {
        #[test]
        fn a_corrupted_proof_fails(
            size in 2_u64..300,
            at in any::<prop::sample::Index>(),
            old in any::<prop::sample::Index>(),
            (which, bit) in (any::<prop::sample::Index>(), 0_u8..8),
        ) {
            let all = leaves(size);
            let whole = root(all.as_slice(), size).expect("all leaves");
            let corrupt = |proof: &[Hash]| {
                let mut proof = proof.to_vec();
                let place = which.index(proof.len() * 32);
                proof[place / 32][place % 32] ^= 1 << bit;
                proof
            };
            let index = at.index(all.len());
            let proof = inclusion(all.as_slice(), index as u64, size).expect("in the tree");
            prop_assert!(is_included(index as u64, size, &all[index], &proof, &whole));
            prop_assert!(!is_included(index as u64, size, &all[index], &corrupt(&proof), &whole));
            let old = old.index(all.len() - 1) as u64 + 1;
            let older = root(all.as_slice(), old).expect("all leaves");
            let proof = consistency(all.as_slice(), old, size).expect("older");
            prop_assert!(is_consistent(old, size, &older, &whole, &proof));
            if !proof.is_empty() {
                prop_assert!(!is_consistent(old, size, &older, &whole, &corrupt(&proof)));
            }
        }
    }
}
