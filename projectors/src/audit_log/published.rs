//! Heads on the bus: in a stream that the database's owner can't rewrite. A head is first committed with
//! its rows and then published. After a crash in between, the same bytes are published.

use std::time::Duration;

use artstore_bus::bus_error::BusError;
use artstore_bus::connection::Bus;
use artstore_bus::selection::Selection;
use artstore_bus::stream_name::{AUDIT_HEADS, audit_head_subject};
use artstore_bus::stream_reader::StreamReader;
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;

/// The longest that a message may take that is there.
const PATIENCE: Duration = Duration::from_secs(10);

/// The last head of a stream's log on the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Last {
    /// Its sequence in the stream of heads; 0 where there is none.
    pub sequence: u64,
    /// The note; none where there is none.
    pub note: Option<String>,
}

/// Reads it.
pub async fn last(bus: &Bus, stream: &str) -> Result<Last, BusError> {
    // The error names the command to run where the stream does not exist.
    bus.stream_info(AUDIT_HEADS).await?;
    let subject = audit_head_subject(stream);
    Ok(match bus.last_message(AUDIT_HEADS, &subject).await? {
        Some(message) => Last {
            sequence: message.sequence,
            note: Some(String::from_utf8_lossy(&message.body).into_owned()),
        },
        None => Last {
            sequence: 0,
            note: None,
        },
    })
}

/// All heads of a stream's log, in the order in which they were published.
pub async fn all(bus: &Bus, stream: &str) -> Result<Vec<String>, BusError> {
    let selection = Selection {
        subjects: vec![audit_head_subject(stream)],
        ..Selection::from(1).up_to_now()
    };
    let mut messages = StreamReader::open(bus, AUDIT_HEADS, selection).await?;
    let mut notes = Vec::new();
    while let Some(message) = messages.next_or_end(PATIENCE).await? {
        notes.push(String::from_utf8_lossy(&message.body).into_owned());
    }
    Ok(notes)
}

/// Publishes a head after the last one. None: another one was faster.
pub async fn publish(
    bus: &Bus,
    stream: &str,
    after: u64,
    note: &str,
) -> Result<Option<u64>, BusError> {
    let message = PublishMessage::build()
        .payload(note.to_owned().into())
        .expected_last_subject_sequence(after);
    let subject = audit_head_subject(stream);
    let stored = async {
        let sent = bus.jetstream.send_publish(subject.clone(), message).await;
        sent?.await
    };
    let is_its = |refused: &str| refused == subject;
    match bus.refusals.unless_refused(is_its, stored).await? {
        Ok(ack) => Ok(Some(ack.sequence)),
        Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => Ok(None),
        Err(error) => Err(failed(&error)),
    }
}

fn failed(error: &dyn std::fmt::Display) -> BusError {
    BusError::JetStream(format!("stream {AUDIT_HEADS}: {error}"))
}
