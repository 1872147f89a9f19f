//! The stored tree: the hashes of its tiles above the leaves. A stored hash is only compared; proofs
//! rest on the rows.

use artstore_projectors::audit_log::row::Hash;
use artstore_projectors::audit_log::store;
use artstore_projectors::audit_log::tile::{TileId, WIDTH};
use artstore_projectors::audit_log::tree::{perfect, root};
use sqlx::PgConnection;

use super::finding::{Finding, Kind, Layer};
use super::rows::{UNIT, Unit};

/// The hashes of all full tiles of leaves, as the tiles above them state.
pub(crate) async fn stored_units(
    connection: &mut PgConnection,
    stream: &str,
    size: u64,
) -> Result<Vec<Unit>, sqlx::Error> {
    let full = size / UNIT;
    let mut units = Vec::new();
    for index in 0..full.div_ceil(UNIT) {
        let place = TileId { level: 1, index };
        let tiles = store::tiles(connection, stream, &[place]).await?;
        let tile = tiles.0.get(&place).map_or(&[][..], Vec::as_slice);
        units.extend((0..WIDTH).map(|at| Unit {
            rows: tile.get(at).copied(),
            stored: tile.get(at).copied(),
        }));
    }
    units.truncate(usize::try_from(full).unwrap_or(usize::MAX));
    Ok(units)
}

/// Of a head inside a tile of leaves, what the stored tile has up to there.
pub(crate) async fn stored_tail(
    connection: &mut PgConnection,
    stream: &str,
    size: u64,
) -> Result<Option<Unit>, sqlx::Error> {
    let open = usize::try_from(size % UNIT).unwrap_or(0);
    let place = TileId {
        level: 0,
        index: size / UNIT,
    };
    let tiles = store::tiles(connection, stream, &[place]).await?;
    let leaves = tiles.0.get(&place).and_then(|tile| tile.get(..open));
    let hash = leaves
        .filter(|leaves| !leaves.is_empty())
        .and_then(|leaves| root(leaves, leaves.len() as u64));
    Ok(hash.map(|hash| Unit {
        rows: Some(hash),
        stored: Some(hash),
    }))
}

/// Compares the stored tiles above the leaves with what the leaves' tiles lead to.
pub async fn compare(
    connection: &mut PgConnection,
    stream: &str,
    size: u64,
    units: &[Unit],
) -> Result<Vec<Finding>, sqlx::Error> {
    let mut findings = Vec::new();
    let mut add = |place: TileId, what: &str| {
        findings.push(Finding::of_log(
            stream,
            Kind::TileEdited,
            Layer::Tree,
            format!("tile {} of level {} {what}", place.index, place.level),
        ));
    };
    let missing = units.iter().position(|unit| unit.stored.is_none());
    if let Some(index) = missing {
        let index = index as u64;
        add(TileId { level: 0, index }, "is not there");
    }
    let mut hashes: Vec<Option<Hash>> = units.iter().map(|unit| unit.stored).collect();
    let mut level = 1;
    while !hashes.is_empty() {
        for (index, below) in (0..).zip(hashes.chunks(WIDTH)) {
            let place = TileId { level, index };
            let tiles = store::tiles(connection, stream, &[place]).await?;
            let stored = tiles.0.get(&place);
            let fits = below.iter().enumerate().all(|(at, hash)| {
                let stored = stored.and_then(|tile| tile.get(at));
                hash.is_none() || stored == hash.as_ref()
            });
            if !fits {
                add(place, "is not what the tiles below it lead to");
            }
        }
        let full = hashes.as_chunks::<WIDTH>().0.iter();
        hashes = full
            .map(|tile| {
                let tile: Option<Vec<Hash>> = tile.iter().copied().collect();
                tile.map(|tile| perfect(&tile))
            })
            .collect();
        level += 1;
    }
    // The last tile of the leaves, which is not full.
    let open = size % UNIT;
    if open > 0 {
        let place = TileId {
            level: 0,
            index: size / UNIT,
        };
        let tiles = store::tiles(connection, stream, &[place]).await?;
        if tiles.0.get(&place).map_or(0, Vec::len) as u64 != open {
            add(place, &format!("does not have {open} leaves"));
        }
    }
    Ok(findings)
}
