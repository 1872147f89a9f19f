//! Accepting a source that was set back, restored or promoted: the command shows what it lost, and after an
//! operator's decision the record `source.accepted` begins a new epoch (`artstore_schemas::epoch`). An
//! element's stream is then backfilled from its files ([`artstore_producers::backfill::differences`]); where
//! the command is interrupted, a relay does that by itself.

use artstore_bus::connection::Bus;
use artstore_runtime::crash;
use artstore_schemas::epoch::{SourceAccepted, accepted};
use artstore_schemas::ranges::{Range, Ranges};
use artstore_schemas::source::Source;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::operator_command::{self, OperatorDecision, Publisher, RepairError};
use artstore_producers::backfill;
use artstore_producers::backfill::differences::{BackfillCounts, FILES_PER_PASS};
use artstore_producers::relay::RelayOptions;
use artstore_producers::relay::progress::RelayProgress;
use artstore_producers::relay::prune_mark;
use artstore_producers::relay::seen_positions::{MAX_GAPS, SeenPositions};
use artstore_producers::relay::source::{RowRef, SourceTable, snapshot};
use artstore_producers::relay::translate::Translator;
use artstore_verification::stream::scan::{self, MOST_LISTED, StreamScan};
use tokio_util::sync::CancellationToken;

/// The most entries of a list in the record.
const MOST_IN_RECORD: usize = 1_000;

/// The most rows whose positions are read at a time.
const CHUNK: i64 = 10_000;

/// A source beside its stream.
#[derive(Debug)]
pub struct Break {
    /// What was found.
    pub scan: StreamScan,
    /// The last position that was drawn from the source's sequence.
    pub sequence_value: i64,
    /// The highest position whose message and row agree.
    pub high_water_mark: i64,
    /// What may still come at or below it.
    pub gaps: Ranges,
    /// Positions of finished rows that the stream, without what the source lost, does not have.
    pub new_positions: Ranges,
    /// Those rows; the first [`MOST_LISTED`].
    pub new_rows: Vec<RowRef>,
    /// Up to where the source was pruned.
    pub prune_mark: i64,
    /// Whether the stream lacks some of what was pruned.
    pub behind_prune_mark: bool,
}

impl Break {
    /// Whether there is something to accept.
    pub fn is_break(&self) -> bool {
        self.other_identity()
            || self.scan.lost_count > 0
            || self.sequence_is_behind()
            || self.behind_prune_mark
    }

    /// Whether the source holds none of the rows in the stream: it may be the wrong database.
    pub fn nothing_agrees(&self) -> bool {
        // What was pruned is no evidence: any database's prune mark covers low positions.
        self.scan.agreed_rows == 0 && (self.scan.lost_count > 0 || self.other_identity())
    }

    /// Whether the stream was written from another database or life of it.
    pub fn other_identity(&self) -> bool {
        let in_stream = self.scan.resume_state.identity.as_ref();
        in_stream.is_some_and(|identity| *identity != self.scan.identity)
    }

    fn sequence_is_behind(&self) -> bool {
        self.sequence_value < self.scan.resume_state.seen_positions.high_water_mark()
    }
}

/// What an operator's word has done.
#[derive(Debug, Clone, Copy)]
pub struct Accepted {
    /// The sequence of `source.accepted`.
    pub sequence: u64,
    /// Counts of the backfill; none for an outbox, where the stream is damaged as well, or
    /// where it was stopped before the end: then the relay continues with it.
    pub backfilled: Option<BackfillCounts>,
}

/// Compares the whole stream with the source. Changes nothing.
pub async fn examine(bus: &Bus, options: &RelayOptions) -> Result<Break, RepairError> {
    let name = format!("artstore accept-source {}", options.source);
    let mut connection = operator_command::connect(options, &name).await?;
    let translator = operator_command::translator(bus, options, &mut connection).await?;
    examine_with(bus, &translator, &mut connection).await
}

async fn examine_with(
    bus: &Bus,
    translator: &Translator,
    connection: &mut PgConnection,
) -> Result<Break, RepairError> {
    let source = translator.source();
    let table = SourceTable::of(source);
    let prune_mark = prune_mark::read(connection, &table).await?;
    let scan = scan::scan(bus, translator, connection, false).await?;
    crash::point("accept.compared");
    let (new_positions, new_rows) = rows_beside(&table, connection, &scan.agreed).await?;
    let agreeing = scan.agreed.as_slice().last().map_or(0, |range| range.last);
    let mut may_come = scan
        .resume_state
        .seen_positions
        .gaps()
        .union(&scan.lost_positions);
    // A row whose message is damaged or gone is republished; it does not count as a new one.
    if scan.damaged_ranges.is_empty() {
        may_come = may_come.union(&new_positions);
    }
    // What was pruned never comes.
    let may_come = may_come
        .minus(&scan.agreed)
        .minus(&prune_mark::below(prune_mark));
    let (high_water_mark, gaps) = state(agreeing.max(prune_mark), &may_come);
    let highest = new_positions.as_slice().last().map_or(0, |r| r.last);
    // Behind the rows: those that were finished meanwhile have drawn their numbers.
    let sequence_value = snapshot(connection, &table.sequence).await?.sequence_value;
    if sequence_value < highest.max(high_water_mark) {
        return Err(RepairError::Sequence {
            sequence: table.sequence.clone(),
            at: sequence_value,
            position: highest.max(high_water_mark),
        });
    }
    Ok(Break {
        behind_prune_mark: !prune_mark::is_held(prune_mark, &scan.resume_state.seen_positions),
        prune_mark,
        scan,
        sequence_value,
        high_water_mark,
        gaps,
        new_positions,
        new_rows,
    })
}

/// What the epoch begins with. Where there are more gaps than a message can carry, it begins
/// lower: what agrees above that is published again.
fn state(agreeing: i64, may_come: &Ranges) -> (i64, Ranges) {
    let gaps = may_come.up_to(agreeing);
    match gaps.as_slice().get(MAX_GAPS / 2) {
        None => (agreeing, gaps),
        Some(range) => {
            let high_water_mark = range.first - 1;
            (high_water_mark, gaps.up_to(high_water_mark))
        }
    }
}

/// The finished rows that are not in a set.
async fn rows_beside(
    table: &SourceTable,
    connection: &mut PgConnection,
    set: &Ranges,
) -> Result<(Ranges, Vec<RowRef>), RepairError> {
    let (mut beside, mut listed) = (Ranges::default(), Vec::new());
    let mut wanted: Vec<Range> = set.gaps(i64::MAX - 1).as_slice().to_vec();
    while !wanted.is_empty() {
        let found = table.ids(connection, &wanted, CHUNK).await?;
        let Some(last) = found.last().map(|row| row.position) else {
            break;
        };
        for row in found {
            beside.insert(row.position);
            if listed.len() < MOST_LISTED {
                listed.push(row);
            }
        }
        wanted.retain(|range| range.last > last);
        if let Some(first) = wanted.first_mut() {
            first.first = first.first.max(last + 1);
        }
    }
    Ok((beside, listed))
}

/// Begins a new epoch, if there is something to accept: takes the source's lock, compares again, and
/// publishes the record. An element's current states follow it, as its relay publishes them; `stop`
/// cuts that off. Returns what was found, and what was done where there was something.
pub async fn accept(
    bus: &Bus,
    options: &RelayOptions,
    decision: &OperatorDecision,
    nothing_agrees: bool,
    stop: CancellationToken,
) -> Result<(Break, Option<Accepted>), RepairError> {
    let name = format!("artstore accept-source {}", options.source);
    let lease = operator_command::lock(bus, options, &name).await?;
    let mut connection = operator_command::connect(options, &name).await?;
    let translator = operator_command::translator(bus, options, &mut connection).await?;
    let stopped = stop.clone();
    let found = tokio::select! {
        found = examine_with(bus, &translator, &mut connection) => found?,
        () = stopped.cancelled() => {
            lease.release(&options.source).await?;
            return Err(RepairError::Stopped);
        }
    };
    if stop.is_cancelled() {
        lease.release(&options.source).await?;
        return Err(RepairError::Stopped);
    }
    if !found.is_break() {
        lease.release(&options.source).await?;
        return Ok((found, None));
    }
    if found.nothing_agrees() && !nothing_agrees {
        return Err(RepairError::NothingAgrees {
            stream: options.source.stream(),
            messages: found.scan.resume_state.sequence,
        });
    }
    let facts = facts(&found, decision);
    let mut resume_state = found.scan.resume_state.clone();
    resume_state.seen_positions = SeenPositions::from_stream(found.high_water_mark, &found.gaps);
    // The relay that continues compares every file.
    resume_state.backfill_due |= matches!(options.source, Source::Element(_));
    let mut publisher = Publisher {
        bus,
        lease: &lease,
        translator: &translator,
        resume_state,
        identity: found.scan.identity.clone(),
    };
    let facts = serde_json::to_value(facts).expect("facts have only texts as keys");
    crash::point("accept.recording");
    let sequence = publisher
        .record(accepted(), decision.actor.clone(), facts)
        .await?;
    crash::point("accept.recorded");
    let backfilled = match options.source {
        // The relay does it when the damage is recorded.
        Source::Element(_) if found.scan.damaged_ranges.is_empty() => {
            let (bus, options) = (bus.clone(), options.clone());
            let progress = RelayProgress::default();
            backfill::run(bus, options, lease, FILES_PER_PASS, progress, stop).await?
        }
        _ => {
            lease.release(&options.source).await?;
            None
        }
    };
    Ok((
        found,
        Some(Accepted {
            sequence,
            backfilled,
        }),
    ))
}

fn facts(found: &Break, decision: &OperatorDecision) -> SourceAccepted {
    let scan = &found.scan;
    let first = |ranges: &Ranges| -> Vec<Range> {
        ranges
            .as_slice()
            .iter()
            .take(MOST_IN_RECORD)
            .copied()
            .collect()
    };
    let files = scan
        .lost_files
        .iter()
        .filter_map(|file| Uuid::parse_str(file).ok());
    SourceAccepted {
        old_identity: scan.resume_state.identity.clone().unwrap_or_default(),
        new_identity: scan.identity.clone(),
        high_water_mark: found.high_water_mark,
        gaps: found.gaps.as_slice().to_vec(),
        last_agreeing: scan.last_agreeing,
        lost_messages: scan.lost_count,
        lost_positions: first(&scan.lost_positions),
        lost_files: scan.lost_files.len() as u64,
        files: files.take(MOST_IN_RECORD).collect(),
        new_rows: u64::try_from(found.new_positions.positions()).unwrap_or(0),
        new_positions: first(&found.new_positions),
        pruned_up_to: found.behind_prune_mark.then_some(found.prune_mark),
        reason: decision.reason.clone(),
        accepted_by: decision.by.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_begins_at_the_highest_agreeing_position() {
        let may_come: Ranges = "3,4+2".parse().expect("3, 7 to 9");
        assert_eq!(state(8, &may_come), (8, "3,4+1".parse().expect("3, 7, 8")));
        assert_eq!(state(0, &may_come), (0, Ranges::default()));
    }

    #[test]
    fn an_epoch_begins_lower_where_too_many_ranges_are_missing() {
        let mut may_come = Ranges::default();
        for n in 1..=5_000 {
            may_come.insert(n * 2);
        }
        let (high_water_mark, gaps) = state(20_000, &may_come);
        assert_eq!(gaps.as_slice().len(), MAX_GAPS / 2);
        assert!(
            may_come
                .as_slice()
                .iter()
                .any(|r| r.first == high_water_mark + 1)
        );
    }
}
