//! What of a stream is not applied: the keys with parked events, and discarded events.

use std::collections::HashSet;
use std::sync::Arc;

use sqlx::PgConnection;
use uuid::Uuid;

use super::discarded::{self, Discarded};

/// So many events one after another that can't be applied are a bug, not data.
pub(crate) const MOST_IN_ROW: i32 = 20;

/// What a worker knows of parked events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fences {
    /// What is not applied.
    pub keys: Keys,
    /// How many events one after another could not be applied.
    pub in_row: i32,
}

/// What of a stream is not applied, as it was when the checkpoint was read: whatever changes it gives
/// the checkpoint another generation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// Keys with parked events: later ones wait behind them.
    pub parked: HashSet<Uuid>,
    /// Events that were discarded. A worker meets them where its checkpoint went back, a rebuild on its
    /// way.
    pub discarded: Arc<Discarded>,
}

impl Keys {
    /// Whether everything is applied.
    pub fn is_empty(&self) -> bool {
        self.parked.is_empty() && self.discarded.is_empty()
    }
}

/// The keys of a stream that are fenced, and the events that were discarded.
pub async fn load(
    connection: &mut PgConnection,
    projection: &str,
    stream: &str,
) -> Result<Keys, sqlx::Error> {
    let keys: Vec<Uuid> = sqlx::query_scalar(
        "select distinct key from projection_parked \
         where projection = $1 and stream = $2 and key is not null",
    )
    .bind(projection)
    .bind(stream)
    .fetch_all(&mut *connection)
    .await?;
    let discarded = discarded::load(connection, projection, stream).await?;
    Ok(Keys {
        parked: keys.into_iter().collect(),
        discarded: Arc::new(discarded),
    })
}
