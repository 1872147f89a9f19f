//! The event of a command whose own database has no outbox, or that was not begun: in the outbox of a module.

use std::time::Duration;

use artstore_producers::publish::outbox::{self, OutboxInsert};
use artstore_runtime::connection;
use artstore_schemas::source::Source;
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;

use crate::config::{Config, ConfigError};
use crate::operator;

/// How long it may take: it must not look like a command at work.
const PATIENCE: Duration = Duration::from_secs(10);

/// The module in whose outbox it is. A storage element has none: what is done to it is recorded with the admin module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    /// The admin module.
    Admin,
    /// The query module.
    Query,
}

impl Home {
    /// Of what is done to a source.
    pub fn of(source: &Source) -> Self {
        match source {
            Source::Query => Self::Query,
            Source::Admin | Source::Element(_) => Self::Admin,
        }
    }
}

/// What a command did, or was not allowed to do.
pub(crate) struct CommandEvent<'a> {
    /// As it is called: `element backfill`.
    pub(crate) command: &'a str,
    pub(crate) home: Home,
    pub(crate) entity: &'a str,
    pub(crate) action: &'a str,
    pub(crate) subject: Option<String>,
    /// An object; who gave the command is added.
    pub(crate) facts: Value,
    /// The database that the command worked on, where that has an outbox.
    pub(crate) database: Option<PgConnectOptions>,
}

impl CommandEvent<'_> {
    /// Records it. That this can't be done is a warning: what was done stays done.
    pub(crate) async fn record(self, config: &Config) {
        match tokio::time::timeout(PATIENCE, self.insert(config)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("this command is not recorded: {error:#}"),
            Err(_) => tracing::warn!("this command is not recorded: the database is silent"),
        }
    }

    async fn insert(self, config: &Config) -> anyhow::Result<()> {
        let database = match self.database {
            Some(database) => database,
            None => outbox_of(config, self.home)?,
        };
        let name = format!("artstore {}", self.command);
        let mut connection = connection::open(&database.application_name(&name)).await?;
        let mut data = self.facts;
        data["operator"] = json!(operator::operator(&mut connection).await?);
        let event = OutboxInsert {
            entity: self.entity.to_owned(),
            action: self.action.to_owned(),
            ordering_key: None,
            subject: self.subject,
            data,
            request_id: None,
            traceparent: None,
        };
        let actor = operator::actor(self.command);
        outbox::insert(&mut connection, &actor, &event).await?;
        Ok(())
    }
}

/// The database of a module, else of the other one. `DB_*` may be an element's: it comes last.
fn outbox_of(config: &Config, home: Home) -> Result<PgConnectOptions, ConfigError> {
    let (admin, query) = (config.admin_database()?, config.query_database()?);
    let (admin, parts) = match config.has_admin_url() {
        true => (admin, None),
        false => (None, admin),
    };
    let database = match home {
        Home::Admin => admin.or(query),
        Home::Query => query.or(admin),
    };
    database.or(parts).ok_or_else(|| {
        ConfigError("neither ADMIN_DATABASE_URL nor QUERY_DATABASE_URL is set".to_owned())
    })
}

/// Records what a command did to a source, whose database this is.
pub(crate) async fn of_source(
    config: &Config,
    command: &str,
    (source, database): (&Source, &PgConnectOptions),
    facts: Value,
) {
    let (entity, database) = match source {
        Source::Element(_) => ("storage-element", None),
        Source::Admin | Source::Query => ("outbox", Some(database.clone())),
    };
    let event = CommandEvent {
        command,
        home: Home::of(source),
        entity,
        action: command.rsplit(' ').next().unwrap_or_default(),
        subject: Some(source.to_string()),
        facts,
        database,
    };
    event.record(config).await;
}
