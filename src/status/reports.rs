//! What databases and NATS report, before it is put together.

use std::collections::{BTreeMap, BTreeSet};

use artstore_producers::relay::resume_state::ResumeState;
use artstore_projectors::audit_log::AuditLog;
use artstore_projectors::element_registry::ElementRegistry;
use artstore_projectors::projector::Projector as _;
use artstore_projectors::query_cache::QueryCache;
use artstore_projectors::runtime::pause::Pause;
use artstore_projectors::runtime::presence::Presence;
use artstore_runtime::holder::Holder;
use artstore_schemas::source::Source;
use chrono::{DateTime, Utc};

use super::database::Checkpoint;
use super::{Rows, StreamFacts};

/// What is reported about a database that answers otherwise, as where somebody has locked a table.
pub(super) const UNANSWERED: &str = "a question was not answered in time";

/// Behind who has locked a table, before the statement that ends that session.
pub(super) const TO_END: &str = "; to end it: ";

/// A database that was asked.
pub(super) type Asked<T> = Result<T, String>;

/// What a database with projections is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// The query cache: shown whether or not anything was applied yet.
    QueryCache,
    /// The audit log: shown once there is one.
    AuditLog,
}

/// What a database with projections reports.
pub(super) struct ProjectionRows {
    pub(super) checkpoints: Vec<Checkpoint>,
    /// Which streams each projection reads: as it reports itself, and as its checkpoints state.
    pub(super) read_by: BTreeMap<String, Vec<Source>>,
    /// By projection and source.
    pub(super) workers: BTreeMap<(String, Source), Presence>,
    /// Of projections that are paused.
    pub(super) pauses: BTreeMap<String, Pause>,
}

/// The streams that each projection reads, by its checkpoints and by those that are listed.
pub(super) fn read_by(
    holds: Holds,
    checkpoints: &[Checkpoint],
    listed: &[Source],
) -> BTreeMap<String, Vec<Source>> {
    let mut all: BTreeMap<String, BTreeSet<Source>> = BTreeMap::new();
    for checkpoint in checkpoints {
        if let Some(source) = Source::of_stream(&checkpoint.stream) {
            let sources = all.entry(checkpoint.projection.clone()).or_default();
            sources.insert(source);
        }
    }
    match holds {
        Holds::QueryCache => {
            let read = listed.iter().filter(|source| QueryCache.reads(source));
            let sources = all.entry(QueryCache::NAME.to_owned()).or_default();
            sources.extend(read.cloned());
        }
        // It reads all, once it reads any.
        Holds::AuditLog => {
            if let Some(sources) = all.get_mut(AuditLog::NAME) {
                sources.extend(listed.iter().cloned());
            }
            if let Some(sources) = all.get_mut(ElementRegistry::NAME) {
                let read = listed.iter().filter(|source| ElementRegistry.reads(source));
                sources.extend(read.cloned());
            }
        }
    }
    let all = all.into_iter();
    all.map(|(name, sources)| (name, sources.into_iter().collect()))
        .collect()
}

/// What a source reports besides, once its stream is known.
pub(super) struct SourceCounts {
    pub(super) unpublished: Rows,
    /// The last position that was drawn.
    pub(super) position: i64,
    /// Who holds numbers, where there is no room for more gaps.
    pub(super) held_by: Option<Holder>,
}

/// What NATS reports about a stream.
pub(super) struct StreamLook {
    pub(super) facts: StreamFacts,
    pub(super) resume_state: Asked<ResumeState>,
    /// When the message after a sequence was stored.
    pub(super) behind: BTreeMap<u64, DateTime<Utc>>,
}
