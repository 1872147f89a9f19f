//! Why a rebuild or a rollback ends.

use crate::projector_error::WorkerError;

/// Why a rebuild ends. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// As a worker's.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// The database.
    #[error("the projection's database: {}", artstore_runtime::words::words(.0))]
    Database(#[from] sqlx::Error),
    /// It can't be built again.
    #[error("projection {0} can't be built again")]
    Never(&'static str),
    /// Another one runs.
    #[error(
        "projection {projection} is being built again or rolled back already, by {holder}; one at a \
         time: wait for it, or end that process"
    )]
    Busy {
        /// The projection.
        projection: &'static str,
        /// Its session.
        holder: String,
    },
    /// Another one took the lock's place.
    #[error(
        "the lock of this rebuild or rollback of projection {0} was given another key meanwhile, and another one may \
         have begun: nothing was swapped. Run the command again once that one has ended"
    )]
    LockLost(&'static str),
    /// The role may not do it.
    #[error(
        "role {role} {lacks}: building again makes a schema and swaps tables. Give the URL of the \
         role that owns them, as for `artstore migrate up`"
    )]
    Rights {
        /// The role.
        role: String,
        /// What it lacks.
        lacks: String,
    },
    /// Something would stay with the old table.
    #[error(
        "table {table} can't be swapped: {what}, and would stay with the old table. Remove it, build \
         again, and make it again afterwards"
    )]
    Depends {
        /// The table.
        table: String,
        /// What is in the way.
        what: String,
    },
    /// A stream does not continue.
    #[error(
        "stream {stream} stands still: nothing came for {seconds} s behind message {sequence}, and \
         there should be messages up to {target}. Is NATS well (`artstore status`)? What was built is \
         kept: the same command continues there"
    )]
    Stalled {
        /// The stream.
        stream: String,
        /// Where it stands.
        sequence: u64,
        /// Where it has to get.
        target: u64,
        /// How long nothing came.
        seconds: u64,
    },
    /// A stream has lost its beginning.
    #[error(
        "stream {stream} begins at message {first}: those before it are gone, so nothing can be built \
         from it. Restore the stream, or see `artstore verify`"
    )]
    NoBeginning {
        /// The stream.
        stream: String,
        /// Its first message.
        first: u64,
    },
    /// The live tables went back.
    #[error(
        "the live checkpoint of {stream} went back from {from} to {to} meanwhile (a repair?), so both \
         can't be compared; what was built is dropped: give the command again"
    )]
    MovedBack {
        /// The stream.
        stream: String,
        /// Where the shadow is.
        from: u64,
        /// Where the live tables are.
        to: u64,
    },
    /// The live tables are not like those that were built.
    #[error(
        "the live tables were changed meanwhile (a migration?); what was built is dropped: give the \
         command again"
    )]
    Changed,
    /// Something of the live tables can't be given to the others.
    #[error(
        "owner, rights, settings or indexes of the live tables could not be given to those in schema \
         {0}, or were changed at this moment; nothing is swapped, and what was built is kept: give the \
         command again"
    )]
    Unlike(String),
    /// An operator has decided about parked events.
    #[error(
        "message {sequence} of {stream} was parked, retried or discarded (`artstore parked list`) after \
         the tables were compared, so what was compared does not hold any more; nothing is swapped, and what \
         was built is kept: the same command compares again"
    )]
    Decided {
        /// The stream.
        stream: String,
        /// The message.
        sequence: i64,
    },
    /// Something else was being built.
    #[error(
        "an earlier command was building projection {projection} again for something else ({before}), and \
         what it has built is kept: give that command again, or remove it: `artstore projection rebuild \
         {projection} --abandon`"
    )]
    OtherPurpose {
        /// The projection.
        projection: &'static str,
        /// What for.
        before: String,
    },
    /// The live tables are always in use.
    #[error(
        "the live tables could not be had for themselves, though it was tried {attempts} times; in \
         the way: {}. Nothing is changed. End those, or give the command again when they are done: what \
         was built is kept",
        holders.join("; ")
    )]
    Locked {
        /// How often it was tried.
        attempts: u32,
        /// Who is in the way.
        holders: Vec<String>,
    },
    /// The live workers are faster.
    #[error(
        "the last events could not be applied while others waited, though it was tried {attempts} times: \
         the streams grow faster than this machine applies them, or NATS answers late (`artstore \
         status`). What was built is kept: give the command again when there is less to do, or pause the \
         projection (`artstore projection pause PROJECTION --reason \
         TEXT`) meanwhile"
    )]
    TooFar {
        /// How often it was tried.
        attempts: u32,
    },
    /// A statement of the exchange takes too long.
    #[error(
        "a statement for which all who use the live tables wait was not done in {seconds} s, or was ended \
         by somebody; nothing is changed: give the command again when the machine has less to do"
    )]
    TooLong {
        /// The limit.
        seconds: u64,
    },
    /// There is nothing to go back to.
    #[error("projection {0} was not swapped before: there are no tables to go back to")]
    NoPrevious(&'static str),
    /// The streams do not have such a sequence.
    #[error("--as-of: {0}")]
    BadPlace(String),
    /// The tables to go back to do not fit.
    #[error("the tables of before can't be used: {0}")]
    Unusable(String),
    /// It was asked to stop.
    #[error("stopped")]
    Stopped,
}

impl RebuildError {
    /// Whether what was built can be used when the command is given again.
    pub fn can_go_on(&self) -> bool {
        match self {
            Self::Worker(error) => !error.needs_a_person(),
            Self::Database(_)
            | Self::Stalled { .. }
            | Self::Locked { .. }
            | Self::TooFar { .. }
            | Self::TooLong { .. }
            | Self::Unlike(_)
            | Self::Decided { .. }
            | Self::OtherPurpose { .. }
            // What stands there is the other one's.
            | Self::LockLost(_)
            | Self::Busy { .. } => true,
            Self::Never(_)
            | Self::Rights { .. }
            | Self::Depends { .. }
            | Self::NoBeginning { .. }
            | Self::MovedBack { .. }
            | Self::Changed
            | Self::NoPrevious(_)
            | Self::Unusable(_)
            | Self::BadPlace(_)
            | Self::Stopped => false,
        }
    }
}
