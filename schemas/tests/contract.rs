//! The contract as files: `json/` holds the JSON Schema of every form, made from the types;
//! `samples/` holds one message of every form, written once and never changed, because messages
//! like it stay in the streams; the pages of the contract show the samples.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use artstore_schemas::envelope::Envelope;
use artstore_schemas::event::{self, Event, FileDownloaded, OutboxEvent, SearchPerformed};
use artstore_schemas::registry::{Body, EVENT_SCHEMAS, EventSchema};
use artstore_schemas::source::Source;
use artstore_schemas::subject;
use async_nats::HeaderMap;
use jsonschema::Validator;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

/// A message as a sample holds it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    stream: String,
    subject: String,
    headers: BTreeMap<String, String>,
    body: Value,
}

impl Sample {
    fn of(form: &EventSchema) -> Self {
        let path = folder("samples").join(file_name(form));
        let text = fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{} has no sample: {error}", form.name));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn source(&self) -> Source {
        Source::of_stream(&self.stream).expect("a stream of ours")
    }

    fn envelope(&self) -> Envelope {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.insert(name.as_str(), value.as_str());
        }
        Envelope::from_headers(&headers).expect("headers that can be read")
    }

    fn event(&self) -> Event {
        let body = serde_json::to_vec(&self.body).expect("a body");
        event::decode(&self.source(), &self.envelope().event_type, &body).expect("a body")
    }
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn file_name(form: &EventSchema) -> String {
    format!("{}.json", form.name)
}

/// Nothing but one file of every form.
fn assert_no_strays(folder: &Path) {
    let known: BTreeSet<String> = EVENT_SCHEMAS.iter().map(file_name).collect();
    for entry in fs::read_dir(folder).expect("the folder exists") {
        let name = entry.expect("it can be read").file_name();
        let name = name.to_string_lossy().into_owned();
        assert!(
            known.contains(&name),
            "{}/{name} belongs to no form of registry.rs: remove it, or add its form",
            folder.display()
        );
    }
}

fn stored_schema(form: &EventSchema) -> Option<Value> {
    let text = fs::read_to_string(folder("json").join(file_name(form))).ok()?;
    serde_json::from_str(&text).ok()
}

fn validator(form: &EventSchema) -> Validator {
    let schema = stored_schema(form).unwrap_or_else(|| panic!("{} has no schema", form.name));
    jsonschema::options()
        .should_validate_formats(true)
        .build(&schema)
        .unwrap_or_else(|error| panic!("{}: {error}", form.name))
}

fn errors(validator: &Validator, body: &Value) -> Vec<String> {
    validator
        .iter_errors(body)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

/// What a writer of today makes of the event.
fn encoded(event: &Event) -> Value {
    match event {
        Event::Wal(event) => json!(event),
        Event::Outbox(event) => json!(event),
    }
}

#[test]
fn the_schema_files_are_those_of_the_types() {
    let update = std::env::var_os("ARTSTORE_UPDATE").is_some_and(|value| value == "1");
    let folder = folder("json");
    fs::create_dir_all(&folder).expect("the folder can be made");
    assert_no_strays(&folder);
    for form in EVENT_SCHEMAS {
        let schema = form.schema();
        if stored_schema(form).as_ref() == Some(&schema) {
            continue;
        }
        let path = folder.join(file_name(form));
        assert!(
            update,
            "{} is not what the types say. Its words may change; the form of a version that was \
             published may not: make a new version instead. To write the files: \
             ARTSTORE_UPDATE=1 cargo test -p artstore-schemas --test contract",
            path.display()
        );
        let text = serde_json::to_string_pretty(&schema).expect("a schema is JSON");
        fs::write(&path, text + "\n").expect("the schema can be written");
    }
}

#[test]
fn there_is_one_sample_of_every_form_and_nothing_else() {
    assert_no_strays(&folder("samples"));
    for form in EVENT_SCHEMAS {
        let sample = Sample::of(form);
        assert_eq!(
            sample.headers["ce-dataschema"],
            form.schema_uri(),
            "the sample of {} is of another form",
            form.name
        );
    }
}

#[test]
fn a_sample_is_a_message_of_its_stream() {
    for form in EVENT_SCHEMAS {
        let sample = Sample::of(form);
        let (source, envelope) = (sample.source(), sample.envelope());
        assert_eq!(envelope.source, source.ce_source(), "{}", form.name);
        assert!(
            subject::belongs(&sample.subject, &source, &envelope.event_type),
            "{}: {}",
            form.name,
            sample.subject
        );
        let (id, key) = match sample.event() {
            Event::Wal(event) => (event.operation.id, Some(event.operation.file_id)),
            // The key of an outbox row is not in its event.
            Event::Outbox(event) => (event.operation.id, None),
        };
        assert_eq!(envelope.id, id, "{}", form.name);
        assert_eq!(
            sample.headers["Nats-Msg-Id"],
            id.to_string(),
            "{}",
            form.name
        );
        if let Some(key) = key {
            assert_eq!(
                envelope.subject,
                key.map(|key: Uuid| key.to_string()),
                "{}",
                form.name
            );
            assert_eq!(
                sample.subject,
                subject::subject(&source, key, &envelope.event_type),
                "{}",
                form.name
            );
        }
    }
}

/// (When a type gets a second version, the body of its first one comes back in the newest form:
/// compare those with what the first is to become.)
#[test]
fn a_sample_is_read_and_written_again_the_same() {
    for form in EVENT_SCHEMAS {
        let sample = Sample::of(form);
        let headers: BTreeMap<String, String> = sample
            .envelope()
            .to_headers()
            .iter()
            .map(|(name, values)| (name.to_string(), values[0].to_string()))
            .collect();
        assert_eq!(headers, sample.headers, "{}", form.name);
        assert_eq!(encoded(&sample.event()), sample.body, "{}", form.name);
    }
}

#[test]
fn typed_data_is_read_and_written_again_the_same() {
    fn again<T: Serialize + DeserializeOwned>(sample: &Sample, event: &OutboxEvent) {
        let event_type = sample.envelope().event_type;
        let data: T = event::decode_data(&event_type, event.data.as_ref()).expect("typed data");
        assert_eq!(json!(data), sample.body["data"]["json"], "{event_type}");
    }
    for form in EVENT_SCHEMAS {
        let sample = Sample::of(form);
        match (form.body, sample.event()) {
            (Body::Wal, Event::Wal(_)) | (Body::Outbox, Event::Outbox(_)) => {}
            (Body::SearchPerformed, Event::Outbox(event)) => {
                again::<SearchPerformed>(&sample, &event);
            }
            (Body::FileDownloaded, Event::Outbox(event)) => {
                again::<FileDownloaded>(&sample, &event);
            }
            (body, event) => panic!("{}: {body:?}, but {event:?}", form.name),
        }
    }
}

#[test]
fn a_sample_fits_its_schema() {
    for form in EVENT_SCHEMAS {
        let errors = errors(&validator(form), &Sample::of(form).body);
        assert!(errors.is_empty(), "{}: {errors:#?}", form.name);
    }
}

/// The schemas say no: otherwise the test above would say nothing.
#[test]
fn a_schema_refuses_what_a_reader_could_not_use() {
    for form in EVENT_SCHEMAS {
        let (validator, body) = (validator(form), Sample::of(form).body);
        let mut changes = vec![
            ("/operation/id", json!("no uuid")),
            ("/operation/type", json!(7)),
            ("/operation", json!({})),
            ("/actor/type", json!("robot")),
            ("/actor", Value::Null),
        ];
        match form.body {
            Body::Wal => changes.extend([
                ("/operation/status", json!("pending")),
                ("/operation/started_at", json!("17.11.2025")),
                ("/element/name", Value::Null),
                ("/file", json!({})),
            ]),
            Body::Outbox => changes.push(("/data", json!({"xml": ""}))),
            Body::SearchPerformed => changes.extend([
                ("/data/json/results_count", json!(-1)),
                ("/data/json", json!({})),
            ]),
            Body::FileDownloaded => changes.extend([
                ("/data/json/file_id", json!("no uuid")),
                ("/data/json", json!([])),
            ]),
        }
        for (place, value) in changes {
            let mut changed = body.clone();
            *changed.pointer_mut(place).expect("the sample has it") = value.clone();
            let errors = errors(&validator, &changed);
            assert!(!errors.is_empty(), "{}: {place} may be {value}", form.name);
        }
    }
}

/// A body of `rules.json`: a sample with changes, which does not fit its schema, or looks odd and
/// does; and the words of the contract's pages that say so.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    rule: String,
    schema: String,
    fits: bool,
    #[serde(default)]
    set: BTreeMap<String, Value>,
    #[serde(default)]
    remove: Vec<String>,
}

impl Case {
    fn all() -> Vec<Self> {
        serde_json::from_str(include_str!("../rules.json")).expect("cases")
    }

    /// What the sample's body becomes.
    fn body(&self, form: &EventSchema) -> Value {
        let mut body = Sample::of(form).body;
        for (place, value) in &self.set {
            let (parent, field) = place.rsplit_once('/').expect("a pointer");
            let parent = body.pointer_mut(parent).expect("the sample has it");
            parent[field] = value.clone();
        }
        for place in &self.remove {
            let (parent, field) = place.rsplit_once('/').expect("a pointer");
            let parent = body.pointer_mut(parent).and_then(Value::as_object_mut);
            let removed = parent.and_then(|parent| parent.remove(field));
            assert!(removed.is_some(), "{}: no {place}", self.schema);
        }
        body
    }
}

#[test]
fn each_rule_of_the_page_has_a_body_that_breaks_it_and_what_occurs_fits() {
    let page = contract();
    let cases = Case::all();
    for form in EVENT_SCHEMAS {
        let validator = validator(form);
        let mut broken = 0;
        for case in cases.iter().filter(|case| case.schema == form.name) {
            let (rule, changes) = (&case.rule, (&case.set, &case.remove));
            assert!(page.contains(rule), "the page does not say {rule:?}");
            let errors = errors(&validator, &case.body(form));
            assert_eq!(
                errors.is_empty(),
                case.fits,
                "{}: {rule}: {changes:?}: {errors:#?}",
                form.name
            );
            broken += usize::from(!case.fits);
        }
        assert!(broken > 0, "{} has no rule", form.name);
    }
    let known = |case: &Case| EVENT_SCHEMAS.iter().any(|form| form.name == case.schema);
    assert!(cases.iter().all(known));
}

/// Words that other validators don't know stop them: ajv refuses to compile such a schema.
#[test]
fn no_schema_has_a_format_that_is_not_json_schemas_own() {
    fn formats(schema: &Value, found: &mut BTreeSet<String>) {
        match schema {
            Value::Object(fields) => {
                found.extend(
                    fields
                        .get("format")
                        .and_then(Value::as_str)
                        .map(str::to_owned),
                );
                fields.values().for_each(|part| formats(part, found));
            }
            Value::Array(items) => items.iter().for_each(|part| formats(part, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut found = BTreeSet::new();
    EVENT_SCHEMAS
        .iter()
        .for_each(|form| formats(&form.schema(), &mut found));
    assert_eq!(found, ["date-time", "uuid"].map(str::to_owned).into());
}

/// CloudEvents asks for an absolute URI, and readers in Node refuse anything else.
#[test]
fn a_message_from_before_the_absolute_uri_is_read_like_any_other() {
    for form in EVENT_SCHEMAS {
        let mut sample = Sample::of(form);
        let now = sample.headers["ce-dataschema"].clone();
        assert!(now.starts_with("urn:artstore:schema:"), "{now}");
        let (envelope, event) = (sample.envelope(), sample.event());
        let before = format!("/artstore/schemas/{}.json", form.name);
        sample.headers.insert("ce-dataschema".to_owned(), before);
        assert_eq!(sample.envelope(), envelope);
        assert_eq!(sample.event(), event);
    }
}

/// A field that a publisher may leave out of `data` may be left out; `data` may be text or null.
#[test]
fn typed_data_may_be_written_shorter() {
    for (name, data) in [
        (
            "artstore.search.performed.v1",
            json!({"search_mode": "exact", "results_count": 0, "response_time_ms": 1}),
        ),
        (
            "artstore.file.downloaded.v1",
            json!({"file_id": Uuid::nil(), "bytes_transferred": 1, "download_time_ms": 1,
                   "storage_element_id": "storage_elem_01"}),
        ),
    ] {
        let form = EVENT_SCHEMAS
            .iter()
            .find(|form| form.name == name)
            .expect("known");
        let validator = validator(form);
        let mut body = Sample::of(form).body;
        for data in [
            json!({"json": data}),
            json!({"text": data.to_string()}),
            Value::Null,
        ] {
            body["data"] = data;
            let errors = errors(&validator, &body);
            assert!(errors.is_empty(), "{name}: {errors:#?}");
        }
    }
}

/// The pages that are the contract for outsiders.
fn contract() -> String {
    const PAGES: &[&str] = &[
        "events",
        "event-headers",
        "event-bodies",
        "file-events",
        "break-records",
        "subscribing",
        "publishing",
    ];
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    PAGES
        .iter()
        .map(|page| fs::read_to_string(docs.join(format!("{page}.md"))).expect(page))
        .collect()
}

/// An example on a page comes after `<!-- sample: NAME /pointer -->`, the pointer leading
/// to a part of the sample.
#[test]
fn the_pages_name_every_form_and_header_and_show_the_samples() {
    const MARK: &str = "<!-- sample: ";
    let text = contract();
    for form in EVENT_SCHEMAS {
        assert!(
            text.contains(&format!("`{}`", form.name)),
            "{} is not described",
            form.name
        );
        for header in Sample::of(form).headers.keys() {
            assert!(
                text.contains(&format!("`{header}`")),
                "header {header} is not described"
            );
        }
    }
    let mut shown = 0;
    for part in text.split(MARK).skip(1) {
        let (name, rest) = part.split_once(" -->").expect("a mark that ends");
        let (name, pointer) = name.split_once(' ').unwrap_or((name, ""));
        let form = EVENT_SCHEMAS
            .iter()
            .find(|form| form.name == name)
            .expect(name);
        let (_, rest) = rest
            .split_once("```json\n")
            .expect("an example behind the mark");
        let (example, _) = rest.split_once("```").expect("an example that ends");
        let example: Value = serde_json::from_str(example).expect(name);
        let sample = fs::read_to_string(folder("samples").join(file_name(form))).expect(name);
        let sample: Value = serde_json::from_str(&sample).expect(name);
        assert_eq!(Some(&example), sample.pointer(pointer), "{name} {pointer}");
        shown += 1;
    }
    assert!(shown > 0, "no example has a mark");
}
