//! Sessions that hold a lock: direct ones, which the server ends when their process freezes or
//! vanishes. [`SessionError`] becomes an error of the relay or of a worker, which states what to do.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection, Row as _};

use crate::{connection, server};

use crate::words::{unreached, words};

/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(4);

/// How often each of two connections is asked which session it has.
const ASKED: usize = 5;

/// What can go wrong with a session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The database failed.
    #[error("{}", words(.0))]
    Database(sqlx::Error),
    /// There is no connection to it.
    #[error("{}", unreached(.database, .cause))]
    Connect {
        /// Which one: name, host and port.
        database: String,
        /// The client's message.
        cause: sqlx::Error,
    },
    /// The server is too old.
    #[error("database {database}: {problem}")]
    TooOld {
        /// Which one: name, host and port.
        database: String,
        /// Its version, and which is needed.
        problem: String,
    },
    /// There is a pooler in between.
    #[error("there is a connection pooler in between: {sign}")]
    Pooler {
        /// By what it shows itself.
        sign: String,
    },
}

impl SessionError {
    /// A pooler that shows itself by this.
    pub fn pooler(sign: &str) -> Self {
        Self::Pooler {
            sign: sign.to_owned(),
        }
    }
}

impl From<sqlx::Error> for SessionError {
    fn from(error: sqlx::Error) -> Self {
        match sign_of_pooler(&error) {
            Some(sign) => Self::Pooler { sign },
            None => Self::Database(error),
        }
    }
}

/// Errors that a session of our own can't have: another client's prepared statements, or a
/// parameter that only a pooler refuses.
fn sign_of_pooler(error: &sqlx::Error) -> Option<String> {
    let error = error.as_database_error()?;
    let code = error.code()?;
    matches!(code.as_ref(), "42P05" | "26000" | "08P01").then(|| error.message().to_owned())
}

/// How a session is opened. No debug output: the database has its password.
#[derive(Clone, Copy)]
pub struct Session<'a> {
    /// The database.
    pub database: &'a PgConnectOptions,
    /// What it calls itself.
    pub name: &'a str,
    /// The server ends it, and releases its locks, when it is silent for so long.
    pub silence: Duration,
    /// What else is set, as statements.
    pub settings: &'a str,
}

impl Session<'_> {
    /// Opens it: ended by the server when this process freezes or vanishes.
    pub async fn open(self) -> Result<PgConnection, SessionError> {
        let options = self
            .database
            .clone()
            .application_name(self.name)
            .log_statements(tracing::log::LevelFilter::Trace);
        let silence = self.silence.as_millis();
        let settings = format!(
            "set idle_session_timeout = {silence}; \
             set idle_in_transaction_session_timeout = {silence}; \
             set tcp_keepalives_idle = 2; set tcp_keepalives_interval = 1; \
             set tcp_keepalives_count = 3; set tcp_user_timeout = {silence}; {}",
            self.settings
        );
        let opened = connection::open_with(&options, &settings);
        let connected = tokio::time::timeout(CONNECT, opened)
            .await
            .unwrap_or(Err(sqlx::Error::PoolTimedOut));
        let connection = connected.map_err(|cause| match sign_of_pooler(&cause) {
            Some(sign) => SessionError::Pooler { sign },
            None => SessionError::Connect {
                database: shown(&options),
                cause,
            },
        })?;
        let version = connection.server_version_num();
        match version.and_then(server::too_old) {
            Some(problem) => Err(SessionError::TooOld {
                database: shown(&options),
                problem,
            }),
            None => Ok(connection),
        }
    }

    /// Refuses a pooler before anything is asked of it: of two connections each must have a session
    /// of its own, and keep it. Simple statements only: a pooler mixes up prepared ones.
    pub async fn refuse_pooler(self) -> Result<(), SessionError> {
        let (mut first, mut second) = (self.open().await?, self.open().await?);
        let (here, there) = (backend(&mut first).await?, backend(&mut second).await?);
        if here == there {
            return Err(SessionError::pooler("two connections share one session"));
        }
        for _ in 0..ASKED {
            if backend(&mut first).await? != here || backend(&mut second).await? != there {
                let sign = "one connection is served by several sessions";
                return Err(SessionError::pooler(sign));
            }
        }
        Ok(())
    }
}

async fn backend(connection: &mut PgConnection) -> Result<i32, SessionError> {
    let row = sqlx::raw_sql("select pg_backend_pid()")
        .fetch_one(connection)
        .await?;
    Ok(row.try_get(0)?)
}

/// A database as an error names it: never with a password.
pub fn shown(options: &PgConnectOptions) -> String {
    let (host, port) = (options.get_host(), options.get_port());
    let name = options.get_database().unwrap_or("(default)");
    format!("{name} at {host}:{port}")
}
