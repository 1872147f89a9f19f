//! Rows of a storage element's log, as anybody may write them: each becomes a message that fits, that readers can read, and
//! that has a row of the audit log.

#![no_main]

use artstore_fuzz::{parts, text};
use artstore_producers::relay::source::{Content, SourceRow, WalRow, WalState};
use artstore_producers::relay::translate::Translator;
use artstore_schemas::event::{self, Event, File, Status};
use artstore_schemas::json::Document;
use artstore_schemas::size::MAX_BODY_BYTES;
use artstore_schemas::source::Source;
use chrono::DateTime;
use libfuzzer_sys::fuzz_target;
use uuid::Uuid;

fuzz_target!(|data: &[u8]| {
    let [kind, operation_data, user, metadata, error_message] = parts(data);
    // An operation type `*`: texts that no message holds together.
    let many = if kind == b"*" { 300 << 10 } else { 0 };
    let long = |part: &[u8]| text(part).repeat((many / part.len().max(1)).max(1));
    let source = Source::Element("elem".parse().expect("a name"));
    let (length, id, at) = (data.len(), Uuid::from_u128(1), DateTime::UNIX_EPOCH);
    let status = [Status::Committed, Status::Failed, Status::RolledBack][length % 3];
    let file = (length % 2 == 0).then(|| File {
        id,
        original_filename: text(user),
        storage_filename: String::new(),
        storage_path: String::new(),
        file_size: i64::MIN,
        content_type: String::new(),
        checksum: String::new(),
        created_at: at,
        updated_at: at,
        created_by_id: text(user),
        created_by_username: String::new(),
        created_by_fullname: None,
        description: Some(long(error_message)),
        version: None,
        metadata: Document::from_text(&text(metadata)),
    });
    let row = SourceRow {
        id,
        position: 7,
        content: Content::Wal(Box::new(WalRow {
            operation_type: text(kind),
            status,
            file_id: Some(id),
            state: WalState::read(status, text(operation_data), Some(id), file),
            error_message: Some(long(error_message)),
            started_at: at,
            completed_at: None,
            duration_ms: Some(i32::MIN),
            user_id: Some(long(user)),
            database_role: None,
            large: Vec::new(),
        })),
    };
    let translated = Translator::new(source.clone()).translate(row);
    assert!(translated.body.len() <= MAX_BODY_BYTES);
    let read = event::decode(&source, &translated.event_type, &translated.body);
    let Ok(Event::Wal(event)) = read else {
        panic!("readers can't read it: {read:?}");
    };
    assert_eq!(
        (event.operation.id, event.operation.file_id),
        (id, Some(id))
    );
    artstore_fuzz::readable(&source, &translated);
});
