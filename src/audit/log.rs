//! The log of one stream: heads first, then all rows in ranges, several at once, then what they
//! lead to. What is found goes to [`super::report`].

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use artstore_projectors::audit_log::chain::{Keyring, origin_hash};
use artstore_projectors::audit_log::head::origin;
use artstore_projectors::audit_log::note::VerifierKey;
use artstore_projectors::audit_log::row::Hash;
use artstore_projectors::audit_log::store::{self, Tip};
use artstore_projectors::audit_log::tile::{Place, WIDTH};
use artstore_projectors::audit_log::tree::perfect;
use artstore_schemas::bus::Bus;
use artstore_schemas::source::Source;
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection};
use tokio::sync::Mutex;

use super::LegacySeen;
use super::archive::{Archived, recorded};
use super::finding::{Finding, Kind, Layer};
use super::heads::{Expected, Heads};
use super::rows::{self, Checked, Range, UNIT, Unit, With};

/// Rows of a range; a multiple of [`UNIT`].
const RANGE: u64 = 64 * UNIT;

/// A log has no more rows than twice those that are there or were signed, and so many.
const SLACK: u64 = 100_000;

/// Ranges that are read at once.
const AT_ONCE: usize = 4;

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
    /// Rows up to this one were archived, as the log itself says.
    pub archived: Option<Archived>,
    /// What is wrong, at most some thousand.
    pub findings: Vec<Finding>,
}

/// A database as it was at one moment, for several connections.
struct Moment {
    connections: Vec<Mutex<PgConnection>>,
}

impl Moment {
    async fn of(database: &PgConnectOptions) -> anyhow::Result<Self> {
        let mut first = connect(database).await?;
        sqlx::raw_sql("begin isolation level repeatable read, read only")
            .execute(&mut first)
            .await?;
        let snapshot: String = sqlx::query_scalar("select pg_export_snapshot()")
            .fetch_one(&mut first)
            .await?;
        let mut connections = vec![Mutex::new(first)];
        for _ in 1..AT_ONCE {
            let mut other = connect(database).await?;
            // The name is PostgreSQL's own: hex digits and dashes.
            let sql = format!(
                "begin isolation level repeatable read, read only; \
                 set transaction snapshot '{snapshot}'"
            );
            sqlx::raw_sql(AssertSqlSafe(sql))
                .execute(&mut other)
                .await?;
            connections.push(Mutex::new(other));
        }
        Ok(Self { connections })
    }

    async fn close(self) {
        for connection in self.connections {
            // It only read: nothing is lost.
            drop(connection.into_inner().close().await);
        }
    }
}

/// Connects as a reader.
pub async fn connect(database: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let options = database
        .clone()
        .application_name("artstore audit")
        .log_statements(tracing::log::LevelFilter::Trace)
        .log_slow_statements(tracing::log::LevelFilter::Off, Duration::ZERO);
    let mut connection = options.connect().await?;
    sqlx::raw_sql("set timezone = 'UTC'; set extra_float_digits = 1")
        .execute(&mut connection)
        .await?;
    Ok(connection)
}

/// Checks the log of one stream.
pub async fn check(
    check: &Check<'_>,
    source: &Source,
    legacy: &mut LegacySeen,
) -> anyhow::Result<LogReport> {
    let stream = source.stream();
    let mut heads = Heads::default();
    // The name in the heads is the one that the log has said from its first row on.
    let mut connection = connect(check.database).await?;
    let known = store::tip(&mut connection, &stream).await?;
    connection.close().await?;
    let said = known.as_ref().map(|tip| tip.origin.as_str());
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
    let moment = Moment::of(check.database).await?;
    let report = in_moment(check, &stream, &origin, &mut heads, &moment, legacy).await;
    moment.close().await;
    let mut report = report.with_context(|| format!("audit log of {stream}"))?;
    if known.is_some_and(|tip| tip.origin != origin) {
        report.findings.push(about(
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
    stream: &str,
    origin: &str,
    heads: &mut Heads,
    moment: &Moment,
    legacy: &mut LegacySeen,
) -> anyhow::Result<LogReport> {
    let expected = Expected {
        stream,
        origin,
        trusted: check.trusted,
    };
    let mut connection = moment.connections[0].lock().await;
    heads
        .read_database(&mut connection, expected, &mut legacy.0)
        .await?;
    let tip = store::tip(&mut connection, stream).await?;
    let facts = Facts::read(&mut connection, stream).await?;
    // Of the same moment: rows that are gone now were recorded before.
    let recorded = recorded::read(&mut connection, check.trusted).await?;
    let archived = recorded.archives.get(stream).cloned();
    drop(connection);
    let begin = origin_hash(origin);
    let tip = tip.unwrap_or(Tip {
        origin: origin.to_owned(),
        size: 0,
        last_signature: begin,
    });
    let mut findings = facts.findings(stream, &tip);
    // What the database claims, or has: whichever is more, but nothing that can't be a log of so
    // many rows and such heads.
    let most = heads.last.max(facts.rows).saturating_mul(2) + SLACK;
    let size = tip.size.max(facts.last).min(most);
    if tip.size > most {
        let text = format!(
            "the log's end says {} rows; there are {}, and the last head is of {}",
            tip.size, facts.rows, heads.last
        );
        findings.push(about(stream, Kind::LogChanged, Layer::Form, text));
    }
    let (first, last) = match check.range {
        Some((first, last)) => (first.max(1), last.min(size)),
        None => (1, size),
    };
    let sizes = heads.sizes();
    let with = With {
        ring: check.ring,
        origin: &begin,
        sizes: &sizes,
        archived: archived
            .as_ref()
            .and_then(|archived| Some((archived.last, archived.signature()?))),
    };
    let begun = (first.max(1) - 1) / UNIT * UNIT + 1;
    let ranges: Vec<Range> = (begun..=last)
        .step_by(usize::try_from(RANGE).unwrap_or(usize::MAX))
        .map(|first| Range {
            first,
            last: last.min(first + RANGE - 1),
        })
        .collect();
    let checked = futures::stream::iter(ranges)
        .map(|range| async move {
            let mut connection = free(moment).await;
            let checked = rows::check(&mut connection, stream, range, with).await?;
            check.done.fetch_add(checked.rows, Ordering::Relaxed);
            Ok::<_, sqlx::Error>(checked)
        })
        .buffered(AT_ONCE);
    let checked: Vec<Checked> = checked.try_collect().await?;
    let mut connection = moment.connections[0].lock().await;
    let mut units = stored_units(&mut connection, stream, size).await?;
    let mut tails = BTreeMap::new();
    let mut rows = 0;
    let mut at = usize::try_from(begun / UNIT).unwrap_or(usize::MAX);
    for part in checked {
        rows += part.rows;
        for unit in part.units {
            if units.len() <= at {
                units.resize(at + 1, NOTHING);
            }
            units[at] = unit;
            at += 1;
        }
        tails.extend(part.tails);
        findings.extend(part.findings);
    }
    if check.range.is_some() {
        // Heads at sizes behind the range inside a tile: the stored tree has them.
        for size in sizes.iter().filter(|size| **size > last || **size < begun) {
            if let Some(tail) = stored_tail(&mut connection, stream, *size).await? {
                tails.insert(*size, tail);
            }
        }
    }
    findings.extend(tiles(&mut connection, stream, size, &units).await?);
    let proven = heads.compare(stream, size, &units, &tails);
    findings.extend(std::mem::take(&mut heads.findings));
    Ok(LogReport {
        stream: stream.to_owned(),
        size,
        rows,
        heads: heads.count,
        last_head: heads.last,
        proven: proven.rows,
        archived,
        findings,
    })
}

async fn free(moment: &Moment) -> tokio::sync::MutexGuard<'_, PgConnection> {
    loop {
        for connection in &moment.connections {
            if let Ok(free) = connection.try_lock() {
                return free;
            }
        }
        // As many ranges as connections are read at once: one is about to be free.
        tokio::task::yield_now().await;
    }
}

const NOTHING: Unit = Unit {
    rows: None,
    stored: None,
};

/// What the tables say of the whole log.
struct Facts {
    /// How many rows there are.
    rows: u64,
    /// Rows whose sequence is none.
    below: u64,
    /// The highest sequence of a row; 0: there is none.
    last: u64,
    last_signature: Option<String>,
    checkpoint: Option<i64>,
}

impl Facts {
    async fn read(connection: &mut PgConnection, stream: &str) -> Result<Self, sqlx::Error> {
        let last: Option<(i64, String)> = sqlx::query_as(
            "select stream_sequence, coalesce(hmac_signature, '') from public.audit_logs \
             where stream = $1 and stream_sequence > 0 order by stream_sequence desc limit 1",
        )
        .bind(stream)
        .fetch_optional(&mut *connection)
        .await?;
        let checkpoint = sqlx::query_scalar(
            "select last_sequence from public.projection_checkpoints \
             where projection = 'audit-log' and stream = $1",
        )
        .bind(stream)
        .fetch_optional(&mut *connection)
        .await?;
        let (rows, below): (i64, i64) = sqlx::query_as(
            "select count(*), count(*) filter (where stream_sequence < 1 or stream_sequence is null) \
             from public.audit_logs where stream = $1",
        )
        .bind(stream)
        .fetch_one(&mut *connection)
        .await?;
        let (last, last_signature) = last.unzip();
        Ok(Self {
            rows: u64::try_from(rows).unwrap_or(0),
            below: u64::try_from(below).unwrap_or(0),
            last: u64::try_from(last.unwrap_or(0)).unwrap_or(0),
            last_signature,
            checkpoint,
        })
    }

    fn findings(&self, stream: &str, tip: &Tip) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut add = |kind, text| findings.push(about(stream, kind, Layer::Form, text));
        if self.last > tip.size {
            let text = format!(
                "rows {} to {} are behind the log's end",
                tip.size + 1,
                self.last
            );
            add(Kind::RowExtra, text);
        }
        if self.below > 0 {
            add(
                Kind::RowExtra,
                format!("{} rows have no place in the log", self.below),
            );
        }
        let checkpoint = self.checkpoint.unwrap_or(0);
        if u64::try_from(checkpoint) != Ok(tip.size) {
            let text = format!(
                "the log has {} rows by its tree, {checkpoint} by its checkpoint",
                tip.size
            );
            add(Kind::LogChanged, text);
        }
        let signature = hex(&tip.last_signature);
        if self.last == tip.size && tip.size > 0 && self.last_signature != Some(signature) {
            let text = "the last row's signature is not the one that the log's end says".to_owned();
            add(Kind::LogChanged, text);
        }
        findings
    }
}

fn hex(hash: &Hash) -> String {
    data_encoding::HEXLOWER.encode(hash)
}

fn about(stream: &str, kind: Kind, layer: Layer, text: String) -> Finding {
    Finding {
        stream: Some(stream.to_owned()),
        sequence: None,
        id: None,
        kind,
        layers: [layer].into(),
        text,
    }
}

/// The hashes of all full tiles of leaves, as the tiles above them say.
async fn stored_units(
    connection: &mut PgConnection,
    stream: &str,
    size: u64,
) -> Result<Vec<Unit>, sqlx::Error> {
    let full = size / UNIT;
    let mut units = Vec::new();
    for index in 0..full.div_ceil(UNIT) {
        let place = Place { level: 1, index };
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
async fn stored_tail(
    connection: &mut PgConnection,
    stream: &str,
    size: u64,
) -> Result<Option<Unit>, sqlx::Error> {
    let open = usize::try_from(size % UNIT).unwrap_or(0);
    let place = Place {
        level: 0,
        index: size / UNIT,
    };
    let tiles = store::tiles(connection, stream, &[place]).await?;
    let leaves = tiles.0.get(&place).and_then(|tile| tile.get(..open));
    let hash = leaves
        .filter(|leaves| !leaves.is_empty())
        .and_then(|leaves| artstore_projectors::audit_log::tree::root(leaves, leaves.len() as u64));
    Ok(hash.map(|hash| Unit {
        rows: Some(hash),
        stored: Some(hash),
    }))
}

/// Compares the stored tiles above the leaves with what the leaves' tiles lead to.
async fn tiles(
    connection: &mut PgConnection,
    stream: &str,
    size: u64,
    units: &[Unit],
) -> Result<Vec<Finding>, sqlx::Error> {
    let mut findings = Vec::new();
    let mut add = |place: Place, what: &str| {
        findings.push(about(
            stream,
            Kind::TileEdited,
            Layer::Tree,
            format!("tile {} of level {} {what}", place.index, place.level),
        ));
    };
    let missing = units.iter().position(|unit| unit.stored.is_none());
    if let Some(index) = missing {
        let index = index as u64;
        add(Place { level: 0, index }, "is not there");
    }
    let mut hashes: Vec<Option<Hash>> = units.iter().map(|unit| unit.stored).collect();
    let mut level = 1;
    while !hashes.is_empty() {
        for (index, below) in (0..).zip(hashes.chunks(WIDTH)) {
            let place = Place { level, index };
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
        let place = Place {
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
