//! Rows of an outbox, as any publisher may write them: each becomes a message that fits, that readers can read, and that has
//! a row of the audit log.

#![no_main]

use artstore_fuzz::{parts, readable, text};
use artstore_producers::relay::source::{Content, OutboxRow, SourceRow};
use artstore_producers::relay::translate::Translator;
use artstore_schemas::event::{self, Event};
use artstore_schemas::size::MAX_BODY_BYTES;
use artstore_schemas::source::Source;
use chrono::DateTime;
use libfuzzer_sys::fuzz_target;
use uuid::Uuid;

/// What the constraint of the column takes.
fn name(part: &[u8]) -> String {
    let letters = text(part).to_lowercase();
    let letters = letters
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-');
    let name: String = letters.take(100).collect();
    if name.is_empty() {
        "odd".to_owned()
    } else {
        name
    }
}

fuzz_target!(|data: &[u8]| {
    let [entity, action, subject, facts, actor, request, trace] = parts(data);
    // An entity `*`: texts that no message holds together.
    let many = if entity == b"*" { 300 << 10 } else { 0 };
    let long = |part: &[u8]| text(part).repeat((many / part.len().max(1)).max(1));
    let id = Uuid::from_u128(1);
    let some = |part: &[u8]| (!part.is_empty()).then(|| text(part));
    let row = SourceRow {
        id,
        position: 7,
        content: Content::Outbox(Box::new(OutboxRow {
            entity: name(entity),
            action: name(action),
            ordering_key: Some(id),
            subject: some(subject).map(|_| long(subject)),
            data: long(facts),
            actor: long(actor),
            database_role: some(request),
            request_id: some(request).map(|_| long(request)),
            traceparent: some(trace),
            occurred_at: DateTime::UNIX_EPOCH,
            large: Vec::new(),
        })),
    };
    let translated = Translator::new(Source::Admin).translate(row);
    assert!(translated.body.len() <= MAX_BODY_BYTES);
    let read = event::decode(&Source::Admin, &translated.event_type, &translated.body);
    let Ok(Event::Outbox(event)) = read else {
        panic!("readers can't read it: {read:?}");
    };
    assert_eq!(event.operation.id, id);
    readable(&Source::Admin, &translated);
});
