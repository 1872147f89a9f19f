//! Publishing from the admin and query modules: a row in the outbox, in the transaction that does
//! what it tells of. The relay takes it to the bus.

use artstore_schemas::actor::Actor;
use artstore_schemas::size::MAX_BODY_BYTES;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::wal::PublishError;

/// An event for the outbox.
#[derive(Debug, Clone)]
pub struct OutboxInsert {
    /// What it happened to: `[a-z0-9-]{1,100}`.
    pub entity: String,
    /// What happened: `[a-z0-9-]{1,100}`.
    pub action: String,
    /// Events with the same key are read in order within one partition.
    pub ordering_key: Option<Uuid>,
    /// `ce-subject`: which one it happened to.
    pub subject: Option<String>,
    /// The facts.
    pub data: Value,
    /// The caller's correlation id, kept whole.
    pub request_id: Option<String>,
    /// A W3C trace to go on with.
    pub traceparent: Option<String>,
}

/// Inserts the event and returns its id and its position. Both mean nothing until the
/// transaction that `connection` is in is committed.
pub async fn insert(
    connection: &mut PgConnection,
    actor: &Actor,
    event: &OutboxInsert,
) -> Result<(Uuid, i64), PublishError> {
    artstore_schemas::json::check(&event.data).map_err(|reason| PublishError::UnsafeJson {
        field: "data",
        reason,
    })?;
    let bytes = event.data.to_string().len() + serde_json::json!(actor).to_string().len();
    if bytes > MAX_BODY_BYTES / 2 {
        return Err(PublishError::TooLarge { bytes });
    }
    let id = Uuid::new_v4();
    let position = sqlx::query_scalar(
        "insert into public.event_outbox (event_id, entity, action, ordering_key, subject, data, \
             actor, request_id, traceparent) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9) returning position",
    )
    .bind(id)
    .bind(&event.entity)
    .bind(&event.action)
    .bind(event.ordering_key)
    .bind(&event.subject)
    .bind(&event.data)
    .bind(sqlx::types::Json(actor))
    .bind(&event.request_id)
    .bind(&event.traceparent)
    .fetch_one(connection)
    .await?;
    Ok((id, position))
}
