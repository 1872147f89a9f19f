//! One worker: one projection, one stream. It elects itself by an advisory lock, reads on behind
//! the checkpoint, and commits each batch's rows with the checkpoint that follows from them.
//! Nothing is carried over an error: it starts again from what the database says.

use std::collections::HashSet;
use std::time::Duration;

use artstore_schemas::bus::{Bus, BusError};
use artstore_schemas::crash;
use artstore_schemas::envelope::Envelope;
use artstore_schemas::retry::Retry;
use artstore_schemas::source::Source;
use async_nats::jetstream::stream::RawMessageErrorKind;
use chrono::{DateTime, SubsecRound as _, Utc};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, Row as _};
use tokio::sync::watch;
use uuid::Uuid;

use crate::checkpoint::{self, Checkpoint};
use crate::consumer::StreamReader;
use crate::projector::{Projector, Received, Rejection};
use crate::projector_error::{Halt, Previous, WorkerError};

const MOST_MESSAGES: usize = 1_000;
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// How long a quiet worker waits before it shows the database that it is alive.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// A session that is silent for so long is ended by the server, and its lock let go.
const SILENCE: Duration = Duration::from_secs(6);

/// How often a worker that stands by tries the lock.
const STANDBY: Duration = Duration::from_millis(500);

/// Runs a worker until `stop` says so. Errors are logged once each and tried again: a person or
/// a restart may mend them. Returns the error that it stood at when it was stopped.
pub async fn run<P: Projector>(
    projector: &P,
    bus: &Bus,
    database: &PgConnectOptions,
    source: &Source,
    mut stop: watch::Receiver<bool>,
) -> Result<(), WorkerError> {
    let mut worker = Worker {
        projector,
        bus,
        database,
        source,
        stream: source.stream(),
        hole_at: None,
        most: MOST_MESSAGES,
    };
    let mut retry = Retry::new(Duration::from_millis(50), Duration::from_secs(3));
    let mut told = String::new();
    loop {
        let Err(error) = worker.session(&mut stop).await else {
            return Ok(());
        };
        let text = error.to_string();
        if text != told {
            if error.needs_a_person() {
                tracing::error!(
                    projection = P::NAME,
                    error = text,
                    "the projection has halted"
                );
            } else {
                tracing::warn!(
                    projection = P::NAME,
                    error = text,
                    "the worker starts again"
                );
            }
            told = text;
        }
        tokio::select! {
            _ = retry.wait() => {}
            () = stopped(&mut stop) => {
                return if error.needs_a_person() { Err(error) } else { Ok(()) };
            }
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The sender lives as long as the process: when it is gone, stopping is right as well.
    if stop.wait_for(|stop| *stop).await.is_err() {
        tracing::debug!("nobody is left to ask for a stop");
    }
}

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

async fn lock(connection: &mut PgConnection, key: &str) -> Result<bool, WorkerError> {
    Ok(
        sqlx::query_scalar("select pg_try_advisory_lock(hashtextextended($1, 0))")
            .bind(key)
            .fetch_one(connection)
            .await?,
    )
}

/// A database as an error names it: never with a password.
fn shown(options: &PgConnectOptions) -> String {
    let (host, port) = (options.get_host(), options.get_port());
    let name = options.get_database().unwrap_or("(default)");
    format!("{name} at {host}:{port}")
}

struct Worker<'a, P> {
    projector: &'a P,
    bus: &'a Bus,
    database: &'a PgConnectOptions,
    source: &'a Source,
    stream: String,
    /// Where the stream had a hole the last time.
    hole_at: Option<u64>,
    /// The most messages of a batch: smaller while an event that can't be applied is looked for.
    most: usize,
}

impl<P: Projector> Worker<'_, P> {
    /// From connecting to an error or the end.
    async fn session(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), WorkerError> {
        let name = format!("artstore projector {} {}", P::NAME, self.source);
        let mut connection = tokio::select! {
            connection = connect::<P>(self.database, &name) => connection?,
            () = stopped(stop) => return Ok(()),
        };
        let key = format!("artstore/projector/{}/{}", P::NAME, self.stream);
        let mut told = false;
        while !lock(&mut connection, &key).await? {
            if !std::mem::replace(&mut told, true) {
                let stream = &self.stream;
                tracing::info!(
                    projection = P::NAME,
                    stream,
                    "standing by: another worker is active"
                );
            }
            tokio::select! {
                () = tokio::time::sleep(STANDBY) => {}
                () = stopped(stop) => return Ok(()),
            }
        }
        crash::point("projector.elected");
        let checkpoint = checkpoint::load(&mut connection, P::NAME, &self.stream).await?;
        let created = self.check_stream(checkpoint.as_ref()).await?;
        let mut place = checkpoint;
        let last = place
            .as_ref()
            .map_or((0, None), |c| (c.last_sequence, c.last_event_id));
        let mut reader =
            StreamReader::open(self.bus, P::NAME, self.source, last, self.hole_at.take()).await?;
        crash::point("projector.reading");
        loop {
            let batch = tokio::select! {
                batch = reader.batch(self.most, MOST_BYTES, PATIENCE) => batch,
                () = stopped(stop) => return Ok(()),
            };
            if let Err(WorkerError::Hole { expected, .. }) = &batch {
                self.hole_at = Some(*expected);
            }
            let Some(batch) = batch? else {
                // Nothing new: show the database that this worker is alive.
                sqlx::query("select 1").execute(&mut connection).await?;
                continue;
            };
            crash::point("projector.received");
            place = Some(self.commit(&mut connection, place, created, &batch).await?);
            crash::point("projector.committed");
            self.most = (self.most * 2).min(MOST_MESSAGES);
        }
    }

    /// Whether the stream still is the one that the checkpoint is of, and holds what was applied.
    async fn check_stream(
        &self,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<DateTime<Utc>, WorkerError> {
        let info = self.bus.stream_info(&self.stream).await?;
        // As PostgreSQL keeps it.
        let created = info.created.trunc_subsecs(6);
        let Some(checkpoint) = checkpoint else {
            return Ok(created);
        };
        let projection = P::NAME;
        let stream = self.stream.clone();
        let sequence = checkpoint.last_sequence;
        if checkpoint.version != i32::try_from(P::VERSION).unwrap_or(i32::MAX) {
            return Err(Halt::Version {
                projection,
                found: checkpoint.version,
                wanted: P::VERSION,
            }
            .into());
        }
        if checkpoint.stream_created_at != created {
            return Err(Halt::Recreated {
                projection,
                stream,
                created,
                known: checkpoint.stream_created_at,
                sequence,
            }
            .into());
        }
        if info.state.last_sequence < sequence {
            let last = info.state.last_sequence;
            // A mirror may only be late: wait for it.
            if info.config.mirror.is_some() {
                return Err(WorkerError::Consumer {
                    stream,
                    reason: format!("the mirror is at {last}, the checkpoint at {sequence}"),
                });
            }
            return Err(Halt::Behind {
                projection,
                stream,
                last,
                sequence,
            }
            .into());
        }
        let applied = self.event_at(sequence).await?;
        if applied != checkpoint.last_event_id {
            return Err(Halt::Spliced {
                projection,
                stream,
                sequence,
                previous: Previous(applied),
                expected: Previous(checkpoint.last_event_id),
            }
            .into());
        }
        Ok(created)
    }

    /// The event that the stream has at this sequence; none at 0, or where it was removed.
    async fn event_at(&self, sequence: u64) -> Result<Option<Uuid>, WorkerError> {
        if sequence == 0 {
            return Ok(None);
        }
        let failed = |error: &dyn std::fmt::Display| {
            BusError::JetStream(format!("stream {}: {error}", self.stream))
        };
        let stream = self.bus.jetstream.get_stream_no_info(&self.stream).await;
        let stream = stream.map_err(|e| failed(&e))?;
        match stream.get_raw_message(sequence).await {
            Ok(message) => Ok(Envelope::from_headers(&message.headers).ok().map(|e| e.id)),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(failed(&error).into()),
        }
    }

    /// Rows and checkpoint in one transaction.
    async fn commit(
        &mut self,
        connection: &mut PgConnection,
        old: Option<Checkpoint>,
        stream_created_at: DateTime<Utc>,
        batch: &[Received],
    ) -> Result<Checkpoint, WorkerError> {
        let last = batch.last().expect("a batch has at least one event");
        let mut transaction = connection.begin().await?;
        if let Err(rejection) = self
            .projector
            .apply(&mut transaction, self.source, batch)
            .await
        {
            transaction.rollback().await?;
            return Err(self.rejected(rejection, batch));
        }
        crash::point("projector.applied");
        let new = Checkpoint {
            last_sequence: last.sequence,
            last_event_id: Some(last.envelope.id),
            stream_created_at,
            version: i32::try_from(P::VERSION).unwrap_or(i32::MAX),
            source_high: last.envelope.high,
            source_missing: last.envelope.missing.to_string(),
        };
        let old = old.map(|old| old.last_sequence);
        if !checkpoint::advance(&mut transaction, P::NAME, &self.stream, old, &new).await? {
            transaction.rollback().await?;
            return Err(WorkerError::Fenced {
                stream: self.stream.clone(),
                sequence: old.unwrap_or(0),
            });
        }
        crash::point("projector.advanced");
        transaction.commit().await?;
        Ok(new)
    }

    /// An event that can't be applied is found by smaller and smaller batches: all before it are
    /// applied, and the error names it.
    fn rejected(&mut self, rejection: Rejection, batch: &[Received]) -> WorkerError {
        let projection = P::NAME;
        let stream = self.stream.clone();
        match rejection {
            Rejection::Retry(error) => error.into(),
            Rejection::Halt(reason) => Halt::Tables {
                projection,
                stream,
                reason,
            }
            .into(),
            Rejection::Event(reason) if batch.len() > 1 => {
                self.most = batch.len() / 2;
                WorkerError::Consumer { stream, reason }
            }
            Rejection::Event(reason) => Halt::Event {
                projection,
                stream,
                sequence: batch[0].sequence,
                id: Previous(Some(batch[0].envelope.id)),
                reason,
            }
            .into(),
        }
    }
}
