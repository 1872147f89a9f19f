//! One pass over a stream and its source's rows, with bounded memory: a step reads messages, or
//! rows up to where the stream has come. Memory is bounded because open messages are only as many as may
//! be out of order, rows are never read far ahead of the messages, and only a bounded
//! number of findings is kept.

use std::collections::BTreeMap;

use crate::stream::order::Order;
use artstore_bus::message::Message;
use artstore_producers::relay::prune_mark;
use artstore_producers::relay::rows;
use artstore_producers::relay::source::SourceTable;
use artstore_producers::relay::source_check;
use artstore_producers::relay::translate::Translator;
use artstore_schemas::source::Source;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use super::accepted::{Accepted, RecordedDecision};
use super::candidates::{Candidate, Candidates, MOST};
use super::finding::Kind;
use super::links::{Flaw, Links, MessageRole};
use super::matching::{Entry, Matching, RowPrint};

/// Rows are read so many positions behind the highest that the stream has shown: messages that
/// are out of order by less meet their rows without a query of their own.
const DISTANCE: i64 = 8_192;

/// Rows are read at most so many ahead of the messages, whatever position a message claims.
const AHEAD: u64 = 65_536;

/// The state of a pass. Can be stored and continued.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct State {
    /// The stream against itself.
    pub links: Links,
    /// Rows and messages.
    pub matching: Matching,
    /// What was found so far.
    pub candidates: Candidates,
    order: Order,
    /// The sequence of the last decision that the pass knew of when it began.
    decision: u64,
    /// The highest position before the first flaw of the stream.
    sound: Option<i64>,
}

/// A pass over one source.
#[derive(Debug)]
pub struct Pass {
    /// How far it has come.
    pub state: State,
    pub(super) translator: Translator,
    pub(super) table: SourceTable,
    accepted: Accepted,
    /// Messages after this sequence whose position is above this one are in flight.
    pub(super) fixed: Option<(u64, i64)>,
    /// What comes after some message.
    pub newer: Newer,
}

/// The messages after a sequence that is of interest, such as a backup's end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Newer {
    /// The sequence; none: nobody asked.
    pub behind: Option<u64>,
    /// The lowest position of one of them. Low ones are there where rows were published
    /// again.
    pub lowest: Option<i64>,
}

impl Newer {
    fn see(&mut self, sequence: u64, position: i64) {
        if self.behind.is_some_and(|behind| sequence > behind) {
            let lowest = self.lowest.get_or_insert(position);
            *lowest = position.min(*lowest);
        }
    }
}

/// A break of the source, or damage of the stream, was accepted since the pass began: what was read
/// before it has another meaning now. The pass has to start over.
#[derive(Debug, thiserror::Error)]
#[error("a break or damage of {source_name} was accepted since: it is checked from the beginning")]
pub struct NewDecision {
    /// The source.
    pub source_name: Source,
}

impl Pass {
    /// Continues from a state: the default one at the start. A decision since then gives what was read
    /// another meaning: it starts over.
    pub fn new(source: &Source, accepted: Accepted, mut state: State) -> Self {
        let decision = accepted.last_decision();
        if state.links.last > 0 && state.decision != decision {
            let source_name = source.clone();
            tracing::info!("{}", NewDecision { source_name });
            state = State::default();
        }
        state.decision = decision;
        Self {
            state,
            translator: Translator::new(source.clone()),
            table: SourceTable::of(source),
            accepted,
            fixed: None,
            newer: Newer::default(),
        }
    }

    /// The source.
    pub fn source(&self) -> &Source {
        self.translator.source()
    }

    /// What an operator has accepted in its stream.
    pub(crate) fn accepted(&self) -> &Accepted {
        &self.accepted
    }

    /// Refuses a source that does not show all of its rows, and records what was pruned, before the
    /// first message is read: nothing but the stream contains it any more.
    pub(crate) async fn begin_prune_mark(
        &mut self,
        connection: &mut PgConnection,
    ) -> anyhow::Result<()> {
        source_check::shows_all(connection, &self.table).await?;
        if self.state.links.last == 0 {
            let pruned = prune_mark::pruned(connection, &self.table).await?;
            let operations = u64::try_from(pruned.operations).unwrap_or(0);
            self.state.matching.gone_before = Some((pruned.prune_mark, operations));
        }
        Ok(())
    }

    /// As [`Self::add_lost_pruned`], among its own candidates.
    pub(crate) fn lost_pruned(&mut self) {
        let mut found = std::mem::take(&mut self.state.candidates);
        self.add_lost_pruned(&mut found);
        self.state.candidates = found;
    }

    /// Pruned operations that the stream does not contain, and whose loss nobody accepted.
    pub fn add_lost_pruned(&self, found: &mut Candidates) {
        // It is the only one without an event.
        found.retain(Kind::MessageMissing, |candidate| candidate.id.is_some());
        let lost = self.state.matching.lost_pruned();
        let Some((prune_mark, lost)) = lost.filter(|_| !self.accepted.lacks_pruned()) else {
            return;
        };
        // Accepted damage may have contained them.
        if lost <= self.accepted.damaged() {
            return;
        }
        let candidate = Candidate {
            position: Some(1),
            detail: format!(
                "{lost} of the operations that were pruned up to position {prune_mark} have no message: \
                 only a backup of the stream can contain them"
            ),
            ..Candidate::default()
        };
        found.add(Kind::MessageMissing, candidate);
    }

    /// Takes the next messages of the stream, in their order.
    pub async fn messages(
        &mut self,
        connection: &mut PgConnection,
        messages: &[Message],
    ) -> anyhow::Result<()> {
        let mut late = Vec::new();
        for message in messages {
            let high_water_mark = self.state.links.chain.high_water_mark;
            let source = self.translator.source();
            let seen = self.state.links.see(source, &self.accepted, message);
            for flaw in seen.flaws {
                self.state.sound.get_or_insert(high_water_mark);
                self.flaw(flaw);
            }
            match seen.role {
                MessageRole::None => {}
                MessageRole::Decision(decision)
                    if !self.accepted.knows(decision, message.sequence) =>
                {
                    let source_name = self.source().clone();
                    return Err(NewDecision { source_name }.into());
                }
                MessageRole::Decision(RecordedDecision::Damage) => {}
                MessageRole::Decision(RecordedDecision::Epoch) => {
                    self.state.order.clear();
                    self.state
                        .matching
                        .begin_epoch(self.state.links.chain.high_water_mark);
                }
                MessageRole::Row(position, mut entry) => {
                    self.newer.see(message.sequence, position);
                    let younger = |(last, highest)| message.sequence > last && position > highest;
                    if self.fixed.is_some_and(younger) {
                        continue;
                    }
                    entry.higher_before = seen
                        .file
                        .and_then(|file| self.state.order.see(file, position));
                    let given_back = self.state.matching.message(position, entry);
                    late.extend(given_back.map(|entry| (position, entry)));
                }
            }
        }
        self.late(connection, late).await
    }

    /// The stream has assigned sequences up to this one, and nothing comes after the last
    /// message.
    pub fn end(&mut self, sequence: u64) {
        let high_water_mark = self.state.links.chain.high_water_mark;
        for flaw in self.state.links.end(&self.accepted, sequence) {
            self.state.sound.get_or_insert(high_water_mark);
            self.flaw(flaw);
        }
    }

    fn flaw(&mut self, flaw: Flaw) {
        let (first, last) = flaw.sequences;
        let kept = last.min(first.saturating_add(MOST as u64 - 1));
        for sequence in first..=kept {
            let candidate = flaw.candidate(sequence);
            self.state.candidates.add(flaw.kind, candidate);
        }
        self.state.candidates.count_only(flaw.kind, last - kept);
    }

    async fn late(
        &mut self,
        connection: &mut PgConnection,
        late: Vec<(i64, Entry)>,
    ) -> anyhow::Result<()> {
        if late.is_empty() {
            return Ok(());
        }
        let positions: Vec<i64> = late.iter().map(|(position, _)| *position).collect();
        let rows = rows::at(connection, &self.table, &positions).await?;
        let prune_mark = prune_mark::read(connection, &self.table).await?;
        let rows: BTreeMap<i64, RowPrint> = rows
            .into_iter()
            .map(|row| (row.position, RowPrint::of(&self.translator, row)))
            .collect();
        for (position, entry) in late {
            let row = rows.get(&position);
            let found = &mut self.state.candidates;
            self.state
                .matching
                .late_message(position, entry, row, prune_mark, found);
        }
        Ok(())
    }

    /// Reads the rows whose positions the stream has passed by far.
    pub(crate) async fn rows_behind(
        &mut self,
        connection: &mut PgConnection,
    ) -> anyhow::Result<()> {
        let behind = self.state.links.reached - DISTANCE;
        let most = self.state.matching.messages + AHEAD;
        self.rows(connection, behind, most).await
    }

    /// Reads the rows up to a position, but none above what the stream has shown. For when there
    /// are no more messages to be read first.
    pub async fn rows_up_to(
        &mut self,
        connection: &mut PgConnection,
        position: i64,
    ) -> anyhow::Result<()> {
        self.rows(connection, position, u64::MAX).await
    }

    async fn rows(
        &mut self,
        connection: &mut PgConnection,
        position: i64,
        most: u64,
    ) -> anyhow::Result<()> {
        let links = &self.state.links;
        let horizon = self.accepted.horizon(links.last);
        let target = position.min(links.highest()).min(horizon);
        while self.state.matching.cursor < target && self.state.matching.rows < most {
            let first = self.state.matching.cursor + 1;
            let (rows, complete) = rows::between(connection, &self.table, first, target).await?;
            let prune_mark = prune_mark::read(connection, &self.table).await?;
            let translator = &self.translator;
            let rows = rows.into_iter().map(|row| RowPrint::of(translator, row));
            let state = &mut self.state;
            let may_come = may_come(&state.links, &self.accepted);
            let found = &mut state.candidates;
            let rows = rows.collect();
            state
                .matching
                .rows(rows, complete, prune_mark, may_come, found);
        }
        let state = &mut self.state;
        let may_come = may_come(&state.links, &self.accepted);
        state
            .matching
            .settle_awaited(may_come, &mut state.candidates);
        Ok(())
    }

    /// Every position up to this one has its row and its message, and they agree, or belongs to a
    /// transaction that was rolled back.
    pub fn proven(&self) -> i64 {
        let state = &self.state;
        let open = state.links.chain.gaps.first().map(|range| range.first - 1);
        let awaited = state
            .matching
            .awaited()
            .keys()
            .next()
            .map(|first| first - 1);
        let found = state
            .candidates
            .all()
            .filter_map(|(_, candidate)| candidate.position)
            .min();
        [open, awaited, found.map(|first| first - 1), state.sound]
            .into_iter()
            .flatten()
            .fold(state.matching.cursor, i64::min)
            .max(0)
    }

    /// Messages whose order among those of their file could not be checked.
    pub fn order_unchecked(&self) -> u64 {
        self.state.order.unchecked
    }

    /// Whether the stream may still bring the message of a position.
    pub fn may_come(&self, position: i64) -> bool {
        may_come(&self.state.links, &self.accepted)(position)
    }
}

/// Whether the stream may still bring the message of a position.
pub(crate) fn may_come(links: &Links, accepted: &Accepted) -> impl Fn(i64) -> bool {
    |position| {
        position > links.chain.high_water_mark
            || links.chain.gaps.contains(position)
            || !accepted.survives(links.last, position)
    }
}
