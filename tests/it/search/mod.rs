//! Searching: every file that a question is about is found, in the order that was asked for, and
//! nothing else is.
//!
//! - `corpus`: a thousand files in two languages, and what a naive reader finds among them
//! - `known`: known answers, and every question against the naive reader
//! - `names`: names and parts of names as people write them, composed and decomposed letters
//! - `paging`: all pages together are the whole, also while files come and go
//! - `refused`: texts that mean something to SQL, and questions that can't be asked
//! - `plans`: a hundred thousand files: no question reads the whole table
//! - `visible`: read your writes; each search is an event

mod corpus;
mod known;
mod names;
mod paging;
mod plans;
mod refused;
mod visible;

use artstore_migrations::Module;
use artstore_projectors::search::query::Search;
use artstore_projectors::search::{self, SearchResult};
use sqlx::PgConnection;

use crate::support::*;

/// An empty query database, migrated.
async fn empty(hint: &str) -> (String, PgConnection) {
    let url = migrated(hint, Module::Query).await;
    let connection = pg(&url).await;
    (url, connection)
}

async fn ask(connection: &mut PgConnection, question: &Search) -> SearchResult {
    search::search(connection, question).await.unwrap()
}

fn names(found: &SearchResult) -> Vec<&str> {
    found.hits.iter().map(|hit| hit.filename.as_str()).collect()
}

fn ids(found: &SearchResult) -> Vec<String> {
    found.hits.iter().map(|hit| hit.id.clone()).collect()
}

/// Runs the program against a query database.
fn program(url: &str, arguments: &[&str]) -> Program {
    Program::new(arguments).env("QUERY_DATABASE_URL", url)
}
