//! The read model's database: sessions that the server ends when the projector freezes or vanishes,
//! checked to be direct and writable, and the locks that they hold.

use std::collections::HashSet;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, Row as _};

use crate::projector::Projector;
use crate::projector_error::{Halt, WorkerError};

/// A session that is silent for so long is ended by the server, and its lock let go.
const SILENCE: Duration = Duration::from_secs(6);

/// How long the server may take to confirm that the lock is let go.
const RELEASE: Duration = Duration::from_secs(3);

/// Connects to a read model, and checks that it can be written and that the projector's tables are
/// there.
pub async fn connect<P: Projector>(
    database: &PgConnectOptions,
    name: &str,
) -> Result<PgConnection, WorkerError> {
    let mut connection = open::<P>(database, name).await?;
    let standby: bool = sqlx::query_scalar("select pg_is_in_recovery()")
        .fetch_one(&mut connection)
        .await?;
    if standby {
        return Err(Halt::Standby {
            database: shown(database),
        }
        .into());
    }
    for table in P::TABLES.iter().chain(&["projection_checkpoints"]) {
        let found: bool = sqlx::query_scalar("select to_regclass($1) is not null")
            .bind(format!("public.{table}"))
            .fetch_one(&mut connection)
            .await?;
        if !found {
            return Err(Halt::NotMigrated {
                database: shown(database),
                table: (*table).to_owned(),
            }
            .into());
        }
    }
    Ok(connection)
}

async fn open<P: Projector>(
    database: &PgConnectOptions,
    name: &str,
) -> Result<PgConnection, WorkerError> {
    let options = database
        .clone()
        .application_name(name)
        .log_statements(tracing::log::LevelFilter::Trace);
    let connected = tokio::time::timeout(Duration::from_secs(10), options.connect())
        .await
        .unwrap_or(Err(sqlx::Error::PoolTimedOut));
    let mut connection = connected.map_err(|cause| match Halt::of_pooler(&cause) {
        Some(halt) => halt.into(),
        None => WorkerError::Connect {
            database: shown(&options),
            cause,
        },
    })?;
    let silence = SILENCE.as_millis();
    let durability = if P::DURABLE { "on" } else { "off" };
    sqlx::raw_sql(AssertSqlSafe(format!(
        "set idle_session_timeout = {silence}; \
         set idle_in_transaction_session_timeout = {silence}; \
         set tcp_keepalives_idle = 2; set tcp_keepalives_interval = 1; \
         set tcp_keepalives_count = 3; set tcp_user_timeout = {silence}; \
         set synchronous_commit = {durability}; set timezone = 'UTC'"
    )))
    .execute(&mut connection)
    .await?;
    Ok(connection)
}

/// Refuses a pooler: of two connections each must have a session of its own, and keep it. Simple
/// statements only: a pooler mixes up prepared ones.
pub async fn check_direct<P: Projector>(database: &PgConnectOptions) -> Result<(), WorkerError> {
    let name = "artstore projector (check)";
    let mut connections = [
        open::<P>(database, name).await?,
        open::<P>(database, name).await?,
    ];
    let mut sessions = HashSet::new();
    for _ in 0..5 {
        for connection in &mut connections {
            let row = sqlx::raw_sql("select pg_backend_pid()")
                .fetch_one(connection)
                .await?;
            sessions.insert(row.try_get::<i32, _>(0)?);
        }
    }
    if sessions.len() != connections.len() {
        let sign = format!("two connections have {} session(s)", sessions.len());
        return Err(Halt::Pooler { sign }.into());
    }
    connect::<P>(database, name).await?;
    Ok(())
}

/// Asks for a lock of the session; it does not wait for it.
pub(crate) async fn lock(connection: &mut PgConnection, key: &str) -> Result<bool, WorkerError> {
    Ok(
        sqlx::query_scalar("select pg_try_advisory_lock(hashtextextended($1, 0))")
            .bind(key)
            .fetch_one(connection)
            .await?,
    )
}

/// Lets a lock go: once this returns, another worker has it or can have it.
pub(crate) async fn release(
    mut connection: PgConnection,
    key: &str,
    stream: &str,
) -> Result<(), WorkerError> {
    let released = async {
        sqlx::query("select pg_advisory_unlock(hashtextextended($1, 0))")
            .bind(key)
            .execute(&mut connection)
            .await?;
        connection.close().await
    };
    match tokio::time::timeout(RELEASE, released).await {
        Ok(released) => Ok(released?),
        Err(_) => Err(WorkerError::NotDrained(format!(
            "the read model's database does not confirm that the lock of stream {stream} is let go"
        ))),
    }
}

/// A database as an error names it: never with a password.
fn shown(options: &PgConnectOptions) -> String {
    let (host, port) = (options.get_host(), options.get_port());
    let name = options.get_database().unwrap_or("(default)");
    format!("{name} at {host}:{port}")
}
