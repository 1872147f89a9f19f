//! A stream by itself: contiguous from 1, each message chained to the one before it, from
//! the right source and readable, with a relay state that follows from the message
//! before. A message that belongs there goes to [`super::matching`].

use crate::stream::chain::{ChainState, Follows};
use crate::stream::content::ContentDigest;
use crate::stream::file_order;
use crate::stream::fingerprint::ComparableEvent;
use crate::stream::message_form;
use artstore_bus::message::Message;
use artstore_schemas::damage::Sequences;
use artstore_schemas::envelope::{Envelope, Snapshot};
use artstore_schemas::event;
use artstore_schemas::source::Source;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::accepted::{Accepted, RecordedDecision};
use super::candidates::Candidate;
use super::finding::Kind;
use super::matching::Entry;
use super::reader;

/// How far the check of a stream has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Links {
    /// The last sequence that was read.
    pub last: u64,
    /// What the next message has to follow from.
    #[serde(flatten)]
    pub chain: ChainState,
    /// The highest position in a message that follows from the one before it: above that of `chain` only
    /// after damage.
    pub reached: i64,
}

/// What is wrong with the stream itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// What kind.
    pub kind: Kind,
    /// Where: both ends included; one message but for a hole.
    pub sequences: (u64, u64),
    /// The message's event.
    pub id: Option<Uuid>,
    /// Its position.
    pub position: Option<i64>,
    /// It does not follow the message before it.
    pub unchained: bool,
    /// The event that it names as that one.
    pub follows: Option<Uuid>,
    /// What exactly.
    pub detail: String,
}

/// What a message means for the comparison with its source.
#[derive(Debug)]
pub enum MessageRole {
    /// Nothing to be compared with a row.
    None,
    /// It is the message of the row at this position.
    Row(i64, Entry),
    /// An operator's decision about earlier messages.
    Decision(RecordedDecision),
}

/// A message that was checked.
#[derive(Debug)]
pub struct CheckedMessage {
    /// What is wrong.
    pub flaws: Vec<Flaw>,
    /// What it means for the comparison with its source.
    pub role: MessageRole,
    /// The file that it changes, where its order among the file's changes matters.
    pub file: Option<Uuid>,
}

impl Links {
    /// The highest position in any message: nothing above it was published.
    pub fn highest(&self) -> i64 {
        self.chain.high_water_mark.max(self.reached)
    }

    /// The event of the last message, where it is known.
    pub fn last_id(&self) -> Option<Uuid> {
        self.chain.last_seen()
    }

    /// Checks the next message.
    pub fn see(
        &mut self,
        source: &Source,
        accepted: &Accepted,
        message: &Message,
    ) -> CheckedMessage {
        let sequence = message.sequence;
        let mut seen = CheckedMessage {
            flaws: self.hole(accepted, sequence),
            role: MessageRole::None,
            file: None,
        };
        if sequence != self.last + 1 {
            self.chain.hole();
        }
        self.last = sequence;
        let read = Envelope::from_headers(&message.headers)
            .map_err(|error| error.to_string())
            .and_then(|envelope| {
                if let Some(problem) = accepted.refused(sequence) {
                    return Err(problem.clone());
                }
                let content = belongs(source, &envelope, message)?;
                Ok((envelope, content))
            });
        let (envelope, content) = match read {
            Ok(read) if !accepted.damage.ignores(sequence) => read,
            read => {
                let id = reader::id_of(message);
                if let (Err(detail), false) = (read, accepted.damage.ignores(sequence)) {
                    seen.flaws.push(Flaw {
                        kind: Kind::MessageForeign,
                        id,
                        detail,
                        ..Flaw::at(sequence)
                    });
                }
                // What comes next may follow it, or skip it.
                self.chain.passes_over(id);
                return seen;
            }
        };
        let decision = accepted.decision(&envelope, sequence);
        let epoch = decision == Some(RecordedDecision::Epoch);
        // An operator has accepted that it does not follow the message before it.
        let accepted_here = accepted.damage.covers_break(sequence);
        let link = self.chain.link(&envelope, decision);
        let unchained = link.follows == Follows::Nothing;
        let comes_again = link.comes_again && !accepted_here;
        let problem = link.problem.map(|problem| problem.to_string());
        if problem.is_none() && !(accepted_here && link.comes_again) {
            self.reached = self.reached.max(envelope.high_water_mark);
        }
        if epoch {
            self.reached = envelope.high_water_mark;
        }
        if let Some(detail) = problem.filter(|_| !accepted_here) {
            seen.flaws.push(Flaw {
                kind: Kind::StreamBroken,
                id: Some(envelope.id),
                position: envelope.position,
                unchained,
                follows: envelope.previous.filter(|_| unchained),
                detail,
                ..Flaw::at(sequence)
            });
        }
        self.chain.counts(&envelope);
        seen.role = match envelope.position {
            _ if decision.is_some() => decision.map_or(MessageRole::None, MessageRole::Decision),
            Some(position) if accepted.survives(sequence, position) => {
                let republished = envelope.snapshot == Some(Snapshot::Republish);
                let file = file_order::ordered_file(source, &envelope);
                seen.file = file.filter(|_| !accepted_here);
                MessageRole::Row(
                    position,
                    Entry {
                        id: envelope.id,
                        sequence,
                        content: ContentDigest::of(content),
                        republished,
                        comes_again,
                        higher_before: None,
                    },
                )
            }
            Some(_) | None => MessageRole::None,
        };
        seen
    }

    /// Nothing comes after the last message, up to a sequence that the stream has assigned.
    pub fn end(&mut self, accepted: &Accepted, sequence: u64) -> Vec<Flaw> {
        let flaws = self.hole(accepted, sequence + 1);
        if sequence > self.last {
            self.chain.hole();
        }
        self.last = self.last.max(sequence);
        flaws
    }

    fn hole(&self, accepted: &Accepted, sequence: u64) -> Vec<Flaw> {
        if sequence <= self.last + 1 {
            return Vec::new();
        }
        let left = accepted.damage.left_of_hole(self.last + 1, sequence - 1);
        let flaw = |Sequences { first, last }| Flaw {
            kind: Kind::StreamHole,
            sequences: (first, last),
            detail: "the stream has no message here".to_owned(),
            ..Flaw::at(sequence)
        };
        left.into_iter().map(flaw).collect()
    }
}

impl Flaw {
    fn at(sequence: u64) -> Self {
        Self {
            kind: Kind::StreamBroken,
            sequences: (sequence, sequence),
            id: None,
            position: None,
            unchained: false,
            follows: None,
            detail: String::new(),
        }
    }

    /// The candidate of one of its sequences.
    pub(crate) fn candidate(&self, sequence: u64) -> Candidate {
        Candidate {
            id: self.id,
            sequence: Some(sequence),
            position: self.position,
            unchained: self.unchained,
            follows: self.follows,
            detail: self.detail.clone(),
            ..Candidate::default()
        }
    }
}

/// Whether a message belongs in its source's stream and can be read: its content, or why not.
fn belongs(
    source: &Source,
    envelope: &Envelope,
    message: &Message,
) -> Result<ComparableEvent, String> {
    if let Some(problem) =
        message_form::foreign(source, &message.subject, &message.headers, envelope)
    {
        return Err(problem);
    }
    let event = event::decode(source, &envelope.event_type, &message.body)
        .map_err(|error| error.to_string())?;
    Ok(ComparableEvent::from_message(
        &message.subject,
        envelope,
        event,
    ))
}
