//! What was archived, as the log itself records it: the `audit_archived` rows of the admin module's log that
//! a signed head proves. Each such event lists everything that was ever archived, so that earlier
//! ones may themselves be archived.
//!
//! Whoever may write the outbox can have such an event recorded. So it counts only where it can be
//! true: it ends where a head was signed, continues the event before it, and lists no rows of its own log
//! after itself.

use std::collections::BTreeMap;

use artstore_projectors::audit_log::head::Head;
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

/// So many of the newest ones are read: the last may be without a head yet.
const READ: i64 = 100;

/// What the events state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recorded {
    /// The newest event that counts.
    pub event: Option<Uuid>,
    /// When it happened.
    pub at: Option<DateTime<Utc>>,
    /// By stream: how far it is archived.
    pub archives: BTreeMap<String, Archived>,
    /// Events that can't be true: nothing rests on them.
    pub unfit: Vec<Unfit>,
}

/// An event of the log that can't be true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// Its row.
    pub sequence: u64,
    /// The row's key in the table.
    pub id: i64,
    /// The event.
    pub event: Option<Uuid>,
    /// Why.
    pub reason: String,
}

#[derive(Deserialize)]
struct Facts {
    archived: Vec<Archived>,
}

/// Reads those that are proven, the oldest first.
pub async fn read(
    connection: &mut PgConnection,
    trusted: &[VerifierKey],
) -> Result<Recorded, sqlx::Error> {
    let sql = format!(
        "select {COLUMNS} from public.audit_logs \
         where stream = $1 and event_type = 'audit_archived' \
         order by stream_sequence desc limit {READ}"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(Source::Admin.stream())
        .fetch_all(&mut *connection)
        .await?;
    let mut recorded = Recorded::default();
    for row in rows.iter().rev() {
        let stored = stored(row)?;
        let row = stored.row;
        let proven = match inclusion::proof(connection, &row).await {
            Ok(proof) => proof.check(trusted).is_ok(),
            Err(NoProof::Database(error)) => return Err(error),
            Err(NoProof::NoHead | NoProof::NoHashes | NoProof::NotSigned) => false,
        };
        if !proven {
            continue;
        }
        match accepted(connection, trusted, &row, &recorded.archives).await? {
            Ok(archives) => {
                recorded.event = row.event_id;
                recorded.at = row.time();
                recorded.archives = archives;
            }
            Err(reason) => recorded.unfit.push(Unfit {
                sequence: row.sequence,
                id: stored.id,
                event: row.event_id,
                reason,
            }),
        }
    }
    Ok(recorded)
}

/// What an event states, where that can be true after what was recorded before; else why not.
async fn accepted(
    connection: &mut PgConnection,
    trusted: &[VerifierKey],
    row: &Row,
    before: &BTreeMap<String, Archived>,
) -> Result<Result<BTreeMap<String, Archived>, String>, sqlx::Error> {
    let facts = row.data.as_deref().map(serde_json::from_str::<Facts>);
    let Some(Ok(Facts { archived })) = facts else {
        return Ok(Err(
            "an event audit_archived that names no archives".to_owned()
        ));
    };
    let mut archives = BTreeMap::new();
    for one in archived {
        if let Err(reason) = sound(row, &one, before.get(&one.stream)) {
            return Ok(Err(reason));
        }
        // The content of the event before is known.
        let known = before.get(&one.stream) == Some(&one);
        if !known && !is_signed(connection, trusted, &one).await? {
            return Ok(Err(format!(
                "it says that rows up to {} of {} were archived, and no head was signed there",
                one.last, one.stream
            )));
        }
        if let Some(twice) = archives.insert(one.stream.clone(), one) {
            return Ok(Err(format!("it names {} twice", twice.stream)));
        }
    }
    Ok(
        match before.keys().find(|stream| !archives.contains_key(*stream)) {
            Some(stream) => Err(format!("it no longer names the archive of {stream}")),
            None => Ok(archives),
        },
    )
}

/// Whether an archive has a range that can be: whole tiles behind those before it.
fn sound(row: &Row, one: &Archived, before: Option<&Archived>) -> Result<(), String> {
    let Archived {
        stream,
        first,
        last,
        ..
    } = one;
    let whole = *first >= 1
        && first <= last
        && (first - 1).is_multiple_of(UNIT)
        && last.is_multiple_of(UNIT);
    if !whole || one.signature().is_none() {
        return Err(format!(
            "it says that rows {first} to {last} of {stream} were archived, which is no range of an \
             archive"
        ));
    }
    if *stream == row.stream && *last >= row.sequence {
        return Err(format!(
            "it says that rows up to {last} of its own log were archived, and is row {} itself",
            row.sequence
        ));
    }
    match before {
        Some(before) if before != one && *first <= before.last => Err(format!(
            "it says that rows {first} to {last} of {stream} were archived, but those up to {} were \
             archived before",
            before.last
        )),
        Some(_) | None => Ok(()),
    }
}

/// Whether a head was signed of exactly the rows up to an archive's end.
async fn is_signed(
    connection: &mut PgConnection,
    trusted: &[VerifierKey],
    archived: &Archived,
) -> Result<bool, sqlx::Error> {
    let Ok(size) = i64::try_from(archived.last) else {
        return Ok(false);
    };
    let note: Option<String> =
        sqlx::query_scalar("select note from public.audit_heads where stream = $1 and size = $2")
            .bind(&archived.stream)
            .bind(size)
            .fetch_optional(connection)
            .await?;
    let head = note.and_then(|note| Some(Head::open(&note, trusted).ok()?.0));
    Ok(head.is_some_and(|head| {
        let of_stream = head.origin.rsplit_once('/').map(|(_, stream)| stream);
        head.size == archived.last && of_stream == Some(archived.stream.as_str())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(sequence: u64) -> Row {
        Row {
            event_type: "audit_archived".to_owned(),
            action: "archived".to_owned(),
            ..Row::bare(1, Source::Admin.stream(), sequence)
        }
    }

    fn archive(stream: &str, first: u64, last: u64) -> Archived {
        Archived {
            stream: stream.to_owned(),
            first,
            last,
            digest: "00".repeat(32),
            last_signature: "00".repeat(32),
        }
    }

    #[test]
    fn an_archive_is_whole_tiles_behind_those_before_it_and_before_its_event() {
        let fits =
            |one: &Archived, before: Option<&Archived>| sound(&event(600), one, before).is_ok();
        let query = |first, last| archive("ARTSTORE_QUERY", first, last);
        let before = query(1, 512);
        assert!(fits(&before, None) && fits(&before, Some(&before)));
        assert!(fits(&query(513, 768), Some(&before)));
        for (first, last) in [
            (1, 500),
            (0, 256),
            (2, 256),
            (513, 256),
            (u64::MAX, u64::MAX),
        ] {
            assert!(!fits(&query(first, last), None), "{first} {last}");
        }
        for (first, last) in [(1, 256), (257, 512), (1, 768), (257, 768)] {
            assert!(!fits(&query(first, last), Some(&before)), "{first} {last}");
        }
        assert!(fits(&archive("ARTSTORE_ADMIN", 1, 512), None));
        assert!(!fits(&archive("ARTSTORE_ADMIN", 1, 768), None));
        let mut forged = query(1, 512);
        forged.last_signature = "none".to_owned();
        assert!(!fits(&forged, None));
    }
}
