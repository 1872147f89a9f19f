//! A stream by itself: contiguous from 1, each message chained to the one before it, from
//! the right source and readable, with a relay state that follows from the message
//! before. A message that belongs there goes to [`super::matching`].

use crate::stream::content::ContentDigest;
use crate::stream::fingerprint::ComparableEvent;
use crate::stream::message_form;
use artstore_bus::message::Message;
use artstore_schemas::damage::Sequences;
use artstore_schemas::envelope::{Envelope, Snapshot};
use artstore_schemas::event;
use artstore_schemas::ranges::Ranges;
use artstore_schemas::source::Source;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::accepted::{Accepted, RecordedDecision};
use super::finding::Kind;
use super::matching::Entry;
use super::reader;

/// How far the check of a stream has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Links {
    /// The last sequence that was read.
    pub last: u64,
    /// The events that the next message may follow: that of the last one, and where the last one
    /// doesn't belong there also the one before it. None at the start and after a hole.
    before: Vec<Uuid>,
    /// The highest position in the stream, as its last message states.
    pub high_water_mark: i64,
    /// The highest one in a message that follows from the one before it: above `high_water_mark` only
    /// after damage.
    pub reached: i64,
    /// The gaps below it.
    #[serde(with = "super::as_text")]
    pub gaps: Ranges,
    identity: Option<String>,
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
    /// The event that it names as the one before it.
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
pub struct ReadMessage {
    /// What is wrong.
    pub flaws: Vec<Flaw>,
    /// What it is to its source.
    pub place: MessageRole,
    /// The file that it changes, where its order among the file's changes matters.
    pub file: Option<Uuid>,
}

impl Links {
    /// The highest position in any message: nothing above it was published.
    pub fn highest(&self) -> i64 {
        self.high_water_mark.max(self.reached)
    }

    /// The event of the last message, where it is known.
    pub fn last_id(&self) -> Option<Uuid> {
        self.before.last().copied()
    }

    /// Looks at the next message.
    pub fn see(&mut self, source: &Source, accepted: &Accepted, message: &Message) -> ReadMessage {
        let sequence = message.sequence;
        let mut seen = ReadMessage {
            flaws: self.hole(accepted, sequence),
            place: MessageRole::None,
            file: None,
        };
        let after_hole = sequence != self.last + 1;
        if after_hole {
            self.before.clear();
        }
        let first = self.last == 0 && !after_hole;
        self.last = sequence;
        let read = Envelope::from_headers(&message.headers)
            .map_err(|error| error.to_string())
            .and_then(|envelope| {
                if let Some(problem) = accepted.refused(sequence) {
                    return Err(problem.clone());
                }
                let said = belongs(source, &envelope, message)?;
                Ok((envelope, said))
            });
        let (envelope, said) = match read {
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
                match id {
                    Some(id) => self.before.push(id),
                    None => self.before.clear(),
                }
                return seen;
            }
        };
        let decision = accepted.decision(&envelope, sequence);
        let epoch = decision == Some(RecordedDecision::Epoch);
        // An operator has accepted that it does not follow the message before it.
        let accepted_here = accepted.damage.covers_break(sequence);
        let chained = match envelope.previous {
            None => first || (after_hole && sequence > 1),
            Some(id) => self.before.contains(&id) || (self.before.is_empty() && !first),
        };
        let again = !accepted_here
            && message_form::comes_again(self.high_water_mark, &self.gaps, &envelope);
        // Behind a message that does not count it is not known whose state was continued.
        // A decision has looked at the whole stream for its state.
        let trusted = chained && decision.is_none() && (first || self.before.len() == 1);
        let problem = if !chained {
            Some("it does not follow the message before it (artstore-previous)".to_owned())
        } else if trusted
            && !again
            && !message_form::state_follows(self.high_water_mark, &self.gaps, &envelope)
        {
            Some(format!(
                "it says that positions up to {} were seen, without {:?}, which does not follow \
                 from the message before it: up to {}, without {:?}",
                envelope.high_water_mark,
                envelope.gaps.to_string(),
                self.high_water_mark,
                self.gaps.to_string()
            ))
        } else if !epoch
            && self
                .identity
                .as_ref()
                .is_some_and(|i| *i != envelope.identity)
        {
            Some(format!(
                "it comes from database {}, the messages before it from {}",
                envelope.identity,
                self.identity.as_deref().unwrap_or_default()
            ))
        } else {
            None
        };
        if problem.is_none() {
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
                follows: envelope.previous.filter(|_| !chained),
                detail,
                ..Flaw::at(sequence)
            });
        }
        self.before = vec![envelope.id];
        self.high_water_mark = envelope.high_water_mark;
        self.gaps = envelope.gaps.clone();
        self.identity = Some(envelope.identity.clone());
        seen.place = match envelope.position {
            _ if decision.is_some() => decision.map_or(MessageRole::None, MessageRole::Decision),
            Some(position) if accepted.survives(sequence, position) => {
                let republished = envelope.snapshot == Some(Snapshot::Republish);
                let is_checked = !republished && !accepted_here;
                if matches!(source, Source::Element(_)) && is_checked {
                    let subject = envelope.subject.as_deref();
                    seen.file = subject.and_then(|subject| subject.parse().ok());
                }
                MessageRole::Row(
                    position,
                    Entry {
                        id: envelope.id,
                        sequence,
                        content: ContentDigest::of(said),
                        republished,
                        again,
                        over: None,
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
        self.before.clear();
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
            follows: None,
            detail: String::new(),
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
