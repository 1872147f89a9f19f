//! Checkpoints compared with their streams: which sequence a checkpoint really stands for, and what is wrong
//! with it.

use std::collections::HashMap;

use artstore_bus::breaks;
use artstore_bus::connection::Bus;
use artstore_projectors::projector::Projector as _;
use artstore_projectors::query_cache::QueryCache;
use artstore_projectors::runtime::checkpoint::{self, Checkpoint};
use artstore_schemas::envelope::Envelope;
use artstore_schemas::source::Source;
use chrono::{DateTime, SubsecRound as _, Utc};
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::messages::{Messages, Wanted, headers_at};
use crate::finding::{Finding, Kind};

/// The command that repairs a checkpoint.
pub const REPAIR: &str = "artstore projection repair query-cache";

/// What repairs a sound checkpoint that comes before rows: events can be applied again.
const APPLY: &str = "artstore run projector";

/// A checkpoint beside its stream.
#[derive(Debug, Clone)]
pub struct CheckedCheckpoint {
    /// Whose stream.
    pub source: Source,
    /// When the stream was created, as PostgreSQL keeps it.
    pub created: DateTime<Utc>,
    /// The stream's end, read after the checkpoint.
    pub end: u64,
    /// What the database reports; none where nothing was applied yet.
    pub checkpoint: Option<Checkpoint>,
    /// The last sequence of which the checkpoint proves that the stream was applied up to there: its
    /// own where it is sound, else that of its event, else 0.
    pub provable: u64,
    /// The headers of the message there.
    pub message: Option<Envelope>,
    /// What is wrong with the checkpoint.
    pub problems: Vec<String>,
    /// Whether rows in the cache come from messages after the checkpoint.
    pub rows_behind: bool,
    /// Whether an operator accepted damage at the checkpoint: its message is gone or does
    /// not count any more, so there is nothing to compare it with.
    pub accepted: bool,
}

impl CheckedCheckpoint {
    /// The finding, where something is wrong.
    pub fn finding(&self) -> Option<Finding> {
        (!self.problems.is_empty()).then(|| Finding {
            kind: Kind::Checkpoint,
            source: self.source.to_string(),
            id: self.checkpoint.as_ref().and_then(|c| c.last_event_id),
            sequence: self.checkpoint.as_ref().map(|c| c.last_sequence),
            position: None,
            detail: format!(
                "checkpoint of {}: {}",
                self.source.stream(),
                self.problems.join("; ")
            ),
            repair: match self.is_unsound() {
                true => REPAIR,
                false => APPLY,
            }
            .to_owned(),
        })
    }

    /// The checkpoint as it should be.
    pub fn repaired(&self) -> Checkpoint {
        if let Some(checkpoint) = self.checkpoint.as_ref().filter(|_| self.accepted) {
            return checkpoint.clone();
        }
        let message = self.message.as_ref();
        let version = self.checkpoint.as_ref().map(|c| c.version);
        Checkpoint {
            last_sequence: self.provable,
            last_event_id: message.map(|m| m.id),
            stream_created_at: self.created,
            version: version.unwrap_or_default(),
            source_high: message.map_or(0, |m| m.high_water_mark),
            source_missing: message.map_or_else(String::new, |m| m.gaps.to_string()),
            generation: self.checkpoint.as_ref().map_or(0, |c| c.generation),
            parks_in_row: self.checkpoint.as_ref().map_or(0, |c| c.parks_in_row),
        }
    }

    /// Whether the checkpoint is to be reset.
    pub fn is_unsound(&self) -> bool {
        let repaired = self.repaired();
        self.checkpoint
            .as_ref()
            .is_some_and(|checkpoint| *checkpoint != repaired)
    }
}

/// The checkpoints of some sources, as the database has them.
pub type Stored = Vec<(Source, Option<Checkpoint>)>;

/// Reads them. In a repeatable-read transaction they are those of the rows that it sees.
pub async fn stored(query: &mut PgConnection, sources: &[Source]) -> sqlx::Result<Stored> {
    let mut stored = Vec::with_capacity(sources.len());
    for source in sources {
        let checkpoint = checkpoint::load(query, QueryCache::NAME, &source.stream()).await?;
        stored.push((source.clone(), checkpoint));
    }
    Ok(stored)
}

/// Compares them with their streams.
pub async fn places(bus: &Bus, stored: Stored) -> anyhow::Result<Vec<CheckedCheckpoint>> {
    let mut places = Vec::with_capacity(stored.len());
    for (source, checkpoint) in stored {
        let info = bus.stream_info(&source.stream()).await?;
        let mut place = CheckedCheckpoint {
            source,
            created: info.created.trunc_subsecs(6),
            end: info.state.last_sequence,
            provable: checkpoint.as_ref().map_or(0, |c| c.last_sequence),
            message: None,
            checkpoint,
            problems: Vec::new(),
            rows_behind: false,
            accepted: false,
        };
        if let Some(checkpoint) = place.checkpoint.clone() {
            examine(bus, &mut place, &checkpoint).await?;
        }
        places.push(place);
    }
    Ok(places)
}

/// The highest sequence that a row of the cache comes from, by stream. It reads whole tables. Read
/// before the checkpoints, so that what is applied in between is no problem.
pub(crate) async fn highest_rows(query: &mut PgConnection) -> anyhow::Result<HashMap<String, u64>> {
    let rows = sqlx::query(
        "select stream, max(sequence) as sequence from ( \
             select stream, stream_sequence as sequence from public.file_metadata_cache \
             where event_id is not null and stream = 'ARTSTORE_WAL_' || storage_element_id \
             union all \
             select 'ARTSTORE_WAL_' || element, stream_sequence from public.file_ownership \
         ) r where sequence is not null group by stream",
    )
    .fetch_all(query)
    .await?;
    rows.iter()
        .map(|row| {
            let sequence: i64 = row.try_get("sequence")?;
            Ok((row.try_get("stream")?, u64::try_from(sequence).unwrap_or(0)))
        })
        .collect()
}

/// Notes where rows come from messages after a checkpoint.
pub(crate) fn compare_rows(places: &mut [CheckedCheckpoint], highest: &HashMap<String, u64>) {
    for place in places {
        let applied = highest.get(&place.source.stream()).copied();
        // A row changed by hand may name any sequence: only one that the stream has counts.
        let applied = applied.filter(|row| *row > place.provable && *row <= place.end);
        if let Some(applied) = applied {
            place.rows_behind = true;
            let stands = match &place.checkpoint {
                Some(_) => format!("it is at {}", place.provable),
                None => "there is none".to_owned(),
            };
            let next = match place.is_unsound() {
                true => "",
                false => ": a running projector applies them again, which changes nothing else",
            };
            place.problems.push(format!(
                "{stands}, but rows come from messages up to {applied}{next}"
            ));
        }
    }
}

async fn examine(
    bus: &Bus,
    place: &mut CheckedCheckpoint,
    checkpoint: &Checkpoint,
) -> anyhow::Result<()> {
    let sequence = checkpoint.last_sequence;
    let shown = |id: Option<Uuid>| id.map_or_else(|| "none".to_owned(), |id| id.to_string());
    if checkpoint.stream_created_at != place.created {
        place.problems.push(format!(
            "it is of a stream created at {}, this one was created at {}",
            checkpoint.stream_created_at, place.created
        ));
    }
    if sequence > place.end {
        place.problems.push(format!(
            "it is at {sequence}, the stream ends at {}",
            place.end
        ));
    }
    if checkpoint.stream_created_at == place.created && (1..=place.end).contains(&sequence) {
        let damage = breaks::damage(bus, &place.source).await?;
        if damage.covers_hole(sequence, sequence) || damage.ignores(sequence) {
            place.accepted = true;
            return Ok(());
        }
    }
    let message = headers_at(bus, &place.source, sequence).await?;
    let found = message.as_ref().map(|m| m.id);
    if found == checkpoint.last_event_id {
        place.message = message;
    } else {
        if sequence <= place.end {
            place.problems.push(format!(
                "event {} is expected at {sequence}, event {} is there",
                shown(checkpoint.last_event_id),
                shown(found)
            ));
        }
        (place.provable, place.message) = match checkpoint.last_event_id {
            Some(id) => search(bus, &place.source, id, place.end).await?,
            None => (0, None),
        };
    }
    let from_stream = place.repaired();
    if found == checkpoint.last_event_id
        && (from_stream.source_high != checkpoint.source_high
            || from_stream.source_missing != checkpoint.source_missing)
    {
        place.problems.push(format!(
            "it covers positions up to {} but {:?}, the message at {sequence} says up to {} but {:?}",
            checkpoint.source_high,
            checkpoint.source_missing,
            from_stream.source_high,
            from_stream.source_missing
        ));
    }
    Ok(())
}

/// The sequence of an event: 0 where there is none.
async fn search(
    bus: &Bus,
    source: &Source,
    id: Uuid,
    end: u64,
) -> anyhow::Result<(u64, Option<Envelope>)> {
    let wanted = Wanted {
        from: 1,
        to: end,
        partitions: None,
        headers_only: true,
    };
    let mut messages = Messages::open(bus, source, &wanted).await?;
    while let Some(message) = messages.next().await? {
        if let Some(envelope) = message.envelope().filter(|e| e.id == id) {
            messages.close().await;
            return Ok((message.sequence, Some(envelope)));
        }
    }
    messages.close().await;
    Ok((0, None))
}
