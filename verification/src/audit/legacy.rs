//! The product's own rows: those below the boundary are compared with the digest that every head covers;
//! those written since are counted and reported.

use artstore_projectors::audit_log::legacy;
use serde::Serialize;
use sqlx::PgConnection;

use super::LegacySeen;
use super::finding::{Finding, Kind, Layer};
use super::strays;

/// What is known of them.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LegacyReport {
    /// Rows below the boundary.
    pub rows: u64,
    /// Rows of the product above it: nothing covers them.
    pub uncovered: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Reads them all and compares; what belongs to no source at all is listed as well.
pub async fn check(
    connection: &mut PgConnection,
    seen: &LegacySeen,
) -> Result<LegacyReport, sqlx::Error> {
    let mut findings = strays::check(connection).await?;
    let drawn = drawn(connection).await?;
    // What was signed counts more than what the table states.
    let signed = seen.0.first().copied();
    let signed = signed.map(|(rows, last_id, digest)| (rows, last_id, digest.to_vec()));
    let Some((rows, last_id, digest)) = signed.or_else(|| drawn.clone()) else {
        return Ok(LegacyReport {
            findings,
            ..LegacyReport::default()
        });
    };
    let mut add = |id, layer, text: String| findings.push(changed(id, layer, text));
    if seen.0.len() > 1 {
        let text = format!("heads name {} different boundaries", seen.0.len());
        add(None, Layer::Heads, text);
    }
    let said = drawn
        .as_ref()
        .map(|(rows, last_id, digest)| (rows, last_id, digest));
    if said != Some((&rows, &last_id, &digest)) {
        let text = "the table audit_boundary does not say what heads say".to_owned();
        add(None, Layer::Heads, text);
    }
    let now = legacy::below(connection, last_id).await?;
    if now.rows != rows || now.digest.as_slice() != digest {
        let text = format!(
            "the product's rows up to id {last_id} are not those of before: {rows} then, {} now",
            now.rows
        );
        add(None, Layer::Heads, text);
    }
    if let (more, Some(id)) = filled(connection, last_id).await? {
        let text = format!(
            "{more} of the product's rows have values in columns that the product does not fill \
             (stream, event_id, actor_id, actor_name, actor_role and others): id {id} and so on"
        );
        add(Some(id), Layer::Form, text);
    }
    let uncovered: i64 =
        sqlx::query_scalar("select count(*) from public.audit_logs where format = 0 and id > $1")
            .bind(last_id)
            .fetch_one(connection)
            .await?;
    Ok(LegacyReport {
        rows: now.rows,
        uncovered: u64::try_from(uncovered).unwrap_or(0),
        findings,
    })
}

fn changed(id: Option<i64>, layer: Layer, text: String) -> Finding {
    Finding {
        stream: None,
        sequence: None,
        id,
        kind: Kind::LegacyChanged,
        layers: [layer].into(),
        text,
    }
}

/// The boundary as the table has it: rows, last id and digest, whatever was written there.
async fn drawn(connection: &mut PgConnection) -> Result<Option<(u64, i64, Vec<u8>)>, sqlx::Error> {
    let drawn: Option<(i64, i64, Vec<u8>)> = sqlx::query_as(
        "select coalesce(rows, 0), coalesce(last_id, 0), coalesce(digest, '') \
         from public.audit_boundary limit 1",
    )
    .fetch_optional(connection)
    .await?;
    Ok(drawn.map(|(rows, last_id, digest)| (u64::try_from(rows).unwrap_or(0), last_id, digest)))
}

/// Rows of the product below the boundary with a column that came with the log: the product knows
/// none of these, and the digest does not cover them.
async fn filled(
    connection: &mut PgConnection,
    last_id: i64,
) -> Result<(u64, Option<i64>), sqlx::Error> {
    let (rows, first): (i64, Option<i64>) = sqlx::query_as(
        "select count(*), min(id) from public.audit_logs \
         where format = 0 and id <= $1 \
             and num_nonnulls(stream, stream_sequence, event_id, mapping, kid, actor_id, actor_name, \
                 actor_role) > 0",
    )
    .bind(last_id)
    .fetch_one(connection)
    .await?;
    Ok((u64::try_from(rows).unwrap_or(0), first))
}
