//! The event of a row of an outbox.

use artstore_schemas::actor::{Actor, Identity};
use artstore_schemas::envelope::is_traceparent;
use artstore_schemas::event::{EventType, OutboxEvent, OutboxOperation};
use artstore_schemas::json::Document;
use bytes::Bytes;
use uuid::Uuid;

use crate::relay::omit::{OUTBOX_FIELDS, fit};
use crate::relay::source::OutboxRow;
use crate::relay::translated::Translated;

/// The event of a row, small enough for a message.
pub(crate) fn outbox_event(id: Uuid, position: i64, row: OutboxRow) -> Translated {
    let (translated, mut body) = outbox_translated(id, position, row);
    Translated {
        body: fit(&mut body, OUTBOX_FIELDS),
        ..translated
    }
}

/// The event, but for its body, and the body with nothing left out.
pub(crate) fn outbox_translated(
    id: Uuid,
    position: i64,
    row: OutboxRow,
) -> (Translated, OutboxEvent) {
    let actor: Result<Actor, _> = serde_json::from_str(&row.actor);
    let actor = actor.map_or_else(|_| unreadable(&row.actor), Actor::identified);
    let body = OutboxEvent {
        operation: OutboxOperation {
            id,
            kind: format!("{}.{}", row.entity, row.action),
            occurred_at: row.occurred_at,
            request_id: row.request_id,
        },
        actor: actor.written_by(row.database_role),
        data: Document::from_text(&row.data),
        omitted: row.large,
    };
    let translated = Translated {
        id,
        position: Some(position),
        snapshot: None,
        event_type: EventType::new(row.entity, row.action, 1),
        key: row.ordering_key,
        // A subject is a name, not a text: longer ones would not fit into the headers, where a
        // character takes up to twelve bytes.
        subject: row.subject.map(|s| s.chars().take(255).collect()),
        time: row.occurred_at,
        traceparent: row.traceparent.filter(|text| is_traceparent(text)),
        body: Bytes::new(),
    };
    (translated, body)
}

/// An outbox row may come from any program; an actor that can't be read is kept as it is.
fn unreadable(actor: &str) -> Actor {
    let shown: String = actor.chars().take(200).collect();
    Actor::system()
        .named(format!("unreadable: {shown}"))
        .known_as(Identity::Claimed)
}
