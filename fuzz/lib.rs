//! What the targets share: how an input is cut into parts, and what it becomes. Seeds are written in the same way, as
//! text where that is possible, so that they can be read.

use artstore_bus::message::Message;
use artstore_producers::relay::translated::Translated;
use artstore_projectors::audit_log::mapping::{self, NEWEST, RawMessage, Record};
use artstore_projectors::audit_log::note::SignerKey;
use artstore_projectors::audit_log::row::Row;
use artstore_schemas::envelope::Envelope;
use artstore_schemas::ranges::Ranges;
use artstore_schemas::size::{MAX_GAPS_BYTES, MAX_HEADER_BYTES};
use artstore_schemas::source::Source;
use artstore_schemas::subject::{belongs, subject};
use async_nats::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use chrono::DateTime;
use serde_json::Value;

/// The parts of an input: between them is a line `---`. Parts that are missing are empty.
pub fn parts<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut parts = [&[][..]; N];
    let mut rest = data;
    for (index, part) in parts.iter_mut().enumerate() {
        let end = match index + 1 < N {
            true => find(rest, b"\n---\n"),
            false => None,
        };
        match end {
            Some(end) => (*part, rest) = (&rest[..end], &rest[end + 5..]),
            None => (*part, rest) = (rest, &[]),
        }
    }
    parts
}

/// The items of an input: between them is a line `===`.
pub fn items(mut data: &[u8]) -> Vec<&[u8]> {
    let mut items = Vec::new();
    while let Some(end) = find(data, b"\n===\n") {
        items.push(&data[..end]);
        data = &data[end + 5..];
    }
    items.push(data);
    items
}

fn find(data: &[u8], line: &[u8]) -> Option<usize> {
    data.windows(line.len()).position(|window| window == line)
}

/// A text; what is no UTF-8 becomes U+FFFD, as nothing else can come out of a database or a header.
pub fn text(data: &[u8]) -> String {
    String::from_utf8_lossy(data).into_owned()
}

/// A source by its stream; without one, an element's.
pub fn source(data: &[u8]) -> Source {
    let element = || Source::Element("elem".parse().expect("a name"));
    std::str::from_utf8(data)
        .ok()
        .and_then(Source::of_stream)
        .unwrap_or_else(element)
}

/// Headers, a line each, as the client library reads them from the server.
pub fn headers(data: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in text(data).lines() {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        if let (Ok(name), Ok(value)) = (
            name.parse::<HeaderName>(),
            value.trim().parse::<HeaderValue>(),
        ) {
            headers.append(name, value);
        }
    }
    headers
}

/// A message of the parts subject, headers, body.
pub fn message(sequence: u64, [subject, lines, body]: [&[u8]; 3]) -> Message {
    Message {
        sequence,
        published: DateTime::UNIX_EPOCH,
        subject: text(subject),
        headers: headers(lines),
        body: Bytes::copy_from_slice(body),
    }
}

/// A key that signs heads.
pub fn signer() -> SignerKey {
    SignerKey::of_seed("example.com/audit", [7; 32]).expect("a name")
}

/// A message as a relay publishes it: its headers are small and can be read, its subject is its source's, and it has a row
/// of the audit log that is no unreadable message's.
pub fn readable(source: &Source, translated: &Translated) {
    let envelope = Envelope {
        id: translated.id,
        source: source.ce_source(),
        event_type: translated.event_type.clone(),
        subject: translated.subject.clone(),
        time: translated.time,
        traceparent: translated.traceparent.clone(),
        position: translated.position,
        high_water_mark: 7,
        gaps: Ranges::default(),
        identity: "7-16384-1".to_owned(),
        previous: None,
        snapshot: translated.snapshot,
        backfill_due: false,
    };
    let headers = envelope.to_headers();
    let bytes: usize = headers
        .iter()
        .flat_map(|(_, values)| values)
        .map(|value| value.as_str().len())
        .sum();
    assert!(
        bytes + 1_024 <= MAX_HEADER_BYTES - MAX_GAPS_BYTES,
        "{bytes}"
    );
    assert_eq!(Envelope::from_headers(&headers).as_ref(), Ok(&envelope));
    let subject = subject(source, translated.key, &translated.event_type);
    assert!(belongs(&subject, source, &translated.event_type));
    let message = Some(RawMessage {
        subject,
        headers,
        body: translated.body.clone(),
    });
    let record = Record {
        sequence: 7,
        published: DateTime::UNIX_EPOCH,
        message,
    };
    let row = mapping::row(NEWEST, source, &record).expect("the newest one is known");
    assert!(is_readable(&row));
    assert_eq!(Row::from_bytes(&row.bytes()).as_ref(), Ok(&row));
}

/// Whether a row is that of a message that could be read, whatever the message is called.
pub fn is_readable(row: &Row) -> bool {
    let data: Value = serde_json::from_str(row.data.as_deref().unwrap_or("null")).expect("JSON");
    data.get("_event").is_some()
}
