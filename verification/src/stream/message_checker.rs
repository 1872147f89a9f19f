//! Checks message after message of a stream against the rows of their positions: which messages
//! count, and what is wrong with the others. It asks no server: [`crate::stream::scan`] passes it messages and
//! rows, and reads the result.

use std::collections::{BTreeSet, HashMap, HashSet};

use artstore_bus::breaks::{Breaks, Refused};
use artstore_bus::message::Message;
use artstore_schemas::envelope::{Envelope, Snapshot};
use artstore_schemas::epoch::Epochs;
use artstore_schemas::event::{self, DecodeError, Event};
use artstore_schemas::source::Source;
use uuid::Uuid;

use crate::accepted::RecordedDecision;
use crate::stream::agreement::{Agreement, LostMessage};
use crate::stream::chain::{Follows, Link, LinkProblem};
use crate::stream::damage::{StreamDamage, Subject};
use crate::stream::file_order::{self, FileOrder, OutOfOrder};
use crate::stream::fingerprint::ComparableEvent;
use crate::stream::message_form;
use crate::stream::rows::Rows;
use crate::stream::stream_end::StreamEnd;

/// Checks the messages of one stream, in order.
#[derive(Debug)]
pub(crate) struct MessageChecker<'a> {
    source: &'a Source,
    /// Whether messages have their bodies.
    bodies: bool,
    epochs: Epochs,
    /// Records that no relay can have written, and why.
    refused: HashMap<u64, String>,
    /// The sequence that should come next.
    pub(crate) next: u64,
    pub(crate) end: StreamEnd,
    pub(crate) agreement: Agreement,
    pub(crate) damage: StreamDamage,
    order: FileOrder,
    /// A message that only a newer version of the program can read.
    pub(crate) too_new: Option<(u64, String)>,
}

/// Whether a message counts.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It counts.
    Good,
    /// It counts, although it is not where it should be: why.
    Break(String),
    /// It does not count.
    Ignore(String),
}

impl<'a> MessageChecker<'a> {
    pub(crate) fn new(source: &'a Source, bodies: bool, breaks: Breaks) -> Self {
        let refused = breaks.refused.into_iter();
        let refused = refused.map(|Refused { sequence, problem }| (sequence, problem));
        Self {
            source,
            bodies,
            epochs: breaks.epochs,
            refused: refused.collect(),
            next: 1,
            end: StreamEnd::default(),
            agreement: Agreement::default(),
            damage: StreamDamage::new(breaks.damage),
            order: FileOrder::default(),
            too_new: None,
        }
    }

    /// There are no messages up to this sequence.
    pub(crate) fn hole(&mut self, last: u64) {
        self.damage.hole(self.next, last);
        self.end.chain.hole();
        self.next = last + 1;
    }

    /// The next message.
    pub(crate) fn check(&mut self, message: &Message, rows: &Rows) {
        let sequence = message.sequence;
        self.next = sequence + 1;
        let envelope = Envelope::from_headers(&message.headers);
        let readable = envelope.as_ref().ok();
        let subject = Subject {
            sequence,
            id: readable.map(|envelope| envelope.id),
            file: readable.and_then(|envelope| file_order::file_of(self.source, envelope)),
        };
        if self.damage.is_known_ignored(sequence) {
            self.damage.known_ignored(subject);
            self.end.chain.passes_over(subject.id);
            return;
        }
        let verdict = match &envelope {
            Ok(envelope) => self.verdict(message, envelope, rows),
            Err(error) => Verdict::Ignore(error.to_string()),
        };
        let problem = match verdict {
            Verdict::Ignore(problem) => {
                self.damage.ignored(subject, &problem);
                self.end.chain.passes_over(subject.id);
                return;
            }
            Verdict::Break(problem) => Some(problem),
            Verdict::Good => None,
        };
        let envelope = envelope.expect("what can't be read does not count");
        self.damage
            .counts(subject, problem.as_deref(), envelope.is_record());
        self.end.counts(sequence, envelope);
    }

    /// Whether a message counts. Takes its position where it does.
    fn verdict(&mut self, message: &Message, envelope: &Envelope, rows: &Rows) -> Verdict {
        let sequence = message.sequence;
        let accepted = self.damage.is_known_break(sequence);
        let decision = RecordedDecision::of(envelope);
        let link = self.end.chain.link(envelope, decision);
        let chained = accepted || link.follows == Follows::LastThatCounts;
        let (subject, headers) = (&message.subject, &message.headers);
        if let Some(problem) = message_form::foreign(self.source, subject, headers, envelope) {
            return Verdict::Ignore(problem);
        }
        if let Some(problem) = self.refused.get(&sequence) {
            // A relay may have continued after it.
            if chained {
                self.end.changed(envelope.id);
            }
            return Verdict::Ignore(problem.clone());
        }
        let event = match self.decoded(message, envelope) {
            Ok(event) => event,
            Err(error) => return Verdict::Ignore(format!("its body can't be read: {error}")),
        };
        let follows = match link_problem(&link) {
            Some(problem) if !accepted => Verdict::Break(problem),
            _ => Verdict::Good,
        };
        // Without a row, only the chain shows that it is ours; a hole breaks it, and so does a message
        // of ours that was changed.
        let is_ours = chained
            || self.damage.is_behind_new_hole(sequence)
            || self.end.changed_is_followed_by(envelope);
        let stranger = || Verdict::Ignore("no relay of this source wrote it here".to_owned());
        let Some(position) = envelope.position else {
            if !is_ours {
                return stranger();
            }
            if decision == Some(RecordedDecision::Epoch) {
                self.order.clear();
            }
            return follows;
        };
        if !self.epochs.survives(sequence, position) {
            return follows;
        }
        let before = || Verdict::Ignore(format!("position {position} was published before it"));
        if rows.is_pruned(position) {
            if self.agreement.holds(position) {
                return before();
            }
            if !is_ours {
                return stranger();
            }
            self.agreement.pruned(sequence, position);
            return follows;
        }
        let Some(row) = rows.row(position, envelope.id) else {
            if !chained || self.agreement.holds(position) {
                return Verdict::Ignore(format!(
                    "the row at its position {position} is another one"
                ));
            }
            self.lost(sequence, position, envelope);
            return follows;
        };
        if self.agreement.holds(position) {
            return before();
        }
        if let (Some(row), Some(event)) = (&row.content, event) {
            let republished = envelope.snapshot == Some(Snapshot::Republish);
            let stated = ComparableEvent::from_message(subject, envelope, event);
            if let Some(fields) = row.differences(stated, republished) {
                self.end.changed(envelope.id);
                return Verdict::Ignore(format!(
                    "it differs from its row in {}",
                    fields.join(", ")
                ));
            }
            if !accepted {
                let recorded = row.carries_state();
                self.order
                    .see(self.source, sequence, position, envelope, recorded);
            }
        }
        self.agreement.agrees(sequence, position);
        follows
    }

    /// What its body states; nothing where messages have none.
    fn decoded(
        &mut self,
        message: &Message,
        envelope: &Envelope,
    ) -> Result<Option<Event>, DecodeError> {
        if !self.bodies {
            return Ok(None);
        }
        let decoded = event::decode(self.source, &envelope.event_type, &message.body);
        if let Err(error @ DecodeError::Unknown { .. }) = &decoded {
            self.too_new
                .get_or_insert((message.sequence, error.to_string()));
        }
        decoded.map(Some)
    }

    fn lost(&mut self, sequence: u64, position: i64, envelope: &Envelope) {
        let message = LostMessage {
            sequence,
            position,
            id: envelope.id,
            file: envelope.subject.clone(),
        };
        let is_of_file = matches!(self.source, Source::Element(_));
        self.agreement.lost(message, is_of_file);
    }

    /// The messages that come after a higher position of the same file.
    pub(crate) fn take_out_of_order(&mut self) -> Vec<OutOfOrder> {
        self.order.take()
    }

    /// Lists a message as out of order. To be called only where our API wrote both rows: only then it is
    /// certain which came first.
    pub(crate) fn disordered(&mut self, message: &OutOfOrder) {
        let problem = format!("it stands behind position {} of its file", message.over);
        let subject = Subject {
            sequence: message.sequence,
            id: Some(message.id),
            file: Some(message.file),
        };
        self.damage.disordered(subject, &problem);
    }

    /// Lists lost messages with a position that is not their row's, or that of a row which has its own
    /// message, as damage: nothing was lost, they do not count. `elsewhere`: rows that have another position.
    pub(crate) fn pass_over_strangers(&mut self, elsewhere: &HashSet<Uuid>) {
        for stranger in self.agreement.take_strangers(elsewhere) {
            let subject = Subject {
                sequence: stranger.sequence,
                id: Some(stranger.id),
                file: stranger.file.as_ref().and_then(|file| file.parse().ok()),
            };
            let problem = format!("position {} is not that of its row", stranger.position);
            let is_last = stranger.sequence == self.end.resume_state.sequence;
            self.damage.stranger(subject, &problem, is_last);
        }
    }

    /// The breaks of the source whose record turned out to be none.
    pub(crate) fn forged_epochs(&self) -> BTreeSet<u64> {
        let epochs = self.epochs.0.iter().map(|epoch| epoch.sequence);
        epochs.filter(|at| self.damage.is_ignored(*at)).collect()
    }
}

/// Why a message counts as a break of the chain. Readers skip what does not count: for them a message that
/// follows such a one follows nothing.
fn link_problem(link: &Link) -> Option<String> {
    if link.follows != Follows::LastThatCounts {
        return Some(LinkProblem::Unchained.to_string());
    }
    if link.comes_again {
        return Some("the messages before it say that its position was seen already".to_owned());
    }
    link.problem.as_ref().map(ToString::to_string)
}
