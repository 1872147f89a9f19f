//! The end of a stream up to some message, as [`crate::stream::message_checker`] follows it: what the next
//! message has to continue, and from where a relay would resume.

use artstore_schemas::envelope::Envelope;
use artstore_schemas::ranges::{Range, Ranges};
use uuid::Uuid;

use crate::accepted::RecordedDecision;
use crate::stream::agreement::Agreement;
use crate::stream::chain::{ChainState, own_position, state_follows};
use artstore_producers::relay::resume_state::ResumeState;
use artstore_producers::relay::seen_positions::SeenPositions;

/// The state after the last message that counts.
#[derive(Debug, Default)]
pub(crate) struct StreamEnd {
    /// From where a relay would resume.
    pub(crate) resume_state: ResumeState,
    /// What the next message has to follow from.
    pub(crate) chain: ChainState,
    /// The last message that does not count because it differs from its row.
    changed: Option<Uuid>,
}

impl StreamEnd {
    /// Whether a message names the last one that differs from its row as the one before it.
    pub(crate) fn changed_is_followed_by(&self, envelope: &Envelope) -> bool {
        envelope.previous.is_some() && envelope.previous == self.changed
    }

    /// A message that does not count because it differs from its row.
    pub(crate) fn changed(&mut self, id: Uuid) {
        self.changed = Some(id);
    }

    /// Takes a message that counts.
    pub(crate) fn counts(&mut self, sequence: u64, envelope: Envelope) {
        let seen_positions = self.seen_after(&envelope);
        self.chain.counts(&envelope);
        self.resume_state = ResumeState {
            sequence,
            last_id: Some(envelope.id),
            position: envelope.position,
            seen_positions,
            backfill_due: envelope.backfill_due,
            identity: Some(envelope.identity),
        };
    }

    /// What was seen after a message that counts: as it states, unless that follows neither from what
    /// the one before it states nor from what was seen.
    fn seen_after(&self, envelope: &Envelope) -> SeenPositions {
        let (chain, seen) = (&self.chain, &self.resume_state.seen_positions);
        let is_consistent = !chain.is_known()
            || RecordedDecision::of(envelope).is_some()
            || state_follows(chain.high_water_mark, &chain.gaps, envelope)
            || state_follows(seen.high_water_mark(), &seen.gaps(), envelope);
        let mut seen_positions =
            SeenPositions::from_stream(envelope.high_water_mark, &envelope.gaps);
        if is_consistent {
            return seen_positions;
        }
        seen_positions = seen.clone();
        let wanted = |own: &i64| *own > seen.high_water_mark() || seen.gaps().contains(*own);
        match own_position(envelope).filter(wanted) {
            // Where there is no room for the gap that it leaves, what is above it comes again.
            Some(own) if !seen_positions.see(own) => seen.clone(),
            _ => seen_positions,
        }
    }

    /// After damage, the last message may not state every position that was seen: adds what is in `agreement`.
    pub(crate) fn reaches(&mut self, agreement: &Agreement) {
        let seen = agreement.highest();
        let high_water_mark = self.resume_state.seen_positions.high_water_mark();
        if seen <= high_water_mark {
            return;
        }
        let between = Ranges::from_iter([Range {
            first: high_water_mark + 1,
            last: seen,
        }]);
        let gaps = self.resume_state.seen_positions.gaps();
        let gaps = gaps.union(&between).minus(&agreement.agreed);
        self.resume_state.seen_positions = SeenPositions::from_stream(seen, &gaps);
    }
}
