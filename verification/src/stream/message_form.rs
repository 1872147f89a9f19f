//! Whether a message is one that a relay of this source can have written into its stream: its source,
//! its subject, each of its headers. How it follows from the messages before it is in
//! [`crate::stream::chain`], whether it agrees with its row in [`crate::stream::content`].

use artstore_schemas::envelope::{DATA_SCHEMA, Envelope};
use artstore_schemas::record;
use artstore_schemas::registry::names_schema;
use artstore_schemas::source::Source;
use artstore_schemas::subject;
use async_nats::{HeaderMap, HeaderValue};

/// Why a message does not belong in its source's stream, if it does not.
pub fn foreign(
    source: &Source,
    subject: &str,
    headers: &HeaderMap,
    envelope: &Envelope,
) -> Option<String> {
    if envelope.source != source.ce_source() {
        return Some(format!("it comes from {}", envelope.source));
    }
    if !subject::belongs(subject, source, &envelope.event_type) {
        return Some(format!(
            "its subject {subject} does not fit its type {}",
            envelope.event_type
        ));
    }
    // Every header as the relay would write it. What the server acts on is not looked at: a message
    // that is published a second time needs another id there.
    for (name, values) in envelope.to_headers().iter() {
        let text: &str = name.as_ref();
        if text.starts_with("Nats-") {
            continue;
        }
        let mut stands = headers.get_all(name.clone());
        let same = if text == DATA_SCHEMA {
            let names = |value: &HeaderValue| {
                names_schema(&envelope.source, &envelope.event_type, value.as_str())
            };
            stands.next().is_some_and(names) && stands.next().is_none()
        } else {
            values.iter().eq(stands)
        };
        if !same {
            return Some(format!("its header {name} is not as the relay writes it"));
        }
    }
    let without_row = envelope.snapshot.is_some() || envelope.event_type.entity == record::ENTITY;
    (envelope.position.is_none() && !without_row).then(|| "it has no position".to_owned())
}

#[cfg(test)]
mod tests {
    use artstore_schemas::event::EventType;
    use artstore_schemas::ranges::Ranges;
    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_message_whose_schema_is_named_by_a_path_is_one_of_ours_still() {
        let source = Source::Element("elem".parse().expect("a name"));
        let event_type = EventType::new("element", "mode-changed", 1);
        let envelope = Envelope {
            id: Uuid::from_u128(5),
            source: source.ce_source(),
            subject: None,
            time: DateTime::UNIX_EPOCH,
            traceparent: None,
            position: Some(1),
            high_water_mark: 1,
            gaps: Ranges::default(),
            identity: "7-16384-1".to_owned(),
            previous: None,
            snapshot: None,
            backfill_due: false,
            event_type,
        };
        let on = subject::subject(&source, None, &envelope.event_type);
        let with = |dataschema: &str| {
            let mut headers = envelope.to_headers();
            headers.insert(DATA_SCHEMA, dataschema);
            foreign(&source, &on, &headers, &envelope)
        };
        let own = "/artstore/schemas/artstore.element.mode-changed.v1.json";
        assert_eq!(
            foreign(&source, &on, &envelope.to_headers(), &envelope),
            None
        );
        assert_eq!(with(own), None);
        let other = with("/artstore/schemas/artstore.file.created.v1.json");
        assert!(other.is_some_and(|why| why.contains("ce-dataschema")));
        let mut twice = envelope.to_headers();
        twice.append(DATA_SCHEMA, own);
        assert!(foreign(&source, &on, &twice, &envelope).is_some());
    }
}
