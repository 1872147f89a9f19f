//! The body of a message, by source and type: what is read from what was written is the same.

#![no_main]

use artstore_fuzz::{parts, source, text};
use artstore_projectors::audit_log::canonical;
use artstore_projectors::query_cache::tags;
use artstore_schemas::event::{self, Event, EventType, FileDownloaded, SearchPerformed};
use artstore_schemas::source::Source;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fn written(event: &Event) -> Value {
    match event {
        Event::Wal(event) => json!(event),
        Event::Outbox(event) => json!(event),
    }
}

fn read(source: &Source, event_type: &EventType, body: &Value) -> Event {
    let body = body.to_string();
    event::decode(source, event_type, body.as_bytes()).expect("it was written by ourselves")
}

fuzz_target!(|data: &[u8]| {
    let [stream, event_type, body] = parts(data);
    let source = source(stream);
    let created = || EventType::new("file", "created", 1);
    let event_type = text(event_type).parse().unwrap_or_else(|_| created());
    let event = match event::decode(&source, &event_type, body) {
        Ok(event) => event,
        Err(error) => {
            // It becomes the reason of a parked event, and part of a row of the audit log.
            assert!(error.to_string().len() < 3_000);
            return;
        }
    };
    let first = written(&event);
    let again = read(&source, &event_type, &first);
    // A fraction, which only a forged body has, may change when it is read.
    if canonical::text(&first).is_ok() {
        assert_eq!(written(&again), first);
    }
    match &event {
        Event::Wal(event) => {
            let metadata = event.file.as_ref().and_then(|file| file.metadata.as_ref());
            let tags = tags::read(metadata);
            let kept = tags.kept.unwrap_or_default();
            assert!(kept.len() <= 50 && kept.iter().all(|tag| tag.chars().count() <= 50));
        }
        Event::Outbox(event) => {
            let _ = event::decode_data::<SearchPerformed>(&event_type, event.data.as_ref());
            let _ = event::decode_data::<FileDownloaded>(&event_type, event.data.as_ref());
        }
    }
});
