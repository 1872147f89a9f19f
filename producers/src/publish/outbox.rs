//! Publishing from the admin and query modules: a row in the outbox, in the transaction of the change
//! that it reports. The relay publishes it on the bus.

use artstore_schemas::actor::Actor;
use artstore_schemas::record;
use artstore_schemas::size::MAX_BODY_BYTES;
use serde_json::Value;
use sqlx::postgres::PgArguments;
use sqlx::query::QueryScalar;
use sqlx::{AssertSqlSafe, PgConnection, Postgres};
use uuid::Uuid;

use crate::publish::publish_error::PublishError;

/// An event for the outbox.
#[derive(Debug, Clone)]
pub struct OutboxInsert {
    /// The entity that it happened to: `[a-z0-9-]{1,100}`, but not `source`, which is the relay's.
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
    /// A W3C trace to continue with.
    pub traceparent: Option<String>,
}

/// Inserts the event and returns its id and its position. Both mean nothing until the
/// transaction that `connection` is in is committed.
pub async fn insert(
    connection: &mut PgConnection,
    actor: &Actor,
    event: &OutboxInsert,
) -> Result<(Uuid, i64), PublishError> {
    check(actor, event)?;
    let id = Uuid::new_v4();
    let position = bound(INSERT.to_owned() + " returning position", id, actor, event)
        .fetch_one(connection)
        .await?;
    Ok((id, position))
}

/// Inserts the event under an id of the caller's, unless an event with that id is there already.
/// Returns whether it was inserted.
pub async fn insert_once(
    connection: &mut PgConnection,
    id: Uuid,
    actor: &Actor,
    event: &OutboxInsert,
) -> Result<bool, PublishError> {
    check(actor, event)?;
    // Asked first: an insert that comes to nothing would still draw a position.
    let known: bool =
        sqlx::query_scalar("select exists (select from public.event_outbox where event_id = $1)")
            .bind(id)
            .fetch_one(&mut *connection)
            .await?;
    if known {
        return Ok(false);
    }
    let sql = INSERT.to_owned() + " on conflict (event_id) do nothing returning position";
    let inserted: Option<i64> = bound(sql, id, actor, event)
        .fetch_optional(connection)
        .await?;
    Ok(inserted.is_some())
}

const INSERT: &str = "insert into public.event_outbox (event_id, entity, action, ordering_key, \
     subject, data, actor, request_id, traceparent) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)";

fn check(actor: &Actor, event: &OutboxInsert) -> Result<(), PublishError> {
    if event.entity == record::ENTITY {
        let entity = event.entity.clone();
        return Err(PublishError::Reserved { entity });
    }
    artstore_schemas::json::check(&event.data).map_err(|reason| PublishError::UnsafeJson {
        field: "data",
        reason,
    })?;
    let bytes = event.data.to_string().len() + serde_json::json!(actor).to_string().len();
    if bytes > MAX_BODY_BYTES / 2 {
        return Err(PublishError::TooLarge { bytes });
    }
    Ok(())
}

fn bound<'a>(
    sql: String,
    id: Uuid,
    actor: &'a Actor,
    event: &'a OutboxInsert,
) -> QueryScalar<'a, Postgres, i64, PgArguments> {
    sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(id)
        .bind(&event.entity)
        .bind(&event.action)
        .bind(event.ordering_key)
        .bind(&event.subject)
        .bind(&event.data)
        .bind(sqlx::types::Json(actor))
        .bind(&event.request_id)
        .bind(&event.traceparent)
}
