//! Searching: every file that a question is about is found, in the order that was asked for, and
//! nothing else is.
//!
//! - `corpus`: a thousand files in two languages, and what a naive reader finds among them
//! - `known`: known answers, and every question against the naive reader
//! - `paging`: all pages together are the whole, also while files come and go
//! - `refused`: texts that mean something to SQL, and questions that can't be asked
//! - `plans`: a hundred thousand files: no question reads the whole table
//! - `visible`: read your writes; each search is an event

mod corpus;
mod known;
mod paging;
mod plans;
mod refused;
mod visible;

use artstore_migrations::Module;
use artstore_projectors::search::query::Search;
use artstore_projectors::search::{self, Found};
use sqlx::PgConnection;

use crate::support::*;

/// An empty query database, migrated.
async fn empty(hint: &str) -> (String, PgConnection) {
    let url = database(hint).await;
    migrate(&url, Module::Query).await;
    let mut connection = pg(&url).await;
    indexes_of_mend_12_and_13(&mut connection).await;
    (url, connection)
}

/// TEMPORARY: what the migrations of mends 12 and 13 make. To be removed when they are there.
async fn indexes_of_mend_12_and_13(connection: &mut PgConnection) {
    execute(
        connection,
        "create extension if not exists pg_trgm; \
         drop index if exists idx_file_metadata_mime_type, ix_file_metadata_cache_mime_type, \
             ix_file_metadata_cache_storage_element_id, ix_file_metadata_cache_username; \
         create index if not exists trigrams_of_filename on file_metadata_cache \
             using gin (filename gin_trgm_ops); \
         create index if not exists trigrams_of_description on file_metadata_cache \
             using gin (description gin_trgm_ops)",
    )
    .await;
}

async fn ask(connection: &mut PgConnection, question: &Search) -> Found {
    search::search(connection, question).await.unwrap()
}

fn names(found: &Found) -> Vec<&str> {
    found.hits.iter().map(|hit| hit.filename.as_str()).collect()
}

fn ids(found: &Found) -> Vec<String> {
    found.hits.iter().map(|hit| hit.id.clone()).collect()
}

/// Runs the program against a query database.
fn program(url: &str, arguments: &[&str]) -> Program {
    Program::new(arguments).env("QUERY_DATABASE_URL", url)
}
