//! Every version of every body, and its JSON Schema. [`crate::envelope`] names the schema in
//! each message; `schemas/json/` contains the files, made from here by `schemas/tests/contract.rs`.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use crate::damage::DamageAccepted;
use crate::epoch::SourceAccepted;
use crate::event::{
    EventType, FileDownloaded, OutboxEvent, SearchPerformed, SourceBackfilled, WalEvent,
};
pub use crate::event_schema::{Body, EventSchema};
use crate::rules;
use crate::source::Source;

/// All of them, old versions included. One is never removed: its messages stay in the streams.
pub const EVENT_SCHEMAS: &[EventSchema] = &[
    EventSchema {
        name: "artstore.file.created.v1",
        body: Body::Wal,
        meaning: "A file came to a storage element: a committed `file_create`.",
    },
    EventSchema {
        name: "artstore.file.updated.v1",
        body: Body::Wal,
        meaning: "A file's metadata changed: a committed `file_update`.",
    },
    EventSchema {
        name: "artstore.file.deleted.v1",
        body: Body::Wal,
        meaning: "A file left its storage element: a committed `file_delete`.",
    },
    EventSchema {
        name: "artstore.element.mode-changed.v1",
        body: Body::Wal,
        meaning: "A storage element changed its mode: a committed `mode_change`.",
    },
    EventSchema {
        name: "artstore.element.cache-rebuilt.v1",
        body: Body::Wal,
        meaning: "A storage element rebuilt its table of files: a committed `cache_rebuild`.",
    },
    EventSchema {
        name: "artstore.operation.failed.v1",
        body: Body::Wal,
        meaning: "An operation of any type failed; `file` is what is there all the same.",
    },
    EventSchema {
        name: "artstore.operation.rolled-back.v1",
        body: Body::Wal,
        meaning: "An operation of any type was rolled back; `file` is what is there all the same.",
    },
    EventSchema {
        name: "artstore.operation.recorded.v1",
        body: Body::Wal,
        meaning: "A committed operation of a type that has no event type of its own.",
    },
    EventSchema {
        name: "artstore.source.backfilled.v1",
        body: Body::Wal,
        meaning: "A backfill is complete: the stream has every file as its element has it. No row caused it.",
    },
    EventSchema {
        name: "artstore.source.accepted.v1",
        body: Body::Wal,
        meaning: "An operator accepted a source that was set back, restored or promoted: a new epoch \
                  of the stream begins. No row caused it.",
    },
    EventSchema {
        name: "artstore.source.damage-accepted.v1",
        body: Body::Wal,
        meaning: "An operator accepted damage of the stream: the ranges that its readers step over. \
                  No row caused it.",
    },
    EventSchema {
        name: "artstore.search.performed.v1",
        body: Body::SearchPerformed,
        meaning: "Somebody searched. From the query module.",
    },
    EventSchema {
        name: "artstore.file.downloaded.v1",
        body: Body::FileDownloaded,
        meaning: "Somebody downloaded a file. From the query module.",
    },
    EventSchema {
        name: "artstore.outbox.v1",
        body: Body::Outbox,
        meaning: "Every type of the admin module, and every type of the query module that has no \
                  schema of its own.",
    },
];

impl EventSchema {
    /// Where the schema is named: its `$id`, and `ce-dataschema` of the messages.
    pub fn schema_uri(&self) -> String {
        uri(self.name)
    }

    /// The JSON Schema (draft 2020-12) of the bodies that the relay publishes: a field is
    /// `required` where every body has it, be it null. What a publisher writes into `data` is
    /// described as it may be written: there a field with a default may be left out.
    pub fn schema(&self) -> Value {
        let mut schema = match self.body {
            Body::Wal => published::<WalEvent>(),
            Body::Outbox | Body::SearchPerformed | Body::FileDownloaded => {
                published::<OutboxEvent>()
            }
        };
        rules::body(self, &mut schema);
        match (self.body, self.name) {
            (Body::SearchPerformed, _) => with_data::<SearchPerformed>(&mut schema),
            (Body::FileDownloaded, _) => with_data::<FileDownloaded>(&mut schema),
            (_, "artstore.source.accepted.v1") => with_data::<SourceAccepted>(&mut schema),
            (_, "artstore.source.damage-accepted.v1") => with_data::<DamageAccepted>(&mut schema),
            (_, "artstore.source.backfilled.v1") => with_data::<SourceBackfilled>(&mut schema),
            (Body::Wal | Body::Outbox, _) => {}
        }
        schema.insert("$id".to_owned(), self.schema_uri().into());
        schema.insert("title".to_owned(), self.name.into());
        schema.insert("description".to_owned(), self.meaning.into());
        let mut schema = Value::from(schema);
        rules::values(&mut schema);
        schema
    }
}

/// The schema of a message's body: `ce-dataschema`. An outbox takes any entity and action; types
/// without a form of their own share one.
pub fn schema_uri(ce_source: &str, event_type: &EventType) -> String {
    uri(&schema_name(ce_source, event_type))
}

/// Whether a message's `ce-dataschema` names the schema of its body. Until it became an absolute
/// URI it was a path, and such messages stay in the streams.
pub fn names_schema(ce_source: &str, event_type: &EventType, dataschema: &str) -> bool {
    let name = schema_name(ce_source, event_type);
    dataschema == uri(&name) || dataschema == format!("/artstore/schemas/{name}.json")
}

fn schema_name(ce_source: &str, event_type: &EventType) -> String {
    let name = event_type.to_string();
    let own = if ce_source == Source::Admin.ce_source() {
        false
    } else if ce_source == Source::Query.ce_source() {
        let known = |form: &EventSchema| form.name == name && form.body != Body::Wal;
        EVENT_SCHEMAS.iter().any(known)
    } else {
        true
    };
    if own {
        name
    } else {
        format!("artstore.outbox.v{}", event_type.version)
    }
}

/// A name, not an address: CloudEvents asks for an absolute URI.
fn uri(name: &str) -> String {
    format!("urn:artstore:schema:{name}")
}

/// As the relay writes it.
fn published<T: JsonSchema>() -> Map<String, Value> {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut schema = Value::from(object(
        settings.into_generator().into_root_schema_for::<T>(),
    ));
    rules::one_text_each(&mut schema);
    match schema {
        Value::Object(schema) => schema,
        other => unreachable!("it was one before: {other}"),
    }
}

/// Gives the body's `{"json": …}` a form of its own.
fn with_data<T: JsonSchema>(schema: &mut Map<String, Value>) {
    let written = SchemaSettings::draft2020_12().for_deserialize();
    let mut data = object(written.into_generator().into_root_schema_for::<T>());
    data.remove("$schema");
    data.remove("title");
    let parts = data.remove("$defs");
    let name = T::schema_name().into_owned();
    let reference = json!({"$ref": format!("#/$defs/{name}")});

    let definitions = schema
        .get_mut("$defs")
        .and_then(Value::as_object_mut)
        .expect("an event refers to its parts");
    definitions
        .get_mut("Document")
        .and_then(|document| document.pointer_mut("/oneOf/0/properties"))
        .and_then(Value::as_object_mut)
        .expect("a document is `json` or `text`, in this order")
        .insert("json".to_owned(), reference);
    definitions.insert(name, data.into());
    if let Some(Value::Object(parts)) = parts {
        definitions.extend(parts);
    }
}

fn object(schema: Schema) -> Map<String, Value> {
    match schema.to_value() {
        Value::Object(object) => object,
        other => unreachable!("the schema of a struct is an object, not {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outbox_names_its_own_schema_only_where_there_is_one() {
        let admin = Source::Admin.ce_source();
        let query = Source::Query.ce_source();
        let searched = EventType::new("search", "performed", 1);
        let shared = "urn:artstore:schema:artstore.outbox.v1";
        assert_eq!(
            schema_uri(&query, &searched),
            "urn:artstore:schema:artstore.search.performed.v1"
        );
        assert_eq!(schema_uri(&admin, &searched), shared);
        assert_eq!(
            schema_uri(&query, &EventType::new("index", "rebuilt", 1)),
            shared
        );
        // A type that only storage elements publish in that form.
        assert_eq!(
            schema_uri(&query, &EventType::new("file", "created", 1)),
            shared
        );
        assert_eq!(
            schema_uri(
                "/artstore/elements/elem",
                &EventType::new("file", "created", 1)
            ),
            "urn:artstore:schema:artstore.file.created.v1"
        );
    }

    #[test]
    fn a_message_from_before_the_absolute_uri_names_its_schema_too() {
        let admin = Source::Admin.ce_source();
        let created = EventType::new("user", "created", 1);
        for (name, names) in [
            ("urn:artstore:schema:artstore.outbox.v1", true),
            ("/artstore/schemas/artstore.outbox.v1.json", true),
            ("/artstore/schemas/artstore.user.created.v1.json", false),
            ("artstore.outbox.v1", false),
        ] {
            assert_eq!(names_schema(&admin, &created, name), names, "{name}");
        }
    }
}
