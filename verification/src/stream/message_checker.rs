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
use crate::stream::row_verdict::{self, Origin, RowAtPosition, RowVerdict};
use crate::stream::rows::Rows;
use crate::stream::stream_end::StreamEnd;

/// Checks the messages of one stream, in order.
#[derive(Debug)]
pub(crate) struct MessageChecker<'a> {
    source: &'a Source,
    /// Whether messages have their bodies.
    bodies: bool,
    epochs: Epochs,
    /// Messages that no relay can have written here, and why.
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

    /// Whether a message counts. Takes its position where it does. The first of these steps that knows
    /// decides:
    ///
    /// 1. Its form ([`message_form`]), and whether it was refused: no relay of this source wrote it.
    /// 2. Its body: it can be read.
    /// 3. Its link ([`crate::stream::chain`]): whether it follows the last message that counts.
    /// 4. Its position: none, or one that did not survive a break of the source.
    /// 5. Its row ([`row_verdict`]): the message of its row, of one that was pruned or lost, or none of these.
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
        let origin = if chained {
            Origin::Chained
        } else if self.damage.is_behind_new_hole(sequence)
            || self.end.changed_is_followed_by(envelope)
        {
            Origin::Plausible
        } else {
            Origin::Unknown
        };
        let foreign = || Verdict::Ignore("no relay of this source wrote it here".to_owned());
        let Some(position) = envelope.position else {
            if origin == Origin::Unknown {
                return foreign();
            }
            if decision == Some(RecordedDecision::Epoch) {
                self.order.clear();
            }
            return follows;
        };
        if !self.epochs.survives(sequence, position) {
            return follows;
        }
        let own = rows.row(position, envelope.id);
        let mut differing = Vec::new();
        if let (Some(row), Some(event)) = (own.and_then(|row| row.content.as_ref()), event) {
            let republished = envelope.snapshot == Some(Snapshot::Republish);
            let stated = ComparableEvent::from_message(subject, envelope, event);
            differing = row.differences(stated, republished).unwrap_or_default();
        }
        let at = match own {
            Some(_) => RowAtPosition::Own {
                agrees: differing.is_empty(),
            },
            None if rows.is_pruned(position) => RowAtPosition::Pruned,
            None => RowAtPosition::Other,
        };
        match row_verdict::verdict(at, self.agreement.holds(position), origin) {
            RowVerdict::Agrees => {
                if let Some(row) = own.and_then(|row| row.content.as_ref())
                    && !accepted
                {
                    let recorded = row.carries_state();
                    self.order
                        .see(self.source, sequence, position, envelope, recorded);
                }
                self.agreement.agrees(sequence, position);
                follows
            }
            RowVerdict::Pruned => {
                self.agreement.pruned(sequence, position);
                follows
            }
            RowVerdict::Lost => {
                self.lost(sequence, position, envelope);
                follows
            }
            RowVerdict::Differs => {
                self.end.changed(envelope.id);
                Verdict::Ignore(format!(
                    "it differs from its row in {}",
                    differing.join(", ")
                ))
            }
            RowVerdict::Doubled => {
                Verdict::Ignore(format!("position {position} was published before it"))
            }
            RowVerdict::Foreign if at == RowAtPosition::Pruned => foreign(),
            RowVerdict::Foreign => {
                Verdict::Ignore(format!("the row at its position {position} is another one"))
            }
        }
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
        let problem = format!(
            "it comes after position {} of its file",
            message.higher_before
        );
        let subject = Subject {
            sequence: message.sequence,
            id: Some(message.id),
            file: Some(message.file),
        };
        self.damage.disordered(subject, &problem);
    }

    /// Lost messages with a position that is not their row's, or that of a row which has its own message:
    /// nothing was lost, they do not count. `elsewhere`: rows that have another position.
    pub(crate) fn strangers(&self, elsewhere: &HashSet<Uuid>) -> Vec<Refused> {
        let strangers = self.agreement.strangers(elsewhere);
        let refused = strangers.map(|stranger| Refused {
            sequence: stranger.sequence,
            problem: format!("position {} is not that of its row", stranger.position),
        });
        refused.collect()
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
        return Some("the messages before it state its position as seen".to_owned());
    }
    link.problem.as_ref().map(ToString::to_string)
}
