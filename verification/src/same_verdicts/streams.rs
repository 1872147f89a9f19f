//! Streams as a relay writes them, and their source's rows. A test changes them before they are checked.

use std::collections::BTreeMap;

use artstore_bus::message;
use artstore_producers::relay::seen_positions::SeenPositions;
use artstore_schemas::envelope::Envelope;
use artstore_schemas::event::{self, EventType};
use artstore_schemas::ranges::Ranges;
use artstore_schemas::source::Source;
use artstore_schemas::subject::subject;
use async_nats::HeaderMap;
use bytes::Bytes;
use chrono::DateTime;
use serde_json::Value;
use uuid::Uuid;

use crate::stream::fingerprint::ComparableEvent;

const SAMPLE: &str = include_str!("../../../schemas/samples/artstore.file.updated.v1.json");

pub(super) fn source() -> Source {
    Source::Element("elem".parse().expect("a name"))
}

/// A message that can be changed before it is read.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) envelope: Envelope,
    pub(super) body: Value,
    pub(super) subject: String,
    pub(super) readable: bool,
}

impl Message {
    /// The message of the row at a position, whose event has the same number. Three files take turns.
    pub(super) fn of_row(position: i64) -> Self {
        let id = Uuid::from_u128(position.unsigned_abs().into());
        let file = Uuid::from_u128(0xf000 + position.unsigned_abs() as u128 % 3);
        let event_type = EventType::new("file", "updated", 1);
        let sample: Value = serde_json::from_str(SAMPLE).expect("a sample");
        let mut body = sample["body"].clone();
        body["operation"]["id"] = id.to_string().into();
        body["operation"]["file_id"] = file.to_string().into();
        body["file"]["id"] = file.to_string().into();
        body["omitted"] = Value::Array(Vec::new());
        Self {
            subject: subject(&source(), Some(file), &event_type),
            envelope: Envelope {
                id,
                source: source().ce_source(),
                event_type,
                subject: Some(file.to_string()),
                time: DateTime::UNIX_EPOCH,
                traceparent: None,
                position: Some(position),
                high_water_mark: 0,
                gaps: Ranges::default(),
                identity: "7-16384-1".to_owned(),
                previous: None,
                snapshot: None,
                backfill_due: false,
            },
            body,
            readable: true,
        }
    }

    pub(super) fn headers(&self) -> HeaderMap {
        if self.readable {
            return self.envelope.to_headers();
        }
        let mut headers = HeaderMap::new();
        for (name, values) in self.envelope.to_headers().iter() {
            let text: &str = name.as_ref();
            for value in values.iter().filter(|_| text != "ce-id") {
                headers.append(text, value.as_str());
            }
        }
        headers
    }

    /// As a stream has it.
    pub(super) fn at(&self, sequence: u64) -> message::Message {
        message::Message {
            sequence,
            published: DateTime::UNIX_EPOCH,
            subject: self.subject.clone(),
            headers: self.headers(),
            body: self.bytes(),
        }
    }

    pub(super) fn bytes(&self) -> Bytes {
        self.body.to_string().into()
    }

    pub(super) fn content(&self) -> ComparableEvent {
        let envelope = &self.envelope;
        let event =
            event::decode(&source(), &envelope.event_type, &self.bytes()).expect("an event");
        ComparableEvent::from_message(&self.subject, envelope, event)
    }
}

/// A source's rows, and its stream: a message or a hole at each sequence.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) rows: BTreeMap<i64, (Uuid, ComparableEvent)>,
    pub(super) prune_mark: i64,
    pub(super) stream: Vec<Option<Message>>,
}

impl Case {
    /// Rows whose messages a relay has published in this order.
    pub(super) fn published(positions: &[i64]) -> Self {
        let stream: Vec<Message> = positions.iter().map(|p| Message::of_row(*p)).collect();
        let row = |message: &Message| {
            let position = message.envelope.position.expect("a row's");
            (position, (message.envelope.id, message.content()))
        };
        let mut case = Self {
            rows: stream.iter().map(row).collect(),
            prune_mark: 0,
            stream: stream.into_iter().map(Some).collect(),
        };
        case.chain();
        case
    }

    /// As a relay would have chained its messages in this order.
    pub(super) fn chain(&mut self) {
        let mut before = None;
        let mut seen = SeenPositions::default();
        for message in self.stream.iter_mut().flatten() {
            let envelope = &mut message.envelope;
            let own = envelope.position.filter(|_| envelope.snapshot.is_none());
            if let Some(own) = own
                && (own > seen.high_water_mark() || seen.gaps().contains(own))
            {
                assert!(seen.see(own));
            }
            envelope.previous = before.replace(envelope.id);
            envelope.high_water_mark = seen.high_water_mark();
            envelope.gaps = seen.gaps();
        }
    }

    pub(super) fn at(&mut self, sequence: usize) -> &mut Message {
        self.stream[sequence - 1].as_mut().expect("a message")
    }

    pub(super) fn envelope(&mut self, sequence: usize) -> &mut Envelope {
        &mut self.at(sequence).envelope
    }

    pub(super) fn insert(&mut self, sequence: usize, message: Message) {
        self.stream.insert(sequence - 1, Some(message));
    }
}

/// A message of another source.
pub(super) fn foreign(number: u128) -> Message {
    let mut message = Message::of_row(1);
    message.envelope.id = Uuid::from_u128(0xbad + number);
    message.envelope.source = "/artstore/elements/other".to_owned();
    message
}
