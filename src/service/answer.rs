//! What relays and projectors answer to `artstore status`: over core NATS, as JSON, on
//! `artstore.status.…`. It is what a process reports about itself; what it can't know, such as a lock that
//! another one has, the asker reads from the databases.

use std::time::{Duration, Instant};

use artstore_bus::connection::Bus;
use artstore_bus::inbox::is_inbox;
use artstore_producers::relay::progress::RelayProgress;
use artstore_projectors::runtime::progress as projector;
use artstore_runtime::progress as stages;
use artstore_runtime::restart::Restarts;
use artstore_schemas::source::{Source, projection_status_subject};
use async_nats::Subscriber;
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};

use artstore_verification::proven::ProvenState;

use super::ShownRelay;
use tokio_util::sync::CancellationToken;

/// For so long it is shown that a consumer was recreated.
const REMADE: Duration = Duration::from_secs(60);

/// A process of ours.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Process {
    /// The host's name.
    pub host: String,
    /// The process' number on it.
    pub pid: u32,
    /// The program's version.
    pub program: String,
}

/// Where a relay or a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// On the way to a session, or between two.
    Starting,
    /// Another one has the lock.
    Standby,
    /// It has the lock.
    Active,
    /// It was asked to stop.
    Stopping,
    /// Something that a newer program reports.
    #[serde(other)]
    Unknown,
}

/// Why the last session ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What happened, and what to do.
    pub text: String,
    /// Whether a person has to act.
    pub halted: bool,
}

/// Up to where a source, its stream and its projections are known to agree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proven {
    /// Everything up to this position agrees; none before anything was checked.
    pub position: Option<i64>,
    /// When that was found, in seconds ago.
    pub seconds: f64,
    /// How many findings there are.
    pub findings: u64,
    /// Why the check does not continue, while it does not.
    pub problem: Option<String>,
}

impl Proven {
    /// As the check of a source shows it; none before its first step.
    pub fn of(state: &ProvenState) -> Option<Self> {
        Some(Self {
            position: state.position,
            seconds: seconds(state.updated)?,
            findings: state.findings.values().sum(),
            problem: state.problem.clone(),
        })
    }
}

/// What a relay reports about one source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RelayAnswer {
    /// The source.
    pub source: String,
    /// Who answers.
    #[serde(flatten)]
    pub process: Process,
    /// Where it is.
    pub stage: Stage,
    /// For how long it has had the lock, in seconds; none where it does not.
    pub active_seconds: Option<f64>,
    /// The stream's last sequence, as it knows it.
    pub sequence: u64,
    /// The position of that message.
    pub position: Option<i64>,
    /// The highest position in the stream.
    pub high_water_mark: i64,
    /// How many positions below it are neither in the stream nor aborted.
    pub gap_positions: i64,
    /// Messages stored and acknowledged since the process started.
    pub published: u64,
    /// Finished rows that the last poll saw and that are not published; an upper bound where that
    /// poll was cut at its limit.
    pub backlog: u64,
    /// Everything that was finished so many seconds ago is published; none before that is known.
    pub caught_up_seconds: Option<f64>,
    /// Since the source last answered a poll, in seconds.
    pub polled_seconds: Option<f64>,
    /// Since a batch was last acknowledged, in seconds.
    pub stored_seconds: Option<f64>,
    /// For how long it has seen rows wait with nothing stored, by itself or by another relay, in seconds;
    /// none where none wait, and in the answers of an older program.
    #[serde(default)]
    pub waiting_seconds: Option<f64>,
    /// What is wrong.
    pub problem: Option<Problem>,
    /// Since when that is so.
    #[serde(flatten)]
    pub since: Since,
    /// What was proven; none where this relay does not verify.
    pub proven: Option<Proven>,
}

/// What a projector reports about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProjectorAnswer {
    /// The projection.
    pub projection: String,
    /// Who answers.
    #[serde(flatten)]
    pub process: Process,
    /// The version of the tables that this program builds.
    pub version: u32,
    /// Its workers, one a stream.
    pub workers: Vec<WorkerAnswer>,
}

/// What it reports about one stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerAnswer {
    /// The stream's source.
    pub source: String,
    /// Where it is.
    pub stage: Stage,
    /// Events applied and committed since the process started.
    pub applied: u64,
    /// Since it last committed, or received anything from the database, in seconds.
    pub sign_seconds: Option<f64>,
    /// Why its consumer was recreated in the last minute; none where it was not.
    #[serde(default)]
    pub recreated: Option<String>,
    /// What is wrong.
    pub problem: Option<Problem>,
    /// Since when that is so.
    #[serde(flatten)]
    pub since: Since,
}

/// Since when a relay or a worker is where it is; none in the answers of an older program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Since {
    /// For how long it has been in its stage, in seconds.
    #[serde(default)]
    pub stage_seconds: Option<f64>,
    /// Since the lock was last seen in somebody else's hands, in seconds.
    #[serde(default)]
    pub other_holder_seconds: Option<f64>,
    /// For how long something has been wrong, in seconds.
    #[serde(default)]
    pub problem_seconds: Option<f64>,
}

impl Since {
    fn of(since: stages::Since, other_holder_seen: Option<Instant>) -> Self {
        Self {
            stage_seconds: seconds(since.stage),
            other_holder_seconds: seconds(other_holder_seen),
            problem_seconds: seconds(since.problem),
        }
    }
}

impl Process {
    /// This one.
    pub fn this() -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname");
        Self {
            host: host.map_or_else(|_| "(unknown)".to_owned(), |host| host.trim().to_owned()),
            pid: std::process::id(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

impl From<stages::Stage> for Stage {
    fn from(stage: stages::Stage) -> Self {
        match stage {
            stages::Stage::Starting => Self::Starting,
            stages::Stage::Standby => Self::Standby,
            stages::Stage::Active => Self::Active,
            stages::Stage::Stopping => Self::Stopping,
        }
    }
}

impl From<stages::Problem> for Problem {
    fn from(problem: stages::Problem) -> Self {
        Self {
            text: problem.text,
            halted: problem.halted,
        }
    }
}

impl RelayAnswer {
    /// As the relay's progress shows it now.
    pub fn new(source: &Source, progress: &RelayProgress, proven: Option<Proven>) -> Self {
        let state = progress.read();
        let active = state.stage == stages::Stage::Active;
        Self {
            source: source.to_string(),
            process: Process::this(),
            stage: state.stage.into(),
            active_seconds: seconds(state.active_since.filter(|_| active)),
            sequence: state.sequence,
            position: state.position,
            high_water_mark: state.high_water_mark,
            gap_positions: state.gap_positions,
            published: state.published,
            backlog: state.backlog.rows,
            caught_up_seconds: seconds(state.backlog.caught_up),
            polled_seconds: seconds(state.polled),
            stored_seconds: seconds(state.stored),
            waiting_seconds: seconds(state.waiting),
            problem: state.problem.map(Problem::from),
            since: Since::of(state.since, state.other_holder_seen),
            proven,
        }
    }
}

impl ProjectorAnswer {
    /// As the workers' progress shows it now.
    pub fn new(projection: &str, version: u32, progress: &projector::ProjectorProgress) -> Self {
        let workers = progress.workers().into_iter();
        Self {
            projection: projection.to_owned(),
            process: Process::this(),
            version,
            workers: workers
                .map(|(source, state)| WorkerAnswer {
                    source: source.to_string(),
                    stage: state.stage.into(),
                    applied: state.applied,
                    sign_seconds: seconds(state.sign),
                    recreated: state
                        .recreated
                        .filter(|(at, _)| at.elapsed() < REMADE)
                        .map(|(_, reason)| reason),
                    problem: state.problem.map(Problem::from),
                    since: Since::of(state.since, state.other_holder_seen),
                })
                .collect(),
        }
    }
}

/// Seconds since then, to the millisecond.
fn seconds(at: Option<Instant>) -> Option<f64> {
    at.map(|at| at.elapsed().as_millis() as f64 / 1_000.0)
}

/// Answers for the relays of a process until this is dropped. `proven` states what is proven of a source now.
pub(crate) async fn for_relays(
    relays: Vec<ShownRelay>,
    proven: impl Fn(&Source) -> Option<Proven>,
) {
    let proven = &proven;
    let answering = relays.iter().map(async |relay| {
        let answer = || RelayAnswer::new(&relay.source, &relay.progress, proven(&relay.source));
        answer_on(&relay.bus, &relay.source.status_subject(), answer).await;
    });
    futures::future::join_all(answering).await;
}

/// Answers for the projector of a process, likewise.
pub(crate) async fn for_projector(
    bus: Bus,
    projection: &'static str,
    version: u32,
    progress: projector::ProjectorProgress,
) {
    let subject = projection_status_subject(projection);
    let answer = || ProjectorAnswer::new(projection, version, &progress);
    answer_on(&bus, &subject, answer).await;
}

/// Answers each question with what is true at that moment, on a connection of its own: readers ask, and what they send
/// must not end the connection that works.
async fn answer_on<A: Serialize>(bus: &Bus, subject: &str, answer: impl Fn() -> A) {
    let mut restarts = Restarts::new(Duration::from_millis(100), Duration::from_secs(2));
    loop {
        let begun = Instant::now();
        let ended = match bus.another("status").await {
            Ok(own) => match own.subscribe(subject.to_owned()).await {
                Ok(questions) => {
                    answer_each(&own, questions, &answer).await;
                    "its connection has ended".to_owned()
                }
                Err(error) => error.to_string(),
            },
            Err(error) => error.to_string(),
        };
        if restarts.is_news(begun.elapsed(), &ended) {
            tracing::warn!(subject, %ended, "`artstore status` gets no answer here for a moment");
        }
        // It ends with the service, which drops it.
        restarts.continues(&CancellationToken::new()).await;
    }
}

/// Until the connection has ended. An answer that can't be sent is the asker's loss alone.
async fn answer_each<A: Serialize>(bus: &Bus, mut questions: Subscriber, answer: impl Fn() -> A) {
    while let Some(asked) = questions.next().await {
        // Another subject could be that of a stream, and a message in it that no relay wrote stops the relay.
        let Some(reply) = asked.reply.filter(|reply| is_inbox(reply)) else {
            continue;
        };
        let sent = match serde_json::to_vec(&answer()) {
            Ok(body) => bus.client.publish(reply, body.into()).await,
            Err(error) => {
                tracing::warn!(%error, "an answer to `artstore status` can't be written");
                continue;
            }
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "an answer to `artstore status` was not sent");
        }
    }
}
