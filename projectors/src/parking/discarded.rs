//! The table `projection_discarded`: parked events that an operator gave up for good. A rebuild does not
//! swap it: a decision about a stream holds whatever tables are filled.

use std::collections::HashMap;

use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::store::{self, Parked};

/// Events of a stream that were discarded, by sequence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Discarded(HashMap<u64, Option<Uuid>>);

impl Discarded {
    /// Whether an event was discarded. In a stream that was recreated, another event may stand at the
    /// same sequence: it was not.
    pub fn has(&self, sequence: u64, event_id: Option<Uuid>) -> bool {
        self.0.get(&sequence) == Some(&event_id)
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Those of a stream, whatever the session's search path is.
pub async fn load(
    connection: &mut PgConnection,
    projection: &str,
    stream: &str,
) -> Result<Discarded, sqlx::Error> {
    let rows: Vec<(i64, Option<Uuid>)> = sqlx::query_as(
        "select stream_sequence, event_id from public.projection_discarded \
         where projection = $1 and stream = $2",
    )
    .bind(projection)
    .bind(stream)
    .fetch_all(connection)
    .await?;
    let rows = rows.into_iter();
    let events = rows.map(|(at, id)| (u64::try_from(at).unwrap_or(0), id));
    Ok(Discarded(events.collect()))
}

/// Takes a parked event out for good, and remembers it. False: it is not parked any more, and nothing
/// is remembered.
pub async fn discard(
    connection: &mut PgConnection,
    parked: &Parked,
    reason: &str,
) -> Result<bool, sqlx::Error> {
    if !store::remove(connection, parked).await? {
        return Ok(false);
    }
    sqlx::query(
        "insert into public.projection_discarded \
             (projection, stream, stream_sequence, key, event_id, reason) \
         values ($1, $2, $3, $4, $5, $6) \
         on conflict (projection, stream, stream_sequence) do update \
         set key = excluded.key, event_id = excluded.event_id, reason = excluded.reason, \
             discarded_at = excluded.discarded_at",
    )
    .bind(&parked.projection)
    .bind(&parked.stream)
    .bind(i64::try_from(parked.sequence).unwrap_or(i64::MAX))
    .bind(parked.key)
    .bind(parked.event_id)
    .bind(reason)
    .execute(connection)
    .await?;
    Ok(true)
}

/// What is remembered of an event that was discarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenUp {
    /// Its sequence in the stream.
    pub sequence: u64,
    /// What it is about.
    pub key: Option<Uuid>,
    /// The event.
    pub event_id: Option<Uuid>,
    /// Why it was discarded.
    pub reason: String,
}

/// Those of a stream, with why, in its order.
pub async fn list(
    connection: &mut PgConnection,
    projection: &str,
    stream: &str,
) -> Result<Vec<GivenUp>, sqlx::Error> {
    let rows: Vec<(i64, Option<Uuid>, Option<Uuid>, String)> = sqlx::query_as(
        "select stream_sequence, key, event_id, reason from public.projection_discarded \
         where projection = $1 and stream = $2 order by stream_sequence",
    )
    .bind(projection)
    .bind(stream)
    .fetch_all(connection)
    .await?;
    let given_up = |(sequence, key, event_id, reason)| GivenUp {
        sequence: u64::try_from(sequence).unwrap_or(0),
        key,
        event_id,
        reason,
    };
    Ok(rows.into_iter().map(given_up).collect())
}

/// Takes a discard back: it is forgotten, and the event is parked again with all later ones of its key,
/// up to the checkpoint, in the transaction that has renewed it. Those were applied without it, or wait;
/// a retry applies them all, in order. The first of `events` is the one that was discarded. False: it is
/// not among the discarded ones any more, and nothing is changed.
pub async fn take_back(
    connection: &mut PgConnection,
    events: &[Parked],
) -> Result<bool, sqlx::Error> {
    let Some(first) = events.first() else {
        return Ok(false);
    };
    let done = sqlx::query(
        "delete from public.projection_discarded where projection = $1 and stream = $2 \
             and stream_sequence = $3 and event_id is not distinct from $4",
    )
    .bind(&first.projection)
    .bind(&first.stream)
    .bind(i64::try_from(first.sequence).unwrap_or(i64::MAX))
    .bind(first.event_id)
    .execute(&mut *connection)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    store::park(connection, events).await?;
    Ok(true)
}

/// Takes out of the parked events in a schema what was discarded meanwhile.
pub(crate) async fn take_out(
    connection: &mut PgConnection,
    schema: &str,
    projection: &str,
) -> Result<(), sqlx::Error> {
    let sql = format!(
        "delete from {schema}.projection_parked p using public.projection_discarded d \
         where p.projection = $1 and (d.projection, d.stream, d.stream_sequence) \
                 = (p.projection, p.stream, p.stream_sequence) \
             and d.event_id is not distinct from p.event_id"
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(projection)
        .execute(connection)
        .await?;
    Ok(())
}
