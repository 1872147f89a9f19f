//! One active relay per source: a lock in the source's own database elects it, which only roles of relays can
//! hold ([`artstore_runtime::duty_lock`]). It only avoids wasted work; the stream's expected sequence keeps a
//! second writer out.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use artstore_runtime::duty_lock::{DutyLock, FixedKey, HeldLock};
use artstore_runtime::holder::Holder;
use artstore_runtime::pulse::{self, within};
use artstore_runtime::session::{Session, SessionError};
use artstore_schemas::source::Source;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use crate::relay::relay_error::RelayError;
use crate::relay::source::SourceTable;

/// How often the holder shows that it is alive.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(1_000);

/// A session that is silent for so long is ended by the server, and its lock released. A holder
/// that could not show that it is alive for so long no longer trusts its lock.
const SILENCE: Duration = Duration::from_secs(5);

const ENDED: &str = "the session of its lock has ended";

const REPLACED: &str = "its lock has a new key, because another role had taken the old one";

/// How long the server may take to confirm that the lock is released.
const RELEASE: Duration = Duration::from_secs(3);

/// A held lock. Dropping it ends the heartbeat and closes the session.
#[derive(Debug)]
pub struct Lease {
    last_heartbeat: Arc<Mutex<Instant>>,
    /// Gives the session back when it was asked to end, and the session is still well.
    heartbeat: JoinHandle<Option<PgConnection>>,
    end: Option<oneshot::Sender<()>>,
    /// The heartbeat has the other end for as long as it continues.
    beats: watch::Receiver<()>,
    lock: DutyLock,
    held: HeldLock,
}

impl Lease {
    /// Keeps a lock that this session got when it asked at `asked`.
    pub(crate) fn held(
        connection: PgConnection,
        lock: DutyLock,
        held: HeldLock,
        asked: Instant,
    ) -> Self {
        let last_heartbeat = Arc::new(Mutex::new(asked));
        let (end, ending) = oneshot::channel();
        let (beating, beats) = watch::channel(());
        let (last, watched) = (Arc::clone(&last_heartbeat), lock.clone());
        let heartbeat = async move {
            let connection = beat(connection, (&watched, held), last, ending).await;
            drop(beating);
            connection
        };
        let heartbeat = tokio::spawn(heartbeat.in_current_span());
        Self {
            last_heartbeat,
            heartbeat,
            end: Some(end),
            beats,
            lock,
            held,
        }
    }

    /// Resolves when the lock's session is lost. Whatever else waits for the same server would wait for
    /// as long as the network swallows packets.
    pub(crate) async fn lost(&self) -> RelayError {
        let mut beats = self.beats.clone();
        while beats.changed().await.is_ok() {}
        RelayError::LockLost(ENDED)
    }

    /// Releases the lock: once this returns, another relay has it or can have it. An error where
    /// the server does not confirm that in a few seconds; it then drops a silent session.
    pub async fn release(mut self, source: &Source) -> Result<(), RelayError> {
        let released = async {
            if self.end.take().is_none_or(|end| end.send(()).is_err()) {
                // The heartbeat has ended, and the session with it.
                return Ok(());
            }
            let Ok(Some(mut connection)) = (&mut self.heartbeat).await else {
                return Ok(());
            };
            self.lock.release(&mut connection, self.held).await?;
            connection.close().await
        };
        match tokio::time::timeout(RELEASE, released).await {
            Ok(released) => Ok(released?),
            Err(_) => Err(RelayError::NotDrained(format!(
                "the database of {source} does not confirm that the relay's lock is let go"
            ))),
        }
    }

    /// Whether the lock was held a moment ago. Asked before everything that only the holder does.
    pub fn check(&self) -> Result<(), RelayError> {
        let last = *lock(&self.last_heartbeat);
        if self.heartbeat.is_finished() {
            return Err(RelayError::LockLost(ENDED));
        }
        if last.elapsed() >= SILENCE {
            return Err(RelayError::LockLost(
                "it was frozen, or its lock's session was",
            ));
        }
        Ok(())
    }

    /// On another connection the lock can't be had as well, or both are one session: a pooler.
    pub async fn check_direct(&self, other: &mut PgConnection) -> Result<(), RelayError> {
        if DutyLock::is_free(other, self.held).await? {
            return Err(SessionError::pooler("two connections share one session").into());
        }
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.heartbeat.abort();
    }
}

/// A session of the relay: the server ends it when the relay freezes or vanishes.
fn session<'a>(database: &'a PgConnectOptions, name: &'a str) -> Session<'a> {
    Session {
        database,
        name,
        silence: SILENCE,
        settings: "set statement_timeout = '60s'",
    }
}

/// Opens a connection of the relay.
pub async fn connect(database: &PgConnectOptions, name: &str) -> Result<PgConnection, RelayError> {
    Ok(session(database, name).open().await?)
}

/// Refuses a pooler before anything is asked of it.
pub async fn refuse_pooler(database: &PgConnectOptions) -> Result<(), RelayError> {
    let check = session(database, "artstore relay (check)");
    Ok(check.refuse_pooler().await?)
}

/// Who has the source's lock now, as any session of its database sees it; none where nobody has.
pub async fn holder(
    connection: &mut PgConnection,
    source: &Source,
) -> Result<Option<Holder>, sqlx::Error> {
    lock_of(source).holder(connection).await
}

/// The lock of a source's relay.
pub(crate) fn lock_of(source: &Source) -> DutyLock {
    let fixed = FixedKey::Number(fixed_key(source));
    DutyLock::new(SourceTable::of(source).lock_table(), "relay", fixed)
}

/// The key that earlier versions use: the first eight bytes of SHA-256 of a name.
fn fixed_key(source: &Source) -> i64 {
    let name = format!("artstore/relay/{source}");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, name.as_bytes());
    let mut key = [0; 8];
    key.copy_from_slice(&digest.as_ref()[..8]);
    i64::from_be_bytes(key)
}

async fn beat(
    mut connection: PgConnection,
    (lock_held, held): (&DutyLock, HeldLock),
    last_heartbeat: Arc<Mutex<Instant>>,
    mut end: oneshot::Receiver<()>,
) -> Option<PgConnection> {
    loop {
        tokio::select! {
            () = tokio::time::sleep(HEARTBEAT) => {}
            _ = &mut end => return Some(connection),
        }
        let asked = Instant::now();
        match within(pulse::ANSWER, lock_held.is_held(&mut connection, held)).await {
            Ok(true) => *lock(&last_heartbeat) = asked,
            Ok(false) => {
                tracing::warn!("{REPLACED}");
                return None;
            }
            Err(error) => {
                tracing::warn!(%error, "the election's session has ended");
                return None;
            }
        }
    }
}

fn lock(instant: &Mutex<Instant>) -> std::sync::MutexGuard<'_, Instant> {
    instant
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
