//! A row becomes an event: its type, its key, its body. Rows come from [`crate::relay::source`], events
//! go to [`crate::relay::publish`]. No row is ever refused here, because a row that nobody can publish
//! would stop all later ones; what is too large is left out and named.

use std::sync::{Arc, PoisonError, RwLock};

use artstore_schemas::actor::Actor;
use artstore_schemas::envelope::Snapshot;
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
use crate::relay::omit::{WAL_FIELDS, encode, fit};
use crate::relay::outbox_event::{outbox_event, outbox_translated};
use crate::relay::source::{Content, SourceRow, WalRow};
use crate::relay::translated::Translated;
use crate::relay::wal_event::{wal_body, wal_event, wal_translated};

/// Makes events of one source's rows. The same row and the same state of its file always give
/// the same event.
#[derive(Debug, Clone)]
pub struct Translator {
    source: Source,
    /// It may change while a relay runs.
    api_url: Arc<RwLock<ApiUrl>>,
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
            Content::Wal(wal) => wal_event(row.id, row.position, *wal, self.element()),
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
                    Event::Wal(Box::new(wal_body(row.id, *wal, self.element()))),
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
        encode(&wal_body(id, row, self.element())).len()
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
            element: self.element(),
            file: None,
            omitted: Vec::new(),
        }
    }

    fn element(&self) -> Element {
        Element {
            name: self.source.to_string(),
            api_url: self.api_url().url,
        }
    }
}

#[cfg(test)]
mod tests {
    use artstore_schemas::size::MAX_BODY_BYTES;

    use super::*;
    use crate::relay::omit::sha256;
    use crate::relay::source::WalState;

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
                database_role: None,
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
