//! Why a relay stops: for now, or until an operator decides.

use artstore_bus::bus_error::BusError;
use artstore_bus::stream_reader::ReadError;
use artstore_runtime::count::counted;
use artstore_runtime::relation::Unfit;
use artstore_runtime::session::SessionError;
use artstore_runtime::unavailable::is_unavailable;
use artstore_runtime::words::{is_untranslatable, unreached, words};
use uuid::Uuid;

/// An error of the relay.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The source's database failed. Tried again, on new connections.
    #[error("the source's database: {}{}", words(.0), advice(.0))]
    Database(sqlx::Error),
    /// No connection to the source's database. Tried again.
    #[error("{}", unreached(.database, .cause))]
    Connect {
        /// Which one: name, host and port.
        database: String,
        /// The client's message.
        cause: sqlx::Error,
    },
    /// NATS failed. Tried again, from what the stream states.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The election was lost, or its connection. Another relay may be active now.
    #[error("this relay is no longer the source's only one: {0}")]
    LockLost(&'static str),
    /// It was asked to stop, and something did not end in time.
    #[error(
        "stopped before everything was settled: {0}; nothing is lost: the next start continues from \
         what the stream says"
    )]
    NotDrained(String),
    /// A command's messages were not stored, however often it tried.
    #[error("{0}; what was stored before stays, and the same command continues")]
    NotStored(String),
    /// Somebody else holds the source's lock and does not release it.
    #[error(
        "the relay's lock of {source_name} is held by {holder}, which did not let it go within \
         {seconds} s: {advice}"
    )]
    Held {
        /// The source.
        source_name: String,
        /// Who holds it, as the database shows the session.
        holder: String,
        /// How long it was waited for, in seconds.
        seconds: u64,
        /// What to do.
        advice: &'static str,
    },
    /// A problem that no retry can fix.
    #[error(transparent)]
    Halt(#[from] Box<Halt>),
}

impl From<ReadError> for RelayError {
    fn from(ended: ReadError) -> Self {
        Self::Bus(ended.into())
    }
}

impl From<sqlx::Error> for RelayError {
    fn from(error: sqlx::Error) -> Self {
        SessionError::from(error).into()
    }
}

impl From<SessionError> for RelayError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Database(error) => Self::Database(error),
            SessionError::Connect { database, cause } => Self::Connect { database, cause },
            SessionError::Pooler { sign } => Halt::Pooler { sign }.into(),
            SessionError::TooOld { database, problem } => Halt::TooOld { database, problem }.into(),
        }
    }
}

impl From<Halt> for RelayError {
    fn from(halt: Halt) -> Self {
        Self::Halt(Box::new(halt))
    }
}

impl RelayError {
    /// Whether a person has to act before another try can succeed.
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::Database(error) | Self::Connect { cause: error, .. } => is_permanent(error),
            Self::Bus(error) => !error.is_transient(),
            Self::LockLost(_) | Self::NotDrained(_) | Self::Held { .. } => false,
            Self::NotStored(_) | Self::Halt(_) => true,
        }
    }
}

impl RelayError {
    /// Whether a server is unavailable for now: NATS, or the source's database. At the start it can be waited
    /// for.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Database(error) | Self::Connect { cause: error, .. } => is_unavailable(error),
            Self::Bus(error) => error.is_transient(),
            Self::LockLost(_)
            | Self::NotDrained(_)
            | Self::NotStored(_)
            | Self::Held { .. }
            | Self::Halt(_) => false,
        }
    }

    /// Whether it is of one source: of what its database or its stream is or holds, which whoever owns them
    /// may change at any time. Other sources of the same process continue. What is left is a wrong setting,
    /// or may pass.
    pub fn is_of_one_source(&self) -> bool {
        match self {
            Self::Halt(halt) => halt.is_of_one_source(),
            Self::Database(error) => is_permanent(error),
            Self::Connect { cause, .. } => is_refused(cause),
            Self::Bus(error) => is_of_one_stream(error),
            Self::LockLost(_) | Self::NotDrained(_) | Self::NotStored(_) | Self::Held { .. } => {
                false
            }
        }
    }
}

impl Halt {
    fn is_of_one_source(&self) -> bool {
        match self {
            // Which server the URL leads to.
            Self::TooOld { .. } | Self::Pooler { .. } => false,
            Self::Standby
            | Self::NoTable { .. }
            | Self::NotMigrated { .. }
            | Self::Unfit(_)
            | Self::NoPruneMark { .. }
            | Self::Status { .. }
            | Self::OtherIdentity { .. }
            | Self::SequenceBehind { .. }
            | Self::SetBack { .. }
            | Self::BehindPruneMark { .. }
            | Self::ForeignStream { .. }
            | Self::Duplicate { .. } => true,
        }
    }
}

fn is_of_one_stream(error: &BusError) -> bool {
    match error {
        BusError::NoStream(_)
        | BusError::Unfit { .. }
        | BusError::Limited { .. }
        | BusError::NotPermitted(_) => true,
        BusError::Connect { .. }
        | BusError::Url { .. }
        | BusError::Credentials { .. }
        | BusError::Tls { .. }
        | BusError::TlsFile { .. }
        | BusError::TooOld { .. }
        | BusError::SmallMessages { .. }
        | BusError::JetStream(_) => false,
    }
}

/// The role may log in, and not into this database.
fn is_refused(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code == "42501")
}

/// What to do about a text that can't be read, or a right that is missing.
fn advice(error: &sqlx::Error) -> &'static str {
    if is_untranslatable(error) {
        return "; run `artstore migrate up` for this database: such a text is then published with U+FFFD \
                in place of what can't be read";
    }
    if is_missing(error) {
        return "; run `artstore migrate up` for this database, or put back what was changed";
    }
    match is_refused(error) {
        true => {
            "; give this role a relay's rights: `artstore migrate grant --role NAME --for relay`"
        }
        false => "",
    }
}

/// A table or a column that is not there.
fn is_missing(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| matches!(code.as_ref(), "42P01" | "42703"))
}

/// Wrong password, no such database, no right to log in or to read, a text that can't be read: only an
/// operator can fix these.
fn is_permanent(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            matches!(
                code.as_ref(),
                "28000" | "28P01" | "3D000" | "42501" | "42P01" | "42703" | "22P05"
            )
        }),
        sqlx::Error::Configuration(_) | sqlx::Error::InvalidArgument(_) => true,
        _ => false,
    }
}

/// What only an operator can fix. Each text says what happened and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Halt {
    /// The source is a standby.
    #[error(
        "the source's database is a standby, which does not know the transactions in flight: \
         point the relay at the primary"
    )]
    Standby,
    /// The server is too old.
    #[error("database {database}: {problem}")]
    TooOld {
        /// Which one: name, host and port.
        database: String,
        /// Its version, and which is needed.
        problem: String,
    },
    /// The table is not in this database.
    #[error(
        "database {database} has no table {table}: is it the right database for this source? If \
         it is, run `artstore migrate up` for it"
    )]
    NoTable {
        /// The database.
        database: String,
        /// The table.
        table: String,
    },
    /// A table of the source does not show all of its rows.
    #[error("{0}; nothing was published")]
    Unfit(Unfit),
    /// Trigger, sequence, index or constraint are not as they should be.
    #[error(
        "table {table}: {problem}; positions could get lost: run `artstore migrate up`, or put \
         back what was changed"
    )]
    NotMigrated {
        /// The table.
        table: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The record of what was pruned is gone.
    #[error(
        "table {table} is empty: how far finished operations were pruned is not known, so a stream \
         that lacks them can't be distinguished from a complete one; put its one row back from a backup (if \
         nothing was ever pruned: `insert into {table} default values`)"
    )]
    NoPruneMark {
        /// The table.
        table: String,
    },
    /// A connection pooler is between us and the server.
    #[error(
        "there is a connection pooler between the relay and the source (pgbouncer?): {sign}; give \
         the relay a direct connection to PostgreSQL"
    )]
    Pooler {
        /// How it was detected.
        sign: String,
    },
    /// A finished row has an invalid status.
    #[error("position {position}: the status {status:?} is not known to this version")]
    Status {
        /// The row's position.
        position: i64,
        /// Its status.
        status: String,
    },
    /// The stream was written from another database, or from an earlier life of this one.
    #[error(
        "stream {stream} was written from the database {in_stream}, this one is {here} \
         (system identifier, database, timeline): the source was restored, promoted or replaced, \
         nothing was published. Put the right database behind the source's URL; if this one is to \
         be the source from now on, `artstore relay accept-source --source {source_name}` shows \
         what it lost and continues from it (docs/recovery.md#accepting-another-source)"
    )]
    OtherIdentity {
        /// The source.
        source_name: String,
        /// The stream.
        stream: String,
        /// The identity in its last message.
        in_stream: String,
        /// The identity of the database.
        here: String,
    },
    /// The sequence is behind the stream.
    #[error(
        "stream {stream} has position {high_water_mark}, but the source's sequence is at {sequence}: the \
         source was set back to an earlier state; nothing was published. Restore it to a state \
         that holds position {high_water_mark}; if its loss is accepted, `artstore relay accept-source --source \
         {source_name}` shows what it lost and continues from it (docs/recovery.md#accepting-another-source)"
    )]
    SequenceBehind {
        /// The source.
        source_name: String,
        /// The stream.
        stream: String,
        /// The highest position seen.
        high_water_mark: i64,
        /// The sequence's last value.
        sequence: i64,
    },
    /// Messages of the stream have no row, or another row, in the source.
    #[error(
        "stream {stream} has {} that the source does not hold any more, from \
         position {first} to {last} (first: message {sequence}, event {id}): the source was set \
         back to an earlier state, or finished rows were deleted; nothing was published. Restore \
         it to a state that holds position {last}; if its loss is accepted, `artstore relay \
         accept-source --source {source_name}` shows what it lost and continues from it \
         (docs/recovery.md#accepting-another-source)",
        counted(.count, "message")
    )]
    SetBack {
        /// The source.
        source_name: String,
        /// The stream.
        stream: String,
        /// How many such messages there are.
        count: usize,
        /// The first position.
        first: i64,
        /// The last position.
        last: i64,
        /// The first one's sequence.
        sequence: u64,
        /// The first one's event.
        id: Uuid,
    },
    /// The stream lacks operations that were pruned.
    #[error(
        "the operations of {source_name} were pruned up to position {prune_mark}, and stream {stream} does \
         not have all of them (it goes up to position {high_water_mark}, gaps: {gaps}): it was recreated or \
         set back, and no other copy of them is known; nothing was published. Restore the stream; if its \
         loss is accepted, `artstore relay accept-source --source {source_name}` continues without \
         them (docs/pruning.md)"
    )]
    BehindPruneMark {
        /// The source.
        source_name: String,
        /// The stream.
        stream: String,
        /// Up to where the source was pruned.
        prune_mark: i64,
        /// The stream's high-water mark.
        high_water_mark: i64,
        /// The gaps below it.
        gaps: String,
    },
    /// The stream is not one that this relay wrote.
    #[error(
        "stream {stream}, message {sequence}: {problem}; it was not written by a relay of this \
         source, or the stream was changed: nothing was published. `artstore relay republish \
         --source {source_name}` shows all of the damage and repairs the stream; restoring an \
         undamaged stream does too"
    )]
    ForeignStream {
        /// The source.
        source_name: String,
        /// The stream.
        stream: String,
        /// The message.
        sequence: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// The server reports that a message is there already, and it is not at the stream's end.
    #[error(
        "stream {stream}: event {id}{} is in the stream already, but the stream's state says that \
         it is not published: nothing more is published. The stream was put together by something \
         else than a relay: move it away and run `artstore bus init`",
        .position.map_or_else(String::new, |position| format!(" of position {position}"))
    )]
    Duplicate {
        /// The stream.
        stream: String,
        /// The event.
        id: Uuid,
        /// Its position; none for a message that no row caused.
        position: Option<i64>,
    },
}
