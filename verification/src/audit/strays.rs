//! What belongs to no source: rows that are neither the product's nor of a stream with a log, and
//! whole logs under a name that no stream of a source has. No other check would read them.

use artstore_runtime::count::{by, counted};
use std::collections::BTreeMap;

use artstore_schemas::source::Source;
use sqlx::{Connection as _, PgConnection};

use super::finding::{Finding, Kind, Layer};

/// How many unknown names are listed.
const MOST: i64 = 1_000;

/// Looks for them, at one moment.
pub async fn check(connection: &mut PgConnection) -> Result<Vec<Finding>, sqlx::Error> {
    let mut moment = connection.begin().await?;
    sqlx::raw_sql("set transaction isolation level repeatable read, read only")
        .execute(&mut *moment)
        .await?;
    let mut findings = rows(&mut moment).await?;
    findings.extend(logs(&mut moment).await?);
    moment.rollback().await?;
    Ok(findings)
}

/// Rows, by their stream: one finding for each, with the lowest id.
async fn rows(connection: &mut PgConnection) -> Result<Vec<Finding>, sqlx::Error> {
    let mut streams: Vec<String> = sqlx::query_scalar("select stream from public.audit_trees")
        .fetch_all(&mut *connection)
        .await?;
    streams.retain(|stream| is_of_a_source(stream));
    let found: Vec<(Option<String>, i64, i64)> = sqlx::query_as(
        "select stream, count(*), min(id) from public.audit_logs \
         where (format = 0) <> (stream is null) or format is null \
             or (stream is not null and stream <> all($1)) \
         group by stream order by stream limit $2",
    )
    .bind(streams)
    .bind(MOST)
    .fetch_all(connection)
    .await?;
    Ok(found
        .into_iter()
        .map(|(stream, rows, id)| {
            let are = by(rows, "is", "are");
            let rows = counted(rows, "row");
            let text = match &stream {
                Some(stream) if !is_of_a_source(stream) => format!(
                    "{rows} {are} of {stream:?}, which is no stream of a source: id {id} and so on"
                ),
                Some(stream) => format!("{rows} of {stream} {are} of no log: id {id} and so on"),
                None => {
                    format!("{rows} {are} of no stream and not the product's: id {id} and so on")
                }
            };
            Finding {
                stream: None,
                sequence: None,
                id: Some(id),
                kind: Kind::RowExtra,
                layers: [Layer::Form].into(),
                text,
            }
        })
        .collect())
}

/// Names of logs that no source has, and the tables that have them.
async fn logs(connection: &mut PgConnection) -> Result<Vec<Finding>, sqlx::Error> {
    let found: Vec<(String, String)> = sqlx::query_as(
        "select stream, 'audit_trees' from public.audit_trees \
         union select stream, 'audit_heads' from public.audit_heads \
         union select stream, 'audit_tiles' from public.audit_tiles order by 1, 2",
    )
    .fetch_all(connection)
    .await?;
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (stream, table) in found {
        if !is_of_a_source(&stream) {
            names.entry(stream).or_default().push(table);
        }
    }
    let most = usize::try_from(MOST).unwrap_or(usize::MAX);
    Ok(names
        .into_iter()
        .take(most)
        .map(|(stream, tables)| {
            let text = format!(
                "a log of {stream:?}, which is no stream of a source, is in {}",
                tables.join(", ")
            );
            Finding {
                stream: None,
                sequence: None,
                id: None,
                kind: Kind::LogChanged,
                layers: [Layer::Form].into(),
                text,
            }
        })
        .collect())
}

fn is_of_a_source(stream: &str) -> bool {
    Source::of_stream(stream).is_some_and(|source| source.stream() == stream)
}
