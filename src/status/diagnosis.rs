//! What is wrong, and what to do. Pure: from the state to the texts.

mod databases;
mod projections;
mod sources;
mod streams;
mod trouble_list;

use self::trouble_list::{TroubleList, Weight};
use super::{Status, Trouble};

/// Everything that is wrong, the most important first.
pub fn troubles(status: &Status) -> Vec<Trouble> {
    let mut found = TroubleList::default();
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
    databases::of_databases(&mut found, status);
    sources::of_sources(&mut found, status, nats);
    streams::of_streams(&mut found, status, nats);
    projections::of_projections(&mut found, status, nats);
    found.sorted()
}
