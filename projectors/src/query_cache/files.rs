//! The rows of files: first the claims, which also lock each file against other elements' workers,
//! then the rows of those that were won or lost.

use std::collections::HashSet;

use artstore_schemas::element::ElementName;
use artstore_schemas::event::{Event, Omitted};
use artstore_schemas::json::Document;
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
    // One order in all workers, and one statement, so that no two wait for each other in a circle.
    files.sort_by_key(|(id, _)| *id);
    let Owned { won, lost } = own(transaction, element, &files).await?;
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
        sqlx::query("delete from file_metadata_cache where id = any($1)")
            .bind(gone)
            .execute(transaction)
            .await?;
    }
    Ok(())
}

/// What a batch changed in who owns its files.
#[derive(Default)]
struct Owned {
    /// Files whose claim of this batch was high enough: this element's now.
    won: HashSet<Uuid>,
    /// Files that were this element's before and are gone: tombstones now.
    lost: Vec<Uuid>,
}

/// Makes the claims, and leaves tombstones for files that this element owned before the batch and
/// that are gone. It locks each file's claim, in the order of the files.
async fn own(
    transaction: &mut PgConnection,
    element: &ElementName,
    files: &[(Uuid, Folded<'_>)],
) -> Result<Owned, sqlx::Error> {
    let touched: Vec<&(Uuid, Folded<'_>)> = files
        .iter()
        .filter(|(_, folded)| folded.claim.is_some() || folded.removed)
        .collect();
    if touched.is_empty() {
        return Ok(Owned::default());
    }
    fn of<T>(touched: &[&(Uuid, Folded<'_>)], get: impl Fn(&Claim<'_>) -> T) -> Vec<Option<T>> {
        let claims = touched.iter().map(|(_, folded)| folded.claim.as_ref());
        claims.map(|claim| claim.map(&get)).collect()
    }
    let ids: Vec<Uuid> = touched.iter().map(|(id, _)| *id).collect();
    let removed: Vec<Uuid> = touched
        .iter()
        .filter(|(_, folded)| folded.removed)
        .map(|(id, _)| *id)
        .collect();
    let rows: Vec<(Uuid, bool)> = sqlx::query_as(include_str!("sql/ownership_upsert.sql"))
        .bind(ids)
        .bind(of(&touched, |claim| claim.created_at))
        .bind(of(&touched, |claim| claim.gone))
        .bind(of(&touched, |claim| sequence(claim.event)))
        .bind(element.as_str())
        .bind(removed)
        .fetch_all(transaction)
        .await?;
    let (won, lost): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(_, won)| *won);
    Ok(Owned {
        won: won.into_iter().map(|(id, _)| id).collect(),
        lost: lost.into_iter().map(|(id, _)| id).collect(),
    })
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
    sqlx::query(include_str!("sql/files_upsert.sql"))
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
