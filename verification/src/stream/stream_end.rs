//! The end of a stream up to some message, as [`crate::stream::message_checker`] follows it: what the next
//! message has to continue, and from where a relay would resume.

use artstore_schemas::envelope::Envelope;
use artstore_schemas::ranges::{Range, Ranges};
use uuid::Uuid;

use crate::accepted::RecordedDecision;
use crate::stream::agreement::Agreement;
use crate::stream::message_form;
use artstore_producers::relay::resume_state::ResumeState;
use artstore_producers::relay::seen_positions::SeenPositions;

/// The state after the last message that counts.
#[derive(Debug, Default)]
pub(crate) struct StreamEnd {
    /// From where a relay would resume.
    pub(crate) resume_state: ResumeState,
    /// The state as that message states it.
    stated: StatedPositions,
    /// The last message that does not count because it says something else than its row.
    changed: Option<Uuid>,
}

/// The positions that a message states: seen up to it.
#[derive(Debug, Default)]
struct StatedPositions {
    high_water_mark: i64,
    gaps: Ranges,
}

impl StreamEnd {
    /// Whether a message names the last one that counts as the one before it.
    pub(crate) fn is_followed_by(&self, envelope: &Envelope) -> bool {
        envelope.previous == self.resume_state.last_id
    }

    /// Whether it names the last one that differs from its row.
    pub(crate) fn changed_is_followed_by(&self, envelope: &Envelope) -> bool {
        envelope.previous.is_some() && envelope.previous == self.changed
    }

    /// A message that does not count because it says something else than its row.
    pub(crate) fn changed(&mut self, id: Uuid) {
        self.changed = Some(id);
    }

    /// A message that follows the one before it: why its state does not, if so. Behind one that does
    /// not count it is not known whose state was continued; a decision has checked everything.
    pub(crate) fn state_problem(&self, sequence: u64, envelope: &Envelope) -> Option<&'static str> {
        let StatedPositions {
            high_water_mark,
            gaps,
        } = &self.stated;
        if self.resume_state.sequence + 1 != sequence || RecordedDecision::of(envelope).is_some() {
            return None;
        }
        if message_form::comes_again(*high_water_mark, gaps, envelope) {
            Some("the messages before it say that its position was seen already")
        } else if !message_form::state_follows(*high_water_mark, gaps, envelope) {
            Some("what it says was seen does not follow from the message before it")
        } else if self.is_of_another_database(envelope) {
            Some("it comes from another database than the message before it")
        } else {
            None
        }
    }

    fn is_of_another_database(&self, envelope: &Envelope) -> bool {
        let before = self.resume_state.identity.as_ref();
        before.is_some_and(|identity| *identity != envelope.identity)
    }

    /// Takes a message that counts.
    pub(crate) fn counts(&mut self, sequence: u64, envelope: Envelope) {
        self.resume_state = ResumeState {
            sequence,
            last_id: Some(envelope.id),
            position: envelope.position,
            seen_positions: self.seen_after(sequence, &envelope),
            backfill_due: envelope.backfill_due,
            identity: Some(envelope.identity),
        };
        self.stated = StatedPositions {
            high_water_mark: envelope.high_water_mark,
            gaps: envelope.gaps,
        };
    }

    /// What was seen after a message that counts: as it states, unless that follows neither from what
    /// the one before it states nor from what was seen.
    fn seen_after(&self, sequence: u64, envelope: &Envelope) -> SeenPositions {
        let seen = &self.resume_state.seen_positions;
        let is_consistent = self.resume_state.sequence + 1 != sequence
            || RecordedDecision::of(envelope).is_some()
            || message_form::state_follows(
                self.stated.high_water_mark,
                &self.stated.gaps,
                envelope,
            )
            || message_form::state_follows(seen.high_water_mark(), &seen.gaps(), envelope);
        let mut seen_positions =
            SeenPositions::from_stream(envelope.high_water_mark, &envelope.gaps);
        if is_consistent {
            return seen_positions;
        }
        seen_positions = seen.clone();
        let wanted = |own: &i64| *own > seen.high_water_mark() || seen.gaps().contains(*own);
        match message_form::own_position(envelope).filter(wanted) {
            // Where no room is left for its hole, what is above it comes again.
            Some(own) if !seen_positions.see(own) => seen.clone(),
            _ => seen_positions,
        }
    }

    /// Where messages were exchanged, the last one does not state everything that was seen.
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
