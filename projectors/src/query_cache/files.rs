//! The rows of files: first the claims, which also lock each file against other elements' workers,
//! then the rows of those that were won or lost.

use std::collections::HashSet;

use artstore_schemas::element::ElementName;
use artstore_schemas::event::{Event, Omitted};
use artstore_schemas::json::Document;
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::ownership::{Claim, Folded, fold};
use super::tags;
use crate::projector::{Received, Rejection};

/// Applies a batch of one element's stream.
pub async fn apply(
    transaction: &mut PgConnection,
    element: &ElementName,
    batch: &[Received],
) -> Result<(), Rejection> {
    let mut files: Vec<(Uuid, Folded<'_>)> = fold(batch).into_iter().collect();
    // One order in all workers, so that two of them seldom wait for each other in a circle.
    files.sort_by_key(|(id, _)| *id);
    let won = claim(transaction, element, &files).await?;
    let lost = remove(transaction, element, &files, &won).await?;
    let (gone, present): (Vec<_>, Vec<_>) = files
        .iter()
        .filter(|(id, _)| won.contains(id))
        .filter_map(|(id, folded)| Some((*id, folded.claim.as_ref()?)))
        .partition(|(_, claim)| claim.gone);
    let present: Vec<&Claim<'_>> = present.into_iter().map(|(_, claim)| claim).collect();
    let gone: Vec<String> = gone
        .iter()
        .map(|(id, _)| *id)
        .chain(lost)
        .map(|id| id.to_string())
        .collect();
    upsert(transaction, element, &present).await?;
    if !gone.is_empty() {
        sqlx::query("delete from public.file_metadata_cache where id = any($1)")
            .bind(gone)
            .execute(transaction)
            .await?;
    }
    Ok(())
}

/// Makes the claims, and returns the files that this element owns now because of them.
async fn claim(
    transaction: &mut PgConnection,
    element: &ElementName,
    files: &[(Uuid, Folded<'_>)],
) -> Result<HashSet<Uuid>, sqlx::Error> {
    let claims: Vec<(Uuid, &Claim<'_>)> = files
        .iter()
        .filter_map(|(id, folded)| Some((*id, folded.claim.as_ref()?)))
        .collect();
    if claims.is_empty() {
        return Ok(HashSet::new());
    }
    let ids: Vec<Uuid> = claims.iter().map(|(id, _)| *id).collect();
    let created: Vec<DateTime<Utc>> = claims.iter().map(|(_, c)| c.created_at).collect();
    let gone: Vec<bool> = claims.iter().map(|(_, c)| c.gone).collect();
    let sequences: Vec<i64> = claims.iter().map(|(_, c)| sequence(c.event)).collect();
    let won: Vec<Uuid> = sqlx::query_scalar(
        "insert into public.file_ownership as owned \
             (file_id, created_at, element, deleted, stream_sequence) \
         select c.id, c.created_at, $5, c.gone, c.sequence \
         from unnest($1::uuid[], $2::timestamptz[], $3::boolean[], $4::bigint[]) \
              as c(id, created_at, gone, sequence) \
         on conflict (file_id) do update \
             set created_at = excluded.created_at, element = excluded.element, \
                 deleted = excluded.deleted, stream_sequence = excluded.stream_sequence \
             where (excluded.created_at, excluded.element) >= (owned.created_at, owned.element) \
         returning file_id",
    )
    .bind(ids)
    .bind(created)
    .bind(gone)
    .bind(sequences)
    .bind(element.as_str())
    .fetch_all(transaction)
    .await?;
    Ok(won.into_iter().collect())
}

/// Leaves tombstones for files that this element owned before the batch and that are gone, and
/// returns them.
async fn remove(
    transaction: &mut PgConnection,
    element: &ElementName,
    files: &[(Uuid, Folded<'_>)],
    won: &HashSet<Uuid>,
) -> Result<Vec<Uuid>, sqlx::Error> {
    let removed: Vec<Uuid> = files
        .iter()
        .filter(|(id, folded)| folded.removed && !won.contains(id))
        .map(|(id, _)| *id)
        .collect();
    if removed.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_scalar(
        "update public.file_ownership set deleted = true \
         where file_id = any($1) and element = $2 and not deleted returning file_id",
    )
    .bind(removed)
    .bind(element.as_str())
    .fetch_all(transaction)
    .await
}

/// Writes the rows of won claims, one statement for all of them.
pub async fn upsert(
    transaction: &mut PgConnection,
    element: &ElementName,
    claims: &[&Claim<'_>],
) -> Result<(), sqlx::Error> {
    if claims.is_empty() {
        return Ok(());
    }
    let stream = artstore_schemas::source::Source::Element(element.clone()).stream();
    let tags: Vec<tags::Tags> = claims
        .iter()
        .map(|c| tags::read(c.file.metadata.as_ref()))
        .collect();
    fn texts(claims: &[&Claim<'_>], get: fn(&Claim<'_>) -> Option<String>) -> Vec<Option<String>> {
        claims.iter().map(|claim| get(claim)).collect()
    }
    fn of<T>(claims: &[&Claim<'_>], get: fn(&Claim<'_>) -> T) -> Vec<T> {
        claims.iter().map(|claim| get(claim)).collect()
    }
    let tag_literals: Vec<Option<String>> = tags
        .iter()
        .map(|t| t.kept.as_deref().map(tags::array_literal))
        .collect();
    let dropped: Vec<i32> = tags.iter().map(|t| t.dropped).collect();
    sqlx::query(include_str!("../sql/files_upsert.sql"))
        .bind(of(claims, |c| c.file.id))
        .bind(of(claims, |c| c.file.original_filename.clone()))
        .bind(of(claims, |c| c.file.storage_filename.clone()))
        .bind(of(claims, |c| c.file.file_size))
        .bind(of(claims, |c| c.file.content_type.clone()))
        .bind(of(claims, |c| c.file.checksum.clone()))
        .bind(of(claims, |c| c.file.created_by_username.clone()))
        .bind(tag_literals)
        .bind(texts(claims, |c| c.file.description.clone()))
        .bind(texts(claims, api_url))
        .bind(of(claims, |c| c.file.created_at))
        .bind(of(claims, |c| c.file.updated_at))
        .bind(of(claims, |c| c.event.envelope.id))
        .bind(of(claims, |c| sequence(c.event)))
        .bind(of(claims, |c| c.event.envelope.position))
        .bind(texts(claims, |c| c.file.version.clone()))
        .bind(of(claims, |c| c.file.created_by_id.clone()))
        .bind(texts(claims, |c| c.file.created_by_fullname.clone()))
        .bind(texts(claims, metadata))
        .bind(element.as_str())
        .bind(stream)
        .bind(dropped)
        .bind(texts(claims, omitted))
        .execute(transaction)
        .await?;
    Ok(())
}

fn sequence(event: &Received) -> i64 {
    i64::try_from(event.sequence).unwrap_or(i64::MAX)
}

fn api_url(claim: &Claim<'_>) -> Option<String> {
    match &claim.event.event {
        Event::Wal(wal) => wal.element.api_url.clone(),
        Event::Outbox(_) => None,
    }
}

/// The metadata's JSON text, to the digit as the source's database has it.
fn metadata(claim: &Claim<'_>) -> Option<String> {
    match claim.file.metadata.as_ref()? {
        Document::Json(value) => Some(value.to_string()),
        Document::Text(text) => Some(text.clone()),
    }
}

fn omitted(claim: &Claim<'_>) -> Option<String> {
    let Event::Wal(wal) = &claim.event.event else {
        return None;
    };
    let of_file = |omitted: &&Omitted| omitted.field.starts_with("file.");
    let fields: Vec<&Omitted> = wal.omitted.iter().filter(of_file).collect();
    if fields.is_empty() {
        return None;
    }
    serde_json::to_string(&fields).ok()
}
