//! The hits of a page. By relevance only the newest [`RANKED`] hits are ranked, and older ones
//! follow by time: ranking all hits of a word that is in every file would read every file.
//! The *floor* is the oldest hit that is ranked. A token carries it, so that the border stays where
//! the first page found it.

use sqlx::PgConnection;

use super::cursor::{Cursor, Floor};
use super::hit::Hit;
use super::query::{Search, Sort};
use super::search_error::SearchError;
use super::sql::{self, RANKED};

/// What was read.
pub(super) struct Page {
    /// Up to one hit more than the page has.
    pub(super) hits: Vec<Hit>,
    /// The oldest hit that is ranked, where it is known.
    pub(super) floor: Option<Floor>,
}

/// Reads a page.
pub(super) async fn page(
    connection: &mut PgConnection,
    search: &Search,
    after: Option<&Cursor>,
) -> Result<Page, SearchError> {
    let mut hits = read(connection, sql::page("", search, after)).await?;
    let mut floor = after.and_then(Cursor::floor);
    let wanted = i64::from(search.page.limit) + 1;
    let found = i64::try_from(hits.len()).unwrap_or(i64::MAX);
    if search.sort() != Sort::Relevance || found == wanted {
        return Ok(Page { hits, floor });
    }
    let offset = i64::from(search.page.offset);
    // By offset: there are older ones only if so many were skipped or found.
    if after.is_none() && offset + found >= RANKED {
        floor = self::floor(connection, search).await?;
    }
    if let Some(floor) = &floor {
        let skipped = (offset - RANKED).max(0);
        let older = sql::older(search, floor, wanted - found, skipped);
        hits.extend(read(connection, older).await?);
    }
    Ok(Page { hits, floor })
}

/// The oldest of the newest [`RANKED`] hits; none where there are fewer.
pub(super) async fn floor(
    connection: &mut PgConnection,
    search: &Search,
) -> Result<Option<Floor>, SearchError> {
    let floor = sql::floor("", search)
        .build_query_as()
        .persistent(false)
        .fetch_optional(connection)
        .await?;
    Ok(floor.map(|(created_at, id)| Floor { created_at, id }))
}

async fn read(
    connection: &mut PgConnection,
    mut statement: sqlx::QueryBuilder<sqlx::Postgres>,
) -> Result<Vec<Hit>, SearchError> {
    let rows = statement
        .build()
        // Not kept on the connection: the values decide which index is best, and a statement that
        // is used again may be planned without them.
        .persistent(false)
        .fetch_all(connection)
        .await?;
    Ok(rows.iter().map(Hit::read).collect::<Result<_, _>>()?)
}
