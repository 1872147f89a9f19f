//! How those who work stand, and how far a projection is: by progress, not by the size of a lag. Where
//! nothing new comes all is well, where work is done it is a matter of time, and where there is work and
//! nobody does it, something is wrong.

use chrono::{DateTime, Utc};

use super::database::Checkpoint;
use super::{Pace, Rows, StreamFacts, Working};
use crate::service::answer::{Problem, RelayAnswer, Since, Stage};

/// Work that nobody has touched for so long is stuck: more than a take-over takes.
pub(super) const STUCK: f64 = 10.0;

/// What passes by itself within this time is no trouble: a worker that starts again, a lock that
/// changes hands.
const MOMENT: f64 = 4.0;

/// How those who work on something stand together, and what is wrong with the one that matters.
/// `others`: how many there are besides, as the database sees it. `answers`: none where they could
/// not be asked.
pub(crate) fn working<'a>(
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
pub(crate) fn lasting(problem: Option<&Problem>, since: Since) -> Option<&Problem> {
    let passing = since
        .problem_seconds
        .is_some_and(|seconds| seconds < MOMENT);
    problem.filter(|problem| problem.halted || !passing)
}

/// Nobody has the lock, though some wait for it, or one that did not report itself: whether that is so only
/// for a moment. `changed_hands`: another session had the lock a moment before.
pub(crate) fn taking_over(
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
pub(crate) fn pace(seen: PaceInput<'_>) -> (Pace, Option<f64>) {
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
