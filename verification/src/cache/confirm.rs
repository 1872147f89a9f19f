//! Candidates, checked again until it is certain what they are.
//!
//! What the cache must show is exact at any moment: rows and checkpoints are read in one snapshot,
//! and the streams are read up to those checkpoints. Whether the streams and `_files` agree is
//! exact only for a file that does not change: no operation of it is pending, its last position is
//! covered by the stream, and it is the same before and after. A file that keeps changing until the
//! time is over is in flight, and no finding.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use artstore_bus::connection::Bus;
use artstore_producers::operations::pending::Limits;
use artstore_schemas::element::ElementName;
use artstore_schemas::source::Source;
use artstore_schemas::subject;
use serde::Serialize;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use super::checkpoints::{self, CheckedCheckpoint};
use super::element_files::{ElementFiles, see_all};
use super::messages::headers_at;
use super::rows::{self, CacheRow};
use super::stream_files::Streams;
use super::verdict::{FilesSnapshot, Open, Verdict};
use crate::finding::Finding;

/// The most files that are checked together: their events and rows are in memory.
const CHUNK: usize = 2_000;

/// How often a file is checked before it counts as in flight.
const ATTEMPTS: usize = 6;

/// What candidates are checked with.
pub struct Confirm<'a> {
    /// The bus.
    pub bus: &'a Bus,
    /// All elements that have a stream, also those whose database is not known here.
    pub streams: &'a [ElementName],
    /// Sources whose rows no relay publishes now.
    pub unpublished: &'a BTreeSet<Source>,
    /// Sources whose events no projector applies now.
    pub unapplied: &'a BTreeSet<Source>,
    /// Whether a checkpoint was moved back, so that rows come from messages after it.
    pub rows_behind: bool,
    /// How long relay and projector may take to catch up, in all.
    pub deadline: Instant,
}

/// What came of them.
#[derive(Debug, Default)]
pub struct Confirmed {
    /// What is certain.
    pub findings: Vec<Finding>,
    /// How many did not come to stand still.
    pub in_flight: u64,
    /// Files that stand still and differ, but have an operation that is pending: by element.
    pub pending: BTreeMap<ElementName, PendingFiles>,
}

/// Files of an element that differ while an operation of theirs is pending: nobody can know yet what
/// they should be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct PendingFiles {
    /// How many.
    pub files: u64,
    /// Of how many the operation was left behind: it has been pending for as long as
    /// `artstore wal pending` takes for that.
    pub left_behind: u64,
    /// For how long the oldest of the operations has been pending, in seconds.
    pub oldest_seconds: u64,
}

/// Which files' positions a stream covers, at its end as it was then.
struct Covered {
    files: HashSet<Uuid>,
    end: u64,
}

impl Confirm<'_> {
    /// Looks at all of them, file by file of one partition together: so each stream is read by
    /// partitions, and not as often as there are files.
    pub async fn all(
        &self,
        elements: &mut [(ElementName, PgConnection)],
        query: &mut PgConnection,
        candidates: HashSet<Uuid>,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> anyhow::Result<Confirmed> {
        let mut candidates: Vec<Uuid> = candidates.into_iter().collect();
        candidates.sort_by_key(|id| (subject::partition(Some(*id)), *id));
        let total = candidates.len() as u64;
        let mut confirmed = Confirmed::default();
        let mut done = 0;
        for chunk in candidates.chunks(CHUNK) {
            progress(done, total);
            self.chunk(elements, query, chunk, &mut confirmed).await?;
            done += chunk.len() as u64;
        }
        progress(done, total);
        Ok(confirmed)
    }

    async fn chunk(
        &self,
        elements: &mut [(ElementName, PgConnection)],
        query: &mut PgConnection,
        chunk: &[Uuid],
        confirmed: &mut Confirmed,
    ) -> anyhow::Result<()> {
        let mut ids = chunk.to_vec();
        let mut left = Vec::new();
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                // An attempt takes as long as the streams are read; what moves gets a moment more.
                tokio::time::sleep(Duration::from_millis(100 << attempt)).await;
            }
            left = self.check_once(elements, query, &ids, confirmed).await?;
            if left.is_empty() {
                break;
            }
            ids = left.iter().map(|open| open.id).collect();
        }
        let left_behind = Limits::default().older_than;
        for open in left {
            let Some((index, age)) = open.pending else {
                confirmed.in_flight += 1;
                continue;
            };
            let pending = confirmed
                .pending
                .entry(elements[index].0.clone())
                .or_default();
            pending.files += 1;
            pending.left_behind += u64::from(age >= left_behind);
            pending.oldest_seconds = pending.oldest_seconds.max(age.as_secs());
        }
        Ok(())
    }

    /// Returns the files of which nothing is certain yet.
    async fn check_once(
        &self,
        elements: &mut [(ElementName, PgConnection)],
        query: &mut PgConnection,
        ids: &[Uuid],
        confirmed: &mut Confirmed,
    ) -> anyhow::Result<Vec<Open>> {
        let before = see_all(elements, ids).await?;
        let covered = self.covered(elements, &before).await?;
        self.wait_for_projector(query).await?;
        let mut snapshot = query.begin().await?;
        sqlx::raw_sql("set transaction isolation level repeatable read read only")
            .execute(&mut *snapshot)
            .await?;
        let rows = rows::cached(&mut snapshot, ids).await?;
        let sources: Vec<Source> = self.streams.iter().cloned().map(Source::Element).collect();
        let stored = checkpoints::stored(&mut snapshot, &sources).await?;
        snapshot.rollback().await?;
        let places = checkpoints::places(self.bus, stored).await?;
        let rows: HashMap<Uuid, CacheRow> = rows
            .into_iter()
            .filter_map(|row| Some((row.id.parse().ok()?, row)))
            .collect();
        let wanted: HashSet<Uuid> = ids.iter().copied().collect();
        let mut streams = Streams::default();
        for (element, place) in self.streams.iter().zip(&places) {
            streams
                .read(self.bus, element, &wanted, 0, place.provable)
                .await?;
        }
        let later = self.read_on(&streams, &wanted, &places).await?;
        let after = see_all(elements, ids).await?;
        let applied = |element: &ElementName, end: u64| {
            let place = self.streams.iter().position(|known| known == element);
            place.is_some_and(|place| places[place].provable >= end)
        };
        let covered = covered.into_iter().zip(&*elements);
        let snapshot = FilesSnapshot {
            elements: elements.iter().map(|(element, _)| element).collect(),
            before,
            covered: covered
                .map(
                    |(covered, (element, _))| match applied(element, covered.end) {
                        true => covered.files,
                        false => HashSet::new(),
                    },
                )
                .collect(),
            after,
            rows,
            streams,
            later,
        };
        let mut left = Vec::new();
        for id in ids {
            match snapshot.verdict(*id) {
                Verdict::Certain(findings) => confirmed.findings.extend(findings),
                Verdict::Open(open) => left.push(open),
            }
        }
        Ok(left)
    }

    /// Rows that come from messages after a checkpoint are what the stream states further on.
    async fn read_on(
        &self,
        streams: &Streams,
        wanted: &HashSet<Uuid>,
        places: &[CheckedCheckpoint],
    ) -> anyhow::Result<Option<Streams>> {
        if !self.rows_behind {
            return Ok(None);
        }
        let mut later = streams.clone();
        for (element, place) in self.streams.iter().zip(places) {
            later
                .read(self.bus, element, wanted, place.provable, place.end)
                .await?;
        }
        Ok(Some(later))
    }

    /// Waits until the streams cover the files' positions, and returns for which files they do.
    async fn covered(
        &self,
        elements: &[(ElementName, PgConnection)],
        seen: &[ElementFiles],
    ) -> anyhow::Result<Vec<Covered>> {
        let mut covered = Vec::with_capacity(elements.len());
        for ((element, _), seen) in elements.iter().zip(seen) {
            covered.push(loop {
                let source = Source::Element(element.clone());
                let info = self.bus.stream_info(&source.stream()).await?;
                let end = info.state.last_sequence;
                let last = headers_at(self.bus, &source, end).await?;
                let covers = |position: i64| {
                    let last = last.as_ref();
                    last.is_some_and(|l| {
                        position <= l.high_water_mark && !l.gaps.contains(position)
                    })
                };
                let positions = seen.positions.iter();
                let files: HashSet<Uuid> = positions
                    .filter(|(_, position)| covers(**position))
                    .map(|(id, _)| *id)
                    .collect();
                let waits = !self.unpublished.contains(&source) && Instant::now() < self.deadline;
                if files.len() == seen.positions.len() || !waits {
                    break Covered { files, end };
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            });
        }
        Ok(covered)
    }

    /// Waits until the checkpoints have passed the streams' present ends.
    async fn wait_for_projector(&self, query: &mut PgConnection) -> anyhow::Result<()> {
        let mut ends = BTreeMap::new();
        for element in self.streams {
            let source = Source::Element(element.clone());
            if self.unapplied.contains(&source) {
                continue;
            }
            let stream = source.stream();
            let end = self.bus.stream_info(&stream).await?.state.last_sequence;
            ends.insert(stream, i64::try_from(end).unwrap_or(i64::MAX));
        }
        loop {
            let behind: i64 = sqlx::query_scalar(
                "select count(*) from unnest($1::text[], $2::bigint[]) as wanted(stream, sequence) \
                 left join public.projection_checkpoints c \
                     on c.projection = 'query-cache' and c.stream = wanted.stream \
                 where coalesce(c.last_sequence, 0) < wanted.sequence",
            )
            .bind(ends.keys().cloned().collect::<Vec<_>>())
            .bind(ends.values().copied().collect::<Vec<_>>())
            .fetch_one(&mut *query)
            .await?;
            if behind == 0 || Instant::now() >= self.deadline {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
