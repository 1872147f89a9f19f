//! Databases by URL, or by host, port, user, password and name.

use clap::Args;
use sqlx::postgres::PgConnectOptions;
use url::{Url, form_urlencoded};

use artstore_runtime::configuration::ConfigError;
use artstore_runtime::secret::Secret;

use super::database_tls::encrypted;
use super::secret_setting::SecretSetting;
use super::well_known;

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
    db_password: Option<Secret>,
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
    database_password: Option<Secret>,
    /// Its database (artstore)
    #[arg(long, env = "DATABASE_DATABASE", global = true, hide = true)]
    database_database: Option<String>,
}

impl DbParts {
    pub(super) fn options(&self, database: &str) -> Result<Option<PgConnectOptions>, ConfigError> {
        Parts {
            host: &self.db_host,
            port: self.db_port,
            user: &self.db_username,
            password: SecretSetting::new("DB_PASSWORD", &self.db_password),
            database: &self.db_database,
        }
        .options("DB", database)
    }
}

impl QueryParts {
    pub(super) fn options(&self, database: &str) -> Result<Option<PgConnectOptions>, ConfigError> {
        Parts {
            host: &self.database_host,
            port: self.database_port,
            user: &self.database_username,
            password: SecretSetting::new("DATABASE_PASSWORD", &self.database_password),
            database: &self.database_database,
        }
        .options("DATABASE", database)
    }
}

/// The parts of a database under either name.
struct Parts<'a> {
    host: &'a Option<String>,
    port: Option<u16>,
    user: &'a Option<String>,
    password: SecretSetting<'a>,
    database: &'a Option<String>,
}

impl Parts<'_> {
    /// None where no part is given. `prefix` is that of their variables, `database` the name where none is given.
    fn options(
        &self,
        prefix: &str,
        database: &str,
    ) -> Result<Option<PgConnectOptions>, ConfigError> {
        let texts = [self.host, self.user, self.database];
        if texts.iter().all(|part| part.is_none())
            && self.port.is_none()
            && !self.password.is_given()
        {
            return Ok(None);
        }
        let options = PgConnectOptions::new_without_pgpass()
            .host(self.host.as_deref().unwrap_or("localhost"))
            .port(self.port.unwrap_or(5432))
            .username(self.user.as_deref().unwrap_or("artstore"))
            .database(self.database.as_deref().unwrap_or(database));
        let options = match self.password.value()? {
            None => options,
            Some(password) => {
                refuse_well_known(&format!("{prefix}_PASSWORD"), &options, password.expose())?;
                options.password(password.expose())
            }
        };
        encrypted(&format!("{prefix}_HOST"), None, options).map(Some)
    }
}

fn refuse_well_known(
    variable: &str,
    options: &PgConnectOptions,
    password: &str,
) -> Result<(), ConfigError> {
    match options.get_socket() {
        Some(_) => Ok(()),
        None => {
            let (host, user) = (options.get_host(), options.get_username());
            well_known::refuse(variable, host, user, password)
        }
    }
}

/// What the parser of URLs knows, besides `options[NAME]`.
const PARAMETERS: &[&str] = &[
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "statement-cache-capacity",
    "user",
];

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
    let parsed = Url::parse(url).map_err(|_| refuse())?;
    let options: PgConnectOptions = url.parse().map_err(|_| refuse())?;
    let mut password = parsed.password().map(percent_decoded).unwrap_or_default();
    for (key, value) in parsed.query_pairs() {
        match key.as_ref() {
            "password" => password = value.into_owned(),
            key if PARAMETERS.contains(&key) || key.starts_with("options[") => {}
            // The parser's own warning, which is not logged, shows the value too.
            _ => tracing::warn!(
                "{variable}: a parameter of the URL is not known, and ignored; known are {}",
                PARAMETERS.join(", ")
            ),
        }
    }
    if password.is_empty() {
        // The client takes it where the URL has none.
        password = std::env::var("PGPASSWORD").unwrap_or_default();
    }
    refuse_well_known(variable, &options, &password)?;
    encrypted(variable, Some(&parsed), options)
}

/// A part of a URL in which a form's separators mean themselves.
fn percent_decoded(escaped: &str) -> String {
    let escaped = escaped
        .replace('&', "%26")
        .replace('=', "%3D")
        .replace('+', "%2B");
    let mut decoded = form_urlencoded::parse(escaped.as_bytes());
    decoded
        .next()
        .map_or_else(String::new, |(text, _)| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_compared_as_a_whole() {
        for (escaped, whole) in [
            ("test&8fj=w2+Kq", "test&8fj=w2+Kq"),
            ("a%40b%26", "a@b&"),
            ("", ""),
        ] {
            assert_eq!(percent_decoded(escaped), whole);
        }
        let url = |password: &str| format!("postgres://u:{password}@db.invalid/x");
        database_url("X", &url("test&8fj")).expect("it is not well known");
        database_url("X", &url("%74est")).expect_err("it is well known");
    }
}
