//! The event of a finished row of a storage element's WAL.

use artstore_schemas::actor::Actor;
use artstore_schemas::event::{Element, EventType, File, Operation, Status, WalEvent};
use artstore_schemas::json::Document;
use bytes::Bytes;
use uuid::Uuid;

use crate::relay::omit::{WAL_FIELDS, fit};
use crate::relay::source::{WalRow, WalState};
use crate::relay::translated::Translated;

/// The event of a row, small enough for a message.
pub(crate) fn wal_event(id: Uuid, position: i64, row: WalRow, element: Element) -> Translated {
    let translated = wal_translated(id, position, &row);
    let mut body = wal_body(id, row, element);
    Translated {
        body: fit(&mut body, WAL_FIELDS),
        ..translated
    }
}

/// The body with nothing left out.
pub(crate) fn wal_body(id: Uuid, row: WalRow, element: Element) -> WalEvent {
    let user_id = row.user_id.as_deref();
    let foreign = || Actor::from_recorded_id(user_id);
    let joined = matches!(row.state, WalState::Joined { .. });
    let (actor, request_id, data, file) = match row.state {
        WalState::Recorded(recorded) => {
            let data = recorded.data.and_then(Document::from_value);
            (
                recorded.actor.identified(),
                recorded.request_id,
                data,
                recorded.file,
            )
        }
        WalState::Joined {
            operation_data,
            recorded: None,
            file,
        } => {
            let file = file.map(|file| with_checksum(*file, &operation_data));
            (foreign(), None, Document::from_text(&operation_data), file)
        }
        WalState::Joined {
            recorded: Some(recorded),
            file,
            ..
        } => {
            let data = recorded.data.and_then(Document::from_value);
            let file = file.map(|file| *file);
            (recorded.actor.identified(), recorded.request_id, data, file)
        }
    };
    let mut omitted = row.large;
    // Those of the file are of its row in `_files`.
    omitted.retain(|large| joined && file.is_some() || !large.field.starts_with("file."));
    WalEvent {
        operation: Operation {
            id,
            kind: row.operation_type,
            status: row.status,
            started_at: row.started_at,
            completed_at: row.completed_at,
            duration_ms: row.duration_ms,
            error_message: row.error_message,
            request_id,
            file_id: row.file_id,
            data,
        },
        actor: actor.written_by(row.database_role),
        element,
        file,
        omitted,
    }
}

/// The event, but for its body.
pub(crate) fn wal_translated(id: Uuid, position: i64, row: &WalRow) -> Translated {
    let (entity, action) = name(&row.operation_type, row.status);
    Translated {
        id,
        position: Some(position),
        snapshot: None,
        event_type: EventType::new(entity, action, 1),
        key: row.file_id,
        subject: row.file_id.map(|key| key.to_string()),
        time: row.completed_at.unwrap_or(row.started_at),
        traceparent: None,
        body: Bytes::new(),
    }
}

/// `entity` and `action` of an operation; an unknown one is published too.
fn name(operation_type: &str, status: Status) -> (&'static str, &'static str) {
    match (status, operation_type) {
        (Status::Failed, _) => ("operation", "failed"),
        (Status::RolledBack, _) => ("operation", "rolled-back"),
        (Status::Committed, "file_create") => ("file", "created"),
        (Status::Committed, "file_update") => ("file", "updated"),
        (Status::Committed, "file_delete") => ("file", "deleted"),
        (Status::Committed, "mode_change") => ("element", "mode-changed"),
        (Status::Committed, "cache_rebuild") => ("element", "cache-rebuilt"),
        (Status::Committed, _) => ("operation", "recorded"),
    }
}

/// An empty checksum means that the element lost it; the operation's own result may still have
/// it, with the size.
fn with_checksum(mut file: File, operation_data: &str) -> File {
    if !file.checksum.is_empty() {
        return file;
    }
    let data: serde_json::Value = serde_json::from_str(operation_data).unwrap_or_default();
    let result = &data["result"];
    if let (Some(checksum), Some(size)) =
        (result["checksum"].as_str(), result["file_size"].as_i64())
    {
        file.checksum = checksum.to_owned();
        file.file_size = size;
    }
    file
}
