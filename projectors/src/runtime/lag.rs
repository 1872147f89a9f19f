//! How far a projection is behind its streams, measured from outside its workers: from the
//! checkpoints in the database and the ends of the streams. So a worker that is stuck, halted, or
//! in another process is measured like any other.

use std::collections::HashMap;

use artstore_bus::bus_error::BusError;
use artstore_bus::connection::Bus;
use artstore_schemas::source::Source;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row as _};

use crate::projector_error::WorkerError;

/// What the read model's database reports, at one moment.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    /// Whether it takes writes: it is neither a standby nor read-only.
    pub writable: bool,
    last_sequences: HashMap<String, u64>,
}

/// How far a projection is behind one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// The sequence of the last message applied; 0 at the start.
    pub checkpoint: u64,
    /// The stream's last sequence, read after the checkpoint: the lag is never understated.
    pub last: u64,
    /// When the oldest message that is not applied was stored; none where all are.
    pub oldest: Option<DateTime<Utc>>,
}

impl Lag {
    /// How many messages are not applied.
    pub fn events(&self) -> u64 {
        self.last.saturating_sub(self.checkpoint)
    }
}

/// Reads all checkpoints of a projection.
pub async fn checkpoints(
    connection: &mut PgConnection,
    projection: &str,
) -> Result<Checkpoints, WorkerError> {
    let writable = sqlx::query_scalar(
        "select not pg_is_in_recovery() and current_setting('transaction_read_only') = 'off'",
    )
    .fetch_one(&mut *connection)
    .await?;
    let rows = sqlx::query(
        "select stream, last_sequence from public.projection_checkpoints where projection = $1",
    )
    .bind(projection)
    .fetch_all(connection)
    .await?;
    let mut last_sequences = HashMap::with_capacity(rows.len());
    for row in rows {
        let last: i64 = row.try_get("last_sequence")?;
        last_sequences.insert(row.try_get("stream")?, u64::try_from(last).unwrap_or(0));
    }
    Ok(Checkpoints {
        writable,
        last_sequences,
    })
}

/// Compares a checkpoint with the end of its stream. `before`: the last measurement, which spares
/// reading the same message again.
pub async fn measure(
    bus: &Bus,
    source: &Source,
    checkpoints: &Checkpoints,
    before: Option<Lag>,
) -> Result<Lag, WorkerError> {
    let stream = source.stream();
    let failed =
        |error: &dyn std::fmt::Display| BusError::JetStream(format!("stream {stream}: {error}"));
    let last_sequences = &checkpoints.last_sequences;
    let checkpoint = last_sequences.get(&stream).copied().unwrap_or(0);
    let last = bus.stream_info(&stream).await?.state.last_sequence;
    if last < checkpoint {
        let reason = format!("it ends at {last}, the checkpoint is at {checkpoint}");
        return Err(failed(&reason).into());
    }
    let known = before
        .filter(|before| before.checkpoint == checkpoint)
        .and_then(|before| before.oldest);
    let oldest = match known {
        _ if last == checkpoint => None,
        Some(known) => Some(known),
        None => {
            let message = bus.message_at(&stream, checkpoint + 1).await?;
            Some(
                message
                    .ok_or_else(|| failed(&"no message found"))?
                    .published,
            )
        }
    };
    Ok(Lag {
        checkpoint,
        last,
        oldest,
    })
}
