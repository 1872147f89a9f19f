//! One relay a source: a session advisory lock in the source's own database elects it. The lock
//! only avoids wasted work; what keeps a second writer out is the stream's own sequence.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use artstore_schemas::source::Source;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection, Row as _};
use tokio::task::JoinHandle;

use crate::relay_error::{Halt, RelayError};

/// How often the holder shows that it is alive.
const HEARTBEAT: Duration = Duration::from_millis(1_000);

/// A session that is silent for so long is ended by the server, and its lock let go. A holder
/// that could not show that it is alive for so long no longer believes in its lock.
const SILENCE: Duration = Duration::from_secs(5);

/// How often each of two connections is asked which session it has.
const ASKED: usize = 5;

/// A held lock. Dropping it ends the heartbeat and closes the session.
#[derive(Debug)]
pub struct Lease {
    last_heartbeat: Arc<Mutex<Instant>>,
    heartbeat: JoinHandle<()>,
}

impl Lease {
    /// Waits until the lock is ours. `standing_by` is called once when another relay has it.
    pub async fn acquire(
        options: &PgConnectOptions,
        source: &Source,
        standing_by: impl FnOnce(),
    ) -> Result<Self, RelayError> {
        let mut connection = connect(options, "artstore relay (election)").await?;
        let mut standing_by = Some(standing_by);
        let mut asked = Instant::now();
        while !try_lock(&mut connection, source).await? {
            if let Some(tell) = standing_by.take() {
                tell();
            }
            tokio::time::sleep(HEARTBEAT / 2).await;
            asked = Instant::now();
        }
        let last_heartbeat = Arc::new(Mutex::new(asked));
        let heartbeat = tokio::spawn(beat(connection, Arc::clone(&last_heartbeat)));
        Ok(Self {
            last_heartbeat,
            heartbeat,
        })
    }

    /// Whether the lock was held a moment ago. Asked before everything that only the holder does.
    pub fn check(&self) -> Result<(), RelayError> {
        let last = *lock(&self.last_heartbeat);
        if self.heartbeat.is_finished() {
            return Err(RelayError::StoodDown("the session of its lock has ended"));
        }
        if last.elapsed() >= SILENCE {
            return Err(RelayError::StoodDown(
                "it was frozen, or its lock's session was",
            ));
        }
        Ok(())
    }

    /// On another connection the lock can't be had as well, or both are one session: a pooler.
    pub async fn check_direct(
        &self,
        other: &mut PgConnection,
        source: &Source,
    ) -> Result<(), RelayError> {
        if try_lock(other, source).await? {
            return Err(pooler("two connections share one session").into());
        }
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.heartbeat.abort();
    }
}

/// Opens a connection of the relay: the server ends it when the relay freezes or vanishes.
pub(crate) async fn connect(
    options: &PgConnectOptions,
    name: &str,
) -> Result<PgConnection, RelayError> {
    let options = options
        .clone()
        .application_name(name)
        .log_statements(tracing::log::LevelFilter::Trace);
    let connected = tokio::time::timeout(Duration::from_secs(10), options.connect())
        .await
        .unwrap_or(Err(sqlx::Error::PoolTimedOut));
    let mut connection = connected.map_err(|cause| match Halt::of_pooler(&cause) {
        Some(halt) => halt.into(),
        None => RelayError::Connect {
            database: shown(&options),
            cause,
        },
    })?;
    let silence = SILENCE.as_millis();
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "set idle_session_timeout = {silence}; \
         set idle_in_transaction_session_timeout = {silence}; \
         set tcp_keepalives_idle = 2; set tcp_keepalives_interval = 1; \
         set tcp_keepalives_count = 3; set tcp_user_timeout = {silence}; \
         set statement_timeout = '60s'; set timezone = 'UTC'"
    )))
    .execute(&mut connection)
    .await?;
    Ok(connection)
}

/// A database as an error names it: never with a password.
fn shown(options: &PgConnectOptions) -> String {
    let (host, port) = (options.get_host(), options.get_port());
    let name = options.get_database().unwrap_or("(default)");
    format!("{name} at {host}:{port}")
}

/// Refuses a pooler before anything is asked of it: of two connections each must have a session of
/// its own, and keep it. Simple statements only: a pooler mixes up prepared ones.
pub async fn refuse_pooler(options: &PgConnectOptions) -> Result<(), RelayError> {
    let mut first = connect(options, "artstore relay (check)").await?;
    let mut second = connect(options, "artstore relay (check)").await?;
    let (here, there) = (session(&mut first).await?, session(&mut second).await?);
    if here == there {
        return Err(pooler("two connections share one session").into());
    }
    for _ in 0..ASKED {
        if session(&mut first).await? != here || session(&mut second).await? != there {
            return Err(pooler("one connection is served by several sessions").into());
        }
    }
    Ok(())
}

async fn session(connection: &mut PgConnection) -> Result<i32, RelayError> {
    let row = sqlx::raw_sql("select pg_backend_pid()")
        .fetch_one(connection)
        .await?;
    Ok(row.try_get(0)?)
}

fn pooler(sign: &str) -> Halt {
    Halt::Pooler {
        sign: sign.to_owned(),
    }
}

async fn try_lock(connection: &mut PgConnection, source: &Source) -> Result<bool, RelayError> {
    Ok(sqlx::query_scalar("select pg_try_advisory_lock($1)")
        .bind(lock_key(source))
        .fetch_one(connection)
        .await?)
}

/// The first eight bytes of SHA-256 of a name: one key per source in a database.
fn lock_key(source: &Source) -> i64 {
    let name = format!("artstore/relay/{source}");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, name.as_bytes());
    let mut key = [0; 8];
    key.copy_from_slice(&digest.as_ref()[..8]);
    i64::from_be_bytes(key)
}

async fn beat(mut connection: PgConnection, last_heartbeat: Arc<Mutex<Instant>>) {
    loop {
        tokio::time::sleep(HEARTBEAT).await;
        let asked = Instant::now();
        let answer = sqlx::query("select 1").execute(&mut connection);
        match tokio::time::timeout(SILENCE, answer).await {
            Ok(Ok(_)) => *lock(&last_heartbeat) = asked,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the election's session has ended");
                return;
            }
            Err(_) => {
                tracing::warn!("the election's session does not answer");
                return;
            }
        }
    }
}

fn lock(instant: &Mutex<Instant>) -> std::sync::MutexGuard<'_, Instant> {
    instant
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
