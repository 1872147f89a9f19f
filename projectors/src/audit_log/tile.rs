//! The tree as it is stored: tiles of 256 hashes. A tile of level 0 holds leaves; one of level *n*
//! holds the roots of 256 tiles of the level below. A full tile never changes; the last one of each
//! level grows. No database access.

use std::collections::BTreeMap;

use super::row::Hash;
use super::tree::{Subtrees, perfect, root};

/// Hashes in a full tile.
pub const WIDTH: usize = 256;

/// Levels of leaves in a tile.
const HEIGHT: u32 = 8;

/// Where a tile is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    /// 0 for leaves.
    pub level: u32,
    /// Which one of its level.
    pub index: u64,
}

/// Why a stored tree can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tile {} of level {} does not hold what a tree of {size} leaves has there", place.index, place.level)]
pub struct TileError {
    /// The tile.
    pub place: TileId,
    /// The leaves of the tree.
    pub size: u64,
}

/// The right edge of a tree: the last tile of each level, which is all that appending needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    /// By level; each has less than [`WIDTH`] hashes.
    open: Vec<Vec<Hash>>,
}

impl Edge {
    /// The tiles that the edge of a tree of this size consists of, and how many hashes each has.
    pub fn places(size: u64) -> Vec<(TileId, usize)> {
        let mut places = Vec::new();
        let (mut level, mut hashes) = (0, size);
        while hashes > 0 {
            let open = usize::try_from(hashes % WIDTH as u64).unwrap_or(0);
            let index = hashes / WIDTH as u64;
            if open > 0 {
                places.push((TileId { level, index }, open));
            }
            hashes = index;
            level += 1;
        }
        places
    }

    /// Takes the edge of a tree of this size from its stored tiles.
    pub fn of(size: u64, tiles: &Tiles) -> Result<Self, TileError> {
        let mut edge = Self {
            size,
            open: Vec::new(),
        };
        for (place, count) in Self::places(size) {
            let hashes = tiles.0.get(&place).and_then(|tile| tile.get(..count));
            let hashes = hashes.ok_or(TileError { place, size })?;
            edge.level(place.level).extend(hashes);
        }
        Ok(edge)
    }

    fn level(&mut self, level: u32) -> &mut Vec<Hash> {
        let level = usize::try_from(level).unwrap_or(usize::MAX);
        if self.open.len() <= level {
            self.open.resize_with(level + 1, Vec::new);
        }
        &mut self.open[level]
    }

    /// How many leaves the tree has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds leaves. Returns every tile that is new or has grown.
    pub fn append(&mut self, leaves: &[Hash]) -> Tiles {
        let mut changed = Tiles::default();
        for leaf in leaves {
            self.size += 1;
            let mut hash = *leaf;
            let mut hashes = self.size;
            for level in 0.. {
                let open = self.level(level);
                open.push(hash);
                if open.len() < WIDTH {
                    break;
                }
                let full = std::mem::take(open);
                hash = perfect(&full);
                hashes /= WIDTH as u64;
                let index = hashes - 1;
                changed.0.insert(TileId { level, index }, full);
            }
        }
        for (place, _) in Self::places(self.size) {
            let open = self.level(place.level).clone();
            changed.0.insert(place, open);
        }
        changed
    }

    /// The root of the tree.
    pub fn root(&self) -> Hash {
        root(self, self.size).expect("the edge has every subtree that its root is made of")
    }
}

impl Subtrees for Edge {
    fn subtree(&self, height: u32, index: u64) -> Option<Hash> {
        let level = height / HEIGHT;
        let open = self.open.get(usize::try_from(level).ok()?)?;
        let before = (self.size >> (HEIGHT * level)) / WIDTH as u64;
        within(open, before, height % HEIGHT, index)
    }
}

/// Stored tiles, as far as they were loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tiles(pub BTreeMap<TileId, Vec<Hash>>);

impl Subtrees for Tiles {
    fn subtree(&self, height: u32, index: u64) -> Option<Hash> {
        let (place, height) = place_of(height, index);
        within(self.0.get(&place)?, place.index, height, index)
    }
}

/// The tile that holds what a subtree is made of, and the subtree's height above its hashes.
fn place_of(height: u32, index: u64) -> (TileId, u32) {
    let level = height / HEIGHT;
    let height = height % HEIGHT;
    let index = index >> (HEIGHT - height);
    (TileId { level, index }, height)
}

/// A subtree inside the tile with this index.
fn within(tile: &[Hash], tile_index: u64, height: u32, index: u64) -> Option<Hash> {
    let length = 1_usize << height;
    let first = (index << height).checked_sub(tile_index * WIDTH as u64)?;
    let first = usize::try_from(first).ok()?;
    Some(perfect(tile.get(first..first.checked_add(length)?)?))
}

/// Finds out which tiles a computation needs: it is run once with this in place of the tree.
#[derive(Debug, Default)]
pub struct Wanted(std::cell::RefCell<std::collections::BTreeSet<TileId>>);

impl Wanted {
    /// The tiles.
    pub fn places(self) -> Vec<TileId> {
        self.0.into_inner().into_iter().collect()
    }
}

impl Subtrees for Wanted {
    fn subtree(&self, height: u32, index: u64) -> Option<Hash> {
        let (place, _) = place_of(height, index);
        self.0.borrow_mut().insert(place);
        Some([0; 32])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::row::leaf_hash;
    use super::super::tree::{consistency, inclusion};
    use super::*;

    fn leaves(size: u64) -> Vec<Hash> {
        (0..size).map(|n| leaf_hash(&n.to_be_bytes())).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn tiles_tell_what_the_leaves_tell(
            cuts in proptest::collection::vec(0_usize..900, 1..6),
            pick in any::<prop::sample::Index>(),
        ) {
            let size: usize = cuts.iter().sum();
            let all = leaves(size as u64);
            let (mut edge, mut stored, mut done) = (Edge::default(), Tiles::default(), 0);
            for cut in cuts {
                stored.0.extend(edge.append(&all[done..done + cut]).0);
                done += cut;
                // Read back, as after a restart.
                edge = Edge::of(done as u64, &stored).expect("stored");
                prop_assert_eq!(Some(edge.root()), root(&all[..done], done as u64));
            }
            let size = size as u64;
            prop_assert_eq!(root(&stored, size), root(all.as_slice(), size));
            if size > 0 {
                let at = pick.index(all.len()) as u64;
                prop_assert_eq!(inclusion(&stored, at, size), inclusion(all.as_slice(), at, size));
                prop_assert_eq!(
                    consistency(&stored, at, size),
                    consistency(all.as_slice(), at, size)
                );
                let wanted = Wanted::default();
                inclusion(&wanted, at, size);
                let places = wanted.places();
                let mut few = stored.clone();
                few.0.retain(|place, _| places.contains(place));
                prop_assert_eq!(inclusion(&few, at, size), inclusion(&stored, at, size));
            }
        }
    }

    #[test]
    fn a_tree_of_three_levels_has_logarithmic_proofs() {
        let size = 70_000;
        let all = leaves(size);
        let mut edge = Edge::default();
        let mut stored = Tiles::default();
        for chunk in all.chunks(1_000) {
            stored.0.extend(edge.append(chunk).0);
        }
        assert_eq!(stored.0.keys().map(|place| place.level).max(), Some(2));
        assert_eq!(Some(edge.root()), root(all.as_slice(), size));
        assert_eq!(root(&stored, size), root(all.as_slice(), size));
        let wanted = Wanted::default();
        let proof = inclusion(&wanted, 65_000, size).expect("in the tree");
        assert!(proof.len() <= 17 && wanted.places().len() <= 6);
    }

    #[test]
    fn a_tile_that_is_too_short_is_named() {
        let mut edge = Edge::default();
        let mut stored = edge.append(&leaves(300));
        let place = TileId { level: 0, index: 1 };
        stored.0.get_mut(&place).expect("44 leaves").pop();
        assert_eq!(Edge::of(300, &stored), Err(TileError { place, size: 300 }));
    }
}
