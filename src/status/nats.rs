//! What NATS reports: its streams, and the processes that answer over it.

use std::collections::{BTreeMap, BTreeSet};

use artstore_bus::bus_error::BusError;
use artstore_bus::connection::{Bus, BusOptions};
use artstore_producers::relay::resume_state;
use artstore_projectors::audit_log::AuditLog;
use artstore_projectors::element_registry::ElementRegistry;
use artstore_projectors::projector::Projector as _;
use artstore_projectors::query_cache::QueryCache;
use artstore_schemas::source::Source;
use tokio::time::{Instant, timeout_at};

use super::answers::{self, Answers};
use super::asked_database::{PATIENCE, late};
use super::compose;
use super::reports::{Asked, StreamLook};

/// Connects to NATS, lists the streams, and asks the processes.
pub(super) async fn reach_nats(
    bus: &mut Option<Bus>,
    options: &BusOptions,
    sources: &[Source],
    until: Instant,
) -> Asked<(Asked<Answers>, Vec<Source>)> {
    let reach = async {
        let bus = match bus {
            Some(bus) => bus,
            None => bus.insert(Bus::connect(options).await?),
        };
        let answers = answers::ask(
            bus,
            sources,
            &[QueryCache::NAME, AuditLog::NAME, ElementRegistry::NAME],
        );
        let (answers, listed) = tokio::join!(answers, list(bus, sources, until));
        let mut all: BTreeSet<Source> = listed.into_iter().collect();
        all.extend(sources.iter().cloned());
        let answers = answers.map_err(|error| error.to_string());
        Ok::<_, BusError>((answers, all.into_iter().collect()))
    };
    match timeout_at(until, reach).await {
        Ok(Ok(reached)) => Ok(reached),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(late()),
    }
}

/// The streams of ours besides those of the configured sources, which are looked at anyway. A user who may not list
/// them sees the configured ones.
async fn list(bus: &Bus, configured: &[Source], until: Instant) -> Vec<Source> {
    let until = until.min(Instant::now() + PATIENCE / 2);
    match timeout_at(until, others(bus, configured)).await {
        Ok(Ok(listed)) => listed,
        Ok(Err(error)) => {
            tracing::info!(%error, "only the streams of the configured sources are shown");
            Vec::new()
        }
        Err(_) => {
            tracing::info!("no list of streams: only those of the configured sources are shown");
            Vec::new()
        }
    }
}

async fn others(bus: &Bus, configured: &[Source]) -> Result<Vec<Source>, BusError> {
    let readable = bus.readable_streams().await?;
    let others = readable.iter().filter_map(|name| Source::of_stream(name));
    let others = others.filter(|source| !configured.contains(source));
    // What the rights name need not be there yet.
    let looks = others.map(
        async |source| match bus.stream_info(&source.stream()).await {
            Err(BusError::NoStream(_)) => None,
            Ok(_) | Err(_) => Some(source),
        },
    );
    let there = futures::future::join_all(looks).await;
    Ok(there.into_iter().flatten().collect())
}

/// A stream, and when the messages after these sequences were stored.
pub(super) async fn look_at_stream(
    bus: &Bus,
    source: &Source,
    ends: &BTreeSet<u64>,
) -> Asked<StreamLook> {
    let stream = source.stream();
    let info = bus.stream_info(&stream).await.map_err(|e| e.to_string())?;
    let last = info.state.last_sequence;
    let resume_state = resume_state::read(bus, source)
        .await
        .map_err(|e| e.to_string());
    let mut behind = BTreeMap::new();
    for end in ends.iter().filter(|end| **end < last) {
        let next = (end + 1).max(info.state.first_sequence);
        // One that is gone has no age; the lag is counted all the same.
        if let Ok(Some(message)) = bus.message_at(&stream, next).await {
            behind.insert(*end, message.published);
        }
    }
    Ok(StreamLook {
        facts: compose::stream_facts(&info),
        resume_state,
        behind,
    })
}
