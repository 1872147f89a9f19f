//! How one source is relayed.

use std::time::Duration;

use artstore_schemas::source::Source;
use sqlx::postgres::PgConnectOptions;

use crate::relay::publish::PublishMode;

/// How one source is relayed. No debug output: the database has its password.
#[derive(Clone)]
pub struct RelayOptions {
    /// The source.
    pub source: Source,
    /// Its database: a direct connection to the primary.
    pub database: PgConnectOptions,
    /// Where the element's API is reached, as events carry it for as long as the element's own table
    /// ([`api_url`](crate::relay::api_url)) does not contain it.
    pub api_url: Option<String>,
    /// How messages are published.
    pub mode: PublishMode,
    /// The longest wait between two polls of a quiet source; below the five seconds after which the
    /// server takes a silent relay for a frozen one.
    pub poll_interval: Duration,
}
