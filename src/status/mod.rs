//! The state of everything, at one moment: sources, streams and projections, and what is wrong. It is read
//! from the databases and from NATS, and asked of the processes; nothing is changed. A part that
//! can't be reached is shown as such, in bounded time, beside the others.
//!
//! - [`answers`]: what running processes report about themselves
//! - [`database`]: what the databases of sources and read model report
//! - `reports`: what databases and NATS report, before it is put together
//! - `asked_database`: a database, asked with deadlines
//! - `nats`: streams and processes, asked over NATS
//! - [`collect`]: one look at everything, each part with its deadline
//! - `assess`: how those who work stand, and how far a projection is
//! - `compose`: the answers, put together
//! - [`diagnosis`]: what is wrong, and what to do
//! - `lines`: lines and tables of a given width
//! - [`screen`]: the same for people
//!
//! The fields of these types are those of `--json`, described in docs/status.md.

pub mod answers;
mod asked_database;
mod assess;
pub mod collect;
mod compose;
pub mod database;
pub mod diagnosis;
pub(crate) mod lines;
mod nats;
mod reports;
pub mod screen;
#[cfg(test)]
mod tests;

use artstore_runtime::holder::Holder;
use artstore_schemas::ranges::Range;
use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};

use crate::service::answer::{Problem, Process, Proven, RelayAnswer};

/// Everything.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// When it was checked.
    pub at: DateTime<Utc>,
    /// Whether nothing is wrong.
    pub well: bool,
    /// What is wrong, the most important first.
    pub troubles: Vec<Trouble>,
    /// NATS.
    pub nats: Server,
    /// The sources whose databases are configured.
    pub sources: Vec<SourceStatus>,
    /// Their streams, and all others of ours.
    pub streams: Vec<StreamStatus>,
    /// The read model's database; none where it is not configured.
    pub read_model: Option<Server>,
    /// The admin module's database, which holds the audit log; none where it is not configured.
    pub audit_log: Option<Server>,
    /// The projections in both.
    pub projections: Vec<ProjectionStatus>,
}

/// A server, or a database on it.
#[derive(Debug, Clone, Serialize)]
pub struct Server {
    /// Which one; never with a password.
    pub name: String,
    /// Why what it knows is not known.
    pub problem: Option<String>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// What it is about: a source or all of them, `PROJECTION of SOURCE`, a projection, a stream's source,
    /// `NATS`, a database.
    pub about: String,
    /// What is wrong.
    pub what: String,
    /// What to do, for people.
    pub todo: String,
    /// The command to start with; none where a person has to look at a server or a log.
    pub command: Option<String>,
    /// The section of the documents about it; none: there is none.
    pub see: Option<String>,
}

/// A source.
#[derive(Debug, Clone, Serialize)]
pub struct SourceStatus {
    /// The element's name, `admin` or `query`.
    pub source: String,
    /// Its stream.
    pub stream: String,
    /// Its database.
    pub database: Server,
    /// The last position that was drawn.
    pub position: Option<i64>,
    /// The highest position in the stream; 0 before the first.
    pub high_water_mark: Option<i64>,
    /// How many positions below it are neither in the stream nor known to be aborted.
    pub gap_positions: Option<i64>,
    /// Which ones.
    #[serde(serialize_with = "ranges")]
    pub gaps: Vec<Range>,
    /// Where there is no room for more of them: the oldest transaction that holds some. Rows above
    /// the oldest of them wait for it.
    pub held_by: Option<Holder>,
    /// Finished rows without a message.
    pub unpublished: Option<Rows>,
    /// Operations that nobody has finished; an outbox never has any.
    pub pending: Option<Rows>,
    /// Its relays.
    pub relay: Relays,
    /// Up to where everything is known to agree; none where no relay verifies.
    pub proven: Option<Proven>,
}

/// Rows, counted up to a limit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rows {
    /// How many.
    pub rows: i64,
    /// There are more than that.
    pub at_least: bool,
    /// The age of the oldest by what it reports about its own time, in seconds.
    #[serde(serialize_with = "rounded")]
    pub oldest_seconds: Option<f64>,
}

/// The relays of a source.
#[derive(Debug, Clone, Serialize)]
pub struct Relays {
    /// How they stand together.
    pub state: Working,
    /// Whether one has the source's lock, as the database sees it.
    pub lock_held: Option<bool>,
    /// Which session has it; it may be no relay's.
    pub holder: Option<Holder>,
    /// How many are standby, of those that answered.
    pub standby: usize,
    /// What each of them reports; none where NATS could not be asked.
    pub answers: Option<Vec<RelayAnswer>>,
    /// What is wrong with the one that matters most.
    pub problem: Option<Problem>,
    /// For how long rows have been waiting with nothing published, in seconds; none where it makes progress.
    #[serde(serialize_with = "rounded")]
    pub stuck_seconds: Option<f64>,
}

/// Whether somebody works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Working {
    /// One does.
    Active,
    /// One has the lock and does not answer.
    Silent,
    /// A person has to act.
    Halted,
    /// The lock is free, or has just changed hands, and that is so only for a moment: one is taking over.
    TakingOver,
    /// There are some, but none has the lock.
    Waiting,
    /// Nobody does.
    None,
    /// Neither the database nor NATS reports.
    NotKnown,
}

/// A stream.
#[derive(Debug, Clone, Serialize)]
pub struct StreamStatus {
    /// Its source.
    pub source: String,
    /// Its name.
    pub stream: String,
    /// Why the rest is not known.
    pub problem: Option<String>,
    /// What NATS reports.
    #[serde(flatten)]
    pub facts: Option<StreamFacts>,
}

/// What NATS reports about a stream.
#[derive(Debug, Clone, Serialize)]
pub struct StreamFacts {
    /// How many messages it has.
    pub messages: u64,
    /// The last sequence.
    pub last_sequence: u64,
    /// Since the last message was stored, in seconds; none before the first.
    #[serde(serialize_with = "rounded")]
    pub last_seconds: Option<f64>,
    /// Its size in bytes, as stored.
    pub bytes: u64,
    /// When it was made.
    pub created: DateTime<Utc>,
    /// Which limit it has, at which it removes or refuses messages; none where it has none.
    pub limited: Option<String>,
    /// How many copies it is to have.
    pub replicas: usize,
    /// How many of them are connected and up to date.
    pub replicas_current: usize,
    /// How many operations the others are behind.
    pub replicas_lag: u64,
    /// Of which stream it is a mirror.
    pub mirror: Option<Mirror>,
}

/// What a stream is a mirror of.
#[derive(Debug, Clone, Serialize)]
pub struct Mirror {
    /// The origin.
    pub of: String,
    /// How many messages it is behind.
    pub lag: u64,
    /// Since it last received anything from the origin, in seconds; none where it never did.
    #[serde(serialize_with = "rounded")]
    pub heard_seconds: Option<f64>,
}

/// A projection.
#[derive(Debug, Clone, Serialize)]
pub struct ProjectionStatus {
    /// Its name.
    pub projection: String,
    /// The version of its tables, as its checkpoints state.
    pub version: Option<i32>,
    /// By whom, since when and why it is paused; none where it is not.
    pub paused: Option<String>,
    /// The processes that answered.
    pub processes: Vec<Process>,
    /// Its checkpoint and lag in each stream.
    pub streams: Vec<ProjectionStream>,
}

/// A projection's checkpoint and lag in a stream.
#[derive(Debug, Clone, Serialize)]
pub struct ProjectionStream {
    /// The stream's source.
    pub source: String,
    /// The stream.
    pub stream: String,
    /// The sequence of the last message applied; 0 at the start.
    pub sequence: Option<u64>,
    /// The source's highest position that the rows show.
    pub high_water_mark: Option<i64>,
    /// How many messages are not applied.
    pub lag_events: Option<u64>,
    /// How long the oldest of them has been in the stream, in seconds; 0 where there is none.
    #[serde(serialize_with = "rounded")]
    pub lag_seconds: Option<f64>,
    /// Messages applied in a second, over the last second.
    #[serde(serialize_with = "rounded")]
    pub rate: Option<f64>,
    /// Its progress.
    pub state: Pace,
    /// For `up-to-date`: since when the stream has had nothing new. For `catching-up`: how long it
    /// will take at this rate. For `stuck`: for how long there was work and no progress. For `paused`:
    /// for how long it has been. In seconds.
    #[serde(serialize_with = "rounded")]
    pub state_seconds: Option<f64>,
    /// How many events can't be applied, or wait behind such a one.
    pub parked: Option<u64>,
    /// Its workers.
    pub workers: Workers,
}

/// The progress of a projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pace {
    /// Everything is applied.
    UpToDate,
    /// There is more, and it is being applied.
    CatchingUp,
    /// There is more, and for some time nothing of it was applied.
    Stuck,
    /// A person has to act.
    Halted,
    /// A person has stopped it.
    Paused,
    /// The checkpoint is no sequence of this stream.
    OffTheStream,
    /// The database or NATS does not report it.
    NotKnown,
}

/// The workers of a projection on a stream.
#[derive(Debug, Clone, Serialize)]
pub struct Workers {
    /// How they stand together.
    pub state: Working,
    /// How many there are, as the database sees it.
    pub sessions: Option<i64>,
    /// Whether one has the stream's lock, as the database sees it.
    pub lock_held: Option<bool>,
    /// Which session has it; it may be no worker's.
    pub holder: Option<Holder>,
    /// Who works on it, of those that answered.
    pub active: Option<Process>,
    /// Who would take over.
    pub standby: Vec<Process>,
    /// Why a consumer was recreated in the last minute; none where none was.
    pub recreated: Option<String>,
    /// What is wrong with the one that matters most.
    pub problem: Option<Problem>,
}

/// Times are measured over a network: milliseconds are all that they are good for.
fn rounded<S: Serializer>(seconds: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    let rounded = seconds.map(|seconds| (seconds * 1_000.0).round() / 1_000.0);
    rounded.serialize(serializer)
}

/// As pairs: first and last.
fn ranges<S: Serializer>(ranges: &[Range], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(ranges.iter().map(|range| [range.first, range.last]))
}
