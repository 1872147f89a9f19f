//! The product's own rows: those below the boundary against the digest that every head covers; how
//! many were written since is told.

use artstore_projectors::audit_log::{legacy, store};
use serde::Serialize;
use sqlx::PgConnection;

use super::LegacySeen;
use super::finding::{Finding, Kind, Layer};

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

/// Reads them all and compares.
pub async fn check(
    connection: &mut PgConnection,
    seen: &LegacySeen,
) -> Result<LegacyReport, sqlx::Error> {
    let mut findings = Vec::new();
    let mut add = |layer, text: String| findings.push(changed(layer, text));
    let drawn = store::boundary(connection).await?;
    // What was signed counts more than what the table says.
    let signed = seen.0.first().copied();
    let (rows, last_id, digest) = match (signed, drawn) {
        (Some(signed), _) => signed,
        (None, Some(drawn)) => (drawn.rows, drawn.last_id, drawn.digest),
        (None, None) => return Ok(LegacyReport::default()),
    };
    if seen.0.len() > 1 {
        add(
            Layer::Heads,
            format!("heads name {} different boundaries", seen.0.len()),
        );
    }
    if drawn.map(|drawn| (drawn.rows, drawn.last_id, drawn.digest)) != Some((rows, last_id, digest))
    {
        add(
            Layer::Heads,
            "the table audit_boundary does not say what heads say".to_owned(),
        );
    }
    let strays = strays(connection).await?;
    if let Some(example) = &strays {
        findings.push(Finding {
            stream: None,
            sequence: None,
            id: None,
            kind: Kind::RowExtra,
            layers: [Layer::Form].into(),
            text: example.clone(),
        });
    }
    let mut add = |layer, text: String| findings.push(changed(layer, text));
    let now = legacy::below(connection, last_id).await?;
    if (now.rows, now.digest) != (rows, digest) {
        add(
            Layer::Heads,
            format!(
                "the product's rows up to id {last_id} are not those of before: {rows} then, {} now",
                now.rows
            ),
        );
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

fn changed(layer: Layer, text: String) -> Finding {
    Finding {
        stream: None,
        sequence: None,
        id: None,
        kind: Kind::LegacyChanged,
        layers: [layer].into(),
        text,
    }
}

/// Rows that are neither the product's nor of a stream that has a log.
async fn strays(connection: &mut PgConnection) -> Result<Option<String>, sqlx::Error> {
    let (rows, example): (i64, Option<i64>) = sqlx::query_as(
        "select count(*), min(id) from public.audit_logs as log \
         where (format = 0) <> (stream is null) or format is null \
             or (stream is not null \
                 and not exists (select from public.audit_trees as tree where tree.stream = log.stream))",
    )
    .fetch_one(connection)
    .await?;
    Ok(example.map(|id| format!("{rows} rows are of no log: id {id} and so on")))
}
