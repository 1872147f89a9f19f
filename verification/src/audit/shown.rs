//! Whether a row is the one that was signed, checked before it is shown: whoever has the rights can replace
//! a table with a view, or change a row between two checks. Each row's leaf is computed again and
//! compared with the stored tree, with its signature where the secret is set, and with a signed head where
//! public keys are set. A command selects the rows.

use artstore_runtime::count::{by, counted};
use std::collections::BTreeMap;
use std::process::ExitCode;

use artstore_projectors::audit_log::chain::{Keyring, origin_hash};
use artstore_projectors::audit_log::head::{Head, origin};
use artstore_projectors::audit_log::note::VerifierKey;
use artstore_projectors::audit_log::row::{FORMAT, Hash};
use artstore_projectors::audit_log::store::{self, Stored};
use artstore_projectors::audit_log::tile::{TileId, Tiles, Wanted};
use artstore_projectors::audit_log::tree;
use data_encoding::HEXLOWER;
use sqlx::PgConnection;

use super::rows::UNIT;

/// So many rows are named that are not as they were signed.
const NAMED: usize = 10;

/// Heads that are tried, the last one first.
const HEADS: i64 = 10;

/// What a check of a row shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It follows from the row before it by the secret, or a signed head covers it.
    Proven,
    /// Nothing speaks against it, and nothing proves it here.
    Unproven,
    /// The product wrote it: nothing can verify it.
    Unsigned,
    /// It is not the one that was signed.
    Wrong(String),
}

impl Verdict {
    /// What is wrong with the row.
    pub fn wrong(&self) -> Option<&str> {
        match self {
            Self::Wrong(reason) => Some(reason),
            Self::Proven | Self::Unproven | Self::Unsigned => None,
        }
    }
}

/// Checks rows, and counts what came of it.
pub struct RowChecker {
    ring: Option<Keyring>,
    trusted: Vec<VerifierKey>,
    wrong: u64,
    named: Vec<i64>,
    unproven: u64,
}

/// What the rows of one stream are compared with.
struct Evidence {
    tiles: Tiles,
    /// A head that a trusted key signed.
    head: Option<Head>,
    /// Whether there are heads, and no trusted key signed one of them.
    forged: bool,
    /// Tiles whose leaves that head proves.
    proven: BTreeMap<u64, bool>,
    /// The signatures of the rows before them.
    before: BTreeMap<u64, Hash>,
}

impl RowChecker {
    /// With the secrets, where they are set, and the public keys that are trusted.
    pub fn new((ring, trusted): (Option<Keyring>, Vec<VerifierKey>)) -> Self {
        Self {
            ring,
            trusted,
            wrong: 0,
            named: Vec::new(),
            unproven: 0,
        }
    }

    /// Keeps counting where another run has stopped.
    pub fn resumed(mut self, wrong: u64) -> Self {
        self.wrong = wrong;
        self
    }

    /// How many rows were not as they were signed.
    pub fn wrong(&self) -> u64 {
        self.wrong
    }

    /// Checks each of these rows.
    pub async fn check(
        &mut self,
        connection: &mut PgConnection,
        rows: &[Stored],
    ) -> Result<Vec<Verdict>, sqlx::Error> {
        let mut sequences: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for row in rows
            .iter()
            .filter(|row| row.format != 0 && row.row.sequence > 0)
        {
            let of = sequences.entry(&row.row.stream).or_default();
            of.push(row.row.sequence);
        }
        let mut evidence = BTreeMap::new();
        for (stream, sequences) in sequences {
            let of = self.evidence(connection, stream, &sequences).await?;
            evidence.insert(stream, of);
        }
        let verdicts: Vec<Verdict> = rows
            .iter()
            .map(|row| self.verdict(row, evidence.get(row.row.stream.as_str())))
            .collect();
        for (row, verdict) in rows.iter().zip(&verdicts) {
            match verdict {
                Verdict::Proven | Verdict::Unsigned => {}
                Verdict::Unproven => self.unproven += 1,
                Verdict::Wrong(_) => {
                    self.wrong += 1;
                    if self.named.len() < NAMED {
                        self.named.push(row.id);
                    }
                }
            }
        }
        Ok(verdicts)
    }

    async fn evidence(
        &self,
        connection: &mut PgConnection,
        stream: &str,
        sequences: &[u64],
    ) -> Result<Evidence, sqlx::Error> {
        let (head, forged) = match self.trusted.is_empty() {
            true => (None, false),
            false => self.head(connection, stream).await?,
        };
        let mut units: Vec<u64> = sequences.iter().map(|n| (n - 1) / UNIT).collect();
        units.sort_unstable();
        units.dedup();
        let size = head.as_ref().map_or(0, |head| head.size);
        let wanted = Wanted::default();
        let covered = units.iter().filter(|unit| *unit * UNIT < size);
        for unit in covered.clone() {
            tree::inclusion(&wanted, unit * UNIT, size);
        }
        let mut places = wanted.places();
        places.extend(units.iter().map(|index| TileId {
            level: 0,
            index: *index,
        }));
        places.sort_unstable();
        places.dedup();
        let tiles = store::tiles(connection, stream, &places).await?;
        // The path of a tile's first leaf leads over all others of the tile: it proves them all.
        let is_proven = |unit: u64| {
            let head = head.as_ref()?;
            let (index, tile) = (
                unit * UNIT,
                TileId {
                    level: 0,
                    index: unit,
                },
            );
            let leaf = tiles.0.get(&tile)?.first()?;
            let path = tree::inclusion(&tiles, index, size)?;
            Some(tree::is_included(index, size, leaf, &path, &head.root))
        };
        let proven = covered
            .map(|unit| (*unit, is_proven(*unit).unwrap_or(false)))
            .collect();
        let before = match self.ring {
            Some(_) => signatures(connection, stream, sequences).await?,
            None => BTreeMap::new(),
        };
        Ok(Evidence {
            tiles,
            head,
            forged,
            proven,
            before,
        })
    }

    /// The last head that a trusted key signed for this stream; and whether there are only others.
    async fn head(
        &self,
        connection: &mut PgConnection,
        stream: &str,
    ) -> Result<(Option<Head>, bool), sqlx::Error> {
        let notes: Vec<String> = sqlx::query_scalar(
            "select note from public.audit_heads where stream = $1 order by size desc limit $2",
        )
        .bind(stream)
        .bind(HEADS)
        .fetch_all(connection)
        .await?;
        let head = notes.iter().find_map(|note| {
            let (head, by) = Head::open(note, &self.trusted).ok()?;
            (head.origin == origin(by.name(), stream)).then_some(head)
        });
        let forged = head.is_none() && !notes.is_empty();
        Ok((head, forged))
    }

    fn verdict(&self, stored: &Stored, evidence: Option<&Evidence>) -> Verdict {
        let wrong = |reason: &str| Verdict::Wrong(reason.to_owned());
        let row = &stored.row;
        if stored.format == 0 {
            return match row.stream.is_empty() && row.sequence == 0 && stored.kid.is_empty() {
                true => Verdict::Unsigned,
                false => wrong("it is neither the product's nor of the log"),
            };
        }
        if let Some(problem) = &stored.broken {
            return Verdict::Wrong(problem.clone());
        }
        let Some(evidence) = evidence.filter(|_| stored.format == FORMAT) else {
            return wrong("it is of no log");
        };
        if stored.account_ids != row.account_ids() {
            return wrong("user_id or service_account_id is not the actor's");
        }
        let leaf = row.leaf();
        let unit = (row.sequence - 1) / UNIT;
        let place = TileId {
            level: 0,
            index: unit,
        };
        let at = usize::try_from((row.sequence - 1) % UNIT).unwrap_or(usize::MAX);
        if evidence.tiles.0.get(&place).and_then(|tile| tile.get(at)) != Some(&leaf) {
            return wrong("it is not the row in the stored tree");
        }
        let size = evidence.head.as_ref().map_or(0, |head| head.size);
        let covered = row.sequence <= size;
        if covered && evidence.proven.get(&unit) != Some(&true) {
            return wrong("the stored tree does not lead to the signed head");
        }
        if evidence.forged {
            return wrong("no trusted key signed the last heads of its log");
        }
        let chained = match &self.ring {
            None => None,
            Some(ring) => match (ring.get(&stored.kid), evidence.before.get(&row.sequence)) {
                (None, _) if covered => None,
                (None, _) => {
                    return Verdict::Wrong(format!(
                        "it is signed with the secret {:?}, which is not configured here",
                        stored.kid
                    ));
                }
                (Some(_), None) => None,
                (Some(key), Some(before)) => {
                    Some(HEXLOWER.encode(&key.sign(before, &leaf)) == stored.hmac_signature)
                }
            },
        };
        match (chained, covered) {
            (Some(false), _) => wrong("its signature does not follow from the row before it"),
            (Some(true), _) | (None, true) => Verdict::Proven,
            (None, false) => Verdict::Unproven,
        }
    }

    /// Reports on standard error what was wrong and what was not proven. The exit code of the command.
    pub fn end(&self) -> ExitCode {
        if self.unproven > 0 {
            let how = match (&self.ring, self.trusted.is_empty()) {
                (None, true) => {
                    "they are as the stored tree has them, which whoever can write the database can \
                     change: set SECURITY_AUDIT_HMAC_SECRET or SECURITY_AUDIT_VERIFIER_KEYS_PATH"
                }
                (None, false) => {
                    "they have no signed head yet, and SECURITY_AUDIT_HMAC_SECRET is not set: nothing \
                     proves them"
                }
                (Some(_), _) => {
                    "the rows before them are not there, and no signed head that can be checked here \
                     covers them (SECURITY_AUDIT_VERIFIER_KEYS_PATH)"
                }
            };
            eprintln!(
                "artstore: {} {} not proven: {how}",
                counted(self.unproven, "row"),
                by(self.unproven, "is", "are")
            );
        }
        if self.wrong == 0 {
            return ExitCode::SUCCESS;
        }
        let ids: Vec<String> = self.named.iter().map(ToString::to_string).collect();
        let more = if self.wrong > ids.len() as u64 {
            " and others"
        } else {
            ""
        };
        eprintln!(
            "artstore: NOT AS IT WAS SIGNED: {} (id {}{more}). See `artstore audit verify \
             --against-stream`; keep database, bus and logs as they are",
            counted(self.wrong, "row"),
            ids.join(", ")
        );
        ExitCode::FAILURE
    }
}

/// By sequence, the signature of the row before it; of the first one, the hash of the log's origin.
async fn signatures(
    connection: &mut PgConnection,
    stream: &str,
    sequences: &[u64],
) -> Result<BTreeMap<u64, Hash>, sqlx::Error> {
    let wanted: Vec<i64> = sequences
        .iter()
        .map(|n| i64::try_from(*n).unwrap_or(i64::MAX))
        .collect();
    let rows: Vec<(i64, Option<String>, Option<String>)> = sqlx::query_as(
        "select wanted.n, before.hmac_signature, tree.origin \
         from unnest($2::bigint[]) as wanted (n) \
         left join public.audit_logs before on before.stream = $1 and before.stream_sequence = wanted.n - 1 \
         left join public.audit_trees tree on tree.stream = $1 and wanted.n = 1",
    )
    .bind(stream)
    .bind(wanted)
    .fetch_all(connection)
    .await?;
    let of = |signature: Option<String>, origin: Option<String>| match (origin, signature) {
        (Some(origin), _) => Some(origin_hash(&origin)),
        (None, signature) => HEXLOWER.decode(signature?.as_bytes()).ok()?.try_into().ok(),
    };
    Ok(rows
        .into_iter()
        .filter_map(|(n, signature, origin)| Some((u64::try_from(n).ok()?, of(signature, origin)?)))
        .collect())
}
