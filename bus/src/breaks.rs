//! The breaks of a stream that its records report: [`artstore_schemas::epoch`] and
//! [`artstore_schemas::damage`], looked up on the server by the subjects of the records. A publisher's row
//! may have the same subject, and whoever may publish may forge a record. Only a message that is a record
//! ([`artstore_schemas::record`]), that can be read, and that follows the message before it has authority
//! here. Readers find what is wrong with the others.

use uuid::Uuid;

use crate::bus_error::BusError;
use crate::connection::Bus;
use crate::message::Message;
use artstore_schemas::damage::{Damage, damage_accepted};
use artstore_schemas::envelope::Envelope;
use artstore_schemas::epoch::{Epoch, Epochs, accepted};
use artstore_schemas::event::EventType;
use artstore_schemas::record;
use artstore_schemas::source::Source;
use artstore_schemas::subject::subject;

/// A record may follow a message of a range that does not count: at most so many of one range are checked
/// for it.
const MOST_PASSED_OVER: u32 = 16;

/// At most so many are checked in all. A relay's record comes after few such ranges.
const MOST_LOOKED_AT: u32 = 1_024;

/// The breaks of a stream.
#[derive(Debug, Clone, Default)]
pub struct Breaks {
    /// Breaks of the source.
    pub epochs: Epochs,
    /// Damage that was accepted.
    pub damage: Damage,
    /// The sequence of the record that lists it; 0 where there is none.
    pub damage_at: u64,
    /// Records that no relay can have written, and that are not accepted as damage yet.
    pub refused: Vec<Refused>,
    /// Every record at or below this sequence was checked.
    pub end: u64,
}

/// A message that has a record's type and no row, and is no record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its sequence.
    pub sequence: u64,
    /// Why.
    pub problem: String,
}

/// Whether the records have to follow the message before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chain {
    /// They have no authority otherwise.
    Checked,
    /// Whoever asks reads the whole stream and finds that out.
    Unchecked,
}

/// The breaks of a stream, up to its present end. A few requests for each record, and some more.
pub async fn read(bus: &Bus, source: &Source, chain: Chain) -> Result<Breaks, BusError> {
    let stream = Stream::of(bus, source);
    let end = bus.stream_info(&stream.name).await?.state.last_sequence;
    let mut breaks = Breaks {
        end,
        ..Breaks::default()
    };
    if let Some((sequence, damage)) = stream.damage(&mut breaks.refused).await? {
        (breaks.damage_at, breaks.damage) = (sequence, damage);
    }
    let subject = subject(source, None, &accepted());
    let mut next = 1;
    while let Some(message) = stream.first(&subject, next).await? {
        let sequence = message.sequence;
        next = sequence + 1;
        if breaks.damage.ignores(sequence) {
            continue;
        }
        match stream.epoch(&message) {
            None => {}
            Some(Ok((epoch, previous))) => {
                let follows = chain == Chain::Unchecked
                    || breaks.damage.covers_break(sequence)
                    || stream.follows(sequence, previous, &breaks.damage).await?;
                breaks.epochs.0.extend(follows.then_some(epoch));
            }
            Some(Err(problem)) => breaks.refused.push(Refused { sequence, problem }),
        }
    }
    let damage = &breaks.damage;
    breaks.refused.retain(|r| !damage.ignores(r.sequence));
    Ok(breaks)
}

/// The damage of a stream that was accepted: the last record's list. Two requests.
pub async fn damage(bus: &Bus, source: &Source) -> Result<Damage, BusError> {
    let record = damage_record(bus, source).await?;
    Ok(record.map(|(_, damage)| damage).unwrap_or_default())
}

/// The same, with the sequence of that record; none where there is no record.
pub async fn damage_record(bus: &Bus, source: &Source) -> Result<Option<(u64, Damage)>, BusError> {
    let stream = Stream::of(bus, source);
    stream.damage(&mut Vec::new()).await
}

struct Stream<'a> {
    bus: &'a Bus,
    source: &'a Source,
    name: String,
}

impl<'a> Stream<'a> {
    fn of(bus: &'a Bus, source: &'a Source) -> Self {
        let name = source.stream();
        Self { bus, source, name }
    }

    /// The first message of a subject from a sequence on.
    async fn first(&self, subject: &str, from: u64) -> Result<Option<Message>, BusError> {
        self.bus.first_message(&self.name, subject, from).await
    }

    async fn at(&self, sequence: u64) -> Result<Option<Message>, BusError> {
        self.bus.message_at(&self.name, sequence).await
    }

    /// The last record of damage. Mostly it is the last message of the subject; only where that one is no
    /// record, all messages of the subject are read.
    async fn damage(&self, refused: &mut Vec<Refused>) -> Result<Option<(u64, Damage)>, BusError> {
        let subject = subject(self.source, None, &damage_accepted());
        let Some(last) = self.bus.last_message(&self.name, &subject).await? else {
            return Ok(None);
        };
        if let Some(Ok((damage, previous))) = self.damage_of(&last)
            && self.follows(last.sequence, previous, &damage).await?
        {
            return Ok(Some((last.sequence, damage)));
        }
        let mut records = Vec::new();
        let mut next = 1;
        while let Some(message) = self.first(&subject, next).await? {
            let sequence = message.sequence;
            next = sequence + 1;
            match self.damage_of(&message) {
                None => {}
                Some(Ok((damage, previous))) => records.push((sequence, damage, previous)),
                Some(Err(problem)) => refused.push(Refused { sequence, problem }),
            }
        }
        while let Some((sequence, damage, previous)) = records.pop() {
            if self.follows(sequence, previous, &damage).await? {
                return Ok(Some((sequence, damage)));
            }
        }
        Ok(None)
    }

    /// None where the message is a row's.
    fn damage_of(&self, message: &Message) -> Option<Result<(Damage, Option<Uuid>), String>> {
        let envelope = match self.record(message, &damage_accepted())? {
            Ok(envelope) => envelope,
            Err(problem) => return Some(Err(problem)),
        };
        let body = &message.body;
        let record = record::damage_record(self.source, message.sequence, &envelope, body);
        Some(record.map(|record| (record.damage, envelope.previous)))
    }

    /// None where the message is a row's.
    fn epoch(&self, message: &Message) -> Option<Result<(Epoch, Option<Uuid>), String>> {
        let envelope = match self.record(message, &accepted())? {
            Ok(envelope) => envelope,
            Err(problem) => return Some(Err(problem)),
        };
        let (sequence, body) = (message.sequence, &message.body);
        let record = record::source_accepted(self.source, sequence, &envelope, body);
        Some(record.map(|record| {
            let epoch = Epoch {
                sequence,
                high_water_mark: envelope.high_water_mark,
                gaps: envelope.gaps,
                last_agreeing: record.last_agreeing,
                pruned_up_to: record.pruned_up_to,
            };
            (epoch, envelope.previous)
        }))
    }

    /// Its headers; none where the message is a row's.
    fn record(
        &self,
        message: &Message,
        event_type: &EventType,
    ) -> Option<Result<Envelope, String>> {
        match Envelope::from_headers(&message.headers) {
            Ok(envelope) if envelope.position.is_some() => None,
            Ok(envelope) if envelope.is_record_of(event_type) => Some(Ok(envelope)),
            Ok(envelope) => {
                let kind = envelope.event_type;
                Some(Err(format!("its subject does not fit its type {kind}")))
            }
            Err(error) => Some(Err(error.to_string())),
        }
    }

    /// Whether a record follows the last message before it that counts, or one that came after that
    /// and does not count. `damage`: what does not count, in ranges that are never gone through one by
    /// one. A hole that is not recorded means nothing.
    async fn follows(
        &self,
        sequence: u64,
        previous: Option<Uuid>,
        damage: &Damage,
    ) -> Result<bool, BusError> {
        let mut at = sequence.saturating_sub(1);
        let mut passed_over = 0;
        while at > 0 && passed_over < MOST_LOOKED_AT {
            if let Some(hole) = damage.hole_around(at) {
                at = hole.first.saturating_sub(1);
                continue;
            }
            let Some(message) = self.at(at).await? else {
                return Ok(true);
            };
            let id = message.envelope().map(|envelope| envelope.id);
            if id.is_some() && id == previous {
                return Ok(true);
            }
            let Some(ignored) = damage.ignored_around(at) else {
                return Ok(false);
            };
            passed_over += 1;
            at = match passed_over % MOST_PASSED_OVER {
                0 => ignored.first.saturating_sub(1),
                _ => at - 1,
            };
        }
        Ok(at == 0 && previous.is_none())
    }
}
