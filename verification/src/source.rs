//! A source and its stream, from beginning to end: every finished row has exactly one message
//! that states what the row contains, and the stream is whole. The end is fixed first; what is
//! younger is in flight. It reads, and changes nothing.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use artstore_bus::connection::Bus;
use artstore_producers::relay::prune_mark;
use artstore_producers::relay::rows;
use artstore_schemas::source::Source;
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::accepted::Accepted;
use super::candidates::{Candidate, Candidates, MOST};
use super::finding::{Finding, Kind};
use super::matching;
use super::pass::{Pass, State};
use super::reader::Reader;
use super::settle;

/// How many messages are taken at once.
const BATCH: usize = 1_000;

/// What was found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The source.
    pub source: String,
    /// Its stream.
    pub stream: String,
    /// Finished rows that were checked.
    pub rows: u64,
    /// Messages of rows.
    pub messages: u64,
    /// How many of them are of rows that were pruned.
    pub pruned: u64,
    /// The last sequence that was read.
    pub sequence: u64,
    /// The event there, where it can be read.
    #[serde(skip)]
    pub last_event: Option<Uuid>,
    /// Every position up to this one agrees.
    pub proven: i64,
    /// The stream's high-water mark.
    pub published: i64,
    /// The lowest position in a message after the sequence that the pass was asked about
    /// ([`super::pass::Newer`]).
    #[serde(skip)]
    pub lowest_newer: Option<i64>,
    /// Rows that are younger than the check.
    pub in_flight: i64,
    /// Messages of other writers' rows that come after a higher position of the same file. Not
    /// a finding: two of their transactions may finish side by side, and then either order is
    /// right.
    pub overtaken: u64,
    /// Messages whose order among those of their file could not be checked: they came too long
    /// after the others.
    pub order_unchecked: u64,
    /// How many findings of each kind there are.
    pub counts: BTreeMap<Kind, u64>,
    /// The first of them, one by one.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether all is as it should be.
    pub fn is_clean(&self) -> bool {
        self.counts.is_empty()
    }

    /// How many findings of a kind there are.
    pub fn count(&self, kind: Kind) -> u64 {
        self.counts.get(&kind).copied().unwrap_or(0)
    }
}

/// How far a check has to go: fixed when it begins.
#[derive(Debug, Clone, Copy)]
pub struct Fixed {
    /// The stream's last sequence.
    pub sequence: u64,
    /// The highest position of a finished row.
    pub position: i64,
}

/// How a check ended.
pub enum Ended {
    /// With everything looked at.
    Done(Box<Report>),
    /// It was asked to stop on the way.
    Stopped(Box<Pass>),
}

/// Checks a source from the beginning. `wait`: how long the relay may take for what was finished
/// before the check, without any of it coming.
pub async fn compare(
    connection: &mut PgConnection,
    bus: &Bus,
    source: &Source,
    wait: Duration,
) -> anyhow::Result<Report> {
    let pass = begin(bus, source, State::default()).await?;
    match run(
        connection,
        bus,
        pass,
        wait,
        |_, _| ControlFlow::Continue(()),
    )
    .await?
    {
        Ended::Done(report) => Ok(*report),
        Ended::Stopped(_) => unreachable!("nobody asked it to stop"),
    }
}

/// A pass that continues from a state, with what is accepted up to now.
pub async fn begin(bus: &Bus, source: &Source, state: State) -> anyhow::Result<Pass> {
    let accepted = Accepted::read(bus, source).await?;
    Ok(Pass::new(source, accepted, state))
}

/// Runs a pass to its end; after every batch `step` is shown where it is, and may stop it.
pub async fn run(
    connection: &mut PgConnection,
    bus: &Bus,
    mut pass: Pass,
    wait: Duration,
    mut step: impl FnMut(&Pass, Fixed) -> ControlFlow<()>,
) -> anyhow::Result<Ended> {
    let source = pass.source().clone();
    // The stream first: every row of its messages is visible afterwards.
    let sequence = bus.stream_info(&source.stream()).await?.state.last_sequence;
    let position = rows::highest(connection, &pass.table).await?;
    pass.begin_prune_mark(connection).await?;
    let fixed = Fixed { sequence, position };
    pass.fixed = Some((sequence, position));
    let mut reader = Reader::new(bus, &source, pass.state.links.last);
    while pass.state.links.last < sequence {
        let batch = reader.batch(BATCH, Duration::from_secs(1)).await?;
        if batch.is_empty() {
            let info = bus.stream_info(&source.stream()).await?;
            if info.state.last_sequence < sequence {
                anyhow::bail!("stream {} was recreated while it was read", source.stream());
            }
            if reader.nothing_left().await? {
                pass.end(info.state.last_sequence);
            }
        }
        pass.messages(connection, &batch).await?;
        pass.rows_behind(connection).await?;
        if step(&pass, fixed).is_break() {
            return Ok(Ended::Stopped(Box::new(pass)));
        }
    }
    // What was finished before, and is not in the stream yet: the relay publishes it.
    let mut progress = (pass.state.links.highest().min(position), usize::MAX);
    let mut deadline = Instant::now() + wait;
    loop {
        pass.rows_up_to(connection, position).await?;
        let (high_water_mark, awaited) = (
            pass.state.links.highest().min(position),
            pass.state.matching.awaited().len(),
        );
        if high_water_mark >= position && awaited == 0 {
            break;
        }
        if high_water_mark > progress.0 || awaited < progress.1 {
            progress = (high_water_mark, awaited);
            deadline = Instant::now() + wait;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let patience = left.min(Duration::from_millis(200));
        let batch = reader.batch(BATCH, patience).await?;
        pass.messages(connection, &batch).await?;
        if step(&pass, fixed).is_break() {
            return Ok(Ended::Stopped(Box::new(pass)));
        }
    }
    unpublished(&mut pass, connection, position).await?;
    report(pass, connection, bus, fixed)
        .await
        .map(|report| Ended::Done(Box::new(report)))
}

/// Rows that the relay did not publish in time.
async fn unpublished(
    pass: &mut Pass,
    connection: &mut PgConnection,
    position: i64,
) -> anyhow::Result<()> {
    let prune_mark = prune_mark::read(connection, &pass.table).await?;
    let state = &mut pass.state;
    let found = &mut state.candidates;
    state.matching.give_up(found);
    if let Some((sequence, _)) = pass.fixed {
        state.matching.take_open_up_to(sequence, prune_mark, found);
    }
    let mut cursor = state.matching.cursor;
    while cursor < position {
        let (rows, complete) = rows::between(connection, &pass.table, cursor + 1, position).await?;
        for row in rows {
            state.matching.rows += 1;
            let candidate = matching::missing(row.position, row.id);
            state.candidates.add(Kind::MessageMissing, candidate);
        }
        cursor = complete;
    }
    state.matching.cursor = state.matching.cursor.max(position);
    Ok(())
}

async fn report(
    mut pass: Pass,
    connection: &mut PgConnection,
    bus: &Bus,
    fixed: Fixed,
) -> anyhow::Result<Report> {
    let (unnumbered, count) = rows::unnumbered(connection, &pass.table, MOST).await?;
    let mut left = settle::settle(&pass, connection, bus).await?;
    add_unnumbered(&mut left, unnumbered, count);
    pass.add_lost_pruned(&mut left);
    let mut findings: Vec<Finding> = left
        .all()
        .map(|(kind, candidate)| settle::finding(&pass, kind, candidate))
        .collect();
    findings.truncate(MOST);
    let counts = left.counts();
    pass.state.candidates = left;
    let source = pass.source();
    Ok(Report {
        source: source.to_string(),
        stream: source.stream(),
        rows: pass.state.matching.rows,
        messages: pass.state.matching.messages,
        pruned: pass.state.matching.pruned,
        sequence: pass.state.links.last,
        last_event: pass.state.links.last_id(),
        proven: pass.proven().min(fixed.position),
        published: pass.state.links.chain.high_water_mark,
        lowest_newer: pass.newer.lowest,
        in_flight: rows::above(connection, &pass.table, fixed.position).await?,
        overtaken: pass.state.matching.overtaken,
        order_unchecked: pass.order_unchecked(),
        counts,
        findings,
    })
}

/// Finished rows without a position, in place of those that were known before.
pub(super) fn add_unnumbered(found: &mut Candidates, ids: Vec<Uuid>, count: u64) {
    found.forget(Kind::RowUnnumbered);
    let listed = ids.len() as u64;
    for id in ids {
        let candidate = Candidate {
            id: Some(id),
            detail: "a finished row has no position: no relay sees it".to_owned(),
            ..Candidate::default()
        };
        found.add(Kind::RowUnnumbered, candidate);
    }
    found.count_only(Kind::RowUnnumbered, count - listed);
}
