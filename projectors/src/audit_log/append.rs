//! A batch of one stream becomes rows, a longer chain, a larger tree and heads. No database access.

use std::collections::BTreeSet;

use super::chain::ChainKey;
use super::note::SignerKey;
use super::resume::End;
use super::row::{Hash, Row};
use super::store::{Signed, Tip};
use super::tile::Tiles;

/// There is a head at each multiple of so many rows.
pub(crate) const HEAD_EVERY: u64 = 256;

/// What a batch adds to a log.
#[derive(Debug)]
pub struct Addition {
    /// The rows, in order.
    pub rows: Vec<Signed>,
    /// The tiles that are new or have grown.
    pub tiles: Tiles,
    /// Signed heads, by size.
    pub heads: Vec<(u64, String)>,
    /// The log after it.
    pub end: End,
    /// The roots at the sizes that were asked for.
    pub roots: Vec<(u64, Hash)>,
}

/// With what a log is signed.
#[derive(Debug, Clone, Copy)]
pub struct Signers<'a> {
    /// The chain's key.
    pub chain: &'a ChainKey,
    /// The heads' key.
    pub heads: &'a SignerKey,
}

/// Appends rows to the log that ends here. `asked`: sizes at which the root is wanted.
pub fn append(
    signers: Signers<'_>,
    mut end: End,
    rows: Vec<Row>,
    asked: &BTreeSet<u64>,
) -> Addition {
    let mut previous = end.tip.last_signature;
    let mut leaves = Vec::with_capacity(rows.len());
    let signed = rows.into_iter().map(|row| {
        let leaf = row.leaf();
        previous = signers.chain.sign(&previous, &leaf);
        leaves.push(leaf);
        Signed {
            row,
            signature: previous,
        }
    });
    let rows: Vec<Signed> = signed.collect();
    let (mut tiles, mut heads, mut roots) = (Tiles::default(), Vec::new(), Vec::new());
    let mut rest = leaves.as_slice();
    while !rest.is_empty() {
        let size = end.edge.size();
        let full = (size / HEAD_EVERY + 1) * HEAD_EVERY;
        let next = asked.range(size + 1..=full).next().copied().unwrap_or(full);
        let length = usize::try_from(next - size)
            .unwrap_or(usize::MAX)
            .min(rest.len());
        let (now, later) = rest.split_at(length);
        rest = later;
        tiles.0.extend(end.edge.append(now).0);
        let size = end.edge.size();
        if size.is_multiple_of(HEAD_EVERY) {
            heads.push((size, end.head().sign(signers.heads)));
        }
        if asked.contains(&size) {
            roots.push((size, end.edge.root()));
        }
    }
    end.tip = Tip {
        size: end.edge.size(),
        last_signature: previous,
        origin: end.tip.origin,
    };
    Addition {
        rows,
        tiles,
        heads,
        end,
        roots,
    }
}
