//! A row becomes an event: its type, its key, its body. Rows come from [`crate::relay::source`], events
//! go to [`crate::relay::publish`]. No row is ever refused here, because a row that nobody can publish
//! would stop all later ones; what is too large is left out and named.

use std::sync::{Arc, PoisonError, RwLock};

use artstore_schemas::actor::{Actor, ActorType};
use artstore_schemas::envelope::{Snapshot, is_traceparent};
use artstore_schemas::event::{
    Element, Event, EventType, File, Omitted, Operation, OutboxEvent, OutboxOperation, Status,
    WalEvent,
};
use artstore_schemas::json::Document;
use artstore_schemas::source::Source;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::relay::api_url::ApiUrl;
use crate::relay::omit::{OUTBOX_FIELDS, WAL_FIELDS, encode, fit};
use crate::relay::source::{Content, OutboxRow, SourceRow, WalRow, WalState};

/// Makes events of one source's rows. The same row and the same state of its file always give
/// the same event.
#[derive(Debug, Clone)]
pub struct Translator {
    source: Source,
    /// It may change while a relay runs.
    api_url: Arc<RwLock<ApiUrl>>,
}

/// An event without the state that the relay adds.
#[derive(Debug, Clone)]
pub struct Translated {
    /// The row's UUID.
    pub id: Uuid,
    /// The row's position; none where no row caused the event.
    pub position: Option<i64>,
    /// Why the present state is published although no new row caused it.
    pub snapshot: Option<Snapshot>,
    /// `ce-type`.
    pub event_type: EventType,
    /// What picks the partition.
    pub key: Option<Uuid>,
    /// `ce-subject`.
    pub subject: Option<String>,
    /// `ce-time`.
    pub time: DateTime<Utc>,
    /// `traceparent`.
    pub traceparent: Option<String>,
    /// The JSON body.
    pub body: Bytes,
}

impl Translator {
    /// For a source, whose events state no API URL before [`Self::reached_at`].
    pub fn new(source: Source) -> Self {
        Self {
            source,
            api_url: Arc::default(),
        }
    }

    /// Events state from now on that the element's API is reached there.
    pub fn reached_at(&self, api_url: ApiUrl) {
        *self.api_url.write().unwrap_or_else(PoisonError::into_inner) = api_url;
    }

    /// Where events state that the element's API is reached.
    pub(crate) fn api_url(&self) -> ApiUrl {
        let api_url = self.api_url.read().unwrap_or_else(PoisonError::into_inner);
        api_url.clone()
    }

    /// The source that this is for.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Makes the event of a row.
    pub fn translate(&self, row: SourceRow) -> Translated {
        match row.content {
            Content::Wal(wal) => self.wal_event(row.id, row.position, *wal),
            Content::Outbox(outbox) => outbox_event(row.id, row.position, *outbox),
        }
    }

    /// The event of a record that no row caused: an operator's decision, with its facts.
    pub fn record(
        &self,
        id: Uuid,
        event_type: &EventType,
        actor: Actor,
        facts: serde_json::Value,
    ) -> Bytes {
        let kind = format!("{}.{}", event_type.entity, event_type.action);
        let at = Utc::now();
        let data = Document::from_value(facts);
        match &self.source {
            Source::Element(_) => {
                let mut body = self.rowless(id, &kind, at);
                body.actor = actor;
                body.operation.data = data;
                encode(&body)
            }
            Source::Admin | Source::Query => encode(&OutboxEvent {
                operation: OutboxOperation {
                    id,
                    kind,
                    occurred_at: at,
                    request_id: None,
                },
                actor,
                data,
                omitted: Vec::new(),
            }),
        }
    }

    /// The event of a row with nothing left out; its body is empty here.
    pub fn typed(&self, row: SourceRow) -> (Translated, Event) {
        match row.content {
            Content::Wal(wal) => {
                let translated = wal_translated(row.id, row.position, &wal);
                (
                    translated,
                    Event::Wal(Box::new(self.wal_body(row.id, *wal))),
                )
            }
            Content::Outbox(outbox) => {
                let (translated, body) = outbox_translated(row.id, row.position, *outbox);
                (translated, Event::Outbox(Box::new(body)))
            }
        }
    }

    /// The size of a WAL event's body with nothing left out.
    pub(crate) fn full_size(&self, id: Uuid, row: WalRow) -> usize {
        encode(&self.wal_body(id, row)).len()
    }

    /// The event with a file's present state, or its absence, without a row. `large`:
    /// what of it was too large to be fetched.
    pub fn snapshot(
        &self,
        id: Uuid,
        file_id: Uuid,
        file: Option<File>,
        large: Vec<Omitted>,
        at: DateTime<Utc>,
    ) -> Translated {
        let action = if file.is_some() { "created" } else { "deleted" };
        let mut body = self.rowless(id, "snapshot", at);
        body.operation.file_id = Some(file_id);
        body.file = file;
        body.omitted = large;
        Translated {
            id,
            position: None,
            snapshot: Some(Snapshot::Backfill),
            event_type: EventType::new("file", action, 1),
            key: Some(file_id),
            subject: Some(file_id.to_string()),
            time: at,
            traceparent: None,
            body: fit(&mut body, WAL_FIELDS),
        }
    }

    /// The record that ends a backfill.
    pub(crate) fn backfilled(
        &self,
        id: Uuid,
        at: DateTime<Utc>,
        data: serde_json::Value,
    ) -> Translated {
        let mut body = self.rowless(id, "source.backfilled", at);
        body.operation.data = Document::from_value(data);
        Translated {
            id,
            position: None,
            snapshot: None,
            event_type: EventType::new("source", "backfilled", 1),
            key: None,
            subject: None,
            time: at,
            traceparent: None,
            body: encode(&body),
        }
    }

    /// What the relay adds by itself.
    fn rowless(&self, id: Uuid, kind: &str, at: DateTime<Utc>) -> WalEvent {
        WalEvent {
            operation: Operation {
                id,
                kind: kind.to_owned(),
                status: Status::Committed,
                started_at: at,
                completed_at: Some(at),
                duration_ms: None,
                error_message: None,
                request_id: None,
                file_id: None,
                data: None,
            },
            actor: Actor::system(),
            element: Element {
                name: self.source.to_string(),
                api_url: self.api_url().url,
            },
            file: None,
            omitted: Vec::new(),
        }
    }

    fn wal_event(&self, id: Uuid, position: i64, row: WalRow) -> Translated {
        let translated = wal_translated(id, position, &row);
        let mut body = self.wal_body(id, row);
        Translated {
            body: fit(&mut body, WAL_FIELDS),
            ..translated
        }
    }

    fn wal_body(&self, id: Uuid, row: WalRow) -> WalEvent {
        let user_id = row.user_id.as_deref();
        let foreign = || Actor::from_recorded_id(user_id);
        let joined = matches!(row.state, WalState::Joined { .. });
        let (actor, request_id, data, file) = match row.state {
            WalState::Recorded(recorded) => {
                let data = recorded.data.and_then(Document::from_value);
                (recorded.actor, recorded.request_id, data, recorded.file)
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
                (recorded.actor, recorded.request_id, data, file)
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
            actor,
            element: Element {
                name: self.source.to_string(),
                api_url: self.api_url().url,
            },
            file,
            omitted,
        }
    }
}

fn wal_translated(id: Uuid, position: i64, row: &WalRow) -> Translated {
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

fn outbox_event(id: Uuid, position: i64, row: OutboxRow) -> Translated {
    let (translated, mut body) = outbox_translated(id, position, row);
    Translated {
        body: fit(&mut body, OUTBOX_FIELDS),
        ..translated
    }
}

fn outbox_translated(id: Uuid, position: i64, row: OutboxRow) -> (Translated, OutboxEvent) {
    let actor = serde_json::from_str(&row.actor).unwrap_or_else(|_| unreadable(&row.actor));
    let body = OutboxEvent {
        operation: OutboxOperation {
            id,
            kind: format!("{}.{}", row.entity, row.action),
            occurred_at: row.occurred_at,
            request_id: row.request_id,
        },
        actor,
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
    Actor {
        kind: ActorType::System,
        ..Actor::system().named(format!("unreadable: {shown}"))
    }
}

#[cfg(test)]
mod tests {
    use artstore_schemas::size::MAX_BODY_BYTES;

    use super::*;
    use crate::relay::omit::sha256;

    fn file(description: Option<String>) -> File {
        let at = DateTime::UNIX_EPOCH;
        File {
            id: Uuid::from_u128(1),
            original_filename: "a".to_owned(),
            storage_filename: "b".to_owned(),
            storage_path: "c".to_owned(),
            file_size: 0,
            content_type: "text/plain".to_owned(),
            checksum: String::new(),
            created_at: at,
            updated_at: at,
            created_by_id: "1".to_owned(),
            created_by_username: "u".to_owned(),
            created_by_fullname: None,
            description,
            version: None,
            metadata: None,
        }
    }

    fn row(operation_type: &str, status: Status, data: &str, file: Option<File>) -> SourceRow {
        SourceRow {
            id: Uuid::from_u128(2),
            position: 7,
            content: Content::Wal(Box::new(WalRow {
                operation_type: operation_type.to_owned(),
                status,
                file_id: Some(Uuid::from_u128(1)),
                state: WalState::read(status, data.to_owned(), Some(Uuid::from_u128(1)), file),
                error_message: None,
                started_at: DateTime::UNIX_EPOCH,
                completed_at: None,
                duration_ms: None,
                large: Vec::new(),
                user_id: Some("5".to_owned()),
            })),
        }
    }

    fn translate(row: SourceRow) -> (Translated, WalEvent) {
        let source = Source::Element("elem".parse().expect("valid"));
        let translated = Translator::new(source).translate(row);
        let body = serde_json::from_slice(&translated.body).expect("a body");
        (translated, body)
    }

    #[test]
    fn an_unknown_operation_is_told_of() {
        let (event, body) = translate(row("defragment", Status::Committed, "{}", None));
        assert_eq!(
            event.event_type.to_string(),
            "artstore.operation.recorded.v1"
        );
        assert_eq!(body.operation.kind, "defragment");
    }

    #[test]
    fn a_description_of_two_mebibytes_is_left_out_and_named() {
        let long = "я".repeat(1 << 20);
        let digest = sha256(&long);
        let (event, body) = translate(row(
            "file_create",
            Status::Committed,
            "{}",
            Some(file(Some(long))),
        ));
        assert!(event.body.len() < MAX_BODY_BYTES);
        assert_eq!(body.omitted[0].field, "file.description");
        assert_eq!(body.omitted[0].bytes, 2 << 20);
        assert_eq!(body.omitted[0].sha256, digest);
    }

    #[test]
    fn a_forged_row_of_ours_can_not_make_a_message_too_large() {
        let long = "x".repeat(2 << 20);
        let actor = format!(
            r#"{{"artstore": 1, "actor": {{"type": "user", "id": "{long}", "name": "{long}"}}}}"#
        );
        let (event, body) = translate(row("file_delete", Status::Committed, &actor, None));
        assert!(event.body.len() <= MAX_BODY_BYTES);
        assert_eq!(body.omitted.len(), 2);
        let mut forged = file(None);
        forged.original_filename = long;
        let data = serde_json::json!({
            "artstore": 1, "actor": {"type": "user"}, "file": forged,
        });
        let (event, body) = translate(row(
            "file_create",
            Status::Committed,
            &data.to_string(),
            None,
        ));
        assert!(event.body.len() <= MAX_BODY_BYTES);
        assert_eq!(body.file, None, "what _files says");
    }

    #[test]
    fn a_lost_checksum_is_taken_from_the_operations_result() {
        let data = r#"{"result": {"checksum": "ab", "file_size": 9}}"#;
        let (_, body) = translate(row(
            "file_create",
            Status::Committed,
            data,
            Some(file(None)),
        ));
        let file = body.file.expect("a file");
        assert_eq!((file.checksum.as_str(), file.file_size), ("ab", 9));
    }

    #[test]
    fn a_row_with_the_marker_is_published_as_it_says_only_when_committed() {
        let data = r#"{"artstore": 1, "actor": {"type": "user", "id": "9"}, "file": null}"#;
        let joined = Some(file(None));
        let (_, body) = translate(row("file_delete", Status::Committed, data, joined.clone()));
        assert_eq!(body.file, None);
        assert_eq!(body.actor.id.as_deref(), Some("9"));
        let (_, body) = translate(row("file_delete", Status::RolledBack, data, joined.clone()));
        assert_eq!(body.file, joined);
        let newer = data.replace("1,", "2,");
        let (_, body) = translate(row(
            "file_delete",
            Status::Committed,
            &newer,
            joined.clone(),
        ));
        assert_eq!(body.file, joined, "a marker that is not known is no marker");
    }
}
