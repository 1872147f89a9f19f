//! Signed heads: those in the database and those on the bus, each opened with trusted keys, then
//! compared with what the rows lead to.

use artstore_runtime::count::counted;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use artstore_bus::bus_error::BusError;
use artstore_bus::connection::Bus;
use artstore_bus::selection::Selection;
use artstore_bus::stream_name::{AUDIT_HEADS, audit_head_subject};
use artstore_bus::stream_reader::StreamReader;
use artstore_projectors::audit_log::head::{Boundary, Head};
use artstore_projectors::audit_log::note::VerifierKey;
use artstore_projectors::audit_log::row::{Hash, sha256};
use artstore_projectors::audit_log::tree::Frontier;
use artstore_schemas::source::Source;
use futures::TryStreamExt as _;
use sqlx::PgConnection;

use super::finding::{Finding, Findings, Kind, Layer};
use super::rows::{UNIT, Unit};

/// The longest that the last heads of the bus may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A projector that runs publishes a head at once; one that is older was published, or none runs.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(60);

/// Where a head was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FoundIn {
    Database,
    Bus,
}

impl FoundIn {
    fn name(self) -> &'static str {
        match self {
            Self::Database => "in the database",
            Self::Bus => "on the bus",
        }
    }
}

/// All heads of a stream's log.
#[derive(Debug, Default)]
pub struct Heads {
    /// By size: the root that was signed, a digest of the note, and where it was found.
    signed: BTreeMap<u64, Vec<(Hash, Hash, FoundIn)>>,
    /// The last one on the bus.
    pub published: u64,
    /// Whether the bus was read.
    of_bus: bool,
    /// How many there are, on the bus or in the database.
    pub count: u64,
    /// The last one.
    pub last: u64,
    /// What is wrong with them by themselves.
    pub findings: Findings,
}

/// What a head must be of.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The log.
    pub origin: &'a str,
    /// The keys that count.
    pub trusted: &'a [VerifierKey],
}

impl Heads {
    /// The sizes that heads were signed at.
    pub fn sizes(&self) -> BTreeSet<u64> {
        self.signed.keys().copied().collect()
    }

    /// Reads those on the bus. Before the rows are read: every one of them is of rows that are
    /// committed.
    pub(crate) async fn read_bus(
        &mut self,
        bus: &Bus,
        source: &Source,
        expected: Expected<'_>,
        legacy: &mut BTreeSet<(u64, i64, Hash)>,
    ) -> anyhow::Result<()> {
        self.of_bus = true;
        match bus.stream_info(AUDIT_HEADS).await {
            Ok(_) => {}
            Err(error @ BusError::NoStream(_)) => {
                let text =
                    format!("{error}; then start the projector, which publishes heads again");
                let finding =
                    Finding::of_log(expected.stream, Kind::HeadMissing, Layer::Heads, text);
                self.findings.add(finding);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        let selection = Selection {
            subjects: vec![audit_head_subject(&source.stream())],
            ..Selection::from(1).up_to_now()
        };
        let mut reader = StreamReader::open(bus, AUDIT_HEADS, selection).await?;
        while let Some(message) = reader.next_or_end(PATIENCE).await? {
            let note = String::from_utf8_lossy(&message.body).into_owned();
            if let Some(size) = self.take(FoundIn::Bus, None, &note, expected, legacy) {
                if size <= self.published {
                    let text = format!(
                        "head {size} on the bus (message {}) comes after head {}",
                        message.sequence, self.published
                    );
                    self.finding(expected.stream, size, Kind::HeadForged, text);
                }
                self.published = self.published.max(size);
            }
        }
        Ok(())
    }

    /// Reads those in the database.
    pub(crate) async fn read_database(
        &mut self,
        connection: &mut PgConnection,
        expected: Expected<'_>,
        legacy: &mut BTreeSet<(u64, i64, Hash)>,
    ) -> anyhow::Result<()> {
        let mut heads = sqlx::query_as::<_, (i64, String, bool)>(
            "select size, note, signed_at < clock_timestamp() - make_interval(secs => $2) \
             from public.audit_heads where stream = $1 order by size",
        )
        .bind(expected.stream)
        .bind(PUBLISHED_WITHIN.as_secs_f64())
        .fetch(connection);
        let mut there = BTreeSet::new();
        let on_bus = self.sizes();
        let mut lost: Vec<u64> = Vec::new();
        while let Some((size, note, is_old)) = heads.try_next().await? {
            let size = u64::try_from(size).unwrap_or(0);
            there.insert(size);
            // A head is committed first and published then, in ascending sizes.
            if self.of_bus && !on_bus.contains(&size) && (is_old || size < self.published) {
                lost.push(size);
            }
            self.take(FoundIn::Database, Some(size), &note, expected, legacy);
        }
        drop(heads);
        self.lost(expected.stream, &lost);
        let gone: Vec<u64> = self
            .signed
            .keys()
            .copied()
            .filter(|size| !there.contains(size))
            .collect();
        for size in gone {
            let text = format!("head {size} was published and is not in the database");
            self.finding(expected.stream, size, Kind::HeadMissing, text);
        }
        Ok(())
    }

    /// Heads of the database that the bus does not have: one finding, for they are lost together.
    fn lost(&mut self, stream: &str, lost: &[u64]) {
        let (Some(first), Some(last)) = (lost.first(), lost.last()) else {
            return;
        };
        let what = match lost.len() {
            1 => format!("head {first} is in the database and is not on the bus"),
            more => format!(
                "{more} heads, from {first} to {last}, are in the database and are not on the bus"
            ),
        };
        let text = match *last < self.published {
            // What is published after a larger one would look like another history.
            true => format!(
                "{what}, which has later ones: its stream lost them (a limit? `artstore bus init` names it). \
                 Rows are proven by the heads in the database; where witnesses keep heads, compare \
                 them (`artstore audit witness FILE`)"
            ),
            false => format!(
                "{what}: its stream was recreated or lost its end, or no projector has run since. A \
                 projector that is started (artstore run projector --projection audit-log) checks \
                 each, and publishes it again"
            ),
        };
        self.finding(stream, *first, Kind::HeadMissing, text);
    }

    /// Takes a note; the size of the head that it is, where it counts.
    fn take(
        &mut self,
        place: FoundIn,
        kept_as: Option<u64>,
        note: &str,
        expected: Expected<'_>,
        legacy: &mut BTreeSet<(u64, i64, Hash)>,
    ) -> Option<u64> {
        self.count += u64::from(place == FoundIn::Database);
        let digest = sha256(note.as_bytes());
        let known = kept_as
            .and_then(|size| self.signed.get(&size))
            .and_then(|known| known.iter().find(|(_, other, _)| *other == digest).copied());
        if let (Some(size), Some((root, ..))) = (kept_as, known) {
            // The same bytes were opened already.
            self.keep(size, root, digest, place);
            return Some(size);
        }
        let size = kept_as.unwrap_or(0);
        let (head, _) = match Head::open(note, expected.trusted) {
            Ok(opened) => opened,
            Err(error) => {
                let text = format!("head {size} {}: {error}", place.name());
                self.finding(expected.stream, size, Kind::HeadForged, text);
                return None;
            }
        };
        if head.origin != expected.origin || kept_as.is_some_and(|size| size != head.size) {
            let text = format!(
                "head {size} {}: it is head {} of {}",
                place.name(),
                head.size,
                head.origin
            );
            self.finding(expected.stream, size, Kind::HeadForged, text);
            return None;
        }
        let Boundary {
            rows,
            last_id,
            digest: below,
        } = head.legacy;
        legacy.insert((rows, last_id, below));
        self.keep(head.size, head.root, digest, place);
        Some(head.size)
    }

    fn keep(&mut self, size: u64, root: Hash, digest: Hash, place: FoundIn) {
        self.last = self.last.max(size);
        self.signed
            .entry(size)
            .or_default()
            .push((root, digest, place));
    }

    fn finding(&mut self, stream: &str, size: u64, kind: Kind, text: String) {
        self.findings.add(Finding {
            stream: Some(stream.to_owned()),
            sequence: Some(size),
            id: None,
            kind,
            layers: BTreeSet::from([Layer::Heads]),
            text,
        });
    }

    /// Compares them with the tree of the rows. Returns up to which size the rows are proven, and
    /// up to which size the *stored* tree is the one that was signed.
    pub fn compare(
        &mut self,
        stream: &str,
        size: u64,
        units: &[Unit],
        tails: &BTreeMap<u64, Unit>,
    ) -> Proven {
        let mut rows = Side::default();
        let mut stored = Side::default();
        let mut proven = Proven::default();
        let mut unfit: Vec<(u64, FoundIn)> = Vec::new();
        for (at, signed) in &self.signed {
            let full = usize::try_from(at / UNIT).unwrap_or(usize::MAX);
            rows.up_to(units, full, |unit| unit.rows);
            stored.up_to(units, full, |unit| unit.stored);
            let tail = tails.get(at);
            let open = !at.is_multiple_of(UNIT);
            let of_rows = rows.root(full, open, tail.and_then(|tail| tail.rows));
            let of_stored = stored.root(full, open, tail.and_then(|tail| tail.stored));
            for (root, _, place) in signed {
                if of_rows == Some(*root) {
                    proven.rows = *at;
                } else {
                    unfit.push((*at, *place));
                }
                if of_stored == Some(*root) {
                    proven.stored = *at;
                }
            }
        }
        let first = unfit.first().copied();
        if let Some((first, place)) = first {
            let from = format!(
                "between {} and {first}",
                proven_before(&self.signed, first) + 1
            );
            let text = if first > size {
                format!(
                    "head {first} {}: the log has only {}; its end is missing",
                    place.name(),
                    counted(size, "row")
                )
            } else {
                format!(
                    "head {first} {}, and {} behind it: the rows do not lead to what was signed; \
                     a row {from} was changed, put in or taken out",
                    place.name(),
                    unfit.len() - 1
                )
            };
            self.finding(stream, first, Kind::HeadUnfit, text);
            if let Some((last, place)) = unfit
                .last()
                .filter(|(last, _)| *last > size && first <= size)
            {
                let text = format!(
                    "head {last} {}: the log has only {}; its end is missing",
                    place.name(),
                    counted(size, "row")
                );
                self.finding(stream, *last, Kind::HeadUnfit, text);
            }
        }
        proven
    }
}

fn proven_before(signed: &BTreeMap<u64, Vec<(Hash, Hash, FoundIn)>>, size: u64) -> u64 {
    signed
        .range(..size)
        .next_back()
        .map_or(0, |(size, _)| *size)
}

/// What heads prove.
#[derive(Debug, Clone, Copy, Default)]
pub struct Proven {
    /// The rows up to this one lead to a signed root.
    pub rows: u64,
    /// The stored tree up to there leads to one.
    pub stored: u64,
}

/// One of the two trees that are built up beside each other.
#[derive(Default)]
struct Side {
    frontier: Frontier,
    /// A tile of it is not known.
    broken: bool,
}

impl Side {
    fn up_to(&mut self, units: &[Unit], full: usize, of: impl Fn(&Unit) -> Option<Hash>) {
        let begun = usize::try_from(self.frontier.size()).unwrap_or(usize::MAX);
        for unit in units.iter().take(full).skip(begun) {
            match of(unit) {
                Some(hash) if !self.broken => self.frontier.push(hash),
                Some(_) | None => self.broken = true,
            }
        }
    }

    fn root(&self, full: usize, open: bool, tail: Option<Hash>) -> Option<Hash> {
        let whole = usize::try_from(self.frontier.size()) == Ok(full);
        if self.broken || !whole || open && tail.is_none() {
            return None;
        }
        Some(self.frontier.root(tail))
    }
}
