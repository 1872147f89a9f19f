//! What a body's schema requires beyond its types: the rules of `docs/events.md`. [`crate::registry`] makes
//! the schema from the types, and this module adds the rules. `schemas/rules.json` has a body that breaks
//! each rule.
//!
//! A rule is never stricter than what the relay publishes for the oddest row that a table can contain.

use serde_json::{Map, Value, json};

use crate::event::{OutboxEvent, WalEvent};
use crate::event_schema::{Body, EventSchema};
use crate::json::SAFE_INTEGER;

/// Every reader's validator takes these words; formats of Rust's integers are none of them.
const UUID: &str = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";
const TIME: &str = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{6}Z$";
const ELEMENT: &str = "^[a-z][a-z0-9_]{0,33}$";
const OUTBOX_TYPE: &str = "^[a-z0-9-]{1,100}\\.[a-z0-9-]{1,100}$";
const SHA256: &str = "^[0-9a-f]{64}$";
const NO_NUL: &str = "^[^\\u0000]*$";

/// The operation types that have an event type of their own.
const KNOWN: [&str; 5] = [
    "file_create",
    "file_update",
    "file_delete",
    "mode_change",
    "cache_rebuild",
];

/// Puts ranges in the place of the formats of Rust's integers: other validators don't know them.
/// No text holds NUL.
pub(crate) fn values(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            integer(fields);
            text(fields);
            fields.values_mut().for_each(values);
        }
        Value::Array(items) => items.iter_mut().for_each(values),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn integer(fields: &mut Map<String, Value>) {
    let range = match fields.get("format").and_then(Value::as_str) {
        Some("int32") => (json!(i32::MIN), json!(i32::MAX)),
        Some("int64") => (json!(i64::MIN), json!(i64::MAX)),
        Some("uint64") => (json!(0), json!(u64::MAX)),
        _ => return,
    };
    fields.remove("format");
    fields.entry("minimum").or_insert(range.0);
    fields.entry("maximum").or_insert(range.1);
}

fn text(fields: &mut Map<String, Value>) {
    let is_text = match fields.get("type") {
        Some(Value::String(kind)) => kind == "string",
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "string"),
        _ => false,
    };
    let narrower = ["const", "enum", "format", "pattern"];
    if is_text && !narrower.iter().any(|word| fields.contains_key(*word)) {
        fields.insert("pattern".to_owned(), NO_NUL.into());
    }
}

/// How the relay writes identifiers and times: one text for one value.
pub(crate) fn one_text_each(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            let pattern = match fields.get("format").and_then(Value::as_str) {
                Some("uuid") => Some(UUID),
                Some("date-time") => Some(TIME),
                _ => None,
            };
            if let Some(pattern) = pattern {
                fields.insert("pattern".to_owned(), pattern.into());
            }
            fields.values_mut().for_each(one_text_each);
        }
        Value::Array(items) => items.iter_mut().for_each(one_text_each),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The rules of all bodies, and those of this form.
pub(crate) fn body(form: &EventSchema, schema: &mut Map<String, Value>) {
    documents(schema);
    left_out(form, schema);
    let mut rules = match form.body {
        Body::Wal => {
            pattern(schema, "/$defs/Element/properties/name", ELEMENT);
            operation(form)
        }
        Body::Outbox => {
            let kind = "/$defs/OutboxOperation/properties/type";
            pattern(schema, kind, OUTBOX_TYPE);
            Vec::new()
        }
        Body::SearchPerformed | Body::FileDownloaded => {
            vec![of_operation(json!({"type": {"const": own_type(form)}}))]
        }
    };
    rules.extend(null_where_left_out(form));
    schema.insert("allOf".to_owned(), rules.into());
}

/// `{"json": …}` holds only what every reader gets alike, and never null.
fn documents(schema: &mut Map<String, Value>) {
    let definitions = schema.get_mut("$defs").and_then(Value::as_object_mut);
    let definitions = definitions.expect("every body has parts");
    definitions.insert(
        "Json".to_owned(),
        json!({
            "description": "A JSON value that every reader gets alike. At most 64 arrays and objects stand in each other.",
            "anyOf": [
                {"type": "null"},
                {"type": "boolean"},
                {"type": "integer", "minimum": -SAFE_INTEGER, "maximum": SAFE_INTEGER},
                {"type": "string", "pattern": NO_NUL},
                {"type": "array", "items": {"$ref": "#/$defs/Json"}},
                {
                    "type": "object",
                    "propertyNames": {"type": "string", "pattern": NO_NUL},
                    "additionalProperties": {"$ref": "#/$defs/Json"},
                },
            ],
        }),
    );
    *at(schema, "/$defs/Document/oneOf/0/properties/json") =
        json!({"$ref": "#/$defs/Json", "not": {"type": "null"}});
}

/// `omitted` is there where something was left out, and names what can be.
fn left_out(form: &EventSchema, schema: &mut Map<String, Value>) {
    at(schema, "/properties/omitted")["minItems"] = 1.into();
    at(schema, "/$defs/Omitted/properties/field")["enum"] = fields(form).collect();
    pattern(schema, "/$defs/Omitted/properties/sha256", SHA256);
}

fn fields(form: &EventSchema) -> impl Iterator<Item = &'static str> {
    let fields = match form.body {
        Body::Wal => WalEvent::MAY_BE_OMITTED,
        Body::Outbox | Body::SearchPerformed | Body::FileDownloaded => OutboxEvent::MAY_BE_OMITTED,
    };
    fields.iter().copied()
}

fn null_where_left_out(form: &EventSchema) -> impl Iterator<Item = Value> {
    fields(form).map(|field| {
        let named = json!({
            "type": "object",
            "properties": {"field": {"const": field}},
        });
        let left_out = field.rsplit('.').fold(
            json!({"type": "null"}),
            |inner, name| json!({"type": "object", "properties": {name: inner}}),
        );
        json!({
            "if": {
                "type": "object",
                "properties": {"omitted": {"type": "array", "contains": named}},
                "required": ["omitted"],
            },
            "then": left_out,
        })
    })
}

/// What the type of a storage element's event states about its operation and its file.
fn operation(form: &EventSchema) -> Vec<Value> {
    let (kind, status) = match form.name {
        "artstore.file.created.v1" => (json!({"enum": ["file_create", "snapshot"]}), "committed"),
        "artstore.file.updated.v1" => (json!({"const": "file_update"}), "committed"),
        "artstore.file.deleted.v1" => (json!({"enum": ["file_delete", "snapshot"]}), "committed"),
        "artstore.element.mode-changed.v1" => (json!({"const": "mode_change"}), "committed"),
        "artstore.element.cache-rebuilt.v1" => (json!({"const": "cache_rebuild"}), "committed"),
        "artstore.operation.failed.v1" => (json!(true), "failed"),
        "artstore.operation.rolled-back.v1" => (json!(true), "rolled_back"),
        "artstore.operation.recorded.v1" => (json!({"not": {"enum": KNOWN}}), "committed"),
        _ => (json!({"const": own_type(form)}), "committed"),
    };
    let file = |file: Value| json!({"type": "object", "properties": {"file": file}});
    let is = |field: &str, value: Value| of_operation(json!({field: value}));
    let absent = || json!({"type": "null"});
    let mut rules = vec![
        is("type", kind),
        is("status", json!({"const": status})),
        json!({"if": is("file_id", absent()), "then": file(absent())}),
    ];
    let snapshot = is("type", json!({"const": "snapshot"}));
    let system = json!({
        "type": "object",
        "properties": {
            "actor": {"type": "object", "properties": {"type": {"const": "system"}}},
        },
    });
    let told = |state: Value| {
        let about = is("file_id", json!({"type": "string"}));
        json!({"if": snapshot, "then": {"allOf": [about, file(state), system]}})
    };
    match form.name {
        "artstore.file.created.v1" => rules.push(told(json!({"type": "object"}))),
        "artstore.file.deleted.v1" => rules.push(told(absent())),
        name if name.starts_with("artstore.source.") => rules.push(is("file_id", absent())),
        _ => {}
    }
    rules
}

fn of_operation(properties: Value) -> Value {
    json!({
        "type": "object",
        "properties": {"operation": {"type": "object", "properties": properties}},
    })
}

/// `<entity>.<action>` of a form.
fn own_type(form: &EventSchema) -> &'static str {
    let name = form.name.strip_prefix("artstore.");
    let name = name.and_then(|name| name.rsplit_once(".v"));
    name.expect("a form is called artstore.<…>.v<version>").0
}

fn pattern(schema: &mut Map<String, Value>, place: &str, pattern: &str) {
    at(schema, place)["pattern"] = pattern.into();
}

fn at<'a>(schema: &'a mut Map<String, Value>, place: &str) -> &'a mut Value {
    let (first, rest) = place[1..].split_once('/').expect("below a part");
    let part = schema.get_mut(first);
    let found = part.and_then(|part| part.pointer_mut(&format!("/{rest}")));
    found.unwrap_or_else(|| panic!("a schema has {place}"))
}
