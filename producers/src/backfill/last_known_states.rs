//! The last known state of each file in an element's stream. The relay reads the messages up to the
//! stream's end, and adds what it publishes itself from then on. [`crate::backfill::differences`] compares
//! the result with `_files`.
//!
//! Memory is bounded by reading some partitions at a time: all events of a file are in one partition, so
//! the states of a group of partitions are complete for their files. About 100 bytes a file.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::{Duration, Instant};

use artstore_bus::breaks;
use artstore_bus::bus_error::BusError;
use artstore_bus::connection::Bus;
use artstore_bus::message::Message;
use artstore_bus::selection::Selection;
use artstore_bus::stream_reader::StreamReader;
use artstore_schemas::damage::Damage;
use artstore_schemas::envelope::Envelope;
use artstore_schemas::event::{self, Event, WalEvent};
use artstore_schemas::source::Source;
use artstore_schemas::subject::{self, PARTITIONS};
use uuid::Uuid;

use crate::backfill::state::{self, State};
use crate::relay::relay_error::{Halt, RelayError};

/// The last known state of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastKnown {
    /// The message.
    pub sequence: u64,
    /// The file's state; none: it is not there.
    pub state: Option<State>,
    /// A digest of where the event states that the element's API is reached.
    pub api_url: u64,
}

/// Puts the partitions into groups, so that the states of each hold at most about `files` files of a
/// stream with so many messages. At most one partition a group: beyond sixteen times `files`
/// messages, a group may hold more.
pub fn groups(messages: u64, files: u64) -> Vec<Vec<u32>> {
    let groups = messages.div_ceil(files.max(1));
    let groups = u32::try_from(groups).unwrap_or(PARTITIONS);
    let groups = groups.clamp(1, PARTITIONS);
    let group = |first| (first..PARTITIONS).step_by(groups as usize).collect();
    (0..groups).map(group).collect()
}

/// The last known states of the files in some partitions of an element's stream.
pub struct LastKnownStates {
    source: Source,
    partitions: Vec<u32>,
    files: BTreeMap<Uuid, LastKnown>,
    /// Messages that readers skip.
    damage: Damage,
    /// The sequence of the record of them; 0 where there is none. A snapshot that it counts as gone is
    /// published again after it, as an event of its own.
    pub damage_at: u64,
    /// What is still to be read of the stream.
    reading: Option<Reading>,
}

struct Reading {
    messages: StreamReader,
    /// The last message that is wanted.
    target: u64,
}

impl LastKnownStates {
    /// Begins to read these partitions of an element's stream, up to `end`, its last sequence.
    pub async fn open(
        bus: &Bus,
        source: &Source,
        partitions: Vec<u32>,
        end: u64,
    ) -> Result<Self, RelayError> {
        let stream = source.stream();
        let filters = filters(source, &partitions);
        let target = last_of(bus, source, &filters, end).await?;
        let record = breaks::damage_record(bus, source).await?;
        let (damage_at, damage) = record.unwrap_or_default();
        let mut states = Self {
            source: source.clone(),
            partitions,
            files: BTreeMap::new(),
            damage,
            damage_at,
            reading: None,
        };
        if target == 0 {
            return Ok(states);
        }
        let selection = Selection {
            subjects: filters,
            ..Selection::from(1)
        };
        let messages = StreamReader::open(bus, &stream, selection).await?;
        states.reading = Some(Reading { messages, target });
        Ok(states)
    }

    /// Continues to read for about so long, up to the end that it was opened with
    /// ([`Self::is_complete`]).
    pub async fn advance(&mut self, patience: Duration) -> Result<(), RelayError> {
        let begun = Instant::now();
        loop {
            let Some(reading) = &mut self.reading else {
                return Ok(());
            };
            let left = patience.saturating_sub(begun.elapsed());
            let Some(message) = reading.messages.next_persistently(left).await? else {
                return Ok(());
            };
            let sequence = message.sequence;
            let reached = sequence >= reading.target;
            // What was published since it was opened was added already.
            if sequence <= reading.target && !self.damage.ignores(sequence) {
                let event = read(&self.source, &message)?;
                self.add(sequence, &event);
            }
            if reached {
                self.reading = None;
            }
        }
    }

    /// Whether everything up to the end that it was opened with is in it.
    pub fn is_complete(&self) -> bool {
        self.reading.is_none()
    }

    /// Adds a message. Of two of a file the later one counts, whichever is added first.
    pub fn add(&mut self, sequence: u64, event: &WalEvent) {
        let Some((file, state)) = state::stated_by(event) else {
            return;
        };
        if !self.covers(file) {
            return;
        }
        let stated = LastKnown {
            sequence,
            state,
            api_url: state::of_url(event.element.api_url.as_deref()),
        };
        let last = self.files.entry(file).or_insert(stated);
        if sequence >= last.sequence {
            *last = stated;
        }
    }

    /// Whether a file is in these partitions.
    pub fn covers(&self, file: Uuid) -> bool {
        self.partitions.contains(&subject::partition(Some(file)))
    }

    /// The last known state of a file.
    pub fn last(&self, file: Uuid) -> Option<LastKnown> {
        self.files.get(&file).copied()
    }

    /// The files after `after` and up to `upto` (none: to the end), by id.
    pub fn range(
        &self,
        after: Option<Uuid>,
        upto: Option<Uuid>,
    ) -> impl Iterator<Item = (Uuid, LastKnown)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let to = upto.map_or(Bound::Unbounded, Bound::Included);
        self.files.range((from, to)).map(|(id, last)| (*id, *last))
    }
}

/// None where all partitions are wanted: then every message is.
fn filters(source: &Source, partitions: &[u32]) -> Vec<String> {
    if partitions.len() == PARTITIONS as usize {
        return Vec::new();
    }
    let prefix = source.subject_prefix();
    let filter = |partition: &u32| format!("{prefix}.p{partition:02}.>");
    partitions.iter().map(filter).collect()
}

/// The last message that fits any of the filters, as the stream's leader knows it.
async fn last_of(
    bus: &Bus,
    source: &Source,
    filters: &[String],
    end: u64,
) -> Result<u64, RelayError> {
    if filters.is_empty() {
        return Ok(end);
    }
    let stream = source.stream();
    let mut last = 0;
    for filter in filters {
        if let Some(message) = bus.last_message(&stream, filter).await? {
            last = last.max(message.sequence);
        }
    }
    if last > end {
        return Err(failed(
            &stream,
            &format!("somebody else has published message {last}"),
        ));
    }
    Ok(last)
}

fn read(source: &Source, message: &Message) -> Result<WalEvent, RelayError> {
    let foreign = |problem: String| Halt::ForeignStream {
        source_name: source.to_string(),
        stream: source.stream(),
        sequence: message.sequence,
        problem,
    };
    let envelope = Envelope::from_headers(&message.headers).map_err(|e| foreign(e.to_string()))?;
    match event::decode(source, &envelope.event_type, &message.body) {
        Ok(Event::Wal(event)) => Ok(*event),
        Ok(Event::Outbox(_)) => Err(foreign("it is no event of an element".to_owned()).into()),
        Err(error) => Err(foreign(error.to_string()).into()),
    }
}

fn failed(stream: &str, error: &dyn std::fmt::Display) -> RelayError {
    BusError::JetStream(format!("stream {stream}: {error}")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_hold_every_partition_once() {
        for (messages, expected) in [(0, 1), (1_000_000, 1), (1_000_001, 2), (7_500_000, 8)] {
            let groups = groups(messages, 1_000_000);
            assert_eq!(groups.len(), expected);
            let mut all: Vec<u32> = groups.concat();
            all.sort_unstable();
            assert_eq!(all, (0..PARTITIONS).collect::<Vec<_>>());
        }
        assert_eq!(groups(u64::MAX, 1).len(), PARTITIONS as usize);
    }
}
