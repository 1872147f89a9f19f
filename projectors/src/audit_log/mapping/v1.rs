//! Mapping 1, and what mapping 2 adds to it. Frozen: the row that either makes of a message must never
//! change.

use artstore_schemas::source::Source;
use async_nats::HeaderMap;
use chrono::DateTime;
use data_encoding::HEXLOWER;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::super::canonical::{carried, text, without_nul};
use super::super::row::{Row, sha256};
use super::record::Record;
use crate::projector::RawMessage;

/// Facts about the event itself, beside those of its body.
const EVENT: &str = "_event";

/// What of the actor has no column, by mapping.
const ACTOR_FACTS: [&[&str]; 2] = [
    &["type", "token_id", "key_id"],
    &["type", "token_id", "key_id", "identity", "database_role"],
];

/// The row of what is at a sequence, by mapping 1 or 2.
pub(super) fn row(mapping: Mapping, source: &Source, record: &Record) -> Row {
    let row = unnumbered(mapping, source, record);
    Row {
        mapping: mapping as u32,
        ..row
    }
}

/// Which of both.
#[derive(Clone, Copy)]
pub(super) enum Mapping {
    One = 1,
    Two = 2,
}

fn unnumbered(mapping: Mapping, source: &Source, record: &Record) -> Row {
    let Some(message) = &record.message else {
        let facts = json!({"reason": "the message is gone; an operator accepted that"});
        return unreadable(source, record, "message_missing", None, facts);
    };
    match read(source, message) {
        Ok(read) => read.row(mapping, source, record.sequence),
        Err(reason) => {
            let facts = json!({
                "reason": reason,
                "subject": without_nul(message.subject.clone()),
                "type": header(&message.headers, "ce-type").map(|t| without_nul(t.to_owned())),
                "bytes": message.body.len().to_string(),
                "sha256": HEXLOWER.encode(&sha256(&message.body)),
            });
            let id = header(&message.headers, "ce-id").and_then(|id| id.parse().ok());
            unreadable(source, record, "message_unreadable", id, facts)
        }
    }
}

fn unreadable(
    source: &Source,
    record: &Record,
    event_type: &str,
    event_id: Option<Uuid>,
    facts: Value,
) -> Row {
    Row {
        event_id,
        event_type: event_type.to_owned(),
        severity: "error".to_owned(),
        resource_type: Some("stream".to_owned()),
        resource_id: Some(source.stream()),
        action: "record".to_owned(),
        success: false,
        error_message: facts["reason"].as_str().map(str::to_owned),
        data: Some(signed(facts)),
        created_at: record.published.timestamp_micros(),
        ..empty(source, record.sequence)
    }
}

fn empty(source: &Source, sequence: u64) -> Row {
    Row::bare(1, source.stream(), sequence)
}

/// A message whose headers and body can be read.
struct Read {
    id: Uuid,
    entity: String,
    action: String,
    version: u32,
    subject: Option<String>,
    position: Option<i64>,
    snapshot: Option<String>,
    created_at: i64,
    body: Map<String, Value>,
}

fn read(source: &Source, message: &RawMessage) -> Result<Read, &'static str> {
    let headers = &message.headers;
    let id = header(headers, "ce-id").and_then(|id| id.parse().ok());
    let id = id.ok_or("header ce-id is missing or no UUID")?;
    if header(headers, "ce-source") != Some(source.ce_source().as_str()) {
        return Err("header ce-source is missing or names another source");
    }
    let subject = message.subject.strip_prefix(&source.subject_prefix());
    if !subject.is_some_and(|rest| rest.starts_with('.')) {
        return Err("the subject belongs to another source");
    }
    let event_type = header(headers, "ce-type").and_then(event_type);
    let (entity, action, version) = event_type.ok_or("header ce-type is missing or no type")?;
    let time = header(headers, "ce-time").and_then(|t| DateTime::parse_from_rfc3339(t).ok());
    let time = time.ok_or("header ce-time is missing or no time")?;
    let body = serde_json::from_slice(&message.body).map_err(|_| "the body is no JSON")?;
    let Value::Object(body) = carried(body) else {
        return Err("the body is no JSON object");
    };
    let known = version != 1 || body.get("operation").is_some_and(Value::is_object);
    if !known {
        return Err("the body has no operation");
    }
    Ok(Read {
        id,
        entity,
        action,
        version,
        subject: header(headers, "ce-subject").map(decoded),
        position: header(headers, "artstore-position").and_then(|p| p.parse().ok()),
        snapshot: header(headers, "artstore-snapshot").map(|s| without_nul(s.to_owned())),
        created_at: time.timestamp_micros(),
        body,
    })
}

/// What a kind of event is called in the log.
struct Kind {
    event_type: String,
    action: String,
    severity: &'static str,
    resource: (Option<String>, Option<String>),
    success: bool,
    error_message: Option<String>,
}

impl Read {
    fn row(self, mapping: Mapping, source: &Source, sequence: u64) -> Row {
        let kind = match (self.version, source) {
            (1, Source::Element(element)) => self.wal(element.as_str()),
            (1, Source::Admin | Source::Query) => self.outbox(),
            (_, Source::Element(_) | Source::Admin | Source::Query) => self.generic(),
        };
        let actor = |field: &str| texts(&self.body, &["actor", field]);
        let actor_type = actor("type")
            .filter(|kind| ["user", "service_account", "system"].contains(&kind.as_str()));
        Row {
            event_id: Some(self.id),
            event_type: short(kind.event_type),
            severity: kind.severity.to_owned(),
            actor_type: actor_type.unwrap_or_else(|| "system".to_owned()),
            actor_id: actor("id"),
            actor_name: actor("name"),
            actor_role: actor("role"),
            resource_type: kind.resource.0,
            resource_id: kind.resource.1,
            action: short(kind.action),
            ip_address: actor("address"),
            user_agent: actor("user_agent"),
            request_id: texts(&self.body, &["operation", "request_id"])
                .or_else(|| self.transaction(source)),
            session_id: actor("session_id"),
            success: kind.success,
            error_message: kind.error_message,
            created_at: self.created_at,
            data: Some(signed(self.data(mapping, source))),
            ..empty(source, sequence)
        }
    }

    /// Where no caller's correlation id is known: the operation of the element.
    fn transaction(&self, source: &Source) -> Option<String> {
        match source {
            Source::Element(_) => texts(&self.body, &["operation", "id"]),
            Source::Admin | Source::Query => None,
        }
    }

    /// Of an element's event the body without what the columns have; of another one its facts.
    fn data(&self, mapping: Mapping, source: &Source) -> Value {
        let mut event = Map::new();
        let event_type = format!("artstore.{}.{}.v{}", self.entity, self.action, self.version);
        event.insert("type".to_owned(), event_type.into());
        if let Some(position) = self.position {
            event.insert("position".to_owned(), position.into());
        }
        if let Some(snapshot) = &self.snapshot {
            event.insert("snapshot".to_owned(), snapshot.clone().into());
        }
        let actor = self.body.get("actor");
        for field in ACTOR_FACTS[mapping as usize - 1] {
            if let Some(Value::String(value)) = actor.and_then(|actor| actor.get(*field)) {
                event.insert(format!("actor_{field}"), value.clone().into());
            }
        }
        let mut data = match (self.version, source) {
            (1, Source::Admin | Source::Query) => self.facts(),
            _ => {
                let mut body = self.body.clone();
                body.remove("actor");
                body
            }
        };
        let omitted = self
            .body
            .get("omitted")
            .filter(|_| !matches!(source, Source::Element(_)));
        if let Some(omitted) = omitted {
            event.insert("omitted".to_owned(), omitted.clone());
        }
        if data.contains_key(EVENT) {
            data = Map::from_iter([("value".to_owned(), data.into())]);
        }
        data.insert(EVENT.to_owned(), event.into());
        carried(data.into())
    }

    /// The facts of an outbox event.
    fn facts(&self) -> Map<String, Value> {
        match self.body.get("data") {
            Some(Value::Object(document)) => match (document.get("json"), document.get("text")) {
                (Some(Value::Object(facts)), _) => facts.clone(),
                (Some(other), _) => Map::from_iter([("value".to_owned(), other.clone())]),
                (None, Some(text)) => Map::from_iter([("text".to_owned(), text.clone())]),
                (None, None) => document.clone(),
            },
            _ => Map::new(),
        }
    }

    fn wal(&self, element: &str) -> Kind {
        let operation = texts(&self.body, &["operation", "type"]).unwrap_or_default();
        let error_message = texts(&self.body, &["operation", "error_message"]);
        let file = texts(&self.body, &["operation", "file_id"])
            .or_else(|| texts(&self.body, &["file", "id"]));
        let on_element = (Some("storage_element".to_owned()), Some(element.to_owned()));
        let resource = match &file {
            Some(file) => (Some("file".to_owned()), Some(file.clone())),
            None => on_element.clone(),
        };
        let kind = |event_type: &str, action: &str, severity, resource| Kind {
            event_type: event_type.to_owned(),
            action: action.to_owned(),
            severity,
            resource,
            success: true,
            error_message: None,
        };
        let backfill = self.snapshot.as_deref() == Some("backfill");
        match (self.entity.as_str(), self.action.as_str()) {
            ("file", _) if backfill => kind("file_snapshot", "snapshot", "info", resource),
            ("file", "created") => kind("file_create", "create", "info", resource),
            ("file", "updated") => kind("file_update", "update", "info", resource),
            ("file", "deleted") => kind("file_delete", "delete", "warning", resource),
            ("element", "mode-changed") => kind("mode_change", "update", "warning", on_element),
            ("element", "cache-rebuilt") => kind("cache_rebuild", "update", "info", on_element),
            ("operation", "rolled-back") => Kind {
                success: false,
                error_message,
                ..kind(&operation, done(&operation), "warning", resource)
            },
            ("operation", "failed") => Kind {
                success: false,
                error_message,
                ..kind(&operation, done(&operation), "error", resource)
            },
            ("operation", "recorded") => kind(&operation, &operation, "info", resource),
            ("source", "accepted" | "damage-accepted") => Kind {
                severity: "warning",
                resource: on_element,
                ..self.generic()
            },
            ("source", _) => Kind {
                resource: on_element,
                ..self.generic()
            },
            _ => self.generic(),
        }
    }

    fn outbox(&self) -> Kind {
        let kind = |event_type: &str, action: &str, severity| Kind {
            event_type: event_type.to_owned(),
            action: action.to_owned(),
            severity,
            resource: (Some(self.entity.replace('-', "_")), self.subject.clone()),
            success: true,
            error_message: None,
        };
        let nothing = (None, None);
        let facts = self.facts();
        let fact = |name: &str| facts.get(name).and_then(Value::as_str).map(str::to_owned);
        match (self.entity.as_str(), self.action.as_str()) {
            ("login", "succeeded" | "success") => Kind {
                resource: nothing,
                ..kind("login_success", "login", "info")
            },
            ("login", "failed") => Kind {
                resource: nothing,
                success: false,
                error_message: fact("reason").or_else(|| fact("error_message")),
                ..kind("login_failed", "login", "warning")
            },
            ("logout", _) | ("session", "ended") => Kind {
                resource: nothing,
                ..kind("logout", "logout", "info")
            },
            ("jwt-key" | "jwt", "rotated" | "rotation") => Kind {
                resource: (Some("jwt_key".to_owned()), self.subject.clone()),
                ..kind("jwt_rotation", "rotation", "info")
            },
            ("service-account", "secret-rotated") => kind("secret_rotation", "rotation", "info"),
            ("access" | "permission", "denied" | "refused") => Kind {
                resource: (fact("resource_type"), fact("resource_id")),
                success: false,
                error_message: fact("reason"),
                ..kind(
                    "permission_denied",
                    &fact("action").unwrap_or_else(|| self.action.clone()),
                    "warning",
                )
            },
            ("search", "performed") => Kind {
                resource: nothing,
                ..kind("search_performed", "read", "info")
            },
            ("file", "downloaded") => Kind {
                resource: (
                    Some("file".to_owned()),
                    fact("file_id").or_else(|| self.subject.clone()),
                ),
                ..kind("file_downloaded", "read", "info")
            },
            ("projection", action) => {
                let action = action.replace('-', "_");
                kind(&format!("projection_{action}"), &action, "warning")
            }
            ("user" | "service-account" | "account" | "storage-element" | "jwt-key", action) => {
                let action = match action {
                    "created" => "create",
                    "updated" => "update",
                    "deleted" => "delete",
                    "rotated" => "rotate",
                    other => other,
                };
                let failed = action.ends_with("failed") || fact("error_message").is_some();
                let severity = if failed || action == "delete" {
                    "warning"
                } else {
                    "info"
                };
                let entity = self.entity.replace('-', "_");
                let action = action.replace('-', "_");
                Kind {
                    success: !failed,
                    error_message: fact("error_message"),
                    ..kind(&format!("{entity}_{action}"), &action, severity)
                }
            }
            _ => self.generic(),
        }
    }

    /// A type that this mapping does not know.
    fn generic(&self) -> Kind {
        let entity = self.entity.replace('-', "_");
        let action = self.action.replace('-', "_");
        Kind {
            event_type: format!("{entity}_{action}"),
            severity: "info",
            resource: (Some(entity), self.subject.clone()),
            success: true,
            error_message: None,
            action,
        }
    }
}

/// What an index entry holds: the first 200 characters. `data` has the whole.
fn short(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(200) {
        text.truncate(end);
    }
    text
}

/// What an operation does, in a word.
fn done(operation: &str) -> &str {
    match operation {
        "file_create" => "create",
        "file_update" => "update",
        "file_delete" => "delete",
        "mode_change" | "cache_rebuild" => "update",
        other => other,
    }
}

fn signed(facts: Value) -> String {
    text(&facts).expect("carried documents have safe numbers")
}

fn texts(body: &Map<String, Value>, path: &[&str]) -> Option<String> {
    let (first, rest) = path.split_first()?;
    let mut value = body.get(*first)?;
    for step in rest {
        value = value.get(*step)?;
    }
    value.as_str().map(str::to_owned)
}

fn header<'a>(headers: &'a HeaderMap, name: &'static str) -> Option<&'a str> {
    headers.get(name).map(|value| value.as_str())
}

/// `artstore.<entity>.<action>.v<version>`.
fn event_type(text: &str) -> Option<(String, String, u32)> {
    let mut parts = text.strip_prefix("artstore.")?.split('.');
    let (entity, action) = (parts.next()?, parts.next()?);
    let version = parts.next()?.strip_prefix('v')?.parse().ok()?;
    let whole = parts.next().is_none() && !entity.is_empty() && !action.is_empty();
    whole.then(|| {
        (
            without_nul(entity.to_owned()),
            without_nul(action.to_owned()),
            version,
        )
    })
}

/// Percent escapes of a header's value; what is no escape stays.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = (byte == b'%').then(|| after.get(..2)).flatten();
        let hex = hex.filter(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        let value = hex
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match value {
            Some(value) => {
                bytes.push(value);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    without_nul(String::from_utf8_lossy(&bytes).into_owned())
}
