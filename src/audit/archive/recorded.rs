//! What was archived, as the log itself says: the newest `audit_archived` row of the admin module's
//! log that a signed head proves. Each such event tells everything that was ever archived, so that
//! the ones before it may themselves be archived.

use std::collections::BTreeMap;

use artstore_projectors::audit_log::note::VerifierKey;
use artstore_projectors::audit_log::row::Row;
use artstore_projectors::audit_log::store::{COLUMNS, stored};
use artstore_schemas::source::Source;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::super::inclusion::{self, NoProof};
use super::super::rows::UNIT;
use super::Archived;

/// So many of the newest ones are tried: the last may be without a head yet.
const TRIED: i64 = 100;

/// What an event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The event.
    pub event: Option<Uuid>,
    /// When it happened.
    pub at: Option<DateTime<Utc>>,
    /// By stream: how far it is archived.
    pub archives: BTreeMap<String, Archived>,
}

#[derive(Deserialize)]
struct Facts {
    archived: Vec<Archived>,
}

/// Reads the newest one that is proven; nothing where there is none.
pub async fn read(
    connection: &mut PgConnection,
    trusted: &[VerifierKey],
) -> Result<Recorded, sqlx::Error> {
    let sql = format!(
        "select {COLUMNS} from public.audit_logs \
         where stream = $1 and event_type = 'audit_archived' \
         order by stream_sequence desc limit {TRIED}"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(Source::Admin.stream())
        .fetch_all(&mut *connection)
        .await?;
    for row in rows {
        let row = stored(&row)?.row;
        let proven = match inclusion::proof(connection, &row).await {
            Ok(proof) => proof.check(trusted).is_ok(),
            Err(NoProof::Database(error)) => return Err(error),
            Err(_) => false,
        };
        if let Some(archives) = archives(&row).filter(|_| proven) {
            return Ok(Recorded {
                event: row.event_id,
                at: row.time(),
                archives,
            });
        }
    }
    Ok(Recorded {
        event: None,
        at: None,
        archives: BTreeMap::new(),
    })
}

fn archives(row: &Row) -> Option<BTreeMap<String, Archived>> {
    let Facts { archived } = serde_json::from_str(row.data.as_deref()?).ok()?;
    let sound = archived.iter().all(|one| {
        one.last.is_multiple_of(UNIT) && one.first <= one.last && one.signature().is_some()
    });
    sound.then(|| {
        archived
            .into_iter()
            .map(|one| (one.stream.clone(), one))
            .collect()
    })
}
