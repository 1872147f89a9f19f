//! Backfill: every file of `_files` is compared with the file's last known state in the stream, and
//! each difference is published as a snapshot. It is a step of the relay's poll loop; the chunk comes
//! from the poll's own snapshot and is compared once that poll's rows are published.
//!
//! That order makes it right while files change. The chunk and the poll's rows are of one
//! moment: a change that the chunk shows already has its message in the stream, and a change that it
//! does not show gets its message later, after the snapshot. Nothing is kept outside the stream: a
//! backfill that was interrupted starts again, and finds no difference in what it published before.

use std::collections::VecDeque;
use std::time::Duration;

use artstore_bus::connection::Bus;
use artstore_schemas::event::{File, Omitted, SourceBackfilled, WalEvent};
use artstore_schemas::source::Source;
use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use serde_json::json;
use uuid::Uuid;

use crate::backfill::chunk::{Chunk, Wanted};
use crate::backfill::last_known_states::{self, LastKnown, LastKnownStates};
use crate::backfill::state::{self, State, snapshot_id};
use crate::relay::publish::Outgoing;
use crate::relay::relay_error::RelayError;
use crate::relay::translate::Translator;
use crate::relay::translated::Translated;

/// How many last known states are held in memory at a time.
pub const FILES_PER_PASS: u64 = 1_000_000;

/// How long the stream is read between two polls.
const READING: Duration = Duration::from_millis(200);

/// The most snapshots of one chunk: of deleted files there may be any number in its range.
const MAX_CHANGES: usize = 1_000;

/// What was found and done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct BackfillCounts {
    /// Files of the element, and files that are present by the stream.
    pub compared: u64,
    /// Snapshots of files that the stream did not have, or had otherwise.
    pub created: u64,
    /// Snapshots of files that the stream had and the element has not.
    pub deleted: u64,
    /// Files whose last known state in the stream is that of the element.
    pub unchanged: u64,
}

impl BackfillCounts {
    /// How many snapshots were published.
    pub fn published(&self) -> u64 {
        self.created + self.deleted
    }
}

/// One comparison of an element with its stream, from its beginning to its end.
pub(crate) struct Backfill {
    files_per_pass: u64,
    /// The groups of partitions that are not compared yet, the current one first; none before the
    /// first look at the stream.
    groups: Option<VecDeque<Vec<u32>>>,
    states: Option<LastKnownStates>,
    /// Compared up to this id, in the present group.
    after: Option<Uuid>,
    done: BackfillCounts,
}

/// What a chunk turned out to be.
pub(crate) struct Compared {
    /// What has to be published, by file id.
    pub(crate) events: Vec<Translated>,
    upto: Option<Uuid>,
    found: BackfillCounts,
}

impl Backfill {
    pub(crate) fn new(files_per_pass: u64) -> Self {
        Self {
            files_per_pass,
            groups: None,
            states: None,
            after: None,
            done: BackfillCounts::default(),
        }
    }

    pub(crate) fn done(&self) -> BackfillCounts {
        self.done
    }

    /// Whether every group was compared to its end.
    pub(crate) fn is_complete(&self) -> bool {
        self.groups.as_ref().is_some_and(VecDeque::is_empty)
    }

    /// The chunk that can be compared next; none while the stream is still read.
    pub(crate) fn wanted(&self) -> Option<Wanted> {
        let complete = self
            .states
            .as_ref()
            .is_some_and(LastKnownStates::is_complete);
        complete.then_some(Wanted { after: self.after })
    }

    /// Reads the stream for a moment. `end`: its last sequence.
    pub(crate) async fn read(
        &mut self,
        bus: &Bus,
        source: &Source,
        end: u64,
    ) -> Result<(), RelayError> {
        let groups = self
            .groups
            .get_or_insert_with(|| last_known_states::groups(end, self.files_per_pass).into());
        let Some(group) = groups.front() else {
            return Ok(());
        };
        let states = match &mut self.states {
            Some(states) => states,
            none => none.insert(LastKnownStates::open(bus, source, group.clone(), end).await?),
        };
        states.advance(READING).await
    }

    /// The relay's own messages are in the stream, behind `last`.
    pub(crate) fn published(&mut self, last: u64, bodies: &[bytes::Bytes]) {
        let Some(states) = &mut self.states else {
            return;
        };
        for (body, sequence) in bodies.iter().zip(last + 1..) {
            let event: WalEvent =
                serde_json::from_slice(body).expect("the relay wrote it a moment ago");
            states.add(sequence, &event);
        }
    }

    /// Only the stream knows what is in it: it is read again. What was compared stays compared.
    pub(crate) fn forget(&mut self) {
        self.states = None;
    }

    /// Compares a chunk with the stream. Nothing counts before [`Self::passed`].
    pub(crate) fn compare(&self, chunk: Chunk, translator: &Translator) -> Compared {
        let at = now();
        let mut compared = Compared {
            events: Vec::new(),
            upto: chunk.upto,
            found: BackfillCounts::default(),
        };
        let Some(states) = &self.states else {
            return Compared {
                upto: chunk.after,
                ..compared
            };
        };
        let mut large = chunk.large;
        let held = chunk
            .files
            .into_iter()
            .filter(|file| states.covers(file.id));
        let mut held = held.peekable();
        let mut believed = states
            .range(chunk.after, chunk.upto)
            .filter(|(_, last)| last.state.is_some())
            .peekable();
        let source = translator.source().to_string();
        // Both by id: a merge shows on which side each is.
        loop {
            if compared.events.len() >= MAX_CHANGES {
                // The rest of the range is read again with the next chunk.
                break;
            }
            let next = match (held.peek(), believed.peek()) {
                (None, None) => {
                    compared.upto = chunk.upto;
                    return compared;
                }
                (Some(file), Some((id, _))) if file.id > *id => *id,
                (Some(file), _) => file.id,
                (None, Some((id, _))) => *id,
            };
            believed.next_if(|(id, _)| *id == next);
            let file = held.next_if(|file| file.id == next);
            let measured = large.remove(&next).unwrap_or_default();
            let held = file.map(|file| (file, measured));
            let event = snapshot(states, &source, translator, next, held, at);
            compared.found.count(event.as_ref());
            compared.events.extend(event);
            compared.upto = Some(next);
        }
        compared
    }

    /// A chunk's snapshots are in the stream.
    pub(crate) fn passed(&mut self, compared: &Compared) {
        let found = compared.found;
        self.done.compared += found.compared;
        self.done.created += found.created;
        self.done.deleted += found.deleted;
        self.done.unchanged += found.unchanged;
        self.after = compared.upto;
        if compared.upto.is_none() {
            self.states = None;
            if let Some(groups) = &mut self.groups {
                groups.pop_front();
            }
        }
    }

    /// The record that ends a backfill. `end`: the stream's last sequence.
    pub(crate) fn backfilled(&self, translator: &Translator, end: u64) -> Translated {
        let name = format!("artstore/backfilled/v1/{}/{end}", translator.source());
        let id = Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes());
        let facts = SourceBackfilled {
            compared: self.done.compared,
            created: self.done.created,
            deleted: self.done.deleted,
            unchanged: self.done.unchanged,
        };
        translator.backfilled(id, now(), json!(facts))
    }
}

impl BackfillCounts {
    fn count(&mut self, event: Option<&Translated>) {
        self.compared += 1;
        match event.map(|event| event.event_type.action.as_str()) {
            None => self.unchanged += 1,
            Some("deleted") => self.deleted += 1,
            Some(_) => self.created += 1,
        }
    }
}

/// None where the last known state of the file is that of the element.
fn snapshot(
    states: &LastKnownStates,
    source: &str,
    translator: &Translator,
    id: Uuid,
    held: Option<(File, Vec<Omitted>)>,
    at: DateTime<Utc>,
) -> Option<Translated> {
    let last = states.last(id);
    let in_stream = last.and_then(|last| last.state);
    let state = held.as_ref().map(|(file, large)| State::of(file, large));
    let same = match (&in_stream, state.as_ref().zip(held.as_ref())) {
        // Another URL is a difference where the element itself states which one is right.
        (Some(known), Some((state, (file, _)))) => {
            let url = translator.api_url();
            let moved =
                |last: LastKnown| url.stored && last.api_url != state::of_url(url.url.as_deref());
            known.is_held_as(state, file) && !last.is_some_and(moved)
        }
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    if same {
        return None;
    }
    let after = last.map_or(0, |last| last.sequence).max(states.damage_at);
    let event_id = snapshot_id(source, id, after, state);
    let (file, large) = held.unzip();
    Some(translator.snapshot(event_id, id, file, large.unwrap_or_default(), at))
}

/// In microseconds, as events carry times.
fn now() -> DateTime<Utc> {
    let now = Utc::now();
    now.duration_trunc(TimeDelta::microseconds(1))
        .unwrap_or(now)
}

/// The bodies of a batch, for the last known states once it is stored.
pub(crate) fn bodies(batch: &[Outgoing]) -> Vec<bytes::Bytes> {
    batch.iter().map(|message| message.body.clone()).collect()
}
