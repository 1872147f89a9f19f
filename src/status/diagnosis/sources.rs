//! What is wrong with a source, its relays, and the check of it.

use artstore_runtime::holder::Holder;
use artstore_verification::proven;

use super::trouble_list::{TroubleList, Weight, command_in, is_down, shown};
use crate::service::answer::{Problem, Stage};
use crate::status::assess::lasting;
use crate::status::lines;
use crate::status::{SourceStatus, Status, Working};

/// An operation that is pending for so long was left behind, as `artstore wal pending` takes it.
const LEFT_BEHIND: f64 = 3_600.0;

/// `nats`: whether it is reached.
pub(super) fn of_sources(found: &mut TroubleList, status: &Status, nats: bool) {
    let idle = |source: &SourceStatus| source.relay.state == Working::None;
    let nobody = status.sources.len() > 1 && status.sources.iter().all(idle);
    if nobody {
        nobody_runs(found, "all sources", "artstore run relay".to_owned());
    }
    for source in &status.sources {
        of_source(found, source, nats);
        if idle(source) && !nobody {
            let name = &source.source;
            nobody_runs(found, name, format!("artstore run relay --source {name}"));
        }
    }
}

fn nobody_runs(found: &mut TroubleList, about: &str, command: String) {
    found.add(
        Weight::Nobody,
        about,
        "no relay runs: finished rows are not published".to_owned(),
        "start one, under something that starts it again",
        Some(command),
    );
}

fn of_source(found: &mut TroubleList, source: &SourceStatus, nats: bool) {
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
                    lines::age(proven.seconds)
                ),
                "look at the relay's log; start the relay again",
                None,
            );
        }
        if let Some(problem) = &proven.problem {
            found.add(
                Weight::Weakened,
                name,
                format!("the check of source and stream does not continue: {problem}"),
                "remove the cause that is named; it continues by itself then",
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
                lines::age(oldest)
            ),
            "list and resolve what was left behind",
            Some(format!("artstore wal pending --element {name}")),
        );
    }
}

fn of_relays(found: &mut TroubleList, source: &SourceStatus, nats: bool) {
    let (name, relays) = (source.source.as_str(), &source.relay);
    let reached = !is_down(&source.database);
    let answers = relays.answers.as_deref().unwrap_or_default();
    let active = answers.iter().find(|answer| answer.stage == Stage::Active);
    // Where the database is down, all else follows from that.
    let reported = |problem: &&Problem| reached || problem.halted;
    let problem = relays.problem.as_ref().filter(reported);
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
                lines::age(seconds),
                problem.text
            ),
            "remove the cause that is named; it continues by itself then",
            command_in(&problem.text),
        ),
        (Some(problem), _) => found.problem("relay", name, problem),
        (None, _) => {}
    }
    for other in answers {
        let problem = lasting(other.problem.as_ref(), other.since);
        let reported = relays.problem.as_ref() == problem;
        if let Some(problem) = problem.filter(|problem| !reported && (reached || problem.halted)) {
            let who = format!("relay on {}", shown(&other.process));
            found.problem(&who, name, problem);
        }
    }
    match relays.state {
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
                "wait until it has ended, a relay continues then; if it hangs, end it",
                None,
            );
        }
        Working::Silent if relays.holder.as_ref().is_some_and(is_no_program) => {
            let holder = relays.holder.as_ref();
            let shown = holder.map_or_else(String::new, Holder::to_string);
            let end = holder.map_or_else(String::new, Holder::end);
            found.add(
                Weight::Stuck,
                name,
                format!("the relay's lock is held by a session that is no relay: {shown}"),
                &format!(
                    "find out who that role is given to; in that database, end the session: {end}"
                ),
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
        // That nobody runs is reported once for all sources.
        Working::None
        | Working::Active
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
                lines::age(seconds)
            ),
            "look at its log and for locks in the database; restart it if it hangs",
            None,
        );
    }
}

/// Whether a session calls itself something that none of our programs does. A role that may not see what
/// sessions call themselves knows nothing about that.
fn is_no_program(holder: &Holder) -> bool {
    let name = holder.application.as_deref();
    name.is_some_and(|name| !name.starts_with("artstore"))
}

/// Whether a session calls itself one of a command that becomes the source's relay for a while.
fn is_of_a_command(holder: &Holder) -> bool {
    let name = holder.application.as_deref().unwrap_or_default();
    name.starts_with("artstore ") && !name.starts_with("artstore relay")
}
