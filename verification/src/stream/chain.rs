//! How a message follows from the messages before it: the event that it names, the positions that were seen,
//! the database that it comes from. Used by both checks of a stream; each decides which messages count.

use artstore_schemas::envelope::Envelope;
use artstore_schemas::ranges::Ranges;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::accepted::RecordedDecision;

/// What the next message has to follow from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainState {
    /// The last message that counts; none before the first one.
    last_id: Option<Uuid>,
    /// Messages after it that do not count.
    passed_over: Vec<Uuid>,
    /// Whether messages after it are gone or can't be read: nobody knows their events.
    unknown: bool,
    /// The highest position, as the last message that counts states.
    pub high_water_mark: i64,
    /// The gaps below it.
    #[serde(with = "crate::as_text")]
    pub gaps: Ranges,
    /// The database that it comes from.
    identity: Option<String>,
}

/// How a message follows.
#[derive(Debug, PartialEq, Eq)]
pub struct Link {
    /// What it follows.
    pub follows: Follows,
    /// Whether the messages before it state that its position was seen already.
    pub comes_again: bool,
    /// What else is wrong with it.
    pub problem: Option<LinkProblem>,
}

/// What a message names as the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follows {
    /// The last message that counts; the first one names none.
    LastThatCounts,
    /// One after that which does not count, or perhaps one that is gone or can't be read.
    PassedOver,
    /// None of these.
    Nothing,
}

/// Why a message does not follow from the messages before it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkProblem {
    /// It names another event.
    #[error("it does not follow the message before it (artstore-previous)")]
    Unchained,
    /// It states positions that do not follow from those before.
    #[error(
        "it states that positions up to {high_water_mark} were seen, without {gaps:?}, which does not follow \
         from the message before it: up to {before}, without {gaps_before:?}"
    )]
    State {
        /// The highest one.
        high_water_mark: i64,
        /// The gaps below it.
        gaps: String,
        /// The highest one in the message before it.
        before: i64,
        /// The gaps below that.
        gaps_before: String,
    },
    /// It comes from another database.
    #[error("it comes from database {identity}, the messages before it from {before}")]
    Database {
        /// That database.
        identity: String,
        /// The one before.
        before: String,
    },
}

impl ChainState {
    /// How a message follows. `decision`: what it decides about earlier messages.
    ///
    /// Its positions are checked only directly behind a message that counts: else it is not known whose state
    /// was continued. A decision has looked at the whole stream for its state, and an epoch may have another
    /// database.
    pub fn link(&self, envelope: &Envelope, decision: Option<RecordedDecision>) -> Link {
        let follows = match envelope.previous {
            previous if previous == self.last_id => Follows::LastThatCounts,
            _ if self.unknown => Follows::PassedOver,
            Some(id) if self.passed_over.contains(&id) => Follows::PassedOver,
            _ => Follows::Nothing,
        };
        let comes_again = own_position(envelope)
            .is_some_and(|own| own <= self.high_water_mark && !self.gaps.contains(own));
        let is_checked = self.is_known() && decision.is_none() && !comes_again;
        let other = self.identity.as_ref().filter(|i| **i != envelope.identity);
        let problem = if follows == Follows::Nothing {
            Some(LinkProblem::Unchained)
        } else if is_checked && !state_follows(self.high_water_mark, &self.gaps, envelope) {
            Some(LinkProblem::State {
                high_water_mark: envelope.high_water_mark,
                gaps: envelope.gaps.to_string(),
                before: self.high_water_mark,
                gaps_before: self.gaps.to_string(),
            })
        } else if decision != Some(RecordedDecision::Epoch)
            && let Some(before) = other
        {
            Some(LinkProblem::Database {
                identity: envelope.identity.clone(),
                before: before.clone(),
            })
        } else {
            None
        };
        Link {
            follows,
            comes_again,
            problem,
        }
    }

    /// Whether the next message comes directly after the last one that counts.
    pub(crate) fn is_known(&self) -> bool {
        self.passed_over.is_empty() && !self.unknown
    }

    /// The event of the last message, counting or not, where it is known.
    pub fn last_seen(&self) -> Option<Uuid> {
        let last = self.passed_over.last().copied().or(self.last_id);
        last.filter(|_| !self.unknown)
    }

    /// Takes a message that counts, whether it follows or not.
    pub fn counts(&mut self, envelope: &Envelope) {
        *self = Self {
            last_id: Some(envelope.id),
            passed_over: Vec::new(),
            unknown: false,
            high_water_mark: envelope.high_water_mark,
            gaps: envelope.gaps.clone(),
            identity: Some(envelope.identity.clone()),
        };
    }

    /// Takes a message that does not count, with its event where that can be read.
    pub fn passes_over(&mut self, id: Option<Uuid>) {
        match id {
            Some(id) => self.passed_over.push(id),
            None => self.unknown = true,
        }
    }

    /// Messages are gone.
    pub fn hole(&mut self) {
        self.unknown = true;
    }
}

/// Whether the state that a message carries is the one before it with its own position, less what
/// turned out to be aborted.
pub(crate) fn state_follows(high_water_mark: i64, gaps: &Ranges, envelope: &Envelope) -> bool {
    let own = own_position(envelope).unwrap_or(0);
    if envelope.high_water_mark != high_water_mark.max(own) || envelope.gaps.contains(own) {
        return false;
    }
    envelope.gaps == *gaps
        || envelope.gaps.as_slice().iter().all(|range| {
            let new = range.first > high_water_mark && range.last < own;
            let old = gaps.as_slice();
            let place = old.partition_point(|old| old.first <= range.first);
            new || (place > 0 && old[place - 1].last >= range.last)
        })
}

/// The position that a message adds to the state: none where it only shows a state.
pub(crate) fn own_position(envelope: &Envelope) -> Option<i64> {
    envelope.position.filter(|_| envelope.snapshot.is_none())
}

#[cfg(test)]
mod tests {
    use artstore_schemas::envelope::Snapshot;
    use artstore_schemas::event::EventType;
    use chrono::DateTime;

    use super::*;

    /// Message n, behind message n - 1 with positions up to 4 but 3.
    fn message(number: u128, position: i64, high_water_mark: i64, gaps: &str) -> Envelope {
        Envelope {
            id: Uuid::from_u128(number),
            source: "/artstore/query".to_owned(),
            event_type: EventType::new("search", "performed", 1),
            subject: None,
            time: DateTime::UNIX_EPOCH,
            traceparent: None,
            position: Some(position),
            high_water_mark,
            gaps: gaps.parse().expect("ranges"),
            identity: "1".to_owned(),
            previous: Some(Uuid::from_u128(number - 1)),
            snapshot: None,
            backfill_due: false,
        }
    }

    fn after_one() -> ChainState {
        let mut chain = ChainState::default();
        chain.counts(&message(1, 4, 4, "3"));
        chain
    }

    #[test]
    fn the_state_of_a_message_follows_from_the_one_before_it() {
        // Position, high-water mark and gaps of the next message; whether it comes again, and whether it follows.
        let table = [
            ((5, 5, "3"), false, true),
            ((3, 4, ""), false, true),
            ((6, 6, "3,2"), false, true),
            // A position turned out to be aborted.
            ((5, 5, ""), false, true),
            ((5, 6, "3"), false, false),
            ((5, 4, "3"), false, false),
            ((5, 5, "2"), false, false),
            // It says that its own position is a gap.
            ((3, 4, "3"), false, false),
            ((4, 4, "3"), true, true),
            ((2, 4, "3"), true, true),
        ];
        for ((position, high_water_mark, gaps), comes_again, follows) in table {
            let next = message(2, position, high_water_mark, gaps);
            let link = after_one().link(&next, None);
            assert_eq!(link.follows, Follows::LastThatCounts);
            let found = (link.comes_again, link.problem.is_none());
            assert_eq!(found, (comes_again, follows), "{next:?}");
        }
        // Nothing is seen by a state that is shown again.
        let mut shown = message(2, 4, 4, "3");
        shown.snapshot = Some(Snapshot::Republish);
        let link = after_one().link(&shown, None);
        assert!(!link.comes_again && link.problem.is_none(), "{link:?}");
    }

    #[test]
    fn a_message_follows_the_last_that_counts_or_one_passed_over() {
        use Follows::{LastThatCounts, Nothing, PassedOver};
        type Before = fn(&mut ChainState);
        let table: &[(Before, Option<u128>, Follows)] = &[
            (|_| {}, Some(1), LastThatCounts),
            (|_| {}, Some(9), Nothing),
            (|_| {}, None, Nothing),
            (|c| *c = ChainState::default(), None, LastThatCounts),
            (|c| *c = ChainState::default(), Some(9), Nothing),
            (
                |c| c.passes_over(Some(Uuid::from_u128(9))),
                Some(1),
                LastThatCounts,
            ),
            (
                |c| c.passes_over(Some(Uuid::from_u128(9))),
                Some(9),
                PassedOver,
            ),
            (
                |c| c.passes_over(Some(Uuid::from_u128(9))),
                Some(8),
                Nothing,
            ),
            (|c| c.passes_over(None), Some(8), PassedOver),
            (ChainState::hole, Some(8), PassedOver),
            (ChainState::hole, Some(1), LastThatCounts),
        ];
        for (index, (before, previous, follows)) in table.iter().enumerate() {
            let mut chain = after_one();
            before(&mut chain);
            let mut next = message(2, 5, 5, "3");
            next.previous = previous.map(Uuid::from_u128);
            let link = chain.link(&next, None);
            assert_eq!(link.follows, *follows, "{index}");
            let unchained = link.problem == Some(LinkProblem::Unchained);
            assert_eq!(unchained, *follows == Nothing, "{index}");
        }
    }

    #[test]
    fn behind_what_does_not_count_the_database_is_checked_and_the_state_is_not() {
        let mut chain = after_one();
        chain.passes_over(Some(Uuid::from_u128(9)));
        let mut next = message(2, 7, 7, "");
        assert_eq!(chain.link(&next, None).problem, None);
        next.identity = "2".to_owned();
        let other = |decision| chain.link(&next, decision).problem;
        assert!(matches!(other(None), Some(LinkProblem::Database { .. })));
        let damage = other(Some(RecordedDecision::Damage));
        assert!(matches!(damage, Some(LinkProblem::Database { .. })));
        assert_eq!(other(Some(RecordedDecision::Epoch)), None);
    }
}
