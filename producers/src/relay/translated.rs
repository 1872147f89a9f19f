//! An event as it is made of a row, before the relay adds its state.

use artstore_schemas::envelope::Snapshot;
use artstore_schemas::event::EventType;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use uuid::Uuid;

/// An event without the state that the relay adds.
#[derive(Debug, Clone)]
pub struct Translated {
    /// The row's UUID.
    pub id: Uuid,
    /// The row's position; none where no row caused the event.
    pub position: Option<i64>,
    /// Why the present state is published although no new row caused it.
    pub snapshot: Option<Snapshot>,
    /// `ce-type`.
    pub event_type: EventType,
    /// What picks the partition.
    pub key: Option<Uuid>,
    /// `ce-subject`.
    pub subject: Option<String>,
    /// `ce-time`.
    pub time: DateTime<Utc>,
    /// `traceparent`.
    pub traceparent: Option<String>,
    /// The JSON body.
    pub body: Bytes,
}
