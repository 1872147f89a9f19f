//! Records: messages of a relay or an operator's command about the source itself. No row
//! causes them, and that distinguishes them from a publisher's events: a publisher chooses entity,
//! action and subject of its rows, but every message of a row carries the row's position, which the
//! relay writes. Looked up by `artstore_bus::breaks`.

use std::fmt::Display;

use serde::de::DeserializeOwned;

use crate::damage::{DamageAccepted, damage_accepted};
use crate::envelope::Envelope;
use crate::epoch::{SourceAccepted, accepted};
use crate::event::{self, Event, EventType};
use crate::json::Document;
use crate::source::Source;

/// The entity of records. Outboxes refuse rows with it.
pub const ENTITY: &str = "source";

impl Envelope {
    /// Whether the message is a record: of the reserved entity, and of no row.
    pub fn is_record(&self) -> bool {
        self.event_type.entity == ENTITY && self.position.is_none() && self.snapshot.is_none()
    }

    /// Whether the message is a record of this type.
    pub fn is_record_of(&self, event_type: &EventType) -> bool {
        self.is_record() && self.event_type == *event_type
    }
}

/// The facts of a record that begins an epoch. An error reports why no relay wrote it: its facts can't
/// be read, or differ from its headers.
pub fn source_accepted(
    source: &Source,
    sequence: u64,
    envelope: &Envelope,
    body: &[u8],
) -> Result<SourceAccepted, String> {
    let record: SourceAccepted = facts(source, envelope, &accepted(), body)?;
    let same = record.high_water_mark == envelope.high_water_mark
        && record.gaps == envelope.gaps.as_slice()
        && record.new_identity == envelope.identity;
    if !same {
        return Err("its facts differ from its headers".to_owned());
    }
    if record.high_water_mark < 0 || record.last_agreeing >= sequence {
        return Err("its facts speak of positions or messages that can't be".to_owned());
    }
    Ok(record)
}

/// The facts of a record of damage, as [`source_accepted`]. Its ranges are ascending and lie in the
/// stream up to the record itself.
pub fn damage_record(
    source: &Source,
    sequence: u64,
    envelope: &Envelope,
    body: &[u8],
) -> Result<DamageAccepted, String> {
    let record: DamageAccepted = facts(source, envelope, &damage_accepted(), body)?;
    if !record.damage.is_up_to(sequence) {
        return Err("it lists sequences that its stream can't have".to_owned());
    }
    Ok(record)
}

fn facts<T: DeserializeOwned>(
    source: &Source,
    envelope: &Envelope,
    event_type: &EventType,
    body: &[u8],
) -> Result<T, String> {
    let unreadable = |error: &dyn Display| {
        let error = event::shown(&error.to_string());
        format!("its facts can't be read: {error}")
    };
    let event = event::decode(source, event_type, body).map_err(|error| unreadable(&error))?;
    if envelope.source != source.ce_source() {
        let from = event::shown(&envelope.source);
        return Err(format!("it comes from {from}"));
    }
    let data = match &event {
        Event::Wal(event) => event.operation.data.as_ref(),
        Event::Outbox(event) => event.data.as_ref(),
    };
    let value = data.and_then(Document::value).unwrap_or_default();
    serde_json::from_value(value).map_err(|error| unreadable(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const SAMPLE: &str = include_str!("../samples/artstore.source.accepted.v1.json");

    fn sample() -> (Envelope, Value) {
        let sample: Value = serde_json::from_str(SAMPLE).expect("a sample");
        let mut headers = async_nats::HeaderMap::new();
        for (name, value) in sample["headers"].as_object().expect("headers") {
            headers.insert(name.as_str(), value.as_str().expect("a text"));
        }
        let envelope = Envelope::from_headers(&headers).expect("an envelope");
        (envelope, sample["body"].clone())
    }

    #[test]
    fn only_what_no_row_caused_is_a_record() {
        let (mut envelope, _) = sample();
        assert!(envelope.is_record() && envelope.is_record_of(&accepted()));
        assert!(!envelope.is_record_of(&damage_accepted()));
        envelope.position = Some(1);
        assert!(!envelope.is_record(), "a publisher's row");
    }

    #[test]
    fn a_record_says_what_its_headers_say() {
        let source = Source::Element("storage_elem_02".parse().expect("a name"));
        let (envelope, body) = sample();
        let read = |envelope: &Envelope, body: &Value| {
            source_accepted(&source, 5_000_000, envelope, body.to_string().as_bytes())
        };
        read(&envelope, &body).expect("a record");
        let facts = body["operation"]["data"]["json"].clone();
        for (field, forged) in [
            ("high_water_mark", json!(0)),
            ("gaps", json!([])),
            ("new_identity", json!("another")),
            ("last_agreeing", json!(u64::MAX)),
            ("reason", json!(7)),
            ("new_rows", json!("x".repeat(100_000))),
        ] {
            let mut forged_facts = facts.clone();
            forged_facts[field] = forged;
            let mut body = body.clone();
            body["operation"]["data"]["json"] = forged_facts;
            let problem = read(&envelope, &body).expect_err(field);
            assert!(problem.len() < 1_000, "{field}");
        }
    }
}
