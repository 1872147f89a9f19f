//! The rows of searches and downloads, one per event. Rows that the product's own services write
//! into the same tables have no event id.

use artstore_schemas::event::{
    DecodeError, Event, FileDownloaded, OutboxEvent, SearchPerformed, decode_data,
};
use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::projector::{Received, Rejection};

/// Applies a batch of the query module's stream. Other types than searches and downloads are skipped.
pub async fn apply(transaction: &mut PgConnection, batch: &[Received]) -> Result<(), Rejection> {
    let mut searches = Vec::new();
    let mut downloads = Vec::new();
    for received in batch {
        let Event::Outbox(event) = &received.event else {
            continue;
        };
        match event.operation.kind.as_str() {
            "search.performed" => searches.push(read(received, event)?),
            "file.downloaded" => downloads.push(read(received, event)?),
            _ => {}
        }
    }
    insert_searches(transaction, searches).await?;
    insert_downloads(transaction, downloads).await
}

struct Fact<T> {
    id: Uuid,
    at: DateTime<Utc>,
    /// Who did it, where the data does not name anybody.
    actor: Option<String>,
    data: T,
}

fn read<T: DeserializeOwned>(
    received: &Received,
    event: &OutboxEvent,
) -> Result<Fact<T>, Rejection> {
    let data = decode_data(&received.envelope.event_type, event.data.as_ref())
        .map_err(|error: DecodeError| Rejection::Event(error.to_string()))?;
    Ok(Fact {
        id: received.envelope.id,
        at: event.operation.occurred_at,
        actor: event.actor.name.clone(),
        data,
    })
}

async fn insert_searches(
    transaction: &mut PgConnection,
    facts: Vec<Fact<SearchPerformed>>,
) -> Result<(), Rejection> {
    if facts.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into search_history (event_id, created_at, query_text, search_mode, \
             filters_applied, results_count, response_time_ms, username) \
         select * from unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], \
             $6::integer[], $7::integer[], $8::text[]) \
         on conflict (event_id) where event_id is not null do nothing",
    )
    .bind(facts.iter().map(|f| f.id).collect::<Vec<_>>())
    .bind(facts.iter().map(|f| f.at).collect::<Vec<_>>())
    .bind(
        facts
            .iter()
            .map(|f| f.data.query_text.clone())
            .collect::<Vec<_>>(),
    )
    .bind(
        facts
            .iter()
            .map(|f| f.data.search_mode.clone())
            .collect::<Vec<_>>(),
    )
    .bind(
        facts
            .iter()
            .map(|f| f.data.filters_applied.clone())
            .collect::<Vec<_>>(),
    )
    .bind(
        facts
            .iter()
            .map(|f| f.data.results_count)
            .collect::<Vec<_>>(),
    )
    .bind(
        facts
            .iter()
            .map(|f| f.data.response_time_ms)
            .collect::<Vec<_>>(),
    )
    .bind(
        facts
            .iter()
            .map(|f| f.data.username.clone().or_else(|| f.actor.clone()))
            .collect::<Vec<_>>(),
    )
    .execute(transaction)
    .await?;
    Ok(())
}

async fn insert_downloads(
    transaction: &mut PgConnection,
    facts: Vec<Fact<FileDownloaded>>,
) -> Result<(), Rejection> {
    if facts.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into download_statistics (event_id, created_at, file_id, \
             bytes_transferred, download_time_ms, was_resumed, username, storage_element_id) \
         select d.id, d.at, d.file_id::text, d.bytes, d.ms, d.resumed, d.username, d.element \
         from unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::bigint[], $5::integer[], \
             $6::boolean[], $7::text[], $8::text[]) \
             as d(id, at, file_id, bytes, ms, resumed, username, element) \
         on conflict (event_id) where event_id is not null do nothing",
    )
    .bind(facts.iter().map(|f| f.id).collect::<Vec<_>>())
    .bind(facts.iter().map(|f| f.at).collect::<Vec<_>>())
    .bind(facts.iter().map(|f| f.data.file_id).collect::<Vec<_>>())
    .bind(
        facts
            .iter()
            .map(|f| f.data.bytes_transferred)
            .collect::<Vec<_>>(),
    )
    .bind(
        facts
            .iter()
            .map(|f| f.data.download_time_ms)
            .collect::<Vec<_>>(),
    )
    .bind(facts.iter().map(|f| f.data.was_resumed).collect::<Vec<_>>())
    .bind(
        facts
            .iter()
            .map(|f| f.data.username.clone().or_else(|| f.actor.clone()))
            .collect::<Vec<_>>(),
    )
    .bind(
        facts
            .iter()
            .map(|f| f.data.storage_element_id.clone())
            .collect::<Vec<_>>(),
    )
    .execute(transaction)
    .await?;
    Ok(())
}
