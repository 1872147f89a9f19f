//! The table `projection_parked`: events as they were received, and why they are parked.

use async_nats::HeaderMap;
use async_nats::header::{HeaderName, HeaderValue};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use uuid::Uuid;

use crate::projector::RawMessage;
use crate::projector_error::Previous;

/// A parked event.
#[derive(Debug, Clone)]
pub struct Parked {
    /// The projection that could not apply it.
    pub projection: String,
    /// The stream.
    pub stream: String,
    /// Its sequence there.
    pub sequence: u64,
    /// What it is about; later events of the same key wait behind it.
    pub key: Option<Uuid>,
    /// The event.
    pub event_id: Option<Uuid>,
    /// As it came.
    pub message: RawMessage,
    /// When the bus stored it.
    pub published: DateTime<Utc>,
    /// Why it can't be applied; none: it waits behind another one.
    pub reason: Option<String>,
    /// How often it was tried again.
    pub attempts: i32,
    /// When it was parked.
    pub parked_at: DateTime<Utc>,
}

impl Parked {
    /// Logs that it was parked.
    pub(crate) fn log(&self) {
        let stream = &self.stream;
        match &self.reason {
            Some(reason) => tracing::error!(
                projection = self.projection,
                stream,
                stream.sequence = self.sequence,
                event.id = %Previous(self.event_id),
                key = %Previous(self.key),
                reason,
                "parked: it can't be applied, and later events of its key wait behind it; see \
                 `artstore parked list --projection {}`",
                self.projection
            ),
            None => tracing::info!(
                projection = self.projection,
                stream,
                stream.sequence = self.sequence,
                key = %Previous(self.key),
                "parked behind an earlier event of its key"
            ),
        }
    }
}

/// Which parked events.
#[derive(Debug, Clone, Default)]
pub struct Which<'a> {
    /// Of this projection.
    pub projection: Option<&'a str>,
    /// Of this stream.
    pub stream: Option<&'a str>,
    /// Of this key.
    pub key: Option<Uuid>,
    /// At this sequence.
    pub sequence: Option<u64>,
}

/// Parks events; one that is parked already stays as it is: a repair may have set the checkpoint
/// back.
pub async fn park(connection: &mut PgConnection, parked: &[Parked]) -> Result<(), sqlx::Error> {
    fn of<T>(parked: &[Parked], get: impl Fn(&Parked) -> T) -> Vec<T> {
        parked.iter().map(get).collect()
    }
    sqlx::query(
        "insert into projection_parked (projection, stream, stream_sequence, key, event_id, \
             subject, headers, body, published_at, reason) \
         select * from unnest($1::text[], $2::text[], $3::bigint[], $4::uuid[], $5::uuid[], \
             $6::text[], $7::jsonb[], $8::bytea[], $9::timestamptz[], $10::text[]) \
         on conflict (projection, stream, stream_sequence) do nothing",
    )
    .bind(of(parked, |p| p.projection.clone()))
    .bind(of(parked, |p| p.stream.clone()))
    .bind(of(parked, |p| signed(p.sequence)))
    .bind(of(parked, |p| p.key))
    .bind(of(parked, |p| p.event_id))
    .bind(of(parked, |p| p.message.subject.clone()))
    .bind(of(parked, |p| Json(headers(&p.message.headers))))
    .bind(of(parked, |p| p.message.body.to_vec()))
    .bind(of(parked, |p| p.published))
    .bind(of(parked, |p| p.reason.clone()))
    .execute(connection)
    .await?;
    Ok(())
}

/// Parked events, in the order of their streams; at most so many.
pub async fn list(
    connection: &mut PgConnection,
    which: &Which<'_>,
    most: i64,
) -> Result<Vec<Parked>, sqlx::Error> {
    let sql = format!(
        "select projection, stream, stream_sequence, key, event_id, subject, headers, body, \
             published_at, reason, attempts, parked_at \
         from projection_parked where {WHICH} order by projection, stream, stream_sequence \
         limit $5"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(which.projection)
        .bind(which.stream)
        .bind(which.key)
        .bind(which.sequence.map(signed))
        .bind(most)
        .fetch_all(connection)
        .await?;
    rows.iter().map(read).collect()
}

/// What is tried again at once: the parked events of a key, or one that has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The stream.
    pub stream: String,
    /// The key.
    pub key: Option<Uuid>,
    /// The sequence, where there is no key.
    pub alone: Option<u64>,
}

/// The groups of some parked events, without what they hold, in the order of their first ones.
pub async fn groups(
    connection: &mut PgConnection,
    which: &Which<'_>,
) -> Result<Vec<Group>, sqlx::Error> {
    let sql = format!(
        "select stream, key, case when key is null then stream_sequence end as alone \
         from projection_parked where {WHICH} \
         group by stream, key, alone order by stream, min(stream_sequence)"
    );
    let rows: Vec<(String, Option<Uuid>, Option<i64>)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(which.projection)
        .bind(which.stream)
        .bind(which.key)
        .bind(which.sequence.map(signed))
        .fetch_all(connection)
        .await?;
    let group = |(stream, key, alone): (String, Option<Uuid>, Option<i64>)| Group {
        stream,
        key,
        alone: alone.and_then(|alone| u64::try_from(alone).ok()),
    };
    Ok(rows.into_iter().map(group).collect())
}

const WHICH: &str = "($1::text is null or projection = $1) and ($2::text is null or stream = $2) \
     and ($3::uuid is null or key = $3) and ($4::bigint is null or stream_sequence = $4)";

/// Takes one out. False: it is not there any more.
pub async fn remove(connection: &mut PgConnection, parked: &Parked) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "delete from projection_parked \
         where projection = $1 and stream = $2 and stream_sequence = $3",
    )
    .bind(&parked.projection)
    .bind(&parked.stream)
    .bind(signed(parked.sequence))
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Notes that it was tried again, and why it still can't be applied.
pub async fn tried(
    connection: &mut PgConnection,
    parked: &Parked,
    reason: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update projection_parked set attempts = attempts + 1, reason = $4, tried_at = now() \
         where projection = $1 and stream = $2 and stream_sequence = $3",
    )
    .bind(&parked.projection)
    .bind(&parked.stream)
    .bind(signed(parked.sequence))
    .bind(reason)
    .execute(connection)
    .await?;
    Ok(())
}

/// Locks the checkpoint of a stream and gives it a new generation: a worker that remembers the earlier
/// parked events can't commit any more. False: there is none.
pub async fn renew(
    connection: &mut PgConnection,
    projection: &str,
    stream: &str,
) -> Result<bool, sqlx::Error> {
    // A row that a swap has exchanged while it was waited for is gone for the first statement, and there
    // for the second one.
    for _ in 0..2 {
        let done = sqlx::query(
            "update projection_checkpoints set generation = generation + 1, parks_in_row = 0 \
             where projection = $1 and stream = $2",
        )
        .bind(projection)
        .bind(stream)
        .execute(&mut *connection)
        .await?;
        if done.rows_affected() == 1 {
            return Ok(true);
        }
    }
    Ok(false)
}

fn read(row: &PgRow) -> Result<Parked, sqlx::Error> {
    let Json(stored): Json<Map<String, Value>> = row.try_get("headers")?;
    let body: Vec<u8> = row.try_get("body")?;
    Ok(Parked {
        projection: row.try_get("projection")?,
        stream: row.try_get("stream")?,
        sequence: u64::try_from(row.try_get::<i64, _>("stream_sequence")?).unwrap_or(0),
        key: row.try_get("key")?,
        event_id: row.try_get("event_id")?,
        message: RawMessage {
            subject: row.try_get("subject")?,
            headers: header_map(&stored)?,
            body: Bytes::from(body),
        },
        published: row.try_get("published_at")?,
        reason: row.try_get("reason")?,
        attempts: row.try_get("attempts")?,
        parked_at: row.try_get("parked_at")?,
    })
}

/// Each name with all its values.
fn headers(map: &HeaderMap) -> Map<String, Value> {
    let values = |values: &[HeaderValue]| {
        let values = values.iter().map(|value| Value::from(value.as_str()));
        Value::Array(values.collect())
    };
    map.iter()
        .map(|(name, all)| (name.to_string(), values(all)))
        .collect()
}

fn header_map(stored: &Map<String, Value>) -> Result<HeaderMap, sqlx::Error> {
    let bad = |name: &str| sqlx::Error::Decode(format!("header {name} of a parked event").into());
    let mut map = HeaderMap::new();
    for (name, values) in stored {
        let key: HeaderName = name.parse().map_err(|_| bad(name))?;
        for value in values.as_array().ok_or_else(|| bad(name))? {
            let value = value.as_str().ok_or_else(|| bad(name))?;
            let value: HeaderValue = value.parse().map_err(|_| bad(name))?;
            map.append(key.clone(), value);
        }
    }
    Ok(map)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
