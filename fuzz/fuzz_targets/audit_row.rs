//! Rows of the audit log: bytes that are read are the row's own, and every message has a row, under each mapping, which is
//! signed, read and exported.

#![no_main]

use artstore::audit::export::Format;
use artstore_fuzz::{headers, is_readable, message, parts, source};
use artstore_projectors::audit_log::mapping::{self, NEWEST, Record};
use artstore_projectors::audit_log::row::{FORMAT, Row};
use artstore_projectors::audit_log::store::Stored;
use artstore_schemas::envelope::Envelope;
use artstore_schemas::source::Source;
use artstore_verification::audit::shown::Verdict;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fn exported(row: Row) {
    let stored = Stored {
        id: 1,
        format: FORMAT,
        account_ids: row.account_ids(),
        row,
        kid: "0".to_owned(),
        hmac_signature: "0".to_owned(),
        broken: None,
    };
    for format in [Format::Jsonl, Format::Ocsf] {
        let line = format.line(&stored, &Verdict::Unproven);
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        serde_json::from_slice::<Value>(&line).expect("JSON");
    }
    Format::Csv.line(&stored, &Verdict::Unproven);
}

fuzz_target!(|data: &[u8]| {
    if let Ok(row) = Row::from_bytes(data) {
        assert_eq!(row.bytes(), data);
        exported(row);
        return;
    }
    let [stream, subject, lines, body] = parts(data);
    let source = source(stream);
    let record = Record {
        sequence: 7,
        published: chrono::DateTime::UNIX_EPOCH,
        message: Some(message(7, [subject, lines, body]).into()),
    };
    for mapping in 1..=NEWEST {
        let row = mapping::row(mapping, &source, &record).expect("a known mapping");
        assert_eq!(Row::from_bytes(&row.bytes()).as_ref(), Ok(&row));
        let readable = is_readable(&row);
        // Readers and the audit log have to read the same subject.
        if let Ok(envelope) = Envelope::from_headers(&headers(lines))
            && readable
            && envelope.event_type.entity == "odd"
            && source == Source::Query
        {
            let subject = envelope
                .subject
                .map(|subject| subject.replace('\0', "\u{fffd}"));
            assert_eq!(row.resource_id, subject);
        }
        exported(row);
    }
});
