//! What is wrong with projections: their checkpoints, workers and parked events, and the stream of signed heads.

use artstore_bus::stream_name::AUDIT_HEADS;
use artstore_projectors::projection_names::{AUDIT_LOG, ELEMENT_REGISTRY, QUERY_CACHE};

use super::trouble_list::{TroubleList, Weight, command_in, is_down, shown};
use crate::service::answer::Problem;
use crate::status::lines;
use crate::status::{Pace, ProjectionStatus, ProjectionStream, Status, Working};

/// `nats`: whether it is reached.
pub(super) fn of_projections(found: &mut TroubleList, status: &Status, nats: bool) {
    for projection in &status.projections {
        let name = &projection.projection;
        let database = match name.as_str() {
            QUERY_CACHE => &status.read_model,
            _ => &status.audit_log,
        };
        let reached = !database.as_ref().is_some_and(is_down);
        if let Some(paused) = &projection.paused {
            found.add(
                Weight::Paused,
                name,
                format!("{paused}; nothing is applied meanwhile"),
                "resume it when the reason is gone",
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
        let idle = |place: &ProjectionStream| place.workers.state == Working::None;
        let nobody = projection.streams.len() > 1 && projection.streams.iter().all(idle);
        if nobody {
            nobody_runs(found, name, name);
        }
        for place in &projection.streams {
            let stream = status.streams.iter().find(|s| s.stream == place.stream);
            let limited = stream.and_then(|s| s.facts.as_ref()?.limited.as_deref());
            of_place(found, projection, place, (nats, limited), reached);
            if idle(place) && !nobody {
                nobody_runs(found, &format!("{name} of {}", place.source), name);
            }
        }
    }
}

fn nobody_runs(found: &mut TroubleList, about: &str, projection: &str) {
    found.add(
        Weight::Nobody,
        about,
        "no projector runs: nothing is applied".to_owned(),
        "start one, under something that starts it again",
        Some(match projection {
            QUERY_CACHE => "artstore run projector".to_owned(),
            _ => format!("artstore run projector --projection {projection}"),
        }),
    );
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

/// `stream`: whether NATS is reached, and which limit the stream has.
fn of_place(
    found: &mut TroubleList,
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
                AUDIT_LOG => Some(format!(
                    "artstore audit accept-stream --stream {} --reason REASON",
                    place.stream
                )),
                QUERY_CACHE => Some("artstore projection repair query-cache".to_owned()),
                ELEMENT_REGISTRY => Some("artstore projection rebuild element-registry".to_owned()),
                _ => None,
            },
        );
    }
    // A pause is reported once, for the projection, and a limit of its stream or of the one of heads.
    let reported = |problem: &&Problem| {
        let text = problem.text.as_str();
        paused.is_some_and(|paused| text.starts_with(paused))
            || limited == Some(text)
            || is_of_heads(problem)
    };
    let problem = place.workers.problem.as_ref();
    // Where the database is down, all else follows from that.
    let problem = problem.filter(|problem| reached || problem.halted);
    if let Some(problem) = problem.filter(|problem| !reported(problem)) {
        found.problem("projection", &about, problem);
    }
    if let Some(recreated) = &place.workers.recreated {
        found.add(
            Weight::Weakened,
            &about,
            recreated.clone(),
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
                lines::events(parked)
            ),
            &match projection {
                QUERY_CACHE => "find and fix the cause, then `artstore parked retry`".to_owned(),
                _ => format!(
                    "find and fix the cause, then `artstore parked retry --projection {projection}`"
                ),
            },
            match projection {
                QUERY_CACHE => Some("artstore parked list".to_owned()),
                ELEMENT_REGISTRY => Some(format!("artstore parked list --projection {projection}")),
                // Its own program retries them.
                _ => None,
            },
        );
    }
    match place.workers.state {
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
        // Its lock and its checkpoint show enough; that nobody runs is reported once for all streams.
        Working::Silent
        | Working::None
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
                lines::events(place.lag_events.unwrap_or(0)),
                lines::age(place.state_seconds.unwrap_or(0.0))
            ),
            "look at its log and for locks in the query database; restart it if it hangs",
            None,
        );
    }
}
