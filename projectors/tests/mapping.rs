//! What mapping 1 makes of every message that can be in a stream, and of some that nobody knows
//! yet: `mapping_v1.golden` holds each row's leaf. A line changes only with its
//! sample; the messages of former samples are in `vectors/`, whose rows never change. A type that is
//! learnt later gets a mapping of its own, and old rows still derive to the same bytes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use artstore_projectors::audit_log::mapping::{self, RawMessage, Record};
use artstore_projectors::audit_log::row::Row;
use artstore_schemas::source::Source;
use async_nats::HeaderMap;
use data_encoding::HEXLOWER;
use serde_json::{Value, json};

struct Message {
    name: String,
    source: Source,
    subject: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Message {
    fn row(&self) -> Row {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.insert(name.as_str(), value.as_str());
        }
        let record = Record {
            sequence: 7,
            published: "2026-01-02T03:04:06Z".parse().expect("a time"),
            message: Some(RawMessage {
                subject: self.subject.clone(),
                headers,
                body: self.body.clone().into(),
            }),
        };
        mapping::row(1, &self.source, &record).expect("mapping 1")
    }
}

fn samples() -> Vec<Message> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/samples");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .expect("samples")
        .map(|entry| entry.expect("a file").path())
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let text = fs::read_to_string(path).expect("a sample");
            let sample: Value = serde_json::from_str(&text).expect("JSON");
            let name = path.file_stem().expect("a name").to_string_lossy();
            Message {
                name: name.into_owned(),
                source: Source::of_stream(sample["stream"].as_str().expect("a stream"))
                    .expect("ours"),
                subject: sample["subject"].as_str().expect("a subject").to_owned(),
                headers: serde_json::from_value(sample["headers"].clone()).expect("headers"),
                body: sample["body"].to_string().into_bytes(),
            }
        })
        .collect()
}

/// An event of the admin module.
fn admin(event_type: &str, body: &Value) -> Message {
    Message {
        name: event_type.to_owned(),
        source: Source::Admin,
        subject: "artstore.admin.p00.any.thing".to_owned(),
        headers: BTreeMap::from(
            [
                ("ce-id", "0191f1f0-0000-7000-8000-000000000001"),
                ("ce-source", "/artstore/admin"),
                ("ce-type", event_type),
                ("ce-time", "2026-01-02T03:04:05.000006Z"),
                ("ce-subject", "a%20b"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        ),
        body: body.to_string().into_bytes(),
    }
}

fn unknown() -> Vec<Message> {
    let body = json!({
        "operation": {"id": "x", "type": "x", "request_id": "r"},
        "actor": {"type": "robot", "id": "9"},
        "data": {"json": {"n": 1, "f": 0.5, "big": 1e300, "nul": "a\u{0}b"}},
    });
    vec![
        admin("artstore.quota.exceeded.v1", &body),
        admin("artstore.user.created.v2", &json!({"other": [1, 2.5]})),
        admin("artstore.user.created.v1", &json!([1])),
        admin("artstore.user.created.v1", &json!({"no": "operation"})),
        admin("nonsense", &body),
    ]
}

#[test]
fn old_rows_derive_to_the_same_bytes_for_ever() {
    let computed: String = samples()
        .iter()
        .chain(&unknown())
        .map(|message| {
            let row = message.row();
            let leaf = HEXLOWER.encode(&row.leaf());
            format!("{} {} {leaf}\n", message.name, row.event_type)
        })
        .collect();
    let golden = include_str!("mapping_v1.golden");
    assert_eq!(computed, golden, "computed:\n{computed}");
}

/// The catalogue of the audit events.
#[test]
fn every_kind_of_event_is_what_the_catalogue_says() {
    let of = |event_type: &str, data: Value| {
        let body = json!({
            "operation": {"id": "x", "type": "x"},
            "actor": {"type": "user", "id": "1"},
            "data": {"json": data},
        });
        let row = admin(event_type, &body).row();
        let resource = row.resource_type.unwrap_or_else(|| "-".to_owned());
        format!(
            "{} {} {} {} {resource}",
            row.event_type, row.action, row.severity, row.success
        )
    };
    for (event_type, data, expected) in [
        (
            "login.succeeded",
            json!({}),
            "login_success login info true -",
        ),
        (
            "login.failed",
            json!({}),
            "login_failed login warning false -",
        ),
        ("logout.performed", json!({}), "logout logout info true -"),
        (
            "user.created",
            json!({}),
            "user_create create info true user",
        ),
        (
            "user.deleted",
            json!({}),
            "user_delete delete warning true user",
        ),
        (
            "user.updated",
            json!({"error_message": "no"}),
            "user_update update warning false user",
        ),
        (
            "service-account.updated",
            json!({}),
            "service_account_update update info true service_account",
        ),
        (
            "storage-element.deleted",
            json!({}),
            "storage_element_delete delete warning true storage_element",
        ),
        (
            "jwt-key.rotated",
            json!({}),
            "jwt_rotation rotation info true jwt_key",
        ),
        (
            "service-account.secret-rotated",
            json!({}),
            "secret_rotation rotation info true service_account",
        ),
        (
            "access.denied",
            json!({"action": "delete", "resource_type": "file", "resource_id": "7"}),
            "permission_denied delete warning false file",
        ),
        (
            "search.performed",
            json!({}),
            "search_performed read info true -",
        ),
        (
            "file.downloaded",
            json!({}),
            "file_downloaded read info true file",
        ),
        (
            "projection.rebuild",
            json!({}),
            "projection_rebuild rebuild warning true projection",
        ),
    ] {
        assert_eq!(
            of(&format!("artstore.{event_type}.v1"), data),
            expected,
            "{event_type}"
        );
    }
}
