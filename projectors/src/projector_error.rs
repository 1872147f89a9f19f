//! Why a worker stops: for now, or until an operator decides.

use artstore_bus::bus_error::BusError;
use artstore_runtime::relation::Unfit;
use artstore_runtime::session::SessionError;
use artstore_runtime::unavailable::is_unavailable;
use artstore_runtime::words::{unreached, words};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::projection_names::{AUDIT_LOG, ELEMENT_REGISTRY, QUERY_CACHE};

/// An error of a worker.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The read model's database failed. Tried again from its checkpoint.
    #[error("the read model's database: {}", words(.0))]
    Database(sqlx::Error),
    /// No connection to the read model's database. Tried again.
    #[error("{}; check {variable}", unreached(.database, .cause))]
    Connect {
        /// Where it is configured.
        variable: &'static str,
        /// Which one: name, host and port.
        database: String,
        /// The client's message.
        cause: sqlx::Error,
    },
    /// NATS failed. Tried again from the checkpoint.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The consumer ended or lost messages. Recreated from the checkpoint.
    #[error("stream {stream}: the consumer is recreated: {reason}")]
    Consumer {
        /// The stream.
        stream: String,
        /// What it reported.
        reason: String,
    },
    /// A message did not come. The consumer is recreated from the checkpoint, once.
    #[error("stream {stream}: message {expected} did not come, {found} did")]
    Hole {
        /// The stream.
        stream: String,
        /// The sequence that should have come.
        expected: u64,
        /// The sequence that came.
        found: u64,
    },
    /// Another worker has moved the checkpoint. Nothing was written.
    #[error("stream {stream}: another worker has moved the checkpoint from {sequence}")]
    Fenced {
        /// The stream.
        stream: String,
        /// Where this worker thought it was.
        sequence: u64,
    },
    /// It was asked to stop, and something did not end in time.
    #[error(
        "stopped before everything was settled: {0}; nothing is lost: the next start continues from \
         the checkpoint"
    )]
    NotDrained(String),
    /// Something is wrong that no retry can fix.
    #[error(transparent)]
    Halt(#[from] Box<Halt>),
}

impl From<sqlx::Error> for WorkerError {
    fn from(error: sqlx::Error) -> Self {
        Self::of_session(SessionError::from(error), "the database's URL")
    }
}

impl From<Halt> for WorkerError {
    fn from(halt: Halt) -> Self {
        Self::Halt(Box::new(halt))
    }
}

impl WorkerError {
    /// Of a session with the database that this variable configures.
    pub(crate) fn of_session(error: SessionError, variable: &'static str) -> Self {
        match error {
            SessionError::Database(error) => Self::Database(error),
            SessionError::Connect { database, cause } => Self::Connect {
                variable,
                database,
                cause,
            },
            SessionError::Pooler { sign } => Halt::Pooler { sign, variable }.into(),
            SessionError::TooOld { database, problem } => Halt::TooOld { database, problem }.into(),
        }
    }

    /// Whether a server is unavailable for now: NATS, or the read model's database. At the start it can be
    /// waited for.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Database(error) | Self::Connect { cause: error, .. } => is_unavailable(error),
            Self::Bus(error) => error.is_transient(),
            Self::Consumer { .. }
            | Self::Hole { .. }
            | Self::Fenced { .. }
            | Self::NotDrained(_)
            | Self::Halt(_) => false,
        }
    }

    /// Whether a person has to act before another try can succeed.
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::Database(error) | Self::Connect { cause: error, .. } => match error {
                sqlx::Error::Database(error) => error.code().is_some_and(|code| {
                    matches!(code.as_ref(), "28000" | "28P01" | "3D000" | "42501")
                }),
                sqlx::Error::Configuration(_) => true,
                _ => false,
            },
            Self::Bus(error) => !error.is_transient(),
            Self::Consumer { .. }
            | Self::Hole { .. }
            | Self::Fenced { .. }
            | Self::NotDrained(_) => false,
            Self::Halt(_) => true,
        }
    }
}

/// What only an operator can fix. Each text says what happened and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Halt {
    /// The tables are not there.
    #[error(
        "database {database} has no table {table}: is it the {module} module's ({variable})? If it \
         is, run `artstore migrate up --module {module}`"
    )]
    NotMigrated {
        /// The database.
        database: String,
        /// The first one missing.
        table: String,
        /// Whose it should be.
        module: &'static str,
        /// Where it is configured.
        variable: &'static str,
    },
    /// A table does not show all of its rows.
    #[error("database {database}: {unfit}; nothing was applied")]
    Unfit {
        /// The database.
        database: String,
        /// Which, and why.
        unfit: Unfit,
    },
    /// The server is too old.
    #[error("database {database}: {problem}")]
    TooOld {
        /// The database.
        database: String,
        /// Its version, and which is needed.
        problem: String,
    },
    /// There is a pooler in between.
    #[error(
        "there is a connection pooler between the projector and the read model (pgbouncer?): \
         {sign}; give {variable} a direct connection to PostgreSQL"
    )]
    Pooler {
        /// By what it shows itself.
        sign: String,
        /// Where the database is configured.
        variable: &'static str,
    },
    /// The read model is on a standby.
    #[error(
        "database {database} is on a standby, which takes no writes: point {variable} at the \
         primary"
    )]
    Standby {
        /// The database.
        database: String,
        /// Where it is configured.
        variable: &'static str,
    },
    /// The tables were built by another version of the projector.
    #[error(
        "projection {projection}: its tables were built by version {found}, this is version \
         {wanted}: build it again: `artstore projection rebuild {projection}`"
    )]
    Version {
        /// The projection.
        projection: &'static str,
        /// The version in the checkpoint.
        found: i32,
        /// The version of the program.
        wanted: u32,
    },
    /// The audit log is not what was signed or published of it.
    #[error(
        "projection {projection}: stream {stream}: {reason}; nothing was applied. See what is wrong \
         with `artstore audit verify --stream {stream}`; keep the database as it is until that is \
         understood"
    )]
    Evidence {
        /// The projection.
        projection: &'static str,
        /// The stream.
        stream: String,
        /// What does not agree.
        reason: String,
    },
    /// The stream is not the one that the checkpoint is of.
    #[error(
        "projection {projection}: stream {stream} was created at {created}, but the checkpoint \
         (sequence {sequence}) is of one created at {known}: the stream was removed and made \
         again; nothing was applied. Restore the stream from a backup; or, if this one holds what \
         the source has, bring the projection to it: {}",
        way_on(projection, stream)
    )]
    Recreated {
        /// The projection.
        projection: &'static str,
        /// The stream.
        stream: String,
        /// When the stream was created.
        created: DateTime<Utc>,
        /// When the checkpoint's stream was created.
        known: DateTime<Utc>,
        /// The checkpoint's sequence.
        sequence: u64,
    },
    /// The stream ends before the checkpoint.
    #[error(
        "projection {projection}: stream {stream} ends at {last}, but the checkpoint is at \
         {sequence}: the stream lost its end (an old backup?); nothing was applied. Where the \
         source still has the rows, start its relay, which publishes them again; where that does \
         not lead back to the checkpoint, restore the stream's newer state, or {}",
        way_on(projection, stream)
    )]
    Behind {
        /// The projection.
        projection: &'static str,
        /// The stream.
        stream: String,
        /// The stream's last sequence.
        last: u64,
        /// The checkpoint's sequence.
        sequence: u64,
    },
    /// A message does not continue what was applied before.
    #[error(
        "projection {projection}: stream {stream}, message {sequence}: it follows event \
         {previous}, but event {expected} was applied before it: the stream was spliced or \
         rewritten, or the checkpoint was moved; nothing was applied. Restore the right stream; or `artstore relay republish \
         --source {source_name}`, which shows the damage and repairs the stream; where it finds \
         none (the checkpoint was moved, or the stream was replaced as a whole), {}",
        way_on(projection, stream)
    )]
    Spliced {
        /// The source.
        source_name: String,
        /// The projection.
        projection: &'static str,
        /// The stream.
        stream: String,
        /// The message.
        sequence: u64,
        /// The event that it names as the one before it.
        previous: Previous,
        /// What was.
        expected: Previous,
    },
    /// Messages are missing in the stream.
    #[error(
        "projection {projection}: stream {stream}: message {expected} is missing, {found} came \
         instead, twice: the stream has a hole; nothing was applied. Restore the stream; or \
         `artstore relay republish --source {source_name}`, which shows what is missing and \
         publishes it again"
    )]
    Hole {
        /// The source.
        source_name: String,
        /// The projection.
        projection: &'static str,
        /// The stream.
        stream: String,
        /// The sequence that should have come.
        expected: u64,
        /// The sequence that came.
        found: u64,
    },
    /// A message is not an event of its stream.
    #[error(
        "projection {projection}: stream {stream}, message {sequence} (event {id}) can't be \
         applied: {reason}; this stream stands still until that is fixed. If no newer version of \
         this program is needed to read it: `artstore relay republish --source {source_name}` \
         shows the damage and repairs the stream"
    )]
    Unreadable {
        /// The projection.
        projection: &'static str,
        /// The source.
        source_name: String,
        /// The stream.
        stream: String,
        /// The message.
        sequence: u64,
        /// Its event, where it could be read.
        id: Previous,
        /// What is wrong.
        reason: String,
    },
    /// An event can't be applied.
    #[error(
        "projection {projection}: stream {stream}, message {sequence} (event {id}) can't be \
         applied: {reason}; this stream stands still until that is fixed"
    )]
    Event {
        /// The projection.
        projection: &'static str,
        /// The stream.
        stream: String,
        /// The message.
        sequence: u64,
        /// Its event, where it could be read.
        id: Previous,
        /// What is wrong.
        reason: String,
    },
    /// One event after another can't be applied.
    #[error(
        "projection {projection}: stream {stream}: {most} events one after another can't be applied, \
         the last one is message {sequence} (event {id}): {reason}; this is a bug or a wrong set-up \
         rather than data: nothing more is parked, and this stream stands still. When it is fixed, \
         restart the projector; then `artstore parked retry`",
        most = crate::parking::MOST_IN_ROW
    )]
    TooManyParked {
        /// The projection.
        projection: &'static str,
        /// The stream.
        stream: String,
        /// The message.
        sequence: u64,
        /// Its event.
        id: Previous,
        /// Why it can't be applied.
        reason: String,
    },
    /// No event can be applied.
    #[error("projection {projection}: stream {stream}: {reason}; this is a bug or a wrong set-up")]
    Tables {
        /// The projection.
        projection: &'static str,
        /// The stream.
        stream: String,
        /// What is wrong.
        reason: String,
    },
}

/// How a projection comes to a stream that is not the one that it has read.
fn way_on(projection: &str, stream: &str) -> String {
    match projection {
        AUDIT_LOG => format!(
            "`artstore audit accept-stream --stream {stream} --reason REASON`, which continues the log \
             where each of its rows is what this stream says. Where one is not, its rows stay as they \
             are: see `artstore audit verify --no-bus --stream {stream}`"
        ),
        QUERY_CACHE => "`artstore projection repair query-cache`".to_owned(),
        ELEMENT_REGISTRY => "`artstore projection rebuild element-registry`".to_owned(),
        other => format!("build the tables of {other} again from the stream, with its own program"),
    }
}

/// An event's id as it is shown: `none` for the start of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Previous(pub Option<Uuid>);

impl std::fmt::Display for Previous {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(id) => id.fmt(f),
            None => f.write_str("none"),
        }
    }
}
