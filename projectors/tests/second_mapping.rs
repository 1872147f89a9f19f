//! The vectors of each mapping: messages, and the bytes of their rows. Ours makes these bytes, and so does a
//! second one, in Python, that was written from `docs/audit-format.md` alone. A vector never
//! changes: what was signed stays signed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use artstore_projectors::audit_log::mapping::{self, RawMessage, Record};
use artstore_schemas::source::Source;
use async_nats::HeaderMap;
use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    name: String,
    stream: String,
    sequence: u64,
    /// Without it, mapping 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    mapping: Option<u32>,
    published: String,
    message: Option<Message>,
    row: String,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Message {
    subject: String,
    headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// In base64, where it is no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

impl Message {
    fn raw(&self) -> RawMessage {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.insert(name.as_str(), value.as_str());
        }
        let body = match (&self.body, &self.body_base64) {
            (Some(text), None) => text.clone().into_bytes(),
            (None, Some(text)) => BASE64.decode(text.as_bytes()).expect("base64"),
            _ => panic!("a message has one body"),
        };
        RawMessage {
            subject: self.subject.clone(),
            headers,
            body: body.into(),
        }
    }
}

const VECTORS: [&str; 2] = ["vectors/mapping_v1.json", "vectors/mapping_v2.json"];

fn tests(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(path)
}

/// A vector is added without its row; `ARTSTORE_UPDATE=1` fills it in, and changes no other.
#[test]
fn each_vector_derives_to_its_bytes() {
    for file in VECTORS {
        let path = tests(file);
        let text = fs::read_to_string(&path).expect("the vectors are there");
        let mut vectors: Vec<Vector> = serde_json::from_str(&text).expect("vectors");
        let update = std::env::var_os("ARTSTORE_UPDATE").is_some_and(|value| value == "1");
        for vector in &mut vectors {
            let source = Source::of_stream(&vector.stream).expect("a stream of ours");
            let record = Record {
                sequence: vector.sequence,
                published: vector.published.parse().expect("a time"),
                message: vector.message.as_ref().map(Message::raw),
            };
            let row = mapping::row(vector.mapping.unwrap_or(1), &source, &record);
            let bytes = HEXLOWER.encode(&row.expect("a known mapping").bytes());
            if update && vector.row.is_empty() {
                vector.row = bytes;
            } else {
                assert_eq!(bytes, vector.row, "{}", vector.name);
            }
        }
        if update {
            let line = |vector| serde_json::to_string(vector).expect("JSON");
            let lines: Vec<String> = vectors.iter().map(line).collect();
            fs::write(path, format!("[\n{}\n]\n", lines.join(",\n"))).expect("it can be written");
        }
    }
}

/// What the newest mapping adds does not change the row of an event that does not have it.
#[test]
fn an_event_of_before_has_the_same_row_but_for_the_number() {
    let text = fs::read_to_string(tests(VECTORS[0])).expect("the vectors are there");
    let vectors: Vec<Vector> = serde_json::from_str(&text).expect("vectors");
    for vector in vectors {
        let source = Source::of_stream(&vector.stream).expect("a stream of ours");
        let record = Record {
            sequence: vector.sequence,
            published: vector.published.parse().expect("a time"),
            message: vector.message.as_ref().map(Message::raw),
        };
        let mut row = mapping::row(2, &source, &record).expect("mapping 2");
        assert_eq!(row.mapping, 2);
        row.mapping = 1;
        assert_eq!(HEXLOWER.encode(&row.bytes()), vector.row, "{}", vector.name);
    }
}

#[test]
fn the_mapping_written_from_the_page_makes_the_same_bytes() {
    for file in VECTORS {
        let output = Command::new("python3")
            .arg("-B")
            .arg(tests("second_mapping.py"))
            .arg(tests(file))
            .output()
            .expect("python3 runs: install Python 3.9 or newer");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(
            output.status.success() && said.ends_with(" rows agree\n"),
            "{file}: {said}"
        );
    }
}
