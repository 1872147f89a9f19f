//! The log of one stream: heads first, then all rows in ranges, several at once, then the size and root that
//! they lead to. Findings go to [`super::report`].

use artstore_runtime::count::counted;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use artstore_bus::connection::Bus;
use artstore_projectors::audit_log::chain::{Keyring, origin_hash};
use artstore_projectors::audit_log::head::origin;
use artstore_projectors::audit_log::note::VerifierKey;
use artstore_runtime::crash;
use artstore_schemas::source::Source;
use serde::Serialize;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinSet;

use super::LegacySeen;
use super::archive::Archived;
use super::archive::recorded::{self, Recorded};
use super::facts::{End, Facts};
use super::finding::{Finding, Findings, Kind, Layer};
use super::heads::{Expected, Heads};
use super::moment::Moment;
pub use super::moment::connect;
use super::rows::{self, Checked, Range, UNIT, Unit, With};
use super::tiles::{self, stored_tail, stored_units};

/// Rows of a range; a multiple of [`UNIT`].
const RANGE: u64 = 64 * UNIT;

/// A log has no more rows than twice those that exist or were signed, and so many.
const SLACK: u64 = 100_000;

/// Ranges that are read at once, each by a task of its own, so that every core computes.
const AT_ONCE: usize = 4;

/// Ranges that were read and wait for one before them.
const WAITING: usize = 2 * AT_ONCE;

/// With what, and what, is checked.
pub struct Check<'a> {
    /// The admin module's database.
    pub database: &'a PgConnectOptions,
    /// The bus; none: heads are taken from the database alone.
    pub bus: Option<&'a Bus>,
    /// The secrets; none: the chain is not checked.
    pub ring: Option<&'a Keyring>,
    /// The keys whose heads count.
    pub trusted: &'a [VerifierKey],
    /// Only these rows.
    pub range: Option<(u64, u64)>,
    /// A folder of archives, to be checked as well.
    pub archives: Option<&'a Path>,
    /// Rows read, of all streams.
    pub done: &'a AtomicU64,
}

/// What is known of one stream's log.
#[derive(Debug, Clone, Serialize)]
pub struct LogReport {
    /// The stream.
    pub stream: String,
    /// How many rows the log has.
    pub size: u64,
    /// How many of them were read.
    pub rows: u64,
    /// How many heads the database has.
    pub heads: u64,
    /// The size of the last head, in the database or on the bus.
    pub last_head: u64,
    /// Up to this row a signed head covers them, and they lead to it.
    pub proven: u64,
    /// How many of the rows that were read stand up to there.
    pub rows_proven: u64,
    /// Rows up to this one were archived, as the log itself records.
    pub archived: Option<Archived>,
    /// What is wrong.
    pub findings: Findings,
}

/// Checks the log of one stream.
pub async fn check(
    check: &Check<'_>,
    source: &Source,
    legacy: &mut LegacySeen,
) -> anyhow::Result<LogReport> {
    let stream = source.stream();
    let mut heads = Heads::default();
    // The name in the heads is the one that the log has used from its first row on.
    let mut connection = connect(check.database).await?;
    let known = End::read(&mut connection, &stream).await?;
    connection.close().await?;
    let said = known.as_ref().map(|end| end.origin.as_str());
    let origin = origin_of(check.trusted, &stream, said);
    let expected = Expected {
        stream: &stream,
        origin: &origin,
        trusted: check.trusted,
    };
    if let Some(bus) = check.bus {
        let read = heads.read_bus(bus, source, expected, &mut legacy.0).await;
        read.with_context(|| format!("heads of {stream} on the bus"))?;
    }
    let mut moment = Moment::of(check.database, AT_ONCE).await?;
    let report = in_moment(check, expected, &mut heads, &mut moment, legacy).await;
    moment.close().await;
    let mut report = report.with_context(|| format!("audit log of {stream}"))?;
    if known.is_some_and(|end| end.origin != origin) {
        report.findings.add(Finding::of_log(
            &stream,
            Kind::LogChanged,
            Layer::Form,
            format!("the database says that this is another log than {origin}"),
        ));
    }
    Ok(report)
}

/// The log's name: by a key that is trusted here; among several names, the one that the database
/// says.
fn origin_of(trusted: &[VerifierKey], stream: &str, said: Option<&str>) -> String {
    let mut names = trusted.iter().map(|key| origin(key.name(), stream));
    let first = names.next().unwrap_or_default();
    match said {
        Some(said) if names.any(|name| name == said) => said.to_owned(),
        Some(_) | None => first,
    }
}

async fn in_moment(
    check: &Check<'_>,
    expected: Expected<'_>,
    heads: &mut Heads,
    moment: &mut Moment,
    legacy: &mut LegacySeen,
) -> anyhow::Result<LogReport> {
    let Expected { stream, origin, .. } = expected;
    let connection = &mut moment.connections[0];
    heads
        .read_database(connection, expected, &mut legacy.0)
        .await?;
    let begin = origin_hash(origin);
    let end = End::read(connection, stream).await?.unwrap_or(End {
        origin: origin.to_owned(),
        size: 0,
        last_signature: Some(begin),
    });
    let facts = Facts::read(connection, stream).await?;
    // Of the same moment: rows that are gone now were recorded before.
    let recorded = recorded::read(connection, check.trusted).await?;
    let archived = recorded.archives.get(stream).cloned();
    let mut findings = Findings::default();
    let facts_wrong = facts.findings(stream, &end);
    facts_wrong
        .into_iter()
        .for_each(|found| findings.add(found));
    unfit(stream, recorded, &mut findings);
    // What the database claims, or has: whichever is more, but nothing that can't be a log of so
    // many rows and such heads.
    let most = heads
        .last
        .max(facts.rows)
        .saturating_mul(2)
        .saturating_add(SLACK);
    let size = end.size.max(facts.last).min(most);
    if end.size > most {
        let text = format!(
            "the log's end says {}; there are {}, and the last head is of {}",
            counted(end.size, "row"),
            facts.rows,
            heads.last
        );
        let finding = Finding::of_log(stream, Kind::LogChanged, Layer::Form, text);
        findings.add(finding);
    }
    let (first, last) = match check.range {
        // Whole tiles: what a head proves of a tile rests on each of its rows.
        Some((first, last)) => (
            first.max(1),
            last.min(size).div_ceil(UNIT).saturating_mul(UNIT).min(size),
        ),
        None => (1, size),
    };
    let sizes = Arc::new(heads.sizes());
    let with = With {
        stream: stream.into(),
        ring: check.ring.cloned().map(Arc::new),
        origin: begin,
        sizes: Arc::clone(&sizes),
        archived: archived
            .as_ref()
            .and_then(|archived| Some((archived.last, archived.signature()?))),
    };
    let begun = (first.max(1) - 1) / UNIT * UNIT + 1;
    let units = stored_units(connection, stream, size).await?;
    let mut read = Read {
        at: usize::try_from(begun / UNIT).unwrap_or(usize::MAX),
        units,
        tails: BTreeMap::new(),
        rows: 0,
        findings,
    };
    ranges(check.done, moment, Arc::new(with), (begun, last), &mut read).await?;
    let connection = &mut moment.connections[0];
    if check.range.is_some() {
        outside(connection, stream, &sizes, (begun, last), &mut read.tails).await?;
    }
    let of_tiles = tiles::compare(connection, stream, size, &read.units).await?;
    of_tiles
        .into_iter()
        .for_each(|found| read.findings.add(found));
    let proven = heads.compare(stream, size, &read.units, &read.tails);
    let mut findings = read.findings;
    findings.settle(|finding| beside_the_tree(finding, proven.rows, heads.last));
    findings.merge(std::mem::take(&mut heads.findings));
    let gone = archived.as_ref().map_or(0, |archived| archived.last);
    let rows_proven = proven.rows.min(last).saturating_sub(gone.max(begun - 1));
    Ok(LogReport {
        stream: stream.to_owned(),
        size,
        rows: read.rows,
        heads: heads.count,
        last_head: heads.last,
        proven: proven.rows,
        rows_proven: rows_proven.min(read.rows),
        archived,
        findings,
    })
}

/// What the log records as archived and can't have been: reported once, with the log that states it.
fn unfit(stream: &str, recorded: Recorded, findings: &mut Findings) {
    if stream != Source::Admin.stream() {
        return;
    }
    for unfit in recorded.unfit {
        findings.add(Finding {
            stream: Some(stream.to_owned()),
            sequence: Some(unfit.sequence),
            id: Some(unfit.id),
            kind: Kind::ArchiveUnfit,
            layers: [Layer::Heads].into(),
            text: format!("row {}: {}", unfit.sequence, unfit.reason),
        });
    }
}

/// A row that differs from the stored tree alone: a head that covers the row, and that the rows lead
/// to, proves that it is the tree that was changed; a head that they do not lead to, that it may be
/// the row, whatever its signature states. Behind the last head, the signature stays the verdict.
fn beside_the_tree(mut finding: Finding, proven: u64, last_head: u64) -> Finding {
    let alone = finding.layers == BTreeSet::from([Layer::Tree]) && finding.id.is_some();
    let Some(sequence) = finding.sequence.filter(|_| alone) else {
        return finding;
    };
    finding.kind = match finding.kind {
        Kind::RowEdited | Kind::TileEdited if sequence <= proven => Kind::TileEdited,
        Kind::RowEdited | Kind::TileEdited if sequence <= last_head => Kind::RowEdited,
        kind => kind,
    };
    if finding.kind == Kind::TileEdited {
        finding.text = format!(
            "the leaf of row {sequence} in the stored tree is another one; the row is as it was signed"
        );
    }
    finding
}

/// What was read of a log, in the order of its rows.
struct Read {
    /// The full tile that comes next.
    at: usize,
    units: Vec<Unit>,
    tails: BTreeMap<u64, Unit>,
    rows: u64,
    findings: Findings,
}

impl Read {
    fn take(&mut self, part: Checked) {
        self.rows += part.rows;
        for unit in part.units {
            if self.units.len() <= self.at {
                self.units.resize(self.at + 1, NOTHING);
            }
            self.units[self.at] = unit;
            self.at += 1;
        }
        self.tails.extend(part.tails);
        self.findings.merge(part.findings);
    }
}

/// Reads the rows from `begun` to `last`, several ranges at once. What was read is taken in order;
/// no more than some ranges wait for one before them.
async fn ranges(
    done: &AtomicU64,
    moment: &mut Moment,
    with: Arc<With>,
    (begun, last): (u64, u64),
    read: &mut Read,
) -> anyhow::Result<()> {
    let mut left = (begun..=last)
        .step_by(usize::try_from(RANGE).unwrap_or(usize::MAX))
        .map(|first| Range {
            first,
            last: last.min(first + RANGE - 1),
        })
        .peekable();
    let mut running = JoinSet::new();
    let mut waiting: BTreeMap<u64, Checked> = BTreeMap::new();
    let mut next = begun;
    loop {
        while running.len() + waiting.len() < WAITING && left.peek().is_some() {
            let (Some(mut connection), Some(range)) = (moment.connections.pop(), left.next())
            else {
                break;
            };
            let with = Arc::clone(&with);
            running.spawn(async move {
                let checked = rows::check(&mut connection, range, &with).await;
                (connection, range, checked)
            });
        }
        let Some(joined) = running.join_next().await else {
            return Ok(());
        };
        let checked =
            joined
                .context("a task that read rows")
                .and_then(|(connection, range, checked)| {
                    moment.connections.push(connection);
                    Ok((range, checked?))
                });
        let (range, checked) = match checked {
            Ok(checked) => checked,
            Err(error) => {
                running.shutdown().await;
                return Err(error);
            }
        };
        done.fetch_add(checked.rows, Ordering::Relaxed);
        crash::point("audit.checked");
        waiting.insert(range.first, checked);
        while let Some(checked) = waiting.remove(&next) {
            read.take(checked);
            next += RANGE;
        }
    }
}

const NOTHING: Unit = Unit {
    rows: None,
    stored: None,
};

/// Heads at sizes outside the rows that are read, inside a tile: the stored tree has them.
async fn outside(
    connection: &mut PgConnection,
    stream: &str,
    sizes: &BTreeSet<u64>,
    (begun, last): (u64, u64),
    tails: &mut BTreeMap<u64, Unit>,
) -> Result<(), sqlx::Error> {
    for size in sizes.iter().filter(|size| **size > last || **size < begun) {
        if let Some(tail) = stored_tail(connection, stream, *size).await? {
            tails.insert(*size, tail);
        }
    }
    Ok(())
}
