//! Reads a stream from a checkpoint on. Messages are contiguous, chained, and from the right source, or
//! they are not read, except for damage that an operator accepted (`artstore_schemas::damage`). There are
//! no acknowledgements: the checkpoint is the only position. Batches go to `crate::runtime::runner`.

use std::collections::VecDeque;
use std::time::Duration;

use artstore_bus::breaks;
use artstore_bus::connection::Bus;
use artstore_bus::message::Message;
use artstore_bus::selection::Selection;
use artstore_bus::stream_reader::{ReadError, StreamReader};
use artstore_schemas::damage::Damage;
use artstore_schemas::envelope::Envelope;
use artstore_schemas::ranges::Ranges;
use artstore_schemas::source::Source;
use artstore_schemas::subject;
use uuid::Uuid;

use crate::projector::{At, RawMessage, ReadMessage};
use crate::projector_error::{Halt, Previous, WorkerError};
use crate::runtime::checkpoint::Checkpoint;

/// How far a stream was read: its last message, and the state of the source that this message carries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadPosition {
    /// The sequence of the last message; 0 at the start.
    pub sequence: u64,
    /// The last event that counts; none at the start.
    pub event_id: Option<Uuid>,
    /// The source's high-water mark, as the message states it.
    pub high_water_mark: i64,
    /// The gaps below it.
    pub gaps: Ranges,
}

impl ReadPosition {
    /// After what was applied.
    pub fn behind(checkpoint: Option<&Checkpoint>) -> Self {
        let Some(checkpoint) = checkpoint else {
            return Self::default();
        };
        Self {
            sequence: checkpoint.last_sequence,
            event_id: checkpoint.last_event_id,
            high_water_mark: checkpoint.source_high,
            // Only what the relay wrote gets there.
            gaps: checkpoint.source_missing.parse().unwrap_or_default(),
        }
    }
}

/// Messages of one stream, one after another.
#[derive(Debug)]
pub struct Batch<M> {
    /// At least one.
    pub entries: Vec<Entry<M>>,
    /// The position of the last one.
    pub last: ReadPosition,
}

/// A message, and what was made of it.
#[derive(Debug, Clone)]
pub struct Entry<M> {
    /// Its sequence and time.
    pub at: At,
    /// Its headers, where it counts.
    pub envelope: Option<Envelope>,
    /// As it came; none where it is gone.
    pub raw: Option<RawMessage>,
    /// What the projector reads; none while it has it.
    pub taken: Option<M>,
}

impl<M: ReadMessage> Entry<M> {
    /// Gives out what the projector takes, which has to come back; none where there is nothing.
    pub(crate) fn lend(&mut self) -> Option<M> {
        self.taken.take()
    }

    fn size(&self) -> usize {
        let raw = self.raw.as_ref().map(|raw| raw.body.len());
        raw.unwrap_or(0)
    }
}

/// Reads a stream after one sequence, and checks each message.
pub struct CheckedReader<M> {
    projection: &'static str,
    source: Source,
    stream: String,
    messages: StreamReader,
    /// The last message that was read.
    last: ReadPosition,
    /// Nothing after this sequence is returned.
    until: Option<u64>,
    /// Read, and not returned yet.
    taken: VecDeque<(Entry<M>, ReadPosition)>,
    bus: Bus,
    /// The damaged ranges that an operator accepted; looked up again at each sequence that is not in them.
    damage: Damage,
    /// Where the consumer was recreated because of a hole already.
    hole_at: Option<u64>,
    /// What came after the returned messages: the next call returns it.
    failed: Option<WorkerError>,
}

impl<M: ReadMessage> CheckedReader<M> {
    /// Continues after `last`.
    pub async fn open(
        bus: &Bus,
        projection: &'static str,
        source: &Source,
        last: ReadPosition,
        hole_at: Option<u64>,
    ) -> Result<Self, WorkerError> {
        let stream = source.stream();
        let selection = Selection::from(last.sequence + 1);
        let messages = StreamReader::open(bus, &stream, selection).await?;
        let damage = breaks::damage(bus, source).await?;
        Ok(Self {
            bus: bus.clone(),
            damage,
            projection,
            source: source.clone(),
            stream,
            messages,
            last,
            until: None,
            taken: VecDeque::new(),
            hole_at,
            failed: None,
        })
    }

    /// Returns nothing after this sequence.
    pub fn until(mut self, sequence: u64) -> Self {
        self.until = Some(sequence);
        self
    }

    /// Whether everything up to the bound was returned.
    pub fn is_at_end(&self) -> bool {
        let next = match self.taken.front() {
            Some((entry, _)) => entry.at.sequence,
            None => self.last.sequence + 1,
        };
        self.until.is_some_and(|until| next > until)
    }

    /// Waits for a message, then takes with it what is there already, up to a limit.
    /// None: nothing came within `patience`.
    pub async fn batch(
        &mut self,
        most: usize,
        most_bytes: usize,
        patience: Duration,
    ) -> Result<Option<Batch<M>>, WorkerError> {
        if self.is_at_end() {
            return Ok(None);
        }
        if self.taken.is_empty() {
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            let first = self.messages.next_within(patience).await;
            let Some(first) = first.map_err(ended)? else {
                return Ok(None);
            };
            self.take(&first).await?;
        }
        let mut entries = Vec::new();
        let mut last = ReadPosition::default();
        let mut bytes = 0;
        loop {
            while !self.is_at_end()
                && let Some((entry, place)) = self.taken.pop_front()
            {
                bytes += entry.size();
                entries.push(entry);
                last = place;
                if entries.len() >= most || bytes >= most_bytes {
                    return Ok(Some(Batch { entries, last }));
                }
            }
            if self.is_at_end() {
                break;
            }
            let Some(next) = self.messages.now() else {
                break;
            };
            let taken = match next {
                Ok(message) => self.take(&message).await,
                Err(error) => Err(ended(error)),
            };
            if let Err(error) = taken {
                if entries.is_empty() {
                    return Err(error);
                }
                // What came before it is applied first.
                self.failed = Some(error);
                break;
            }
        }
        // All that came may be messages that do not count.
        Ok(Some(Batch { entries, last }).filter(|batch| !batch.entries.is_empty()))
    }

    /// Why the consumer was recreated since this was asked last; none where it was not.
    pub fn take_recreated(&mut self) -> Option<String> {
        self.messages.take_recreated()
    }

    /// Reads what came. What is wrong with it may have been accepted since the list of damage was
    /// looked up.
    async fn take(&mut self, message: &Message) -> Result<(), WorkerError> {
        match self.read(message) {
            Err(error @ (WorkerError::Hole { .. } | WorkerError::Halt(_))) => {
                let damage = breaks::damage(&self.bus, &self.source).await?;
                if damage == self.damage {
                    return Err(error);
                }
                self.damage = damage;
                self.read(message)
            }
            read => read,
        }
    }

    /// Takes a message, and those before it that are gone. After an error nothing was taken.
    fn read(&mut self, message: &Message) -> Result<(), WorkerError> {
        let (sequence, published) = (message.sequence, message.published);
        let expected = self.last.sequence + 1;
        if sequence != expected && !self.damage.covers_hole(expected, sequence - 1) {
            return Err(self.hole(expected, sequence));
        }
        let at = At {
            sequence,
            published,
        };
        let envelope = match self.counts(message) {
            Ok(envelope) => Some(envelope),
            Err(_) if M::EVERYTHING => None,
            Err(Doubt::Ignored) => {
                self.last.sequence = sequence;
                return Ok(());
            }
            Err(Doubt::Unreadable(id, reason)) => {
                return Err(self.unreadable(sequence, id, reason));
            }
        };
        if let Some(envelope) = &envelope
            && envelope.previous != self.last.event_id
            && !self.damage.covers_break(sequence)
        {
            return Err(Halt::Spliced {
                projection: self.projection,
                source_name: self.source.to_string(),
                stream: self.stream.clone(),
                sequence,
                previous: Previous(envelope.previous),
                expected: Previous(self.last.event_id),
            }
            .into());
        }
        let raw = RawMessage::from(message.clone());
        let taken = M::of_message(&self.source, at, envelope.as_ref(), &raw);
        let id = envelope.as_ref().map(|envelope| envelope.id);
        let taken = taken.map_err(|reason| self.unreadable(sequence, id, reason))?;
        for gone in expected..sequence {
            self.last.sequence = gone;
            let at = At {
                sequence: gone,
                published,
            };
            let gone = M::of_gone(at).map(|gone| Entry {
                at,
                envelope: None,
                raw: None,
                taken: Some(gone),
            });
            self.taken
                .extend(gone.map(|gone| (gone, self.last.clone())));
        }
        self.last.sequence = sequence;
        if let Some(envelope) = &envelope {
            self.last = ReadPosition {
                sequence,
                event_id: Some(envelope.id),
                high_water_mark: envelope.high_water_mark,
                gaps: envelope.gaps.clone(),
            };
        }
        let entry = Entry {
            at,
            envelope,
            raw: Some(raw),
            taken: Some(taken),
        };
        self.taken.push_back((entry, self.last.clone()));
        Ok(())
    }

    /// The headers of a message that counts: readable, in its own stream, and not accepted as
    /// damage.
    fn counts(&self, message: &Message) -> Result<Envelope, Doubt> {
        if self.damage.ignores(message.sequence) {
            return Err(Doubt::Ignored);
        }
        let envelope = Envelope::from_headers(&message.headers)
            .map_err(|error| Doubt::Unreadable(None, error.to_string()))?;
        if envelope.source != self.source.ce_source()
            || !subject::belongs(&message.subject, &self.source, &envelope.event_type)
        {
            let reason = format!(
                "subject {}, source {} and type {} do not belong into this stream",
                message.subject, envelope.source, envelope.event_type
            );
            return Err(Doubt::Unreadable(Some(envelope.id), reason));
        }
        Ok(envelope)
    }

    /// The first hole may be the consumer's; a second at the same sequence is the stream's.
    fn hole(&self, expected: u64, found: u64) -> WorkerError {
        if self.hole_at == Some(expected) {
            return Halt::Hole {
                projection: self.projection,
                source_name: self.source.to_string(),
                stream: self.stream.clone(),
                expected,
                found,
            }
            .into();
        }
        WorkerError::Hole {
            stream: self.stream.clone(),
            expected,
            found,
        }
    }

    /// The reason may show what somebody has published, and is logged with each attempt.
    fn unreadable(&self, sequence: u64, id: Option<Uuid>, reason: String) -> WorkerError {
        let reason = reason.chars().take(1_000).collect();
        Halt::Unreadable {
            projection: self.projection,
            source_name: self.source.to_string(),
            stream: self.stream.clone(),
            sequence,
            id: Previous(id),
            reason,
        }
        .into()
    }
}

fn ended(ReadError { stream, reason }: ReadError) -> WorkerError {
    WorkerError::Consumer { stream, reason }
}

/// Why a message does not count.
enum Doubt {
    /// An operator accepted it as damage.
    Ignored,
    /// It can't be read, or belongs elsewhere: its event and the reason.
    Unreadable(Option<Uuid>, String),
}
