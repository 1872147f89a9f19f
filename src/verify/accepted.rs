//! What an operator accepted: breaks of a source (`source.accepted`), after which some messages
//! are history, and damage of a stream (`source.damage-accepted`), which readers step over. Both
//! are messages that come behind what they are about, so they are read first.

use std::ops::RangeInclusive;
use std::time::Duration;

use artstore_schemas::bus::Bus;
use artstore_schemas::damage::{Damage, DamageAccepted, Sequences};
use artstore_schemas::envelope::Envelope;
use artstore_schemas::event::{self, Event};
use artstore_schemas::ranges::Ranges;
use artstore_schemas::source::Source;

use super::reader::{Message, Reader};

/// The entity of events about a source itself.
pub const ENTITY: &str = "source";
const ACCEPTED: &str = "accepted";
const DAMAGE_ACCEPTED: &str = "damage-accepted";

/// Breaks and damage that were accepted, as far as the stream has been read for them.
#[derive(Debug, Clone, Default)]
pub struct Accepted {
    epochs: Vec<Epoch>,
    damage: Damage,
    /// Where they stand.
    decisions: Vec<u64>,
}

/// A break: which positions of the messages before it still have their rows.
#[derive(Debug, Clone)]
pub struct Epoch {
    /// Where the break stands in the stream.
    pub sequence: u64,
    /// The highest position whose message and row agree.
    pub high: i64,
    /// Positions at or below it that do not.
    pub missing: Ranges,
}

impl Accepted {
    /// Reads what the stream holds up to its present end.
    pub async fn read(bus: &Bus, source: &Source) -> anyhow::Result<Self> {
        let mut accepted = Self::default();
        for action in [ACCEPTED, DAMAGE_ACCEPTED] {
            let subject = format!("{}.p00.{ENTITY}.{action}", source.subject_prefix());
            // Asked first: without any, nothing has to be waited for.
            let handle = bus.jetstream.get_stream_no_info(source.stream()).await?;
            let mut last = match handle.get_last_raw_message_by_subject(&subject).await {
                Ok(message) => message.sequence,
                Err(error) => {
                    use async_nats::jetstream::stream::LastRawMessageErrorKind as Kind;
                    match error.kind() {
                        Kind::NoMessageFound => continue,
                        _ => return Err(error.into()),
                    }
                }
            };
            let mut reader = Reader::of_subject(bus, source, subject);
            while last > 0 {
                for message in reader.batch(1_000, Duration::from_secs(10)).await? {
                    accepted.note(source, &message);
                    if message.sequence >= last {
                        last = 0;
                    }
                }
            }
        }
        Ok(accepted)
    }

    /// Takes an event of this kind; any other is not looked at.
    fn note(&mut self, source: &Source, message: &Message) {
        let Ok(envelope) = Envelope::from_headers(&message.headers) else {
            return;
        };
        self.decisions.push(message.sequence);
        if is_epoch(&envelope) {
            self.epochs.push(Epoch {
                sequence: message.sequence,
                high: envelope.high,
                missing: envelope.missing,
            });
        } else if let Ok(event) = event::decode(source, &envelope.event_type, &message.body) {
            let facts = match event {
                Event::Wal(event) => event.operation.data,
                Event::Outbox(event) => event.data,
            };
            let facts = facts.and_then(|facts| facts.value()).unwrap_or_default();
            // A record lists all places of those before it.
            if let Ok(record) = serde_json::from_value::<DamageAccepted>(facts) {
                self.damage = record.damage;
            }
        }
    }

    /// Whether a message still speaks of a row: true where no later break took its row away.
    pub fn survives(&self, sequence: u64, position: i64) -> bool {
        self.after(sequence)
            .all(|epoch| position <= epoch.high && !epoch.missing.contains(position))
    }

    /// Rows above this position are told of behind a break that is still to come.
    pub fn horizon(&self, sequence: u64) -> i64 {
        let highs = self.after(sequence).map(|epoch| epoch.high);
        highs.min().unwrap_or(i64::MAX)
    }

    fn after(&self, sequence: u64) -> impl Iterator<Item = &Epoch> {
        self.epochs.iter().filter(move |e| e.sequence > sequence)
    }

    /// Whether a decision is known that stands here.
    pub fn knows(&self, sequence: u64) -> bool {
        self.decisions.contains(&sequence)
    }

    /// Whether a message does not count.
    pub fn ignores(&self, sequence: u64) -> bool {
        self.damage.ignores(sequence)
    }

    /// Whether it is accepted that a message does not follow the one before it.
    pub fn breaks(&self, sequence: u64) -> bool {
        self.damage.covers_break(sequence)
    }

    /// The part of a hole that nobody has accepted.
    pub fn left_of_hole(&self, hole: RangeInclusive<u64>) -> Vec<RangeInclusive<u64>> {
        let mut left = vec![hole];
        for Sequences { first, last } in &self.damage.holes {
            left = left
                .into_iter()
                .flat_map(|range| {
                    let (from, to) = range.into_inner();
                    let before = from..=to.min(first.saturating_sub(1));
                    let behind = from.max(last.saturating_add(1))..=to;
                    if *last < from || *first > to {
                        vec![from..=to]
                    } else {
                        vec![before, behind]
                    }
                })
                .filter(|range| !range.is_empty())
                .collect();
        }
        left
    }
}

/// Whether a message is an operator's decision about what stands before it.
pub fn is_decision(envelope: &Envelope) -> bool {
    envelope.event_type.entity == ENTITY
        && [ACCEPTED, DAMAGE_ACCEPTED].contains(&envelope.event_type.action.as_str())
}

/// Whether a message begins a new epoch of its source.
pub fn is_epoch(envelope: &Envelope) -> bool {
    envelope.event_type.entity == ENTITY && envelope.event_type.action == ACCEPTED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_every_break_behind_it() {
        let epoch = |sequence, high, missing: &str| Epoch {
            sequence,
            high,
            missing: missing.parse().expect("ranges"),
        };
        let accepted = Accepted {
            epochs: vec![epoch(10, 8, "3"), epoch(20, 12, "")],
            ..Accepted::default()
        };
        assert!(accepted.survives(5, 4));
        assert!(!accepted.survives(5, 3), "its row is not there any more");
        assert!(!accepted.survives(9, 9), "above what agreed");
        assert!(accepted.survives(11, 9), "a new row behind the break");
        assert!(!accepted.survives(11, 13));
        assert!(accepted.survives(21, 13));
        assert_eq!(
            [
                accepted.horizon(1),
                accepted.horizon(10),
                accepted.horizon(20)
            ],
            [8, 12, i64::MAX]
        );
    }

    #[test]
    fn of_a_hole_remains_what_nobody_accepted() {
        let damage = Damage {
            holes: [(3, 4), (8, 20)]
                .map(|(first, last)| Sequences { first, last })
                .into(),
            ..Damage::default()
        };
        let accepted = Accepted {
            damage,
            ..Accepted::default()
        };
        assert_eq!(accepted.left_of_hole(1..=10), vec![1..=2, 5..=7]);
        assert!(accepted.left_of_hole(3..=4).is_empty());
        assert_eq!(accepted.left_of_hole(30..=31), vec![30..=31]);
    }
}
