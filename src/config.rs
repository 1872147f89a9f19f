//! All settings, once: options of every command with their environment variables. They are hidden in
//! each command's `--help`; `artstore help settings` lists them. Names are the product's own where it
//! has them.

mod auth;
mod database_parts;
mod database_tls;
mod secret_setting;
mod well_known;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use artstore_bus::accounts::role::Role;
use artstore_bus::connection::BusOptions;
use artstore_bus::tls::TlsFiles;
use artstore_producers::relay::publish::PublishMode;
use artstore_runtime::secret::Secret;
use artstore_runtime::secret_file;
use artstore_schemas::element::ElementName;
use artstore_schemas::source::Source;
use clap::{Args, ValueEnum};
use sqlx::postgres::PgConnectOptions;

use self::database_parts::{DbParts, QueryParts, database_url};
use crate::names;

pub(crate) use self::secret_setting::{SecretSetting, file_variable};

pub use self::auth::{AuthSettings, Required};
pub use artstore_runtime::configuration::ConfigError;

/// Where NATS is, unless a setting says otherwise.
const NATS_URL: &str = "nats://127.0.0.1:4222";

/// Where things are, and how much is said.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Settings")]
pub struct Config {
    /// NATS servers, separated by commas: nats://HOST:PORT, nats://USER:PASSWORD@HOST:PORT, or tls:// for TLS
    /// (nats://127.0.0.1:4222)
    #[arg(
        long,
        env = "NATS_URL",
        hide_env_values = true,
        global = true,
        hide = true
    )]
    nats_url: Option<Secret>,
    /// A NATS credentials file, the file of an nkey's seed, or a folder with the keys that `artstore bus
    /// permissions` makes: each connection takes its own
    #[arg(long, env = "NATS_CREDENTIALS", global = true, hide = true)]
    pub nats_credentials: Option<PathBuf>,
    /// The authorities that issue certificates of NATS servers, in PEM; with it or a client certificate, TLS is
    /// demanded, as by tls:// in NATS_URL
    #[arg(long, env = "NATS_CA", global = true, hide = true)]
    pub nats_ca: Option<PathBuf>,
    /// The client certificate for NATS, in PEM
    #[arg(long, env = "NATS_CERT", global = true, hide = true)]
    pub nats_cert: Option<PathBuf>,
    /// The key of the client certificate, in PEM
    #[arg(long, env = "NATS_KEY", global = true, hide = true)]
    pub nats_key: Option<PathBuf>,
    /// The admin module's database: postgres://USER:PASSWORD@HOST:PORT/DATABASE
    #[arg(
        long,
        env = "ADMIN_DATABASE_URL",
        hide_env_values = true,
        global = true,
        hide = true
    )]
    admin_database_url: Option<Secret>,
    /// The query module's database
    #[arg(
        long,
        env = "QUERY_DATABASE_URL",
        hide_env_values = true,
        global = true,
        hide = true
    )]
    query_database_url: Option<Secret>,
    /// One element's database; its name is given by --element
    #[arg(
        long,
        env = "STORAGE_DATABASE_URL",
        hide_env_values = true,
        global = true,
        hide = true
    )]
    storage_database_url: Option<Secret>,
    /// All elements and their databases: NAME=URL,… (wins over STORAGE_DATABASE_URL)
    #[arg(
        long,
        env = "ARTSTORE_ELEMENTS",
        hide_env_values = true,
        global = true,
        hide = true
    )]
    elements: Option<Secret>,
    /// Where elements' APIs are reached, as events carry it: NAME=URL,…; `migrate up` stores it in the
    /// element's database where nothing is stored, and what is stored there counts
    #[arg(long, env = "ARTSTORE_ELEMENT_API_URLS", global = true, hide = true)]
    pub element_api_urls: Option<String>,
    /// An element's name, which is its table prefix (storage_elem_01), or its stream; given as an
    /// option, only this one of ARTSTORE_ELEMENTS
    #[arg(long, env = "DB_TABLE_PREFIX", global = true, hide = true)]
    pub element: Option<String>,
    /// Whether the element was asked for by the option. The variable is part of a storage element's own
    /// environment: beside ARTSTORE_ELEMENTS it must not keep a relay from the other elements.
    #[arg(skip)]
    pub element_is_asked: bool,
    #[command(flatten)]
    db: DbParts,
    #[command(flatten)]
    query: QueryParts,
    /// Who may give commands.
    #[command(flatten)]
    pub auth: AuthSettings,
    /// What is logged to standard error: error, warn, info, debug or trace (info for services, warn
    /// for other commands)
    #[arg(long, env = "LOG_LEVEL", global = true, hide = true)]
    pub log_level: Option<String>,
    /// Who gives this command, as its event and `artstore audit tail` show it (without it: SUDO_USER, USER
    /// or LOGNAME)
    #[arg(long, env = "ARTSTORE_OPERATOR", global = true, hide = true)]
    pub operator: Option<String>,
    /// How it is logged
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = LogFormat::Text, global = true, hide = true)]
    pub log_format: LogFormat,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: one object a line.
    Json,
}

/// How the relay works.
#[derive(Debug, Clone, Args)]
pub struct RelaySettings {
    /// How messages are published: auto is atomic on one replica, pipelined on more
    #[arg(long, env = "ARTSTORE_PUBLISH_MODE", value_enum, default_value_t = Mode::Auto)]
    pub publish_mode: Mode,
    /// The longest wait between two polls of a quiet source, in milliseconds, at most 4000
    #[arg(long, env = "ARTSTORE_POLL_INTERVAL_MS", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=4_000))]
    pub poll_interval_ms: u64,
}

/// How a service shows itself.
#[derive(Debug, Clone, Args)]
pub struct ServiceSettings {
    /// Answer /health/live, /health/ready and /metrics over HTTP on ADDRESS:PORT (port 0: any free
    /// one, which is logged); without it, on none
    #[arg(long, env = "ARTSTORE_LISTEN", value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// At the start, wait for at most so many seconds for each server that can't be reached, is starting up
    /// or has no connection left; without it, as long as that takes; 0: end with an error. A wrong
    /// setting ends the start at once
    #[arg(long, env = "ARTSTORE_WAIT_SECONDS", value_name = "SECONDS")]
    pub wait: Option<u64>,
    /// Ready only while at most so many events wait
    #[arg(long, env = "ARTSTORE_READY_LAG_EVENTS", default_value_t = 10_000)]
    pub ready_lag_events: u64,
    /// Ready only while none has been waiting for longer than so many seconds
    #[arg(long, env = "ARTSTORE_READY_LAG_SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(2..))]
    pub ready_lag_seconds: u64,
}

/// How messages are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Atomic on one replica, pipelined on more.
    Auto,
    /// Atomic batches.
    Atomic,
    /// Single messages, many in flight.
    Pipelined,
}

impl RelaySettings {
    /// For the relay.
    pub fn mode(&self) -> PublishMode {
        match self.publish_mode {
            Mode::Auto => PublishMode::Auto,
            Mode::Atomic => PublishMode::Atomic,
            Mode::Pipelined => PublishMode::Pipelined,
        }
    }

    /// For the relay.
    pub fn poll_interval(&self) -> Duration {
        Duration::from_millis(self.poll_interval_ms)
    }
}

impl Config {
    /// How to reach NATS; `name` is what the connection is called on the server.
    pub fn bus(&self, role: Role, name: &str) -> Result<BusOptions, ConfigError> {
        let url = SecretSetting::new("NATS_URL", &self.nats_url).value()?;
        let url = url.map_or_else(|| NATS_URL.to_owned(), |url| url.expose().to_owned());
        let options = BusOptions {
            url,
            credentials: self.nats_credentials.clone(),
            tls: TlsFiles {
                authority: self.nats_ca.clone(),
                certificate: self.nats_cert.clone(),
                key: self.nats_key.clone(),
            },
            role,
            name: name.to_owned(),
        };
        for (host, user, password) in options.passwords() {
            well_known::refuse("NATS_URL", &host, &user, &password)?;
        }
        if let Some(file) = options.credentials_file() {
            secret_file::warn_where_shared("NATS_CREDENTIALS", &file);
        }
        if let Some(key) = &self.nats_key {
            secret_file::warn_where_shared("NATS_KEY", key);
        }
        Ok(options)
    }

    fn admin_url(&self) -> SecretSetting<'_> {
        SecretSetting::new("ADMIN_DATABASE_URL", &self.admin_database_url)
    }

    fn storage_url(&self) -> SecretSetting<'_> {
        SecretSetting::new("STORAGE_DATABASE_URL", &self.storage_database_url)
    }

    fn element_list(&self) -> SecretSetting<'_> {
        SecretSetting::new("ARTSTORE_ELEMENTS", &self.elements)
    }

    /// Whether the admin module's database is given by its URL: the parts may be those of an element.
    pub(crate) fn has_admin_url(&self) -> bool {
        self.admin_url().is_given()
    }

    /// Whether databases of elements are given by their URLs.
    pub(crate) fn has_element_urls(&self) -> bool {
        self.storage_url().is_given() || self.element_list().is_given()
    }

    /// The admin module's database: its URL, else the parts where any is given.
    pub(crate) fn admin_database(&self) -> Result<Option<PgConnectOptions>, ConfigError> {
        match self.admin_url().value()? {
            Some(url) => database_url("ADMIN_DATABASE_URL", url.expose()).map(Some),
            None => self.db.options("artstore_admin"),
        }
    }

    /// The query module's database: its URL, else the parts where any is given.
    pub(crate) fn query_database(&self) -> Result<Option<PgConnectOptions>, ConfigError> {
        let url = SecretSetting::new("QUERY_DATABASE_URL", &self.query_database_url);
        match url.value()? {
            Some(url) => database_url("QUERY_DATABASE_URL", url.expose()).map(Some),
            None => self.query.options("artstore"),
        }
    }

    /// The element's name.
    pub fn element(&self) -> Result<ElementName, ConfigError> {
        let name = self.element.as_deref().unwrap_or("storage_elem_01");
        names::element(name)
            .map_err(|error| ConfigError(format!("--element (DB_TABLE_PREFIX): {error}")))
    }

    /// All elements with their databases: the list, else the one element by URL, else by parts. Where
    /// `--element` was given, that one alone.
    pub fn elements(&self) -> Result<Vec<(ElementName, PgConnectOptions)>, ConfigError> {
        match self.element_is_asked {
            true => Ok(vec![self.one_element(self.element()?.as_str())?]),
            false => self.all_elements(),
        }
    }

    /// Refuses an `--element` that none of the configured ones is, also where the command would not use
    /// it: a name that is mistyped must not look like an answer.
    pub(crate) fn check_element(&self) -> Result<(), ConfigError> {
        if self.element_is_asked {
            let wanted = self.element()?;
            if !self.all_elements()?.is_empty() {
                self.one_element(wanted.as_str())?;
            }
        }
        Ok(())
    }

    fn all_elements(&self) -> Result<Vec<(ElementName, PgConnectOptions)>, ConfigError> {
        if let Some(list) = self.element_list().value()? {
            return elements(list.expose());
        }
        let database = match self.storage_url().value()? {
            Some(url) => Some(database_url("STORAGE_DATABASE_URL", url.expose())?),
            None => self.db.options("artstore_storage_01")?,
        };
        let element = |database| Ok((self.element()?, database));
        database.map(element).into_iter().collect()
    }

    /// The elements whose streams are made: their databases need not be configured.
    pub(crate) fn named_elements(&self) -> Result<Vec<ElementName>, ConfigError> {
        let all = self.all_elements()?;
        if all.is_empty() {
            return Ok(vec![self.element()?]);
        }
        let elements = self.elements()?;
        Ok(elements.into_iter().map(|(name, _)| name).collect())
    }

    /// One element with its database, by its name or its stream's.
    pub(crate) fn one_element(
        &self,
        name: &str,
    ) -> Result<(ElementName, PgConnectOptions), ConfigError> {
        let wanted = names::element(name).map_err(|error| ConfigError(error.to_string()))?;
        let elements = self.all_elements()?;
        let known = names::listed(elements.iter().map(|(name, _)| name));
        let found = elements.into_iter().find(|(element, _)| *element == wanted);
        found.ok_or_else(|| {
            let known = match known {
                None => {
                    "none is: set ARTSTORE_ELEMENTS, or STORAGE_DATABASE_URL with --element".into()
                }
                Some(known) => format!("configured are: {known}"),
            };
            ConfigError(format!(
                "no database is configured for element {wanted}; {known}"
            ))
        })
    }

    /// All configured sources with their databases, or those that are named.
    pub fn sources(&self, only: &[Source]) -> Result<Vec<(Source, PgConnectOptions)>, ConfigError> {
        let mut sources: Vec<(Source, PgConnectOptions)> = self
            .elements()?
            .into_iter()
            .map(|(name, database)| (Source::Element(name), database))
            .collect();
        let admin_by_parts = only == [Source::Admin];
        if admin_by_parts || self.has_admin_url() {
            sources.extend(self.admin_database()?.map(|d| (Source::Admin, d)));
        }
        sources.extend(self.query_database()?.map(|d| (Source::Query, d)));
        for wanted in only {
            if !sources.iter().any(|(source, _)| source == wanted) {
                let known = names::listed(sources.iter().map(|(source, _)| source));
                let known = known.map_or_else(
                    || "none is configured".to_owned(),
                    |known| format!("configured are: {known}"),
                );
                return Err(ConfigError(format!(
                    "--source {wanted}: no database is configured for it; {known}"
                )));
            }
        }
        sources.retain(|(source, _)| only.is_empty() || only.contains(source));
        if sources.is_empty() {
            return Err(ConfigError(
                "there is no source: set ARTSTORE_ELEMENTS, STORAGE_DATABASE_URL with --element, \
                 ADMIN_DATABASE_URL or QUERY_DATABASE_URL"
                    .to_owned(),
            ));
        }
        Ok(sources)
    }

    /// Where an element's API is reached, if that is configured.
    pub fn api_url(&self, element: &ElementName) -> Result<Option<String>, ConfigError> {
        let Some(list) = &self.element_api_urls else {
            return Ok(None);
        };
        let urls = pairs("ARTSTORE_ELEMENT_API_URLS", list)?;
        let found = urls.into_iter().find(|(name, _)| name == element.as_str());
        Ok(found.map(|(_, url)| url))
    }
}

/// Reads `ARTSTORE_ELEMENTS`. An error shows no URL: it may hold a password.
pub fn elements(list: &str) -> Result<Vec<(ElementName, PgConnectOptions)>, ConfigError> {
    let mut elements: Vec<(ElementName, PgConnectOptions)> = Vec::new();
    for (name, url) in pairs("ARTSTORE_ELEMENTS", list)? {
        let element = element_name("ARTSTORE_ELEMENTS", &name)?;
        if elements.iter().any(|(known, _)| *known == element) {
            return Err(ConfigError(format!(
                "ARTSTORE_ELEMENTS: element {element} is named twice"
            )));
        }
        elements.push((element, database_url("ARTSTORE_ELEMENTS", &url)?));
    }
    Ok(elements)
}

fn element_name(variable: &str, name: &str) -> Result<ElementName, ConfigError> {
    name.parse()
        .map_err(|error| ConfigError(format!("{variable}: {error}")))
}

fn pairs(variable: &str, list: &str) -> Result<Vec<(String, String)>, ConfigError> {
    list.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(|item| {
            // Before the `=` of a URL whose name was forgotten may stand a password.
            let pair = item
                .split_once('=')
                .filter(|(name, _)| !name.contains("://") && !name.contains('@'));
            let (name, value) = pair.ok_or_else(|| {
                ConfigError(format!(
                    "{variable}: an item of {} characters without a name and `=`; expected \
                     NAME=URL,…",
                    item.chars().count()
                ))
            })?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a comma of a password was not encoded, or a name forgotten, what seems a name is part of one.
    #[test]
    fn an_error_about_elements_shows_no_password() {
        for list in [
            "elem=postgres://u:a,secret@h/d?sslmode=require",
            "postgres://u:secret@h/d?sslmode=require",
            "elem:secret@h/d?sslmode=require",
            "elem=u:secret@h/d",
        ] {
            let error = elements(list).expect_err("no list of elements");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
