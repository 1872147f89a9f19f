//! One range of a stream's log: every row read, its leaf and its signature computed again. What is
//! found goes to [`super::log`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use artstore_projectors::audit_log::chain::Keyring;
use artstore_projectors::audit_log::row::{FORMAT, Hash};
use artstore_projectors::audit_log::store::{self, COLUMNS, Stored};
use artstore_projectors::audit_log::tile::{TileId, Tiles, WIDTH};
use artstore_projectors::audit_log::tree::{self, perfect};
use data_encoding::HEXLOWER;
use futures::TryStreamExt as _;
use sqlx::{AssertSqlSafe, PgConnection};

use super::finding::{Finding, Findings, Kind, Layer};
use super::ids::Ids;
use super::suspects::{Suspect, Suspects};

/// Rows of a tile.
pub const UNIT: u64 = WIDTH as u64;

/// So many signatures are tried as the one that a row is chained to.
const MOST_SIGNATURES: usize = 8;

/// A range of sequences, both ends included. It begins behind a multiple of [`UNIT`].
#[derive(Debug, Clone, Copy)]
pub struct Range {
    /// The first one.
    pub first: u64,
    /// The last one.
    pub last: u64,
}

/// The hash of a full tile: as its rows state, and as the stored tile states.
#[derive(Debug, Clone, Copy)]
pub struct Unit {
    /// Of the rows; a missing one is taken from the stored tile, and is a finding.
    pub rows: Option<Hash>,
    /// Of the stored tile.
    pub stored: Option<Hash>,
}

/// What was found out about a range.
#[derive(Debug, Default)]
pub struct Checked {
    /// How many rows were read.
    pub rows: u64,
    /// Full tiles, in order.
    pub units: Vec<Unit>,
    /// At sizes inside a tile: the hash of what the tile has up to there.
    pub tails: BTreeMap<u64, Unit>,
    /// What is wrong.
    pub findings: Findings,
}

/// What the log is checked with; several ranges share it.
#[derive(Debug, Clone)]
pub struct With {
    /// The stream.
    pub stream: Arc<str>,
    /// The secrets; none: the chain is not checked.
    pub ring: Option<Arc<Keyring>>,
    /// What the first row is chained to.
    pub origin: Hash,
    /// Sizes of heads.
    pub sizes: Arc<BTreeSet<u64>>,
    /// Up to this row the log states itself that its rows were archived, and this is the last one's
    /// signature.
    pub archived: Option<(u64, Hash)>,
}

/// Reads and checks a range.
pub async fn check(
    connection: &mut PgConnection,
    range: Range,
    with: &With,
) -> Result<Checked, sqlx::Error> {
    let stream = &*with.stream;
    let places: Vec<TileId> = ((range.first - 1) / UNIT..=(range.last - 1) / UNIT)
        .map(|index| TileId { level: 0, index })
        .collect();
    let tiles = store::tiles(connection, stream, &places).await?;
    let (before, ids) = before(connection, stream, range.first, &with.origin).await?;
    let mut scan = RowScan {
        with,
        tiles: &tiles,
        signatures: Vec::new(),
        behind_gap: false,
        first: range.first,
        next: before.0 + 1,
        leaves: Vec::new(),
        ids,
        suspects: Suspects::default(),
        checked: Checked::default(),
    };
    scan.begin(before);
    let sql = format!(
        "select {COLUMNS} from public.audit_logs \
         where stream = $1 and stream_sequence between $2 and $3 order by stream_sequence, id"
    );
    let mut rows = sqlx::query(AssertSqlSafe(sql))
        .bind(stream)
        .bind(signed(range.first))
        .bind(signed(range.last))
        .fetch(connection);
    while let Some(row) = rows.try_next().await? {
        scan.row(store::stored(&row)?);
    }
    scan.bridge(range.last + 1, None, true);
    Ok(scan.ended())
}

/// The last existing row before a range: its sequence and signature. Sequence 0: the origin.
/// And the ids of the last two rows.
async fn before(
    connection: &mut PgConnection,
    stream: &str,
    first: u64,
    origin: &Hash,
) -> Result<((u64, Hash), Ids), sqlx::Error> {
    let rows: Vec<(i64, i64, String)> = sqlx::query_as(
        "select stream_sequence, id, coalesce(hmac_signature, '') from public.audit_logs \
         where stream = $1 and stream_sequence > 0 and stream_sequence < $2 \
         order by stream_sequence desc limit 2",
    )
    .bind(stream)
    .bind(signed(first))
    .fetch_all(connection)
    .await?;
    let mut ids = Ids::default();
    for (sequence, id, _) in rows.iter().rev() {
        // What is wrong among these is the range's before this one.
        let _ = ids.next(u64::try_from(*sequence).unwrap_or(0), *id);
    }
    let before = match rows.first() {
        Some((sequence, _, signature)) => (
            u64::try_from(*sequence).unwrap_or(0),
            decoded(signature).unwrap_or([0; 32]),
        ),
        None => (0, *origin),
    };
    Ok((before, ids))
}

/// How a row's signature relates to the row before it.
enum Link {
    /// It follows from it.
    Fits,
    /// That is unknown: without the secret, or after a gap.
    Unknown,
    /// It does not follow.
    Broken(String),
}

struct RowScan<'a> {
    with: &'a With,
    tiles: &'a Tiles,
    /// What the next row may be chained to: the stored signature before it, and the one that
    /// should have been stored.
    signatures: Vec<Hash>,
    /// Whether rows are missing right before the next one.
    behind_gap: bool,
    /// Where the range begins.
    first: u64,
    next: u64,
    /// Leaves of the tile that is being read.
    leaves: Vec<Option<Hash>>,
    ids: Ids,
    /// Rows whose leaf is not the stored one, or whose signature does not fit.
    suspects: Suspects,
    checked: Checked,
}

impl RowScan<'_> {
    /// Comes from the last row before the range. Missing ones in between are somebody else's
    /// finding.
    fn begin(&mut self, before: (u64, Hash)) {
        let first = self.first;
        match self.with.archived {
            // What is left of archived rows is chained to what is gone.
            Some((archived, _)) if archived >= first && before.0 + 1 < first => {
                self.behind_gap = true;
            }
            _ => {
                self.signatures.push(before.1);
                self.bridge(first, None, false);
            }
        }
        self.next = first;
    }

    fn leaf_stored(&self, sequence: u64) -> Option<Hash> {
        let index = (sequence - 1) / UNIT;
        let tile = self.tiles.0.get(&TileId { level: 0, index })?;
        tile.get(usize::try_from((sequence - 1) % UNIT).ok()?)
            .copied()
    }

    fn row(&mut self, stored: Stored) {
        self.checked.rows += 1;
        let sequence = stored.row.sequence;
        if sequence < self.next {
            self.finding(
                Some(stored.id),
                sequence,
                Kind::RowExtra,
                [Layer::Form],
                format!("a second row {sequence} (id {})", stored.id),
            );
            return;
        }
        self.bridge(sequence, Some(&stored.kid), true);
        self.next = sequence + 1;
        if let Some((sequence, id)) = self.ids.next(sequence, stored.id) {
            self.suspects.id(sequence, id);
        }
        let leaf = stored.row.leaf();
        let mut layers = BTreeSet::new();
        let mut text = Vec::new();
        if let Some(broken) = &stored.broken {
            layers.insert(Layer::Form);
            text.push(broken.clone());
        }
        if stored.format != FORMAT {
            layers.insert(Layer::Form);
            text.push(format!(
                "format {} where the log has {FORMAT}",
                stored.format
            ));
        }
        if stored.account_ids != stored.row.account_ids() {
            self.finding(
                Some(stored.id),
                sequence,
                Kind::ColumnEdited,
                [Layer::Form],
                format!("row {sequence}: user_id or service_account_id is not the actor's"),
            );
        }
        let in_tree = self.leaf_stored(sequence);
        // A tile that is gone is found once, with the tree.
        if in_tree.is_some_and(|stored| stored != leaf) {
            layers.insert(Layer::Tree);
            text.push("it is not the row in the stored tree".to_owned());
        }
        let link = self.chain(&stored, &leaf);
        let chained = matches!(link, Link::Fits);
        if let Link::Broken(reason) = link {
            layers.insert(Layer::Chain);
            text.push(reason);
        }
        self.push_leaf(Some(leaf));
        if !layers.is_empty() {
            let suspect = Suspect {
                sequence,
                id: stored.id,
                layers,
                text: text.join("; "),
                in_tree: in_tree == Some(leaf),
                chained,
            };
            self.suspects.add(suspect, stored.row);
        }
    }

    /// Checks the signature.
    fn chain(&mut self, stored: &Stored, leaf: &Hash) -> Link {
        let Some(ring) = &self.with.ring else {
            return Link::Unknown;
        };
        let signature = decoded(&stored.hmac_signature);
        let before = std::mem::replace(&mut self.signatures, signature.into_iter().collect());
        let Some(key) = ring.get(&stored.kid) else {
            return Link::Broken(format!(
                "it is signed with key {:?}, which is not known here",
                stored.kid
            ));
        };
        let expected: Vec<Hash> = before.iter().map(|s| key.sign(s, leaf)).collect();
        let fits = signature.is_some_and(|signature| expected.contains(&signature));
        let gap = std::mem::take(&mut self.behind_gap);
        if fits {
            return Link::Fits;
        }
        // Its content, its sequence or its signature was changed: the row after it shows which.
        if let Some(leaf) = self.leaf_stored(stored.row.sequence) {
            let of_tree = before.iter().map(|s| key.sign(s, &leaf));
            self.signatures.extend(of_tree);
        }
        self.signatures.extend(expected);
        self.signatures.truncate(MOST_SIGNATURES);
        if before.is_empty() || gap {
            return Link::Unknown;
        }
        Link::Broken("its signature does not follow from the row before it".to_owned())
    }

    /// Goes over rows that are missing before this one.
    fn bridge(&mut self, sequence: u64, kid: Option<&str>, count: bool) {
        self.bridge_archived(sequence, count);
        if self.next >= sequence {
            return;
        }
        let with = self.with;
        let key = kid.and_then(|kid| with.ring.as_ref()?.get(kid));
        self.behind_gap = true;
        if count
            && self
                .with
                .archived
                .is_none_or(|(archived, _)| self.next > archived)
        {
            let (first, last) = (self.next, sequence - 1);
            self.missing(first, last);
        }
        for gone in self.next..sequence {
            let leaf = self.leaf_stored(gone);
            self.signatures = match (key, leaf) {
                (Some(key), Some(leaf)) => {
                    self.signatures.iter().map(|s| key.sign(s, &leaf)).collect()
                }
                _ => Vec::new(),
            };
            if count {
                self.push_leaf(None);
            }
        }
    }

    /// Goes over archived rows up to their end: the stored tree has their leaves, and the log itself
    /// states what the first row after them is chained to.
    fn bridge_archived(&mut self, sequence: u64, count: bool) {
        let Some((archived, signature)) = self.with.archived else {
            return;
        };
        if self.next > archived || sequence <= archived {
            return;
        }
        if count {
            for _ in self.next..=archived {
                self.push_leaf(None);
            }
        }
        self.signatures = vec![signature];
        self.behind_gap = false;
        self.next = archived + 1;
    }

    fn missing(&mut self, first: u64, last: u64) {
        let text = if first == last {
            format!("row {first} is missing")
        } else {
            format!("rows {first} to {last} are missing")
        };
        self.finding(None, first, Kind::RowMissing, [Layer::Form], text);
    }

    fn push_leaf(&mut self, leaf: Option<Hash>) {
        self.leaves.push(leaf);
        let at = self.tile_begin() + self.leaves.len() as u64;
        if self.with.sizes.contains(&at) && !at.is_multiple_of(UNIT) {
            let tail = self.hashes();
            self.checked.tails.insert(at, tail);
        }
        if self.leaves.len() == WIDTH {
            let unit = self.hashes();
            self.checked.units.push(unit);
            self.leaves.clear();
        }
    }

    /// Rows before the tile that is being read: leaves are pushed from the range's first row on.
    fn tile_begin(&self) -> u64 {
        self.first - 1 + self.checked.units.len() as u64 * UNIT
    }

    /// The hash of the tile as far as it was read.
    fn hashes(&self) -> Unit {
        let index = self.tile_begin() / UNIT;
        let stored = self.tiles.0.get(&TileId { level: 0, index });
        let stored = stored.and_then(|tile| tile.get(..self.leaves.len()));
        let filled: Option<Vec<Hash>> = (0..self.leaves.len())
            .map(|at| self.leaves[at].or_else(|| stored.map(|tile| tile[at])))
            .collect();
        Unit {
            rows: filled.map(|leaves| of(&leaves)),
            stored: stored.map(of),
        }
    }

    fn finding<const N: usize>(
        &mut self,
        id: Option<i64>,
        sequence: u64,
        kind: Kind,
        layers: [Layer; N],
        text: String,
    ) {
        self.checked.findings.add(Finding {
            stream: Some(self.with.stream.to_string()),
            sequence: Some(sequence),
            id,
            kind,
            layers: layers.into_iter().collect(),
            text,
        });
    }

    /// All that was found out, with what was done to each row that is not as it should be.
    fn ended(mut self) -> Checked {
        let suspects = std::mem::take(&mut self.suspects);
        let mut findings = std::mem::take(&mut self.checked.findings);
        suspects.settle(
            &self.with.stream,
            |sequence| self.leaf_stored(sequence),
            &mut findings,
        );
        self.checked.findings = findings;
        self.checked
    }
}

/// The hash of leaves that begin at a full tile.
fn of(leaves: &[Hash]) -> Hash {
    if leaves.len() == WIDTH {
        return perfect(leaves);
    }
    tree::root(leaves, leaves.len() as u64).expect("all leaves are there")
}

/// A signature as the table has it: 64 lower-case hex digits.
fn decoded(text: &str) -> Option<Hash> {
    HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
