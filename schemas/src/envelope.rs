//! The headers of a message: CloudEvents 1.0 in binary mode, and our own, in which the relay keeps
//! its state. Written by the relay, read back by it after a restart, checked by every reader.

use std::fmt;
use std::str::FromStr;

use async_nats::HeaderMap;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::event::EventType;
use crate::ranges::Ranges;
use crate::registry;
use crate::timestamp;

const SPEC_VERSION: &str = "ce-specversion";
const ID: &str = "ce-id";
const SOURCE: &str = "ce-source";
const TYPE: &str = "ce-type";
const SUBJECT: &str = "ce-subject";
const TIME: &str = "ce-time";
/// Names the body's schema.
pub const DATA_SCHEMA: &str = "ce-dataschema";
const CONTENT_TYPE: &str = "ce-datacontenttype";
const TRACE_PARENT: &str = "traceparent";
const MESSAGE_ID: &str = "Nats-Msg-Id";
const POSITION: &str = "artstore-position";
const HIGH_WATER_MARK: &str = "artstore-high-water-mark";
const GAPS: &str = "artstore-gaps";
const IDENTITY: &str = "artstore-source";
const PREVIOUS: &str = "artstore-previous";
const SNAPSHOT: &str = "artstore-snapshot";
const BACKFILL: &str = "artstore-backfill";

/// Everything about a message but its subject and body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// `ce-id` and `Nats-Msg-Id`: the row's UUID.
    pub id: Uuid,
    /// `ce-source`, as text: a reader compares it with its stream.
    pub source: String,
    /// `ce-type`.
    pub event_type: EventType,
    /// `ce-subject`: the file's id, or what an outbox row states.
    pub subject: Option<String>,
    /// `ce-time`: shown, never used for order.
    pub time: DateTime<Utc>,
    /// `traceparent`, passed through.
    pub traceparent: Option<String>,
    /// `artstore-position`: the row's position; none for a message that no row caused.
    pub position: Option<i64>,
    /// `artstore-high-water-mark`: the highest position seen, as it is after this message.
    pub high_water_mark: i64,
    /// `artstore-gaps`: positions below `high_water_mark` not seen, as they are after this message.
    pub gaps: Ranges,
    /// `artstore-source`: the identity of the source's database.
    pub identity: String,
    /// `artstore-previous`: `ce-id` of the message before it in the stream; none for the first.
    pub previous: Option<Uuid>,
    /// `artstore-snapshot`: the body states the present state, not what a row states; and why it was
    /// published.
    pub snapshot: Option<Snapshot>,
    /// `artstore-backfill`: a backfill is due. The relay that finds this in the stream's last
    /// message compares every file, then publishes `source.backfilled`.
    pub backfill_due: bool,
}

/// Why a present state was published that no new row caused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snapshot {
    /// The stream did not say of a file what its element states: files from before the bus, changed
    /// without an operation, or set back with their source. Without a position.
    Backfill,
    /// An operation's own message is gone from the stream: this is its row, with its position, and
    /// the state as it is now.
    Republish,
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Backfill => "backfill",
            Self::Republish => "republish",
        })
    }
}

impl FromStr for Snapshot {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "backfill" => Ok(Self::Backfill),
            "republish" => Ok(Self::Republish),
            _ => Err(()),
        }
    }
}

/// Why a message's headers can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// A header that every message has is not there.
    #[error("header {0} is missing")]
    Missing(&'static str),
    /// A header holds something else than it should.
    #[error("header {name} holds {value:?}, which is no valid value")]
    Invalid {
        /// The header.
        name: &'static str,
        /// What it holds.
        value: String,
    },
}

impl Envelope {
    /// The headers of the message.
    pub fn to_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let id = self.id.to_string();
        headers.insert(MESSAGE_ID, id.as_str());
        headers.insert(SPEC_VERSION, "1.0");
        headers.insert(ID, id.as_str());
        headers.insert(SOURCE, self.source.as_str());
        headers.insert(TYPE, self.event_type.to_string());
        if let Some(subject) = &self.subject {
            headers.insert(SUBJECT, encode_attribute(subject));
        }
        headers.insert(TIME, timestamp::format(&self.time));
        headers.insert(
            DATA_SCHEMA,
            registry::schema_uri(&self.source, &self.event_type),
        );
        headers.insert(CONTENT_TYPE, "application/json");
        if let Some(traceparent) = &self.traceparent {
            headers.insert(TRACE_PARENT, traceparent.as_str());
        }
        if let Some(position) = self.position {
            headers.insert(POSITION, position.to_string());
        }
        headers.insert(HIGH_WATER_MARK, self.high_water_mark.to_string());
        if !self.gaps.is_empty() {
            headers.insert(GAPS, self.gaps.to_string());
        }
        headers.insert(IDENTITY, self.identity.as_str());
        if let Some(previous) = self.previous {
            headers.insert(PREVIOUS, previous.to_string());
        }
        if let Some(snapshot) = self.snapshot {
            headers.insert(SNAPSHOT, snapshot.to_string());
        }
        if self.backfill_due {
            headers.insert(BACKFILL, "due");
        }
        headers
    }

    /// Reads the headers of a message.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, EnvelopeError> {
        let gaps = get(headers, GAPS).unwrap_or_default();
        Ok(Self {
            id: parse(ID, required(headers, ID)?)?,
            source: required(headers, SOURCE)?.to_owned(),
            event_type: parse(TYPE, required(headers, TYPE)?)?,
            subject: get(headers, SUBJECT)
                .map(|text| {
                    decode_attribute(text).ok_or_else(|| EnvelopeError::Invalid {
                        name: SUBJECT,
                        value: text.chars().take(100).collect(),
                    })
                })
                .transpose()?,
            time: parse(TIME, required(headers, TIME)?)?,
            traceparent: get(headers, TRACE_PARENT).map(str::to_owned),
            position: get(headers, POSITION)
                .map(|text| parse(POSITION, text))
                .transpose()?,
            high_water_mark: parse(HIGH_WATER_MARK, required(headers, HIGH_WATER_MARK)?)?,
            gaps: parse(GAPS, gaps)?,
            identity: required(headers, IDENTITY)?.to_owned(),
            previous: get(headers, PREVIOUS)
                .map(|text| parse(PREVIOUS, text))
                .transpose()?,
            snapshot: get(headers, SNAPSHOT)
                .map(|text| parse(SNAPSHOT, text))
                .transpose()?,
            backfill_due: get(headers, BACKFILL).is_some(),
        })
    }
}

/// Whether a text is a W3C `traceparent`; anything else is not passed through.
pub fn is_traceparent(text: &str) -> bool {
    let hex = |part: &str, length: usize| {
        part.len() == length
            && part
                .chars()
                .all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
    };
    let parts: Vec<&str> = text.split('-').collect();
    matches!(parts.as_slice(), [version, trace, span, flags]
        if hex(version, 2) && hex(trace, 32) && hex(span, 16) && hex(flags, 2))
}

/// Percent-encodes what CloudEvents does not allow in a header: everything but printable ASCII,
/// and the space, the double quote and the percent sign.
fn encode_attribute(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' | b'"' | b'%' | 0..=0x1f | 0x7f..=0xff => {
                encoded.push_str(&format!("%{byte:02X}"));
            }
            _ => encoded.push(char::from(byte)),
        }
    }
    encoded
}

/// None where the escapes are no UTF-8.
fn decode_attribute(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = (byte == b'%')
            .then(|| after.get(..2))
            .flatten()
            // A number may have a sign, an escape not.
            .filter(|hex| hex.iter().all(u8::is_ascii_hexdigit))
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match escaped {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

fn get<'a>(headers: &'a HeaderMap, name: &'static str) -> Option<&'a str> {
    headers.get(name).map(|value| value.as_str())
}

fn required<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, EnvelopeError> {
    get(headers, name).ok_or(EnvelopeError::Missing(name))
}

fn parse<T: std::str::FromStr>(name: &'static str, text: &str) -> Result<T, EnvelopeError> {
    text.parse().map_err(|_| EnvelopeError::Invalid {
        name,
        value: text.chars().take(100).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> Envelope {
        Envelope {
            id: Uuid::from_u128(5),
            source: "/artstore/elements/elem".to_owned(),
            event_type: EventType::new("file", "created", 1),
            subject: Some("a \"тест\" 100%".to_owned()),
            time: "2026-01-02T03:04:05.000006Z".parse().expect("a time"),
            traceparent: None,
            position: Some(10),
            high_water_mark: 12,
            gaps: "3,4+2".parse().expect("ranges"),
            identity: "7-16384-1".to_owned(),
            previous: Some(Uuid::from_u128(4)),
            snapshot: Some(Snapshot::Backfill),
            backfill_due: true,
        }
    }

    #[test]
    fn headers_hold_the_whole_envelope() {
        let headers = envelope().to_headers();
        assert_eq!(Envelope::from_headers(&headers), Ok(envelope()));
        let subject = headers.get(SUBJECT).expect("a subject").as_str();
        assert!(subject.is_ascii() && !subject.contains(' '), "{subject}");
    }

    /// As the audit log and other readers see it.
    #[test]
    fn an_escape_is_two_hexadecimal_digits() {
        for (text, expected) in [
            ("a%20b%2Bc%2b", "a b+c+"),
            ("%+5", "%+5"),
            ("%-0%", "%-0%"),
            ("%zz%2", "%zz%2"),
        ] {
            assert_eq!(decode_attribute(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(decode_attribute("%ff"), None);
    }

    #[test]
    fn a_broken_header_is_named() {
        let mut headers = envelope().to_headers();
        headers.insert(HIGH_WATER_MARK, "x");
        let error = Envelope::from_headers(&headers).expect_err("not a number");
        assert!(error.to_string().contains(HIGH_WATER_MARK));
    }

    #[test]
    fn only_a_real_traceparent_passes() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(is_traceparent(good));
        assert!(!is_traceparent(&good.to_uppercase()));
        assert!(!is_traceparent("00-1-2-3"));
    }
}
