//! Databases by URL, or by host, port, user, password and name.

use clap::Args;
use sqlx::postgres::PgConnectOptions;

use artstore_runtime::configuration::ConfigError;

use super::database_tls::encrypted;

/// The admin's or the element's database, where no URL says it.
#[derive(Debug, Clone, Args)]
pub(super) struct DbParts {
    /// Host of the admin or element database, where no URL is given (localhost)
    #[arg(long, env = "DB_HOST", global = true, hide = true)]
    db_host: Option<String>,
    /// Its port (5432)
    #[arg(long, env = "DB_PORT", global = true, hide = true)]
    db_port: Option<u16>,
    /// Its user (artstore)
    #[arg(long, env = "DB_USERNAME", global = true, hide = true)]
    db_username: Option<String>,
    /// Its password
    #[arg(
        long,
        env = "DB_PASSWORD",
        hide_env_values = true,
        global = true,
        hide = true
    )]
    db_password: Option<String>,
    /// Its database (artstore_admin or artstore_storage_01)
    #[arg(long, env = "DB_DATABASE", global = true, hide = true)]
    db_database: Option<String>,
}

/// The query module's database, where no URL says it.
#[derive(Debug, Clone, Args)]
pub(super) struct QueryParts {
    /// Host of the query database, where no URL is given (localhost)
    #[arg(long, env = "DATABASE_HOST", global = true, hide = true)]
    database_host: Option<String>,
    /// Its port (5432)
    #[arg(long, env = "DATABASE_PORT", global = true, hide = true)]
    database_port: Option<u16>,
    /// Its user (artstore)
    #[arg(long, env = "DATABASE_USERNAME", global = true, hide = true)]
    database_username: Option<String>,
    /// Its password
    #[arg(
        long,
        env = "DATABASE_PASSWORD",
        hide_env_values = true,
        global = true,
        hide = true
    )]
    database_password: Option<String>,
    /// Its database (artstore)
    #[arg(long, env = "DATABASE_DATABASE", global = true, hide = true)]
    database_database: Option<String>,
}

impl DbParts {
    pub(super) fn options(&self, database: &str) -> Result<Option<PgConnectOptions>, ConfigError> {
        let given = [
            &self.db_host,
            &self.db_username,
            &self.db_password,
            &self.db_database,
        ];
        if given.iter().all(|part| part.is_none()) && self.db_port.is_none() {
            return Ok(None);
        }
        let options = parts(
            self.db_host.as_deref().unwrap_or("localhost"),
            self.db_port,
            self.db_username.as_deref(),
            self.db_password.as_deref(),
            self.db_database.as_deref().unwrap_or(database),
        );
        encrypted("DB_HOST", None, options).map(Some)
    }
}

impl QueryParts {
    pub(super) fn options(&self, database: &str) -> Result<Option<PgConnectOptions>, ConfigError> {
        let given = [
            &self.database_host,
            &self.database_username,
            &self.database_password,
            &self.database_database,
        ];
        if given.iter().all(|part| part.is_none()) && self.database_port.is_none() {
            return Ok(None);
        }
        let options = parts(
            self.database_host.as_deref().unwrap_or("localhost"),
            self.database_port,
            self.database_username.as_deref(),
            self.database_password.as_deref(),
            self.database_database.as_deref().unwrap_or(database),
        );
        encrypted("DATABASE_HOST", None, options).map(Some)
    }
}

fn parts(
    host: &str,
    port: Option<u16>,
    user: Option<&str>,
    password: Option<&str>,
    database: &str,
) -> PgConnectOptions {
    let options = PgConnectOptions::new_without_pgpass()
        .host(host)
        .port(port.unwrap_or(5432))
        .username(user.unwrap_or("artstore"))
        .database(database);
    match password {
        Some(password) => options.password(password),
        None => options,
    }
}

/// Reads a URL. Its text may hold a password, and is not shown.
pub(super) fn database_url(variable: &str, url: &str) -> Result<PgConnectOptions, ConfigError> {
    // The parser's own words may hold the password.
    let refuse = || {
        ConfigError(format!(
            "{variable}: a text of {} characters that is no database URL; expected \
             postgres://USER:PASSWORD@HOST:PORT/DATABASE",
            url.chars().count()
        ))
    };
    // The parser takes any scheme.
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(refuse());
    }
    let options = url.parse().map_err(|_| refuse())?;
    encrypted(variable, Some(url), options)
}
