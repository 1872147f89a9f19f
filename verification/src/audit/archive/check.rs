//! Whether an archive is what was signed, from its files alone, public keys, and the secret if there is
//! one. No stored hash is trusted that was not computed again.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use anyhow::{Context as _, ensure};
use artstore_projectors::audit_log::chain::{Keyring, origin_hash};
use artstore_projectors::audit_log::head::Head;
use artstore_projectors::audit_log::note::VerifierKey;
use artstore_projectors::audit_log::row::Hash;
use artstore_projectors::audit_log::tile::{Edge, TileId, Tiles};
use aws_lc_rs::digest::{Context, SHA256};
use data_encoding::{BASE64, HEXLOWER};
use serde::Serialize;

use super::super::rows::UNIT;
use super::{
    ArchivedRow, ArchivedTile, FORM, HEAD, HEAD_BEFORE, MANIFEST, Manifest, ROWS, TILES, decoded,
    digest,
};

/// No line of an archive is longer: a message has at most 900 KiB, and a row is of one.
const LONGEST_LINE: u64 = 16 << 20;

/// How many problems are listed.
const MOST: usize = 100;

/// What was found out.
#[derive(Debug, Clone, Serialize)]
pub struct Checked {
    /// The archive's own description.
    pub manifest: Manifest,
    /// The digest of the manifest: an event of the log has the same one.
    pub digest: String,
    /// Whether the chain was checked as well: with the secret only.
    pub chain: bool,
    /// What is wrong; nothing: every row is as it was signed.
    pub wrong: Vec<String>,
}

/// Checks the archive in a folder. An error where there is nothing to check.
pub fn check(
    folder: &Path,
    trusted: &[VerifierKey],
    ring: Option<&Keyring>,
) -> anyhow::Result<Checked> {
    let path = folder.join(MANIFEST);
    let bytes =
        std::fs::read(&path).with_context(|| format!("{} can't be read", path.display()))?;
    let manifest: Manifest = serde_json::from_slice(&bytes)
        .with_context(|| format!("{} is no manifest of an archive", path.display()))?;
    ensure!(
        manifest.form == FORM,
        "{}: its form {:?} is not known to this program",
        path.display(),
        manifest.form
    );
    let whole = manifest.first >= 1
        && manifest.first <= manifest.last
        && (manifest.first - 1).is_multiple_of(UNIT)
        && manifest.last.is_multiple_of(UNIT);
    ensure!(
        whole,
        "{}: rows {} to {} are no whole tiles",
        path.display(),
        manifest.first,
        manifest.last
    );
    let mut check = Check {
        folder,
        trusted,
        ring,
        wrong: Vec::new(),
        manifest,
    };
    check.files()?;
    check.contents()?;
    Ok(Checked {
        digest: digest(&bytes),
        chain: ring.is_some(),
        wrong: check.wrong,
        manifest: check.manifest,
    })
}

struct Check<'a> {
    folder: &'a Path,
    trusted: &'a [VerifierKey],
    ring: Option<&'a Keyring>,
    manifest: Manifest,
    wrong: Vec<String>,
}

impl Check<'_> {
    fn wrong(&mut self, text: String) {
        if self.wrong.len() < MOST {
            self.wrong.push(text);
        }
    }

    fn open(&self, name: &str) -> anyhow::Result<BufReader<File>> {
        let path = self.folder.join(name);
        let file =
            File::open(&path).with_context(|| format!("{} can't be read", path.display()))?;
        Ok(BufReader::new(file))
    }

    /// The files are those of the manifest.
    fn files(&mut self) -> anyhow::Result<()> {
        let mut names = vec![ROWS, TILES, HEAD];
        if self.manifest.first > 1 {
            names.push(HEAD_BEFORE);
        }
        for name in names {
            let mut file = self.open(name)?;
            let mut context = Context::new(&SHA256);
            let mut buffer = vec![0; 1 << 16];
            loop {
                match file.read(&mut buffer)? {
                    0 => break,
                    length => context.update(&buffer[..length]),
                }
            }
            let digest = HEXLOWER.encode(context.finish().as_ref());
            if self.manifest.files.get(name) != Some(&digest) {
                self.wrong(format!("{name} is not the file that the manifest names"));
            }
        }
        Ok(())
    }

    /// The rows lead to the leaves, the leaves to the head, and the tree before them to the head
    /// before.
    fn contents(&mut self) -> anyhow::Result<()> {
        let Manifest { first, last, .. } = self.manifest;
        let tiles = self.tiles()?;
        let before = match Edge::of(first - 1, &tiles) {
            Ok(edge) => edge,
            Err(error) => {
                self.wrong(format!("{TILES}: {error}"));
                return Ok(());
            }
        };
        if first > 1 {
            self.head(HEAD_BEFORE, first - 1, before.root())?;
        }
        let root = self.rows(&tiles, before)?;
        if let Some(root) = root {
            self.head(HEAD, last, root)?;
        }
        Ok(())
    }

    fn tiles(&mut self) -> anyhow::Result<Tiles> {
        let mut tiles = Tiles::default();
        let mut lines = Lines::new(self.open(TILES)?);
        while let Some(line) = lines.next(TILES)? {
            let tile = serde_json::from_slice::<ArchivedTile>(&line).ok();
            let hashes = tile.as_ref().and_then(|tile| {
                let bytes = BASE64.decode(tile.hashes.as_bytes()).ok()?;
                let (hashes, rest) = bytes.as_chunks::<32>();
                rest.is_empty().then(|| hashes.to_vec())
            });
            let (Some(tile), Some(hashes)) = (tile, hashes) else {
                self.wrong(format!("{TILES}, line {}, is no tile", lines.number));
                continue;
            };
            let place = TileId {
                level: tile.level,
                index: tile.tile,
            };
            tiles.0.insert(place, hashes);
        }
        Ok(tiles)
    }

    /// The root of the tree of the rows and what is before them; none where rows are missing.
    fn rows(&mut self, tiles: &Tiles, mut tree: Edge) -> anyhow::Result<Option<Hash>> {
        let Manifest { first, last, .. } = self.manifest;
        let mut signature = decoded(&self.manifest.signature_before);
        if first == 1 && signature != Some(origin_hash(&self.manifest.origin)) {
            self.wrong("the first row is not chained to the log's name".to_owned());
        }
        let mut lines = Lines::new(self.open(ROWS)?);
        let mut next = first;
        let mut leaves = Vec::new();
        let mut last_signature = String::new();
        while let Some(line) = lines.next(ROWS)? {
            let Ok(archived) = serde_json::from_slice::<ArchivedRow>(&line) else {
                self.wrong(format!("{ROWS}, line {}, is no row", lines.number));
                return Ok(None);
            };
            let row = &archived.row;
            if row.stream != self.manifest.stream || row.sequence != next || next > last {
                self.wrong(format!(
                    "{ROWS}, line {}, is row {} of {} where row {next} should be",
                    lines.number, row.sequence, row.stream
                ));
                return Ok(None);
            }
            let leaf = row.leaf();
            let place = TileId {
                level: 0,
                index: (next - 1) / UNIT,
            };
            let at = usize::try_from((next - 1) % UNIT)?;
            if tiles.0.get(&place).and_then(|tile| tile.get(at)) != Some(&leaf) {
                self.wrong(format!("row {next} is not the row in the tree"));
            }
            let stored = decoded(&archived.hmac_signature);
            if let Some(ring) = self.ring {
                let key = ring.get(&archived.kid);
                let expected = key
                    .zip(signature)
                    .map(|(key, before)| key.sign(&before, &leaf));
                if expected.is_none() || expected != stored {
                    self.wrong(format!(
                        "row {next}: its signature does not follow from the row before it"
                    ));
                }
            }
            signature = stored;
            last_signature = archived.hmac_signature;
            leaves.push(leaf);
            if leaves.len() as u64 == UNIT {
                tree.append(&leaves);
                leaves.clear();
            }
            next += 1;
        }
        if next != last + 1 {
            self.wrong(format!("{ROWS} ends before row {next}"));
            return Ok(None);
        }
        if last_signature != self.manifest.last_signature {
            self.wrong("the last row's signature is not the manifest's".to_owned());
        }
        Ok(Some(tree.root()))
    }

    fn head(&mut self, name: &str, size: u64, root: Hash) -> anyhow::Result<()> {
        let mut note = String::new();
        self.open(name)?
            .take(LONGEST_LINE)
            .read_to_string(&mut note)?;
        match Head::open(&note, self.trusted) {
            Err(error) => self.wrong(format!("{name}: {error}")),
            Ok((head, _)) if (&head.origin, head.size) != (&self.manifest.origin, size) => self
                .wrong(format!(
                    "{name} is head {} of {}, not {size} of {}",
                    head.size, head.origin, self.manifest.origin
                )),
            Ok((head, _)) if head.root != root => self.wrong(format!(
                "the rows do not lead to {name}: a row up to {size} was changed, put in or taken out"
            )),
            Ok(_) => {}
        }
        Ok(())
    }
}

/// Lines of bounded length.
struct Lines {
    file: BufReader<File>,
    number: u64,
}

impl Lines {
    fn new(file: BufReader<File>) -> Self {
        Self { file, number: 0 }
    }

    fn next(&mut self, name: &str) -> anyhow::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let read = (&mut self.file)
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        ensure!(
            line.pop() == Some(b'\n'),
            "{name}, line {}, has no end",
            self.number
        );
        Ok(Some(line))
    }
}
