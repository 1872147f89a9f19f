//! A projection that a person has paused: its workers are standby until it is resumed. A pause waits for
//! the current batches, and changes the generation of every checkpoint. A worker reads the checkpoint that
//! it continues from, and then checks for a pause; where a stream has no checkpoint yet, the first one is
//! not written. So no worker commits that has not seen the pause.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgConnection, Row as _};

/// A pause.
#[derive(Debug, Clone, PartialEq)]
pub struct Pause {
    /// Why, in a person's words.
    pub reason: String,
    /// Who, as far as the machine knows.
    pub operator: Value,
    /// Since when.
    pub since: DateTime<Utc>,
}

impl std::fmt::Display for Pause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let who = self.operator["name"].as_str().unwrap_or("somebody");
        let since = self.since.format("%Y-%m-%d %H:%M:%S");
        write!(f, "paused by {who} since {since}: {}", self.reason)
    }
}

/// Whether the projection is paused.
pub async fn load(
    connection: &mut PgConnection,
    projection: &str,
) -> Result<Option<Pause>, sqlx::Error> {
    let row = sqlx::query(
        "select reason, operator, paused_at from projection_pauses where projection = $1",
    )
    .bind(projection)
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(Pause {
            reason: row.try_get("reason")?,
            operator: row.try_get("operator")?,
            since: row.try_get("paused_at")?,
        })
    })
    .transpose()
}

/// What a projection was before it was paused or resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// It was running.
    Running,
    /// It was paused.
    Paused,
}

/// Pauses it, in the caller's transaction. Once that is committed, nothing is applied any more. What was
/// paused already stays as it was paused.
pub async fn pause(
    transaction: &mut PgConnection,
    projection: &str,
    reason: &str,
    operator: &Value,
) -> Result<Before, sqlx::Error> {
    // A batch that has moved a checkpoint, or made the first one of its stream, ends first; one that is
    // about to waits, and sees the pause.
    sqlx::raw_sql("lock table projection_checkpoints in share row exclusive mode")
        .execute(&mut *transaction)
        .await?;
    let done = sqlx::query(
        "insert into projection_pauses (projection, reason, operator) values ($1, $2, $3) \
         on conflict (projection) do nothing",
    )
    .bind(projection)
    .bind(reason)
    .bind(operator)
    .execute(&mut *transaction)
    .await?;
    renew_all(transaction, projection).await?;
    Ok(match done.rows_affected() {
        1 => Before::Running,
        _ => Before::Paused,
    })
}

/// Resumes it.
pub async fn resume(
    transaction: &mut PgConnection,
    projection: &str,
) -> Result<Before, sqlx::Error> {
    let done = sqlx::query("delete from projection_pauses where projection = $1")
        .bind(projection)
        .execute(transaction)
        .await?;
    Ok(match done.rows_affected() {
        1 => Before::Paused,
        _ => Before::Running,
    })
}

/// Lets no batch be committed by a worker that read its checkpoint before.
async fn renew_all(transaction: &mut PgConnection, projection: &str) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update projection_checkpoints set generation = generation + 1 \
         where projection = $1",
    )
    .bind(projection)
    .execute(transaction)
    .await?;
    Ok(())
}
