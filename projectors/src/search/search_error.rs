//! Why there is no answer.

use artstore_runtime::words::words;

/// An error of a search.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The question can't be asked like this; the text says what is allowed.
    #[error("{0}")]
    Invalid(String),
    /// The tables are not there, or are older than this program.
    #[error(
        "the database has no query cache that this program can search ({}): is it the query \
         module's (QUERY_DATABASE_URL)? If it is, run `artstore migrate up --module query`",
        words(.0)
    )]
    NotMigrated(sqlx::Error),
    /// The database failed.
    #[error("the query database: {}", words(.0))]
    Database(#[source] sqlx::Error),
}

impl From<sqlx::Error> for SearchError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|e| e.code());
        match code.as_deref() {
            // No such table, column, schema or function.
            Some("42P01" | "42703" | "3F000" | "42883") => Self::NotMigrated(error),
            _ => Self::Database(error),
        }
    }
}
