//! The bodies of events, by type and version. Written by the relay, read by projectors and by
//! anyone who subscribes; `docs/events.md` is the contract for outsiders.
//!
//! A body carries the full state, not a change. A change of a body's fields is a new version of its type;
//! old versions decode for ever and are upgraded in [`decode`], and nowhere else.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::actor::Actor;
use crate::json::Document;
use crate::source::Source;
use crate::timestamp;

/// The CloudEvents attribute `type`: `artstore.<entity>.<action>.v<version>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EventType {
    /// What it happened to.
    pub entity: String,
    /// What happened.
    pub action: String,
    /// The version of the body's form, from 1.
    pub version: u32,
}

impl EventType {
    /// The type with these parts.
    pub fn new(entity: impl Into<String>, action: impl Into<String>, version: u32) -> Self {
        Self {
            entity: entity.into(),
            action: action.into(),
            version,
        }
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "artstore.{}.{}.v{}",
            self.entity, self.action, self.version
        )
    }
}

impl FromStr for EventType {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split('.').collect();
        let [root, entity, action, version] = parts.as_slice() else {
            return Err(DecodeError::unknown(text));
        };
        let number = version
            .strip_prefix('v')
            .and_then(|v| v.parse::<u32>().ok());
        match number {
            // One text for one type: no `v01`, no `v+1`.
            Some(version)
                if *root == "artstore"
                    && !entity.is_empty()
                    && !action.is_empty()
                    && text.ends_with(&format!(".v{version}"))
                    && version > 0 =>
            {
                Ok(Self::new(*entity, *action, version))
            }
            _ => Err(DecodeError::unknown(text)),
        }
    }
}

/// How a storage element's operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It took effect.
    Committed,
    /// It was rolled back; the file's state may have changed all the same.
    RolledBack,
    /// It failed; the file's state may have changed all the same.
    Failed,
}

impl Status {
    /// The label in the WAL table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::RolledBack => "rolled_back",
            Self::Failed => "failed",
        }
    }
}

/// A finished operation of a storage element.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Operation {
    /// The WAL row's transaction id; also `ce-id`.
    pub id: Uuid,
    /// The operation type as the element wrote it: `file_create`, `file_update`, `file_delete`,
    /// `mode_change`, `cache_rebuild`, or one that this version does not know.
    #[serde(rename = "type")]
    pub kind: String,
    /// How it ended.
    pub status: Status,
    /// When it began, by the element's clock. Shown, never used for order.
    #[serde(with = "timestamp")]
    #[schemars(with = "DateTime<Utc>")]
    pub started_at: DateTime<Utc>,
    /// When it ended, by the element's clock; null where the element did not say.
    #[serde(with = "timestamp::optional", default)]
    #[schemars(with = "Option<DateTime<Utc>>")]
    pub completed_at: Option<DateTime<Utc>>,
    /// How long it took, in milliseconds, as the element measured it.
    #[serde(default)]
    pub duration_ms: Option<i32>,
    /// Why it failed.
    #[serde(default)]
    pub error_message: Option<String>,
    /// The caller's correlation id.
    #[serde(default)]
    pub request_id: Option<String>,
    /// The file that it was about; null for an operation on the element itself.
    #[serde(default)]
    pub file_id: Option<Uuid>,
    /// What else the element recorded.
    #[serde(default)]
    pub data: Option<Document>,
}

/// The full state of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct File {
    /// The file's id.
    pub id: Uuid,
    /// The name that people gave it.
    pub original_filename: String,
    /// The name on disk.
    pub storage_filename: String,
    /// Where it lies on its element.
    pub storage_path: String,
    /// Size in bytes, as the element's table of files has it.
    pub file_size: i64,
    /// MIME type.
    pub content_type: String,
    /// SHA-256 of the content in hex, as the element's table of files has it; empty where the
    /// element lost it.
    pub checksum: String,
    /// When the file came to this element: the claim by which ownership is decided.
    #[serde(with = "timestamp")]
    #[schemars(with = "DateTime<Utc>")]
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    #[serde(with = "timestamp")]
    #[schemars(with = "DateTime<Utc>")]
    pub updated_at: DateTime<Utc>,
    /// Who created it: id as text.
    pub created_by_id: String,
    /// Who created it: user name.
    pub created_by_username: String,
    /// Who created it: full name.
    #[serde(default)]
    pub created_by_fullname: Option<String>,
    /// Free text.
    #[serde(default)]
    pub description: Option<String>,
    /// The user's own version label.
    #[serde(default)]
    pub version: Option<String>,
    /// Free-form metadata; `tags` in it are the file's tags.
    #[serde(default)]
    pub metadata: Option<Document>,
}

/// The element that an event comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Element {
    /// Its name.
    pub name: String,
    /// Where its API is reached; null where nobody configured it.
    #[serde(default)]
    pub api_url: Option<String>,
}

/// A field that was left out because the message would have been too large.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Omitted {
    /// The field, with dots: `file.description`.
    pub field: String,
    /// The size of its text in bytes of UTF-8; of JSON, as the body would have carried it.
    pub bytes: u64,
    /// SHA-256 of that text, in hex.
    pub sha256: String,
}

/// The body of every event of a storage element (version 1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WalEvent {
    /// What was done.
    pub operation: Operation,
    /// Who did it.
    pub actor: Actor,
    /// Where.
    pub element: Element,
    /// The file's state after the operation. Null: the file is not there (any more), or the
    /// operation was not about a file (`operation.file_id` is null then).
    pub file: Option<File>,
    /// What was left out because of its size; those fields are null above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub omitted: Vec<Omitted>,
}

impl WalEvent {
    /// The fields that are left out where the message would be too large, the largest first.
    pub const MAY_BE_OMITTED: &[&str] = &[
        "file.description",
        "file.metadata",
        "operation.data",
        "operation.error_message",
        "operation.request_id",
        "actor.id",
        "actor.name",
        "actor.role",
        "actor.token_id",
        "actor.key_id",
        "actor.address",
        "actor.user_agent",
        "actor.session_id",
    ];
}

/// What was recorded in an outbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutboxOperation {
    /// The outbox row's event id; also `ce-id`.
    pub id: Uuid,
    /// `<entity>.<action>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// When it happened, by the publisher's clock.
    #[serde(with = "timestamp")]
    #[schemars(with = "DateTime<Utc>")]
    pub occurred_at: DateTime<Utc>,
    /// The caller's correlation id.
    #[serde(default)]
    pub request_id: Option<String>,
}

/// The body of every event from an outbox (version 1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OutboxEvent {
    /// What happened.
    pub operation: OutboxOperation,
    /// Who did it.
    pub actor: Actor,
    /// The facts, by type; null where the row has the JSON value null, or where they were left
    /// out because of their size.
    pub data: Option<Document>,
    /// What was left out because of its size.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub omitted: Vec<Omitted>,
}

impl OutboxEvent {
    /// The fields that are left out where the message would be too large, the largest first.
    pub const MAY_BE_OMITTED: &[&str] = &[
        "data",
        "operation.request_id",
        "actor.id",
        "actor.name",
        "actor.role",
        "actor.token_id",
        "actor.key_id",
        "actor.address",
        "actor.user_agent",
        "actor.session_id",
    ];
}

/// The facts of `artstore.source.backfilled.v1`: how many files were compared, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceBackfilled {
    /// Files that were compared.
    pub compared: u64,
    /// Snapshots of files that are present.
    pub created: u64,
    /// Snapshots of files that are gone.
    pub deleted: u64,
    /// Files of which stream and element agreed.
    pub unchanged: u64,
}

/// `data` of `artstore.search.performed.v1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SearchPerformed {
    /// What was searched for.
    pub query_text: Option<String>,
    /// `exact`, `partial` or `fulltext`.
    pub search_mode: String,
    /// The filters, as text.
    #[serde(default)]
    pub filters_applied: Option<String>,
    /// How many hits there were.
    #[schemars(range(min = 0))]
    pub results_count: i32,
    /// How long it took, in milliseconds.
    #[schemars(range(min = 0))]
    pub response_time_ms: i32,
    /// Who searched.
    #[serde(default)]
    pub username: Option<String>,
}

/// `data` of `artstore.file.downloaded.v1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileDownloaded {
    /// The file.
    pub file_id: Uuid,
    /// How many bytes were sent.
    #[schemars(range(min = 0))]
    pub bytes_transferred: i64,
    /// How long it took, in milliseconds.
    #[schemars(range(min = 0))]
    pub download_time_ms: i32,
    /// Whether an earlier download was taken up again.
    #[serde(default)]
    pub was_resumed: bool,
    /// Who downloaded it.
    #[serde(default)]
    pub username: Option<String>,
    /// The element that it came from.
    pub storage_element_id: String,
}

/// An event as a reader gets it, upgraded to the newest form of its type.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// From a storage element.
    Wal(Box<WalEvent>),
    /// From the outbox of the admin or query module.
    Outbox(Box<OutboxEvent>),
}

/// Why a body can't be read. The text says where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The type is not `artstore.<entity>.<action>.v<version>`, or its version is not known here.
    #[error("event type {event_type:?} is not known to this version")]
    Unknown {
        /// The attribute `type`.
        event_type: String,
    },
    /// The body does not have the form of its type.
    #[error("{event_type}: {path}: {reason}")]
    Malformed {
        /// The attribute `type`.
        event_type: String,
        /// Where in the body.
        path: String,
        /// What is wrong there.
        reason: String,
    },
}

impl DecodeError {
    fn unknown(event_type: &str) -> Self {
        Self::Unknown {
            event_type: shown(event_type),
        }
    }
}

/// Reads a body. Old versions are upgraded here.
pub fn decode(source: &Source, event_type: &EventType, body: &[u8]) -> Result<Event, DecodeError> {
    match (source, event_type.version) {
        (Source::Element(_), 1) => read(event_type, body).map(|e| Event::Wal(Box::new(e))),
        (Source::Admin | Source::Query, 1) => {
            read(event_type, body).map(|e| Event::Outbox(Box::new(e)))
        }
        (Source::Element(_) | Source::Admin | Source::Query, _) => {
            Err(DecodeError::unknown(&event_type.to_string()))
        }
    }
}

/// Reads the `data` of an outbox event whose type has a form of its own.
pub fn decode_data<T: DeserializeOwned>(
    event_type: &EventType,
    data: Option<&Document>,
) -> Result<T, DecodeError> {
    let value = data.and_then(Document::value).unwrap_or(Value::Null);
    serde_path_to_error::deserialize(value).map_err(|error| malformed(event_type, "data.", &error))
}

fn read<T: DeserializeOwned>(event_type: &EventType, body: &[u8]) -> Result<T, DecodeError> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| malformed(event_type, "", &error))?;
    reader.end().map_err(|error| DecodeError::Malformed {
        event_type: shown(&event_type.to_string()),
        path: "after the body".to_owned(),
        reason: shown(&error.to_string()),
    })?;
    Ok(value)
}

/// The beginning of a text that whoever published a message has chosen: an error goes into logs and rows,
/// again and again while a stream is halted.
pub(crate) fn shown(text: &str) -> String {
    const MOST: usize = 200;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn malformed(
    event_type: &EventType,
    below: &str,
    error: &serde_path_to_error::Error<serde_json::Error>,
) -> DecodeError {
    DecodeError::Malformed {
        event_type: shown(&event_type.to_string()),
        path: shown(&format!("{below}{}", error.path())),
        reason: shown(&error.inner().to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_where() {
        let source = Source::Element("elem".parse().expect("a valid name"));
        let event_type: EventType = "artstore.file.created.v1".parse().expect("a valid type");
        let body = br#"{"operation": {"id": "x"}}"#;
        let error = decode(&source, &event_type, body).expect_err("no uuid");
        assert!(error.to_string().contains("operation.id"), "{error}");
        let newer = EventType::new("file", "created", 2);
        assert!(matches!(
            decode(&source, &newer, body),
            Err(DecodeError::Unknown { .. })
        ));
    }

    #[test]
    fn an_error_is_short_whatever_the_message_holds() {
        let long = "я".repeat(400_000);
        let source = Source::Admin;
        let event_type = EventType::new("user", long.as_str(), 1);
        for body in [
            format!(r#"{{"operation": "{long}"}}"#),
            format!(r#"{{"actor": {{"type": "{long}"}}}}"#),
            "{}".to_owned(),
        ] {
            let error = decode(&source, &event_type, body.as_bytes()).expect_err("odd");
            assert!(error.to_string().len() < 2_000);
        }
        let newer = EventType::new("user", long.as_str(), 2);
        let error = decode(&source, &newer, b"{}").expect_err("newer");
        assert!(error.to_string().len() < 2_000);
    }

    #[test]
    fn a_type_is_text_and_back() {
        let event_type = EventType::new("operation", "rolled-back", 1);
        assert_eq!(event_type.to_string(), "artstore.operation.rolled-back.v1");
        assert_eq!(event_type.to_string().parse(), Ok(event_type));
        for bad in [
            "artstore.file.created",
            "x.file.created.v1",
            "artstore.a.b.c.v1",
            "artstore..b.v1",
        ] {
            assert!(bad.parse::<EventType>().is_err(), "{bad}");
        }
    }
}
