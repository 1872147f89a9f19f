//! What is wrong with streams.

use artstore_runtime::count::counted;

use super::trouble_list::{TroubleList, Weight, command_in};
use crate::status::assess::STUCK;
use crate::status::lines;
use crate::status::{Status, StreamFacts};

/// `nats`: whether it is reached.
pub(super) fn of_streams(found: &mut TroubleList, status: &Status, nats: bool) {
    let relays = status.sources.iter().map(|source| &source.relay);
    let halts: Vec<&str> = relays
        .filter_map(|relay| Some(relay.problem.as_ref()?.text.as_str()))
        .collect();
    for stream in &status.streams {
        let problem = stream.problem.as_ref().filter(|_| nats);
        // The relay reads the same, and knows more.
        let reported = |problem: &&String| halts.iter().any(|halt| halt.contains(problem.as_str()));
        if let Some(problem) = problem.filter(|problem| !reported(problem)) {
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
        if let Some(limited) = limited.filter(|limited| !reported(limited)) {
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
            of_stream(found, &stream.source, &stream.stream, facts);
        }
    }
}

fn of_stream(found: &mut TroubleList, source: &str, stream: &str, facts: &StreamFacts) {
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
            |heard| format!("for {}", lines::age(heard)),
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
