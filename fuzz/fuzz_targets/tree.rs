//! The tree of the audit log: tiles from anywhere, proofs of any sizes. What holds can be computed from the leaves alone.

#![no_main]

use artstore_projectors::audit_log::row::Hash;
use artstore_projectors::audit_log::tile::{Edge, TileId, Tiles, WIDTH, Wanted};
use artstore_projectors::audit_log::tree::{
    consistency, inclusion, is_consistent, is_included, root,
};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

fn leaves(size: u64) -> Vec<Hash> {
    let leaf = |n: u64| {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&n.to_be_bytes());
        hash
    };
    (0..size).map(leaf).collect()
}

fn sound(input: &mut Unstructured) -> Result<()> {
    let size = input.int_in_range(1..=700_u64)?;
    let first = input.int_in_range(0..=size)?;
    let all = leaves(size);
    let (early, late) = all.split_at(usize::try_from(first).expect("small"));
    let mut edge = Edge::default();
    let mut tiles = edge.append(early);
    tiles.0.extend(edge.append(late).0);
    let whole = root(all.as_slice(), size).expect("all leaves");
    assert_eq!((edge.size(), edge.root()), (size, whole));
    assert_eq!(Edge::of(size, &tiles), Ok(edge));
    let index = input.int_in_range(0..=size - 1)?;
    let proof = inclusion(&tiles, index, size).expect("in the tree");
    let leaf = &all[usize::try_from(index).expect("small")];
    assert!(is_included(index, size, leaf, &proof, &whole));
    let other = input.int_in_range(0..=size + 1)?;
    assert!(other == index || !is_included(other, size, leaf, &proof, &whole));
    let before = root(all.as_slice(), first).expect("all leaves");
    let proof = consistency(&tiles, first, size).expect("in the tree");
    assert!(is_consistent(first, size, &before, &whole, &proof));
    Ok(())
}

fn hostile(input: &mut Unstructured) -> Result<()> {
    let (index, size, old): (u64, u64, u64) = input.arbitrary()?;
    let mut tiles = Tiles::default();
    for _ in 0..input.int_in_range(0..=8)? {
        let (level, tile, hashes): (u32, u64, u16) = input.arbitrary()?;
        let place = match input.ratio(1, 2)? {
            true => TileId { level, index: tile },
            false => match Edge::places(size).get(usize::from(hashes) % 8) {
                Some((place, _)) => *place,
                None => continue,
            },
        };
        tiles
            .0
            .insert(place, leaves(u64::from(hashes) % (2 * WIDTH as u64)));
    }
    if let Ok(mut edge) = Edge::of(size, &tiles) {
        edge.root();
        if size < u64::MAX - 300 {
            edge.append(&leaves(300));
        }
    }
    // Asks for as many tiles as the tree is high, not for as many as it has.
    let wanted = Wanted::default();
    let _ = inclusion(&wanted, index, size);
    let _ = consistency(&wanted, old, size);
    assert!(wanted.places().len() < 600);
    let proof = leaves(input.int_in_range(0..=70)?);
    let hash = proof.first().copied().unwrap_or_default();
    let _ = is_included(index, size, &hash, &proof, &hash);
    let _ = is_consistent(old, size, &hash, &hash, &proof);
    let _ = inclusion(&tiles, index, size);
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let mut input = Unstructured::new(data);
    let _ = match input.arbitrary() {
        Ok(true) => sound(&mut input),
        Ok(false) | Err(_) => hostile(&mut input),
    };
});
