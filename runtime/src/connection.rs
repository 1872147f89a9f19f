//! Opens every connection of ours to PostgreSQL. A role, a database or a server can have
//! settings of its own that change what a statement means or returns; those that our SQL relies
//! on are set here, before the first statement. Clippy refuses other ways to connect (`clippy.toml`).

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgConnection};

/// What our SQL relies on. By statements and not in the startup message, whose options poolers refuse.
///
/// - Names: `pg_catalog` first, so that nobody's function or operator takes the place of
///   PostgreSQL's; `public` for names without a schema.
/// - Rows: all of a table or an error, never those that a policy or an index scan's limit leaves.
/// - Meaning and form of texts, of literals and of what PostgreSQL returns about its own catalogue.
/// - Transactions: those that `begin` without options gives.
/// - An error ends a transaction and not the session.
///
/// `client_encoding`: a database in SQL_ASCII holds bytes. Asked for UTF-8, PostgreSQL refuses to send
/// a row with a text that is none; asked for nothing, it sends the bytes ([`crate::text`]).
const SETTINGS: &str = "set search_path = pg_catalog, public; \
     set row_security = off; \
     set gin_fuzzy_search_limit = 0; \
     select set_config('client_encoding', case current_setting('server_encoding') \
         when 'SQL_ASCII' then 'SQL_ASCII' else 'UTF8' end, false); \
     set standard_conforming_strings = on; \
     set quote_all_identifiers = off; \
     set datestyle = 'ISO, MDY'; \
     set intervalstyle = postgres; \
     set timezone = 'UTC'; \
     set bytea_output = hex; \
     set extra_float_digits = 1; \
     set xmloption = content; \
     set array_nulls = on; \
     set transform_null_equals = off; \
     set check_function_bodies = on; \
     set default_transaction_isolation = 'read committed'; \
     set default_transaction_read_only = off; \
     set default_transaction_deferrable = off; \
     set exit_on_error = off; ";

/// Opens a connection, and sets what our SQL relies on.
pub async fn open(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    open_with(options, "").await
}

/// As [`open`], for a connection that never writes.
pub async fn open_read_only(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    open_with(options, "set default_transaction_read_only = on").await
}

/// As [`open`], with more settings, as statements, in the same message.
pub async fn open_with(
    options: &PgConnectOptions,
    settings: &str,
) -> Result<PgConnection, sqlx::Error> {
    // The one place where it is allowed.
    #[allow(clippy::disallowed_methods)]
    let mut connection = options.connect().await?;
    sqlx::raw_sql(AssertSqlSafe(format!("{SETTINGS}{settings}")))
        .execute(&mut connection)
        .await?;
    Ok(connection)
}

/// A database as it is shown: never with a password.
pub fn shown(database: &PgConnectOptions) -> String {
    let (host, port) = (database.get_host(), database.get_port());
    let name = database.get_database().unwrap_or("(default)");
    format!("{name} at {host}:{port}")
}
