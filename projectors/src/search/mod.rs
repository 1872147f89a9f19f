//! Searching the query cache: a question comes in, is checked, becomes one statement, and a page
//! of files goes out, under one snapshot. In the order in which data flows:
//!
//! - [`query`]: what is asked
//! - [`filters`]: the conditions that files must meet
//! - [`cursor`]: where the next page begins
//! - `check`, `text_check`: what is refused before the database sees it
//! - [`words`]: the words of its text, and the normal form in which letters are compared
//! - `sql`: the statements
//! - `ranked`: the hits of a page; by relevance, in two steps
//! - [`hit`]: a file that was found
//! - [`suggest`]: what to try where nothing was found
//! - [`search_error`]: why there is no answer
//!
//! Every value is bound. Nothing that a caller passes becomes part of a statement's text.

mod check;
pub mod cursor;
pub mod filters;
pub mod hit;
pub mod query;
mod ranked;
pub mod search_error;
mod sql;
pub mod suggest;
mod text_check;
pub mod words;

pub use self::sql::{COUNTED, RANKED};
use std::time::{Duration, Instant};

use sqlx::{Connection as _, PgConnection, Postgres, Transaction};

use cursor::Cursor;
use hit::Hit;
use query::{Mode, Search, Sort};
use search_error::SearchError;
use suggest::Suggestions;

/// The answer.
#[derive(Debug)]
pub struct SearchResult {
    /// The page, in the order that was asked for.
    pub hits: Vec<Hit>,
    /// How many hits there are on all pages, counted up to [`COUNTED`].
    pub total: i64,
    /// Whether `total` is all of them; else there are more.
    pub total_exact: bool,
    /// The token of the page behind this one; none on the last page.
    pub next: Option<String>,
    /// What else to try; only where nothing was found on the first page.
    pub suggestions: Option<Suggestions>,
    /// How long the search took.
    pub took: Duration,
}

/// Searches, on a connection that is in no transaction. Page and total are of one snapshot, taken
/// when this is called. It writes nothing:
/// recording the search is the caller's ([`Search::filters`] as JSON, [`SearchResult::total`],
/// [`SearchResult::took`]).
pub async fn search(
    connection: &mut PgConnection,
    search: &Search,
) -> Result<SearchResult, SearchError> {
    let started = Instant::now();
    let after = search.check()?;
    let mut snapshot = snapshot(connection).await?;
    if search.is_fulltext() && !has_words(&mut snapshot, search).await? {
        snapshot.commit().await?;
        return Ok(SearchResult {
            hits: Vec::new(),
            total: 0,
            total_exact: true,
            next: None,
            suggestions: Some(Suggestions::without_words()),
            took: started.elapsed(),
        });
    }
    let page = ranked::page(&mut snapshot, search, after.as_ref()).await?;
    let (mut hits, mut floor) = (page.hits, page.floor);
    // One more than the page was asked for.
    let limit = usize::try_from(search.page.limit).unwrap_or(usize::MAX);
    let more = hits.len() > limit;
    hits.truncate(limit);
    let (total, total_exact) = total(&mut snapshot, search, hits.len(), more).await?;
    if search.sort() == Sort::Relevance && after.is_none() && !total_exact && floor.is_none() {
        floor = ranked::floor(&mut snapshot, search).await?;
    }
    let first_page = search.page.offset == 0 && after.is_none();
    let suggestions = if hits.is_empty() && first_page {
        Some(suggest::suggest(&mut snapshot, search).await?)
    } else {
        None
    };
    snapshot.commit().await?;
    let next = match hits.last() {
        Some(last) if more => Some(Cursor::behind(search, last, floor).to_string()),
        _ => None,
    };
    Ok(SearchResult {
        hits,
        total,
        total_exact,
        next,
        suggestions,
        took: started.elapsed(),
    })
}

/// PostgreSQL's plan of the search: which index it uses. Nothing is run.
pub async fn explain(
    connection: &mut PgConnection,
    search: &Search,
) -> Result<Vec<String>, SearchError> {
    let after = search.check()?;
    let mut snapshot = snapshot(connection).await?;
    let mut lines = Vec::new();
    let page = sql::page("explain ", search, after.as_ref());
    let mut statements = vec![page, sql::count("explain ", search, COUNTED)];
    if search.sort() == Sort::Relevance {
        statements.push(sql::floor("explain ", search));
    }
    for mut statement in statements {
        let rows = statement
            .build_query_scalar::<String>()
            .persistent(false)
            .fetch_all(&mut *snapshot)
            .await?;
        lines.extend(rows);
    }
    snapshot.commit().await?;
    Ok(lines)
}

/// What a search reads in: one state of the tables.
async fn snapshot(connection: &mut PgConnection) -> Result<Transaction<'_, Postgres>, SearchError> {
    let mut snapshot = connection
        .begin_with("begin isolation level repeatable read read only")
        .await?;
    // Many people search at once: each has one process of the server. (With several for one
    // search, reading the whole table looks cheap.)
    sqlx::query("select set_config('max_parallel_workers_per_gather', '0', true)")
        .execute(&mut *snapshot)
        .await?;
    Ok(snapshot)
}

/// Whether the text has a word to look for. Refused where it only says what must not be there:
/// no index can answer that.
async fn has_words(connection: &mut PgConnection, search: &Search) -> Result<bool, SearchError> {
    let (nodes, indexed): (i32, String) = sql::words(search)
        .build_query_as()
        .persistent(false)
        .fetch_one(connection)
        .await?;
    if nodes > 0 && (indexed.is_empty() || indexed == "T") {
        return Err(SearchError::Invalid(format!(
            "the search {:?} only says what must not be there: give a word that must be",
            search.text
        )));
    }
    Ok(nodes > 0)
}

/// How many hits there are. The last page shows it by itself.
async fn total(
    connection: &mut PgConnection,
    search: &Search,
    shown: usize,
    more: bool,
) -> Result<(i64, bool), SearchError> {
    let known = search.page.after.is_none() && !more && (shown > 0 || search.page.offset == 0);
    if known {
        let shown = i64::try_from(shown).unwrap_or(i64::MAX);
        return Ok((i64::from(search.page.offset) + shown, true));
    }
    let counted: i64 = sql::count("", search, COUNTED)
        .build_query_scalar()
        .persistent(false)
        .fetch_one(connection)
        .await?;
    Ok((counted.min(COUNTED), counted <= COUNTED))
}

impl Search {
    fn is_fulltext(&self) -> bool {
        self.mode == Mode::Fulltext && self.has_text()
    }
}
