//! How far a projection has come in a stream: the only position there is. It moves in the
//! transaction that writes the rows, by compare-and-set, so that of two workers only one commits.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgConnection, Row};
use uuid::Uuid;

/// How far a projection has come in a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The sequence of the last message applied; 0 at the start.
    pub last_sequence: u64,
    /// Its event; none at the start.
    pub last_event_id: Option<Uuid>,
    /// When the stream was created.
    pub stream_created_at: DateTime<Utc>,
    /// The version of the projector that built the tables.
    pub version: i32,
    /// The high-water mark of the applied messages: the highest position of the source in them.
    pub source_high: i64,
    /// The gaps below it.
    pub source_missing: String,
    /// Changes with everything that makes a worker's memory outdated: parked events, a pause, other
    /// tables.
    pub generation: i64,
    /// How many events one after another could not be applied.
    pub parks_in_row: i32,
}

/// Reads it; none where nothing was applied yet.
pub async fn load(
    connection: &mut PgConnection,
    projection: &str,
    stream: &str,
) -> Result<Option<Checkpoint>, sqlx::Error> {
    load_from(connection, "projection_checkpoints", projection, stream).await
}

/// Reads one of the tables in a schema, whatever the session's search path is.
pub(crate) async fn load_of(
    connection: &mut PgConnection,
    schema: &str,
    projection: &str,
    stream: &str,
) -> Result<Option<Checkpoint>, sqlx::Error> {
    let table = format!("{schema}.projection_checkpoints");
    load_from(connection, &table, projection, stream).await
}

async fn load_from(
    connection: &mut PgConnection,
    table: &str,
    projection: &str,
    stream: &str,
) -> Result<Option<Checkpoint>, sqlx::Error> {
    let row = sqlx::query(AssertSqlSafe(format!(
        "select version, stream_created_at, last_sequence, last_event_id, source_high, \
                source_missing, generation, parks_in_row \
         from {table} where projection = $1 and stream = $2"
    )))
    .bind(projection)
    .bind(stream)
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(Checkpoint {
            last_sequence: u64::try_from(row.try_get::<i64, _>("last_sequence")?).unwrap_or(0),
            last_event_id: row.try_get("last_event_id")?,
            stream_created_at: row.try_get("stream_created_at")?,
            version: row.try_get("version")?,
            source_high: row.try_get("source_high")?,
            source_missing: row.try_get("source_missing")?,
            generation: row.try_get("generation")?,
            parks_in_row: row.try_get("parks_in_row")?,
        })
    })
    .transpose()
}

/// What a compare-and-set has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a transaction that was fenced must not be committed"]
pub enum Advance {
    /// It was as expected, and is moved.
    Moved,
    /// Somebody else was faster: the transaction must not be committed.
    Fenced,
}

impl Advance {
    /// By how many rows were changed.
    pub(crate) fn of_rows(changed: u64) -> Self {
        match changed {
            1 => Self::Moved,
            _ => Self::Fenced,
        }
    }
}

/// Moves it from `old` (none: there was none) to `new`. Fenced: also where somebody has changed what was
/// parked, or paused the projection.
pub async fn advance(
    transaction: &mut PgConnection,
    projection: &str,
    stream: &str,
    old: Option<&Checkpoint>,
    new: &Checkpoint,
) -> Result<Advance, sqlx::Error> {
    let sql = match old {
        Some(_) => {
            "update projection_checkpoints \
             set last_sequence = $4, last_event_id = $5, source_high = $7, source_missing = $8, \
                 generation = $9, parks_in_row = $10, updated_at = now() \
             where projection = $1 and stream = $2 and version = $3 and stream_created_at = $6 \
               and last_sequence = $11 and generation = $12"
        }
        None => {
            "insert into projection_checkpoints \
                 (projection, stream, version, last_sequence, last_event_id, stream_created_at, \
                  source_high, source_missing, generation, parks_in_row) \
             select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10 \
             where $11::bigint is null and $12::bigint is null \
                 and not exists (select from projection_pauses where projection = $1) \
             on conflict (projection, stream) do nothing"
        }
    };
    let done = sqlx::query(sql)
        .bind(projection)
        .bind(stream)
        .bind(new.version)
        .bind(signed(new.last_sequence))
        .bind(new.last_event_id)
        .bind(new.stream_created_at)
        .bind(new.source_high)
        .bind(&new.source_missing)
        .bind(new.generation)
        .bind(new.parks_in_row)
        .bind(old.map(|old| signed(old.last_sequence)))
        .bind(old.map(|old| old.generation))
        .execute(transaction)
        .await?;
    Ok(Advance::of_rows(done.rows_affected()))
}

fn signed(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}
