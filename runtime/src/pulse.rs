//! Deadlines for waiting on PostgreSQL. A network that swallows packets gives no error: without a deadline,
//! a statement whose answer was lost waits until the operating system gives up, for hours.
//!
//! - [`kept_alive`]: a session shows its server that it is alive, and the server shows the session,
//!   while something else is waited for.
//! - [`Pulse`]: a second session asks the server every second. Where its answer does not come, work on
//!   other sessions of the same server is given up as well: their statements may take long, and
//!   report nothing meanwhile.

use std::future::Future;
use std::io;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::session::{Session, SessionError};

/// How often the server is asked.
pub const EVERY: Duration = Duration::from_secs(1);

/// How long its answer may take.
pub const ANSWER: Duration = Duration::from_secs(4);

/// How long after a failure the second session is opened again.
const AGAIN: Duration = Duration::from_secs(1);

/// The server ends the second session after so long without a question.
const SILENCE: Duration = Duration::from_secs(30);

/// Waits for something that another server does. The server of `connection` does not end the session
/// meanwhile, whatever its `idle_session_timeout`. An error: the session is lost.
pub async fn kept_alive<T>(
    connection: &mut PgConnection,
    other: impl Future<Output = T>,
) -> Result<T, sqlx::Error> {
    // On the heap, as below: what is waited for may be all that a relay does.
    let mut other = Box::pin(other);
    loop {
        tokio::select! {
            done = &mut other => return Ok(done),
            () = sleep(EVERY) => {}
        }
        let asked = ask(connection);
        tokio::pin!(asked);
        tokio::select! {
            done = &mut other => {
                asked.await?;
                return Ok(done);
            }
            answered = &mut asked => answered?,
        }
    }
}

/// Asks a session's server for a sign of life. An error: it does not answer.
pub async fn ask(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    within(ANSWER, connection.ping()).await
}

/// Waits for an answer of the server for no longer than this.
pub async fn within<T, E: From<sqlx::Error>>(
    longest: Duration,
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let answered = timeout(longest, Box::pin(answer)).await;
    answered.unwrap_or_else(|_| Err(no_answer(longest).into()))
}

fn no_answer(longest: Duration) -> sqlx::Error {
    let text = format!("no answer within {} s", longest.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, text).into()
}

/// Whether a server answers, asked on a session of its own.
#[derive(Debug)]
pub struct Pulse {
    /// When the server was asked last and did not answer.
    lost: watch::Receiver<Option<Instant>>,
    beat: JoinHandle<()>,
}

impl Pulse {
    /// Asks the server of a database until this is dropped.
    pub fn of(database: PgConnectOptions, name: &'static str) -> Self {
        let (sender, lost) = watch::channel(None);
        let beat = tokio::spawn(beat(database, name, sender));
        Self { lost, beat }
    }

    /// Works until the server stops answering. What was waited for is given up then: its session is to
    /// be closed.
    pub async fn while_answered<T, E: From<sqlx::Error>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let (mut lost, begun) = (self.lost.clone(), Instant::now());
        let lost = lost.wait_for(|lost| lost.is_some_and(|lost| lost > begun));
        tokio::select! {
            biased;
            worked = Box::pin(work) => worked,
            Ok(_) = lost => Err(no_answer(ANSWER).into()),
        }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.beat.abort();
    }
}

async fn beat(database: PgConnectOptions, name: &str, lost: watch::Sender<Option<Instant>>) {
    // When it could not be reached, after it had been.
    let mut unreached: Option<Instant> = None;
    let mut reached = false;
    loop {
        let session = Session {
            database: &database,
            name,
            silence: SILENCE,
            settings: "",
        };
        let begun = Instant::now();
        match session.open().await {
            Ok(mut connection) => {
                reached = true;
                // What was begun before, and answered by nobody, may be waited for still.
                if let Some(unreached) = unreached.take() {
                    lost.send_replace(Some(unreached));
                }
                loop {
                    sleep(EVERY).await;
                    let asked = Instant::now();
                    match ask(&mut connection).await {
                        Ok(()) => {}
                        // It answers, and ends this session alone.
                        Err(sqlx::Error::Database(_)) => break,
                        Err(_) => {
                            lost.send_replace(Some(asked));
                            break;
                        }
                    }
                }
            }
            // There may be too many sessions: that proves nothing about the others.
            Err(SessionError::Connect { cause, .. })
                if !matches!(cause, sqlx::Error::Database(_)) =>
            {
                unreached = reached.then_some(begun);
            }
            Err(_) => {}
        }
        sleep(AGAIN).await;
    }
}
