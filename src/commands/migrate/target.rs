//! Which databases a command is about, and how they are reached and named.

use std::time::Duration;

use anyhow::Context as _;
use artstore_migrations::{Module, Step};
use artstore_runtime::connection;
use artstore_runtime::server::{self, Holds, Server};
use clap::ValueEnum;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};

use crate::config::{Config, ConfigError};
use crate::status::database::not_connected;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ModuleName {
    Admin,
    Query,
    Storage,
}

pub(super) fn name(step: &Step) -> String {
    format!("{:04} {}", step.version, step.name)
}

pub(super) async fn connect(
    module: &Module,
    database: &PgConnectOptions,
) -> anyhow::Result<PgConnection> {
    // A step reports its own progress; the client's "slow statement" is no news.
    let quiet = database
        .clone()
        .log_slow_statements(tracing::log::LevelFilter::Off, Duration::ZERO);
    let connected = connection::open(&quiet).await;
    connected
        .map_err(|error| not_connected(database, setting(module), error))
        .with_context(|| module.to_string())
}

/// Says what of a server and a database works, but not as people expect; refuses those in which no
/// tables should be made, where they are to be made first.
pub(super) async fn name_server(
    module: &Module,
    connection: &mut PgConnection,
    first: bool,
) -> anyhow::Result<()> {
    let server = Server::read(connection).await?;
    let refused = server.refused(holds(module)).filter(|_| first);
    let old = server::too_old(server.version_number);
    if let Some(problem) = old.or(refused) {
        anyhow::bail!("{module}: {problem}; nothing was changed");
    }
    for note in server.notes(holds(module)) {
        eprintln!("artstore: {module}: note: {note}");
    }
    Ok(())
}

pub(super) fn holds(module: &Module) -> Holds {
    match module {
        Module::Admin => Holds::AuditLog,
        Module::Query => Holds::QueryCache,
        Module::Storage(_) => Holds::Source,
    }
}

/// What says where a module's database is.
pub(super) fn setting(module: &Module) -> &'static str {
    match module {
        Module::Admin => "ADMIN_DATABASE_URL and the server",
        Module::Query => "QUERY_DATABASE_URL and the server",
        Module::Storage(_) => "ARTSTORE_ELEMENTS or STORAGE_DATABASE_URL, and the server",
    }
}

pub(super) fn targets(
    config: &Config,
    only: Option<ModuleName>,
) -> Result<Vec<(Module, PgConnectOptions)>, ConfigError> {
    let wanted = |name| only.is_none_or(|module| module == name);
    let mut targets = Vec::new();
    // DB_* are the admin's or the element's: only --module states whose.
    let admin = only == Some(ModuleName::Admin) || config.has_admin_url();
    if wanted(ModuleName::Admin) && admin {
        targets.extend(config.admin_database()?.map(|d| (Module::Admin, d)));
    }
    if wanted(ModuleName::Query) {
        targets.extend(config.query_database()?.map(|d| (Module::Query, d)));
    }
    let storage = only == Some(ModuleName::Storage) || config.has_element_urls();
    if wanted(ModuleName::Storage) && storage {
        let elements = match config.element {
            Some(_) => vec![config.one_element(config.element()?.as_str())?],
            None => config.elements()?,
        };
        let elements = elements.into_iter();
        targets.extend(elements.map(|(name, database)| (Module::Storage(name), database)));
    }
    if targets.is_empty() {
        return Err(ConfigError(
            "no database is configured for that: set ADMIN_DATABASE_URL, QUERY_DATABASE_URL, \
             ARTSTORE_ELEMENTS, or STORAGE_DATABASE_URL with --element"
                .to_owned(),
        ));
    }
    Ok(targets)
}
