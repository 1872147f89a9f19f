//! What a stream says of its own breaks: [`crate::epoch`] and [`crate::damage`], looked up on the
//! server by the subjects of their records.

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{LastRawMessageErrorKind, RawMessageErrorKind};

use crate::bus::{Bus, BusError};
use crate::damage::{Damage, DamageAccepted, damage_accepted};
use crate::envelope::Envelope;
use crate::epoch::{Epoch, Epochs, SourceAccepted, accepted};
use crate::event::{self, Event, EventType};
use crate::json::Document;
use crate::source::Source;
use crate::subject::subject;

/// The epochs of a stream. A request for each, and one more. An error also where a record can't be
/// read: then nobody can say what survived.
pub async fn epochs(bus: &Bus, source: &Source) -> Result<Epochs, BusError> {
    let name = source.stream();
    let failed =
        |error: &dyn std::fmt::Display| BusError::JetStream(format!("stream {name}: {error}"));
    let stream = bus.jetstream.get_stream_no_info(&name).await;
    let stream = stream.map_err(|e| failed(&e))?;
    let subject = subject(source, None, &accepted());
    let mut epochs = Vec::new();
    let mut next = 1;
    loop {
        match stream
            .get_first_raw_message_by_subject(&subject, next)
            .await
        {
            Ok(message) => {
                next = message.sequence + 1;
                epochs.push(epoch(source, &message)?);
            }
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => break,
            Err(error) => return Err(failed(&error)),
        }
    }
    Ok(Epochs(epochs))
}

/// The damage of a stream that was accepted: the last record's list. One request.
pub async fn damage(bus: &Bus, source: &Source) -> Result<Damage, BusError> {
    let record = damage_record(bus, source).await?;
    Ok(record.map(|(_, damage)| damage).unwrap_or_default())
}

/// The same, with the sequence of that record; none where there is no record.
pub async fn damage_record(bus: &Bus, source: &Source) -> Result<Option<(u64, Damage)>, BusError> {
    let name = source.stream();
    let failed =
        |error: &dyn std::fmt::Display| BusError::JetStream(format!("stream {name}: {error}"));
    let stream = bus.jetstream.get_stream_no_info(&name).await;
    let stream = stream.map_err(|e| failed(&e))?;
    let subject = subject(source, None, &damage_accepted());
    match stream.get_last_raw_message_by_subject(&subject).await {
        Ok(message) => {
            let record: DamageAccepted = facts(source, &message, &damage_accepted())?;
            Ok(Some((message.sequence, record.damage)))
        }
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(failed(&error)),
    }
}

fn epoch(source: &Source, message: &StreamMessage) -> Result<Epoch, BusError> {
    let record: SourceAccepted = facts(source, message, &accepted())?;
    let envelope = Envelope::from_headers(&message.headers)
        .map_err(|error| unreadable(source, message, &error))?;
    Ok(Epoch {
        sequence: message.sequence,
        high: envelope.high,
        missing: envelope.missing,
        last_agreeing: record.last_agreeing,
        pruned_up_to: record.pruned_up_to,
    })
}

fn facts<T: serde::de::DeserializeOwned>(
    source: &Source,
    message: &StreamMessage,
    event_type: &EventType,
) -> Result<T, BusError> {
    let event = event::decode(source, event_type, &message.payload)
        .map_err(|error| unreadable(source, message, &error))?;
    let data = match &event {
        Event::Wal(event) => event.operation.data.as_ref(),
        Event::Outbox(event) => event.data.as_ref(),
    };
    let value = data.and_then(Document::value).unwrap_or_default();
    serde_json::from_value(value).map_err(|error| unreadable(source, message, &error))
}

fn unreadable(source: &Source, message: &StreamMessage, error: &dyn std::fmt::Display) -> BusError {
    BusError::JetStream(format!(
        "stream {}, message {}, a record of a break, can't be read: {error}",
        source.stream(),
        message.sequence
    ))
}
