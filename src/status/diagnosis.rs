//! What is wrong, and what to do. Pure: from the state to the texts.
//!
//! A lag is assessed by progress, not by its size: where nothing new comes all is well, where work is
//! done it is a matter of time, and where there is work and nobody does it, something is wrong.

use artstore_runtime::count::counted;
use std::collections::BTreeMap;

use artstore_bus::stream_name::AUDIT_HEADS;
use artstore_projectors::audit_log::AuditLog;
use artstore_projectors::element_registry::ElementRegistry;
use artstore_projectors::projector::Projector as _;
use artstore_projectors::query_cache::QueryCache;
use artstore_runtime::holder::Holder;
use chrono::{DateTime, Utc};

use super::collect::UNANSWERED;
use super::database::Checkpoint;
use super::{
    Pace, ProjectionStatus, ProjectionStream, Rows, Server, SourceStatus, Status, StreamFacts,
    Trouble, Working,
};
use crate::service::answer::{Problem, Process, RelayAnswer, Since, Stage};
use artstore_verification::proven;

/// Work that nobody has touched for so long is stuck: more than a take-over takes.
const STUCK: f64 = 10.0;

/// What passes by itself within this time is no trouble: a worker that starts again, a lock that
/// changes hands.
const MOMENT: f64 = 4.0;

/// An operation that is pending for so long was left behind, as `artstore wal pending` takes it.
const LEFT_BEHIND: f64 = 3_600.0;

/// How much something matters; the first first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    /// Nothing can be reported or done without it.
    Nats,
    Database,
    /// What is there is not what should be there.
    Damage,
    /// A person has to act before anything continues.
    Halted,
    /// A person has stopped it, and has to let it continue.
    Paused,
    /// A person has to act for some keys; everything else continues.
    Parked,
    /// Nobody works.
    Nobody,
    /// Somebody should, and does not.
    Stuck,
    /// It works, with less safety.
    Weakened,
    LeftBehind,
}

/// How those who work on something stand together, and what is wrong with the one that matters.
/// `others`: how many there are besides, as the database sees it. `answers`: none where they could
/// not be asked.
pub fn working<'a>(
    lock_held: Option<bool>,
    others: i64,
    answers: Option<impl Iterator<Item = (Stage, Option<&'a Problem>)> + Clone>,
) -> (Working, Option<Problem>) {
    let Some(answers) = answers else {
        let state = match lock_held {
            Some(true) => Working::Active,
            Some(false) if others > 0 => Working::Waiting,
            Some(false) => Working::None,
            None => Working::NotKnown,
        };
        return (state, None);
    };
    let mut problems = answers.clone().filter_map(|(_, problem)| problem);
    let halted = problems.clone().find(|problem| problem.halted);
    if let Some((_, problem)) = answers.clone().find(|(stage, _)| *stage == Stage::Active) {
        // One that can't continue has the lock for a moment, again and again.
        let state = match problem {
            Some(problem) if problem.halted => Working::Halted,
            Some(_) | None => Working::Active,
        };
        return (state, problem.cloned());
    }
    if let Some(halted) = halted {
        return (Working::Halted, Some(halted.clone()));
    }
    let problem = problems.next().cloned();
    let state = match lock_held {
        Some(true) => Working::Silent,
        Some(false) | None if others > 0 || answers.clone().next().is_some() => Working::Waiting,
        Some(false) | None => Working::None,
    };
    (state, problem)
}

/// What is wrong with a relay or a worker, unless it is so new that it may pass by itself.
pub fn lasting(problem: Option<&Problem>, since: Since) -> Option<&Problem> {
    let passing = since
        .problem_seconds
        .is_some_and(|seconds| seconds < MOMENT);
    problem.filter(|problem| problem.halted || !passing)
}

/// Nobody has the lock, though some wait for it, or one that did not report itself: whether that is so only
/// for a moment. `changed_hands`: another session had the lock a moment before.
pub fn taking_over(
    state: Working,
    changed_hands: bool,
    mut others: impl Iterator<Item = Since>,
) -> Working {
    let lately = |since: Since| {
        let lately = |seconds: Option<f64>| seconds.is_some_and(|seconds| seconds < MOMENT);
        lately(since.stage_seconds) || lately(since.other_holder_seconds)
    };
    match state {
        Working::Waiting if others.any(lately) => Working::TakingOver,
        Working::Silent if changed_hands => Working::TakingOver,
        state => state,
    }
}

/// For how long the relays of a source have not got on, though they should have: the active one by itself,
/// or all of them, however often the lock changed hands meanwhile.
pub fn stuck(relays: &[RelayAnswer], unpublished: Option<Rows>) -> Option<f64> {
    let active = relays.iter().find(|relay| relay.stage == Stage::Active);
    let stuck = active.and_then(|active| active_stuck(active, unpublished));
    let longest = |all: &dyn Fn(&RelayAnswer) -> Option<f64>| {
        relays.iter().filter_map(all).max_by(f64::total_cmp)
    };
    let waiting = longest(&|relay| relay.waiting_seconds);
    let stored = relays.iter().filter_map(|relay| relay.stored_seconds);
    let waiting = waiting.map(|waiting| stored.fold(waiting, f64::min));
    let rows = unpublished.is_none_or(|unpublished| unpublished.rows > 0);
    let waiting = waiting.filter(|waiting| rows && *waiting >= STUCK);
    stuck.into_iter().chain(waiting).max_by(f64::total_cmp)
}

fn active_stuck(relay: &RelayAnswer, unpublished: Option<Rows>) -> Option<f64> {
    let active = relay.active_seconds?;
    let last = |seconds: Option<f64>| seconds.map_or(active, |seconds| seconds.min(active));
    // It polls at least every four seconds, and while it publishes batches are acknowledged.
    let sign = last(relay.polled_seconds).min(last(relay.stored_seconds));
    if sign >= STUCK {
        return Some(sign);
    }
    let rows = unpublished.map_or(relay.backlog > 0, |unpublished| unpublished.rows > 0);
    let waiting = last(relay.caught_up_seconds).min(last(relay.stored_seconds));
    (rows && waiting >= STUCK).then_some(waiting)
}

/// What decides the progress of a projection in a stream.
#[derive(Debug, Clone, Copy)]
pub struct PaceInput<'a> {
    /// None where nothing was applied yet.
    pub checkpoint: Option<&'a Checkpoint>,
    /// Read after the checkpoint.
    pub stream: &'a StreamFacts,
    /// How long the oldest message that is not applied has been there, in seconds.
    pub oldest: Option<f64>,
    /// Messages applied in a second.
    pub rate: Option<f64>,
    /// Whether its worker has halted.
    pub halted: bool,
    /// For how long the projection has been paused, in seconds.
    pub paused: Option<f64>,
    /// For how long its worker has had the lock, in seconds; none where nobody reports it.
    pub active: Option<f64>,
}

/// The progress of a projection in a stream, and the seconds that belong to that.
pub fn pace(seen: PaceInput<'_>) -> (Pace, Option<f64>) {
    let stream = seen.stream;
    let sequence = seen.checkpoint.map_or(0, |checkpoint| checkpoint.sequence);
    // A mirror that is behind its origin will get there.
    let behind = stream.mirror.as_ref().is_some_and(|mirror| mirror.lag > 0);
    let other = seen
        .checkpoint
        .is_some_and(|checkpoint| !same(checkpoint.stream_created_at, stream.created));
    if other || (sequence > stream.last_sequence && !behind) {
        return (Pace::OffTheStream, None);
    }
    if seen.halted {
        return (Pace::Halted, None);
    }
    if let Some(seconds) = seen.paused {
        return (Pace::Paused, Some(seconds));
    }
    let lag = stream.last_sequence.saturating_sub(sequence);
    if lag == 0 {
        return (Pace::UpToDate, stream.last_seconds);
    }
    if let Some(rate) = seen.rate.filter(|rate| *rate > 0.0) {
        return (Pace::CatchingUp, Some(lag as f64 / rate));
    }
    // The oldest may have come only now, after a silence; the worker may have begun only now, after a
    // pause.
    let moved = seen.checkpoint.map(|checkpoint| checkpoint.moved_seconds);
    let least = |seconds: f64, other: Option<f64>| other.map_or(seconds, |o| o.min(seconds));
    match seen
        .oldest
        .map(|oldest| least(least(oldest, moved), seen.active))
    {
        Some(seconds) if seconds >= STUCK => (Pace::Stuck, Some(seconds)),
        _ => (Pace::CatchingUp, None),
    }
}

/// PostgreSQL keeps microseconds, NATS nanoseconds.
fn same(kept: DateTime<Utc>, created: DateTime<Utc>) -> bool {
    (kept - created).num_milliseconds() == 0
}

/// Everything that is wrong, the most important first.
pub fn troubles(status: &Status) -> Vec<Trouble> {
    let mut found = Troubles::default();
    let nats = status.nats.problem.is_none();
    if let Some(problem) = &status.nats.problem {
        found.add(
            Weight::Nats,
            "NATS",
            format!("{}: {problem}", status.nats.name),
            "check the server and NATS_URL; what it knows is not shown",
            None,
        );
    }
    databases(&mut found, status);
    for source in &status.sources {
        of_source(&mut found, source, nats);
    }
    let relays = status.sources.iter().map(|source| &source.relay);
    let halts: Vec<&str> = relays
        .filter_map(|relay| Some(relay.problem.as_ref()?.text.as_str()))
        .collect();
    for stream in &status.streams {
        let problem = stream.problem.as_ref().filter(|_| nats);
        // The relay reads the same, and knows more.
        let told = |problem: &&String| halts.iter().any(|halt| halt.contains(problem.as_str()));
        if let Some(problem) = problem.filter(|problem| !told(problem)) {
            let todo = "start or restart the NATS server that has the stream, and look at its log and disk";
            let command = command_in(problem);
            found.add(
                Weight::Damage,
                &stream.source,
                problem.clone(),
                todo,
                command,
            );
        }
        let limited = stream.facts.as_ref().and_then(|f| f.limited.as_ref());
        if let Some(limited) = limited.filter(|limited| !told(limited)) {
            let todo = "take the limit away, then see what was lost";
            let command = command_in(limited);
            found.add(
                Weight::Damage,
                &stream.source,
                limited.clone(),
                todo,
                command,
            );
        }
        if let Some(facts) = &stream.facts {
            of_stream(&mut found, &stream.source, &stream.stream, facts);
        }
    }
    for projection in &status.projections {
        let name = &projection.projection;
        let database = match name.as_str() {
            QueryCache::NAME => &status.read_model,
            _ => &status.audit_log,
        };
        let reached = !database.as_ref().is_some_and(is_down);
        if let Some(paused) = &projection.paused {
            found.add(
                Weight::Paused,
                name,
                format!("{paused}; nothing is applied meanwhile"),
                "let it go on when the reason is gone",
                Some(format!("artstore projection resume {name}")),
            );
        }
        if let Some(limited) = limited_heads(projection) {
            found.add(
                Weight::Damage,
                name,
                limited.to_owned(),
                "take the limit away, then see what was lost; no heads are published meanwhile",
                command_in(limited),
            );
        }
        for place in &projection.streams {
            let stream = status.streams.iter().find(|s| s.stream == place.stream);
            let limited = stream.and_then(|s| s.facts.as_ref()?.limited.as_deref());
            of_place(&mut found, projection, place, (nats, limited), reached);
        }
    }
    found.0.sort_by_key(|(weight, _)| *weight);
    found.0.into_iter().map(|(_, trouble)| trouble).collect()
}

/// A limit of the stream of signed heads, which all workers of the audit log report alike.
fn limited_heads(projection: &ProjectionStatus) -> Option<&str> {
    let problems = projection.streams.iter();
    let mut problems = problems.filter_map(|place| place.workers.problem.as_ref());
    let problem = problems.find(|problem| is_of_heads(problem))?;
    Some(&problem.text)
}

fn is_of_heads(problem: &Problem) -> bool {
    let text = problem.text.strip_prefix("stream ");
    let text = text.and_then(|text| text.strip_prefix(AUDIT_HEADS));
    !problem.halted && text.is_some_and(|text| text.starts_with(" exists with "))
}

#[derive(Default)]
struct Troubles(Vec<(Weight, Trouble)>);

impl Troubles {
    fn add(
        &mut self,
        weight: Weight,
        about: &str,
        what: String,
        todo: &str,
        command: Option<String>,
    ) {
        let trouble = Trouble {
            about: about.to_owned(),
            what,
            todo: todo.to_owned(),
            command,
        };
        self.0.push((weight, trouble));
    }

    /// What a relay or worker reports is wrong with it.
    fn problem(&mut self, who: &str, about: &str, problem: &Problem) {
        let (weight, what) = match problem.halted {
            true => (Weight::Halted, "has halted"),
            false => (Weight::Stuck, "starts again"),
        };
        let command = command_in(&problem.text);
        let todo = match (problem.halted, &command) {
            (true, Some(_)) => "run this, and what it names next; the rest goes on by itself then",
            (true, None) => "remove the cause that is named; it goes on by itself then",
            (false, Some(_)) => "it tries again by itself; where that does not lead on, run this",
            (false, None) => {
                "it tries again by itself; where that does not lead on, remove the cause that is \
                 named, and look at its log"
            }
        };
        let text = format!("the {who} {what}: {}", problem.text);
        self.add(weight, about, text, todo, command);
    }
}

/// Whether nothing can be asked of it: not where only one question was not answered, as behind a lock.
fn is_down(database: &Server) -> bool {
    let problem = database.problem.as_deref().unwrap_or_default();
    problem.starts_with("can't be reached") || problem.starts_with("does not answer")
}

/// What to do about a database that answers, but not one question.
const LOCKS: &str = "it answers otherwise: look in pg_locks for who has locked a table of it";

/// A database that does not answer.
struct Silent<'a> {
    server: &'a Server,
    about: &'a str,
    url: &'a str,
}

/// Databases that do not answer. Those of one server that all report the same have one cause.
fn databases(found: &mut Troubles, status: &Status) {
    let read_models = [
        (&status.read_model, "query database", "QUERY_DATABASE_URL"),
        (&status.audit_log, "admin database", "ADMIN_DATABASE_URL"),
    ];
    let read_models = read_models.into_iter();
    let read_models =
        read_models.filter_map(|(server, about, url)| Some((server.as_ref()?, about, url)));
    let sources = status.sources.iter();
    let sources = sources.map(|s| (&s.database, s.source.as_str(), "the URL of the database"));
    let mut silent: BTreeMap<(&str, &str), Vec<Silent<'_>>> = BTreeMap::new();
    for (server, about, url) in sources.chain(read_models) {
        let Some(problem) = &server.problem else {
            continue;
        };
        let address = server
            .name
            .rsplit_once(" at ")
            .map_or("", |(_, address)| address);
        let of_one = silent.entry((address, problem)).or_default();
        // The query and the admin module's are sources as well.
        if !of_one.iter().any(|known| known.server.name == server.name) {
            of_one.push(Silent { server, about, url });
        }
    }
    for ((address, problem), databases) in silent {
        if let [Silent { server, about, url }] = databases[..] {
            let todo = match problem {
                UNANSWERED => LOCKS.to_owned(),
                _ => format!("check the server, its rights and {url}"),
            };
            found.add(
                Weight::Database,
                about,
                format!("database {}: {problem}", server.name),
                &todo,
                command_in(problem),
            );
            continue;
        }
        let names = databases.iter().map(|silent| silent.server.name.as_str());
        let names = names.map(|name| name.rsplit_once(" at ").map_or(name, |(name, _)| name));
        let names: Vec<&str> = names.collect();
        let todo = match problem {
            UNANSWERED => LOCKS,
            _ => "check the server; what depends on it is not shown",
        };
        found.add(
            Weight::Database,
            &format!("PostgreSQL at {address}"),
            format!("{problem}; databases: {}", names.join(", ")),
            todo,
            command_in(problem),
        );
    }
}

fn of_source(found: &mut Troubles, source: &SourceStatus, nats: bool) {
    let name = &source.source;
    if let (Some(position), Some(high_water_mark)) = (source.position, source.high_water_mark)
        // Read in this order where the rows could be counted.
        && source.unpublished.is_some()
        && position < high_water_mark
    {
        found.add(
            Weight::Damage,
            name,
            format!(
                "the stream has position {high_water_mark}, but the source gave out only {position}: it was \
                 set back to an earlier state"
            ),
            "restore a newer state of it, or accept it as it is",
            Some(format!("artstore relay accept-source --source {name}")),
        );
    }
    if let Some(proven) = &source.proven {
        if proven.findings > 0 {
            found.add(
                Weight::Damage,
                name,
                format!(
                    "source and stream do not agree: findings: {}",
                    proven.findings
                ),
                "list them, each with the command that repairs it",
                Some(format!("artstore verify --source {name}")),
            );
        }
        if proven.problem.is_none() && proven.seconds >= proven::STALE.as_secs_f64() {
            found.add(
                Weight::Weakened,
                name,
                format!(
                    "the check of source and stream has not moved for {}",
                    super::lines::age(proven.seconds)
                ),
                "look at the relay's log; start the relay again",
                None,
            );
        }
        if let Some(problem) = &proven.problem {
            found.add(
                Weight::Weakened,
                name,
                format!("the check of source and stream does not go on: {problem}"),
                "remove the cause that is named; it goes on by itself then",
                command_in(problem),
            );
        }
    }
    of_relays(found, source, nats);
    if let Some(pending) = source.pending
        && let Some(oldest) = pending
            .oldest_seconds
            .filter(|oldest| *oldest >= LEFT_BEHIND)
    {
        found.add(
            Weight::LeftBehind,
            name,
            format!(
                "an operation has been pending for {}: its process may be dead",
                super::lines::age(oldest)
            ),
            "list and resolve what was left behind",
            Some(format!("artstore wal pending --element {name}")),
        );
    }
}

fn of_relays(found: &mut Troubles, source: &SourceStatus, nats: bool) {
    let (name, relays) = (source.source.as_str(), &source.relay);
    let reached = !is_down(&source.database);
    let answers = relays.answers.as_deref().unwrap_or_default();
    let active = answers.iter().find(|answer| answer.stage == Stage::Active);
    // Where the database is down, all else follows from that.
    let told = |problem: &&Problem| reached || problem.halted;
    let problem = relays.problem.as_ref().filter(told);
    let stuck = relays
        .stuck_seconds
        .filter(|_| reached && source.held_by.is_none());
    match (problem, stuck) {
        // One cause is one trouble.
        (Some(problem), Some(seconds)) if !problem.halted => found.add(
            Weight::Stuck,
            name,
            format!(
                "rows wait and nothing was stored for {}: {}",
                super::lines::age(seconds),
                problem.text
            ),
            "remove the cause that is named; it goes on by itself then",
            command_in(&problem.text),
        ),
        (Some(problem), _) => found.problem("relay", name, problem),
        (None, _) => {}
    }
    for other in answers {
        let problem = lasting(other.problem.as_ref(), other.since);
        let told = relays.problem.as_ref() == problem;
        if let Some(problem) = problem.filter(|problem| !told && (reached || problem.halted)) {
            let who = format!("relay on {}", shown(&other.process));
            found.problem(&who, name, problem);
        }
    }
    let start = || Some(format!("artstore run relay --source {name}"));
    match relays.state {
        Working::None => found.add(
            Weight::Nobody,
            name,
            "no relay runs: finished rows are not published".to_owned(),
            "start one, under something that starts it again",
            start(),
        ),
        // Without NATS nobody asks for a lock.
        Working::Waiting if relays.problem.is_none() && nats && reached => found.add(
            Weight::Nobody,
            name,
            "no relay is active, though some run: one is taking over, or can't".to_owned(),
            "look again in some seconds; then look at their logs",
            None,
        ),
        Working::Silent if relays.holder.as_ref().is_some_and(is_of_a_command) => {
            let holder = relays.holder.iter().map(Holder::to_string);
            found.add(
                Weight::Stuck,
                name,
                format!(
                    "a command has the lock and publishes in the relay's place: {}",
                    holder.collect::<String>()
                ),
                "wait until it has ended, a relay goes on then; if it hangs, end it",
                None,
            );
        }
        Working::Silent => {
            let holder = relays.holder.as_ref();
            let holder = holder.map_or_else(String::new, |h| format!("; the lock is held by {h}"));
            found.add(
                Weight::Stuck,
                name,
                format!(
                    "a relay has the lock and does not answer: it is frozen, or may not answer on \
                     artstore.status.> (NATS permissions){holder}"
                ),
                "look at its log and restart it if it hangs; if it is no relay, end that session",
                None,
            );
        }
        Working::Active
        | Working::Halted
        | Working::TakingOver
        | Working::Waiting
        | Working::NotKnown => {}
    }
    if let Some(held_by) = &source.held_by {
        let transaction = held_by.transaction.as_deref().unwrap_or("without an id");
        let ranges = source.gaps.len();
        found.add(
            Weight::Stuck,
            name,
            format!(
                "{ranges} gaps are as many as the relay keeps, and rows above them wait until an open \
                 transaction ends: the oldest that holds numbers is {transaction}, of {held_by}"
            ),
            &format!(
                "commit it or roll it back; a restart of the relay does not help. In that database: {}",
                held_by.end()
            ),
            None,
        );
    } else if let (Some(seconds), None) = (stuck, problem) {
        let who = active.map_or_else(String::new, |active| {
            format!(": the relay on {} is stuck", shown(&active.process))
        });
        found.add(
            Weight::Stuck,
            name,
            format!(
                "rows wait and nothing was read or stored for {}{who}",
                super::lines::age(seconds)
            ),
            "look at its log and for locks in the database; restart it if it hangs",
            None,
        );
    }
}

/// Whether a session calls itself one of a command that becomes the source's relay for a while.
fn is_of_a_command(holder: &Holder) -> bool {
    let name = holder.application.as_deref().unwrap_or_default();
    name.starts_with("artstore ") && !name.starts_with("artstore relay")
}

fn of_stream(found: &mut Troubles, source: &str, stream: &str, facts: &StreamFacts) {
    if facts.replicas_current < facts.replicas {
        let (current, wanted) = (facts.replicas_current, facts.replicas);
        found.add(
            Weight::Weakened,
            source,
            format!(
                "stream {stream}: {current} of {wanted} replicas are up to date ({} \
                 behind)",
                counted(facts.replicas_lag, "operation")
            ),
            "look at the NATS server that is down or behind",
            None,
        );
    }
    let Some(mirror) = &facts.mirror else { return };
    // A server shows its mirrors every second that it is there. How far one that hears nothing is behind
    // is not known here: only how far it was.
    let cut_off = mirror.heard_seconds.is_none_or(|heard| heard >= STUCK);
    if cut_off {
        let since = mirror.heard_seconds.map_or_else(
            || "yet".to_owned(),
            |heard| format!("for {}", super::lines::age(heard)),
        );
        found.add(
            Weight::Stuck,
            source,
            format!(
                "the mirror {stream} has heard nothing of {} {since}; it was {} behind then",
                mirror.of,
                counted(mirror.lag, "message")
            ),
            "check the connection to the server of the origin",
            None,
        );
    }
}

/// `stream`: whether NATS is reached, and which limit the stream has.
fn of_place(
    found: &mut Troubles,
    of: &ProjectionStatus,
    place: &ProjectionStream,
    stream: (bool, Option<&str>),
    reached: bool,
) {
    let (nats, limited) = stream;
    let (projection, paused) = (of.projection.as_str(), of.paused.as_deref());
    let about = format!("{projection} of {}", place.source);
    if place.state == Pace::OffTheStream {
        found.add(
            Weight::Damage,
            &about,
            format!(
                "the checkpoint (sequence {}) does not fit stream {}: the stream was recreated or lost \
                 its end, or the checkpoint was changed",
                place.sequence.unwrap_or(0),
                place.stream
            ),
            "set it to what the stream proves",
            match projection {
                AuditLog::NAME => Some(format!(
                    "artstore audit accept-stream --stream {} --reason REASON",
                    place.stream
                )),
                QueryCache::NAME => Some("artstore projection repair query-cache".to_owned()),
                ElementRegistry::NAME => {
                    Some("artstore projection rebuild element-registry".to_owned())
                }
                _ => None,
            },
        );
    }
    // A pause is reported once, for the projection, and a limit of its stream or of the one of heads.
    let told = |problem: &&Problem| {
        let text = problem.text.as_str();
        paused.is_some_and(|paused| text.starts_with(paused))
            || limited == Some(text)
            || is_of_heads(problem)
    };
    let problem = place.workers.problem.as_ref();
    // Where the database is down, all else follows from that.
    let problem = problem.filter(|problem| reached || problem.halted);
    if let Some(problem) = problem.filter(|problem| !told(problem)) {
        found.problem("projection", &about, problem);
    }
    if let Some(remade) = &place.workers.remade {
        found.add(
            Weight::Weakened,
            &about,
            remade.clone(),
            "nothing is lost; find out who changes consumers, and who may (NATS permissions)",
            None,
        );
    }
    if let Some(parked) = place.parked.filter(|parked| *parked > 0) {
        found.add(
            Weight::Parked,
            &about,
            format!(
                "{} parked: can't be applied, or behind such a one",
                super::lines::events(parked)
            ),
            &match projection {
                QueryCache::NAME => {
                    "find and fix the cause, then `artstore parked retry`".to_owned()
                }
                _ => format!(
                    "find and fix the cause, then `artstore parked retry --projection {projection}`"
                ),
            },
            match projection {
                QueryCache::NAME => Some("artstore parked list".to_owned()),
                ElementRegistry::NAME => {
                    Some(format!("artstore parked list --projection {projection}"))
                }
                // Its own program retries them.
                _ => None,
            },
        );
    }
    match place.workers.state {
        Working::None => found.add(
            Weight::Nobody,
            &about,
            "no projector runs: nothing is applied".to_owned(),
            "start one, under something that starts it again",
            Some(match projection {
                QueryCache::NAME => "artstore run projector".to_owned(),
                _ => format!("artstore run projector --projection {projection}"),
            }),
        ),
        Working::Waiting
            if paused.is_none() && place.workers.problem.is_none() && nats && reached =>
        {
            found.add(
                Weight::Nobody,
                &about,
                "no worker is active, though some run: one is taking over, or can't".to_owned(),
                "look again in some seconds; then look at their logs",
                None,
            )
        }
        // Its lock and its checkpoint show enough.
        Working::Silent
        | Working::Active
        | Working::Halted
        | Working::TakingOver
        | Working::Waiting
        | Working::NotKnown => {}
    }
    let idle = matches!(
        place.workers.state,
        Working::None | Working::TakingOver | Working::Waiting
    );
    if place.state == Pace::Stuck && !idle && place.workers.problem.is_none() {
        let active = place.workers.active.as_ref();
        let who = match (active, &place.workers.holder) {
            (Some(process), _) => format!("the worker on {}", shown(process)),
            (None, Some(holder)) => format!("the stream's lock is held by {holder}, which"),
            (None, None) => "the worker".to_owned(),
        };
        found.add(
            Weight::Stuck,
            &about,
            format!(
                "{} behind and no progress for {}: {who} is stuck",
                super::lines::events(place.lag_events.unwrap_or(0)),
                super::lines::age(place.state_seconds.unwrap_or(0.0))
            ),
            "look at its log and for locks in the query database; restart it if it hangs",
            None,
        );
    }
}

/// A process as it is named.
pub fn shown(process: &Process) -> String {
    format!("{} (process {})", process.host, process.pid)
}

/// The command that a text names: our texts have commands between backticks.
fn command_in(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("`artstore ")?;
    let (command, _) = rest.split_once('`')?;
    Some(format!("artstore {command}"))
}
