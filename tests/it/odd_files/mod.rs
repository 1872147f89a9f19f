//! Every row that an element can legally hold reaches the cache: odd names, texts, tags, metadata
//! and times, written by plain SQL and through the publishers' API; and people find them.

mod documents;
mod product;
mod publishers;
mod words;

use std::collections::HashMap;

use artstore_producers::publish::files::{self, FileUpdate, NewFile};
use artstore_producers::publish::publish_error::PublishError;
use artstore_producers::publish::wal::{self, Begin, OperationType};
use artstore_schemas::actor::Actor;
use artstore_schemas::envelope::Envelope;
use artstore_schemas::size::{MAX_BODY_BYTES, MAX_MESSAGE_BYTES};
use async_nats::jetstream::message::StreamMessage;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection, Row as _};
use uuid::Uuid;

use crate::support::load::{begin, create, new_file};
use crate::support::*;

/// A file by plain SQL: what is not set here is what every file has.
#[derive(Clone)]
struct Odd {
    id: Uuid,
    name: String,
    description: Option<String>,
    metadata: Option<String>,
    size: i64,
    checksum: String,
    created_at: String,
    started_at: String,
    completed_at: Option<String>,
}

impl Default for Odd {
    fn default() -> Self {
        let now = "2026-01-02 03:04:05.000006+00";
        Self {
            id: Uuid::new_v4(),
            name: "plain.txt".to_owned(),
            description: None,
            metadata: None,
            size: 5,
            checksum: "c".repeat(64),
            created_at: now.to_owned(),
            started_at: now.to_owned(),
            completed_at: Some(now.to_owned()),
        }
    }
}

impl Odd {
    fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    fn described(description: impl Into<String>) -> Self {
        Self {
            description: Some(description.into()),
            ..Self::default()
        }
    }

    fn with_metadata(metadata: impl Into<String>) -> Self {
        Self {
            metadata: Some(metadata.into()),
            ..Self::default()
        }
    }

    fn tagged(tags: Value) -> Self {
        Self::with_metadata(json!({ "tags": tags }).to_string())
    }

    /// The file and its finished row.
    async fn insert(&self, connection: &mut PgConnection) -> Uuid {
        let mut transaction = connection.begin().await.unwrap();
        sqlx::query(
            "insert into elem_files (file_id, original_filename, storage_filename, file_size, \
                 content_type, created_by_id, created_by_username, storage_path, description, \
                 metadata_json, checksum, created_at, updated_at) \
             values ($1, $2, $1::text, $3, 'text/plain', '1', 'ann', '/', $4, $5::text::jsonb, $6, \
                 $7::text::timestamptz, $7::text::timestamptz)",
        )
        .bind(self.id)
        .bind(&self.name)
        .bind(self.size)
        .bind(&self.description)
        .bind(&self.metadata)
        .bind(&self.checksum)
        .bind(&self.created_at)
        .execute(&mut *transaction)
        .await
        .unwrap();
        let operation = Uuid::new_v4();
        sqlx::query(
            "insert into elem_wal (transaction_id, operation_type, status, file_id, \
                 operation_data, started_at, completed_at) \
             values ($1, 'file_create', 'committed', $2, '{}', $3::text::timestamptz, \
                 $4::text::timestamptz)",
        )
        .bind(operation)
        .bind(self.id)
        .bind(&self.started_at)
        .bind(&self.completed_at)
        .execute(&mut *transaction)
        .await
        .unwrap();
        transaction.commit().await.unwrap();
        operation
    }
}

/// A row of the cache.
#[derive(Debug, sqlx::FromRow)]
struct Cached {
    filename: String,
    file_size: i64,
    description: Option<String>,
    tags: Option<Vec<String>>,
    tags_dropped: i32,
    metadata: Option<String>,
    omitted: Option<Value>,
}

async fn cached(query: &mut PgConnection, file: Uuid) -> Cached {
    sqlx::query_as(
        "select filename, file_size, description, tags, tags_dropped, metadata::text as metadata, \
             omitted \
         from file_metadata_cache where id = $1",
    )
    .bind(file.to_string())
    .fetch_one(query)
    .await
    .unwrap()
}

/// All messages of the element, by event.
async fn messages(world: &World) -> HashMap<Uuid, StreamMessage> {
    let stream = world.source(0).stream();
    let stream = world.bus.jetstream.get_stream(stream).await.unwrap();
    let mut messages = HashMap::new();
    for sequence in 1..=stream.cached_info().state.last_sequence {
        let message = stream.get_raw_message(sequence).await.unwrap();
        let envelope = Envelope::from_headers(&message.headers).unwrap();
        fits_its_schema(&message.headers, &message.payload);
        messages.insert(envelope.id, message);
    }
    messages
}

fn body(message: &StreamMessage) -> Value {
    serde_json::from_slice(&message.payload).unwrap()
}

fn size(message: &StreamMessage) -> usize {
    let headers: usize = message
        .headers
        .iter()
        .flat_map(|(name, values)| {
            values
                .iter()
                .map(move |v| name.to_string().len() + v.as_str().len() + 4)
        })
        .sum();
    message.payload.len() + headers + message.subject.len()
}

fn sha256(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// An array in an array in an array.
fn nested(depth: usize) -> String {
    format!("{}1{}", "[".repeat(depth), "]".repeat(depth))
}

fn deep(depth: usize) -> Odd {
    let arrays = nested(depth);
    Odd::with_metadata(format!(
        "{{\"deep\": {arrays}, \"tags\": [\"nested {depth}\"]}}"
    ))
}
