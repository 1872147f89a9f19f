//! The secrets that a log's rows were signed with. A renewed secret signs from one row on, so the rows of
//! one secret are contiguous, and a binary search finds their end: it reads some twenty rows
//! for each secret, however long the log is.

use sqlx::PgConnection;

use super::chain::Keyring;
use super::store::signed;

/// More secrets than any log had: a table that somebody filled with others must not keep a session.
const MOST: usize = 64;

/// The ids of secrets that rows were signed with and that are not in the ring, in the order of the rows.
pub(super) async fn unknown(
    connection: &mut PgConnection,
    stream: &str,
    ring: &Keyring,
) -> Result<Vec<String>, sqlx::Error> {
    let mut unknown = Vec::new();
    let Some(last) = last(connection, stream).await? else {
        return Ok(unknown);
    };
    let mut first = 1;
    for _ in 0..MOST {
        let Some((begin, kid)) = at(connection, stream, first).await? else {
            break;
        };
        if ring.get(&kid).is_none() {
            unknown.push(kid.clone());
        }
        // The last row known to be of this secret, and the first known not to be.
        let (mut inside, mut outside) = (begin, last + 1);
        while inside + 1 < outside {
            let middle = inside + (outside - inside) / 2;
            match at(connection, stream, middle).await? {
                Some((found, other)) if other == kid && found < outside => inside = found,
                Some(_) | None => outside = middle,
            }
        }
        first = outside;
    }
    unknown.sort();
    unknown.dedup();
    Ok(unknown)
}

/// The first row that is there from this sequence on: its sequence and its secret's id.
async fn at(
    connection: &mut PgConnection,
    stream: &str,
    sequence: u64,
) -> Result<Option<(u64, String)>, sqlx::Error> {
    let row: Option<(i64, String)> = sqlx::query_as(
        "select stream_sequence, coalesce(kid, '') from public.audit_logs \
         where stream = $1 and stream_sequence >= $2 order by stream_sequence limit 1",
    )
    .bind(stream)
    .bind(signed(sequence))
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|(sequence, kid)| (u64::try_from(sequence).unwrap_or(0), kid)))
}

async fn last(connection: &mut PgConnection, stream: &str) -> Result<Option<u64>, sqlx::Error> {
    let last: Option<i64> =
        sqlx::query_scalar("select max(stream_sequence) from public.audit_logs where stream = $1")
            .bind(stream)
            .fetch_one(connection)
            .await?;
    Ok(last.and_then(|last| u64::try_from(last).ok()))
}
