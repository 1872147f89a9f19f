//! A message as a stream has it: delivered to [`crate::stream_reader`], or asked for by itself
//! ([`crate::requests`]).

use artstore_schemas::envelope::Envelope;
use async_nats::HeaderMap;
use async_nats::jetstream::message::StreamMessage;
use bytes::Bytes;
use chrono::{DateTime, Utc};

/// A message of a stream.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its sequence.
    pub sequence: u64,
    /// When the bus stored it.
    pub published: DateTime<Utc>,
    /// Its subject.
    pub subject: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body; empty where only headers were asked for.
    pub body: Bytes,
}

impl Message {
    /// What its headers state; none where they can't be read.
    pub fn envelope(&self) -> Option<Envelope> {
        Envelope::from_headers(&self.headers).ok()
    }

    /// A message that was delivered.
    pub(crate) fn delivered(
        sequence: u64,
        published: DateTime<Utc>,
        message: async_nats::Message,
    ) -> Self {
        Self {
            sequence,
            published,
            subject: message.subject.to_string(),
            headers: message.headers.unwrap_or_default(),
            body: message.payload,
        }
    }
}

impl From<StreamMessage> for Message {
    fn from(message: StreamMessage) -> Self {
        Self {
            sequence: message.sequence,
            published: message.time,
            subject: message.subject.to_string(),
            headers: message.headers,
            body: message.payload,
        }
    }
}
