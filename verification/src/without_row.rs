//! Messages that have no row at their position. The source lost it, it was pruned, it has another position, or
//! no relay of the source wrote the message: which of these decides the command that repairs it.

use std::collections::{BTreeSet, HashMap, HashSet};

use uuid::Uuid;

use super::accepted::Accepted;
use super::candidates::{Candidate, Candidates};
use super::finding::Kind;
use super::matching::TAKEN;
use crate::stream::row_verdict::{self, Origin, RowAtPosition, RowVerdict};

/// What the source holds of extra messages.
#[derive(Debug, Default)]
pub(crate) struct KnownRows {
    /// The positions of the rows with their ids.
    pub(crate) positions: HashMap<Uuid, i64>,
    /// Their positions that have a row, whichever it is.
    pub(crate) at: HashSet<i64>,
    /// Rows up to this position may have been pruned.
    pub(crate) prune_mark: i64,
    /// Positions of rows without a message.
    pub(crate) unmatched: HashSet<i64>,
}

/// What remains of extra messages, by the rows. Whether they follow the stream: [`Origins`].
pub(crate) fn settle(known: &KnownRows, left: &mut Candidates) {
    elsewhere(known, left);
    taken(known, left);
}

/// Extra messages whose row has another position: the message names another position, or is a second
/// one. Those whose row was pruned are none.
fn elsewhere(known: &KnownRows, left: &mut Candidates) {
    let position_of = |candidate: &Candidate| {
        let id = candidate.id?;
        known.positions.get(&id).copied()
    };
    let is_pruned = |candidate: &Candidate| {
        let position = candidate.position;
        position.is_some_and(|p| p <= known.prune_mark && !known.at.contains(&p))
    };
    let mut elsewhere = Vec::new();
    left.retain(Kind::MessageExtra, |candidate| {
        let position = position_of(candidate);
        elsewhere.extend(position.map(|position| (position, candidate.clone())));
        position.is_none() && !is_pruned(candidate)
    });
    for (position, candidate) in elsewhere {
        let stated = candidate.position.unwrap_or(0);
        // A row that became visible since.
        if stated == position {
            continue;
        }
        let detail = format!("it states position {stated} for its row, the row has {position}");
        let kind = if known.unmatched.contains(&position) {
            left.retain(Kind::MessageMissing, |c| c.position != Some(position));
            Kind::MessageChanged
        } else {
            Kind::MessageDoubled
        };
        let candidate = Candidate {
            position: Some(position),
            detail,
            ..candidate
        };
        left.add(kind, candidate);
    }
}

/// Extra messages with the position of a row whose own message came later.
fn taken(known: &KnownRows, left: &mut Candidates) {
    let is_taken = |candidate: &Candidate| {
        let position = candidate.position;
        position.is_some_and(|p| known.at.contains(&p) && !known.unmatched.contains(&p))
    };
    let changed: HashSet<i64> = left
        .of(Kind::MessageChanged)
        .filter_map(|candidate| candidate.position)
        .collect();
    let has_message =
        |c: &Candidate| is_taken(c) && c.position.is_some_and(|p| !changed.contains(&p));
    for candidate in left.take(Kind::MessageExtra, has_message) {
        let detail = TAKEN.to_owned();
        left.add(
            Kind::MessageForeign,
            Candidate {
                detail,
                ..candidate
            },
        );
    }
}

/// Whether extra messages follow the last message that counts: others were not lost by the source, no relay
/// wrote them. A pass follows every message that belongs into the stream by its form; which of them do not
/// count is known when all rows were read.
#[derive(Debug)]
pub(crate) struct Origins<'a> {
    accepted: &'a Accepted,
    /// Extra messages that are still to be looked at.
    extra: BTreeSet<u64>,
    /// Messages that do not count, and holes.
    ignored: HashSet<u64>,
    /// Messages that do not follow the one before them.
    unchained: HashSet<u64>,
    foreign: HashSet<u64>,
    /// The last one in doubt: before it the way back is known.
    before: Option<InDoubt>,
}

/// An extra message of which it is not known yet whether it follows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InDoubt {
    pub(crate) sequence: u64,
    /// The last message before it that counts; 0 where there is none.
    pub(crate) last: u64,
}

impl<'a> Origins<'a> {
    pub(crate) fn of(accepted: &'a Accepted, left: &Candidates) -> Self {
        let of = |kind| left.of(kind).filter_map(|candidate| candidate.sequence);
        let ignored = [
            Kind::MessageForeign,
            Kind::MessageDoubled,
            Kind::MessageChanged,
            Kind::StreamHole,
        ];
        let unchained = left.of(Kind::StreamBroken).filter(|c| c.unchained);
        Self {
            accepted,
            extra: of(Kind::MessageExtra).collect(),
            ignored: ignored.into_iter().flat_map(of).collect(),
            unchained: unchained.filter_map(|c| c.sequence).collect(),
            foreign: HashSet::new(),
            before: None,
        }
    }

    /// The next one in doubt, in order. What was decided of the one before it matters.
    pub(crate) fn next_in_doubt(&mut self) -> Option<InDoubt> {
        while let Some(sequence) = self.extra.pop_first() {
            let mut last = sequence - 1;
            let is_in_doubt = self.unchained.contains(&sequence) || !self.counts(last);
            if !is_in_doubt || self.accepted.damage.covers_break(sequence) {
                continue;
            }
            while !self.counts(last) {
                last = match (self.before, self.accepted.damage.hole_around(last)) {
                    (Some(before), _) if before.sequence == last => before.last,
                    (_, Some(hole)) => hole.first - 1,
                    (_, None) => last - 1,
                };
            }
            let in_doubt = InDoubt { sequence, last };
            self.before = Some(in_doubt);
            return Some(in_doubt);
        }
        None
    }

    /// What it names as the event before it, and the event of the last message that counts.
    pub(crate) fn decide(&mut self, message: InDoubt, previous: Option<Uuid>, last: Option<Uuid>) {
        let origin = match previous == last {
            true => Origin::Chained,
            false => Origin::Unknown,
        };
        let verdict = row_verdict::verdict(RowAtPosition::Other, false, origin);
        if verdict == RowVerdict::Foreign {
            self.ignored.insert(message.sequence);
            self.foreign.insert(message.sequence);
        }
    }

    /// The candidates with what was decided.
    pub(crate) fn apply(&self, left: &mut Candidates) {
        let is_foreign = |c: &Candidate| c.sequence.is_some_and(|s| self.foreign.contains(&s));
        for candidate in left.take(Kind::MessageExtra, is_foreign) {
            let detail = format!("no relay of this source wrote it: {}", candidate.detail);
            left.add(
                Kind::MessageForeign,
                Candidate {
                    detail,
                    ..candidate
                },
            );
        }
    }

    fn counts(&self, sequence: u64) -> bool {
        let damage = &self.accepted.damage;
        let is_gone = damage.hole_around(sequence).is_some();
        !(self.ignored.contains(&sequence) || damage.ignores(sequence) || is_gone)
    }
}
