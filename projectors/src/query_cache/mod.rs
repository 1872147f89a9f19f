//! The query cache, which people search: `file_metadata_cache` from the streams of all elements,
//! `search_history` and `download_statistics` from the stream of the query module.
//!
//! - [`ownership`]: which of several elements a file is shown from
//! - [`tags`]: a file's tags from its metadata
//! - [`files`]: the rows of files
//! - [`history`]: the rows of searches and downloads

pub mod files;
pub mod history;
pub mod ownership;
pub mod tags;

use artstore_schemas::source::Source;
use sqlx::PgConnection;

use crate::projection_names::QUERY_CACHE;
use crate::projector::{Projector, Received, Rejection, Table};

/// Builds the query cache.
#[derive(Debug, Clone, Copy, Default)]
pub struct QueryCache;

impl Projector for QueryCache {
    const NAME: &'static str = QUERY_CACHE;
    const VERSION: u32 = 1;
    const TABLES: &'static [&'static str] = &[
        "file_metadata_cache",
        "file_ownership",
        "search_history",
        "download_statistics",
    ];
    const REBUILT: &'static [Table] = &[
        Table {
            name: "file_ownership",
            key: "file_id",
            left_out: &[],
            shared: None,
            about: "file_id",
        },
        Table {
            name: "file_metadata_cache",
            key: "id",
            left_out: &["cache_updated_at"],
            shared: Some("id"),
            about: "id",
        },
        Table {
            name: "search_history",
            key: "event_id",
            left_out: &["id"],
            shared: Some("id"),
            about: "event_id",
        },
        Table {
            name: "download_statistics",
            key: "event_id",
            left_out: &["id"],
            shared: Some("id"),
            about: "file_id",
        },
    ];
    const MODULE: &'static str = "query";
    const VARIABLE: &'static str = "QUERY_DATABASE_URL";
    const DURABLE: bool = false;

    type Message = Received;

    fn reads(&self, source: &Source) -> bool {
        match source {
            Source::Element(_) | Source::Query => true,
            Source::Admin => false,
        }
    }

    async fn apply(
        &self,
        transaction: &mut PgConnection,
        source: &Source,
        batch: &[Received],
    ) -> Result<(), Rejection> {
        match source {
            Source::Element(element) => files::apply(transaction, element, batch).await,
            Source::Query => history::apply(transaction, batch).await,
            Source::Admin => Ok(()),
        }
    }
}
