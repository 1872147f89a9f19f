//! Bringing a stream level with its element: every file of `_files` is compared with what the stream
//! said last of it, and what differs is published as a snapshot. A step of the relay's round; the
//! chunk comes from the poll's own snapshot and is compared once that poll's rows are published.
//!
//! That order is what makes it right while files change. The chunk and the poll's rows are of one
//! moment: a change that the chunk shows has its message in the stream already, and a change that it
//! does not show gets its message later, behind the snapshot. Nothing is kept outside the stream: who
//! is cut off begins again, and finds level what was published.

use std::collections::VecDeque;
use std::time::Duration;

use artstore_bus::bus::Bus;
use artstore_schemas::event::{File, Omitted, SourceLevelled, WalEvent};
use artstore_schemas::source::Source;
use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use serde_json::json;
use uuid::Uuid;

use crate::backfill::chunk::{Chunk, Wanted};
use crate::backfill::fold::{self, Fold, Last};
use crate::backfill::state::{self, State, snapshot_id};
use crate::relay::publish::Outgoing;
use crate::relay::relay_error::RelayError;
use crate::relay::translate::{Translated, Translator};

/// How many files a fold may hold.
pub const FILES_OF_A_FOLD: u64 = 1_000_000;

/// How long the stream is read between two polls.
const READING: Duration = Duration::from_millis(200);

/// The most snapshots of one chunk: of deleted files there may be any number in its range.
const MAX_CHANGES: usize = 1_000;

/// What was found and done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Levelled {
    /// Files of the element, and files that the stream believed present.
    pub compared: u64,
    /// Snapshots of files that the stream did not have, or had otherwise.
    pub created: u64,
    /// Snapshots of files that the stream had and the element has not.
    pub deleted: u64,
    /// Files of which the stream said what the element says.
    pub unchanged: u64,
}

impl Levelled {
    /// How many snapshots were published.
    pub fn published(&self) -> u64 {
        self.created + self.deleted
    }
}

/// One comparison of an element with its stream, from its beginning to its end.
pub(crate) struct Levelling {
    files_of_a_fold: u64,
    /// The groups of partitions that are not compared yet, the present one first; none before the
    /// first look at the stream.
    groups: Option<VecDeque<Vec<u32>>>,
    fold: Option<Fold>,
    /// Compared up to this id, in the present group.
    after: Option<Uuid>,
    done: Levelled,
}

/// What a chunk turned out to be.
pub(crate) struct Compared {
    /// What has to be published, by file id.
    pub(crate) events: Vec<Translated>,
    upto: Option<Uuid>,
    found: Levelled,
}

impl Levelling {
    pub(crate) fn new(files_of_a_fold: u64) -> Self {
        Self {
            files_of_a_fold,
            groups: None,
            fold: None,
            after: None,
            done: Levelled::default(),
        }
    }

    pub(crate) fn done(&self) -> Levelled {
        self.done
    }

    /// Whether every group was compared to its end.
    pub(crate) fn is_level(&self) -> bool {
        self.groups.as_ref().is_some_and(VecDeque::is_empty)
    }

    /// The chunk that can be compared next; none while the stream is still read.
    pub(crate) fn wanted(&self) -> Option<Wanted> {
        let complete = self.fold.as_ref().is_some_and(Fold::is_complete);
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
            .get_or_insert_with(|| fold::groups(end, self.files_of_a_fold).into());
        let Some(group) = groups.front() else {
            return Ok(());
        };
        let fold = match &mut self.fold {
            Some(fold) => fold,
            none => none.insert(Fold::open(bus, source, group.clone(), end).await?),
        };
        fold.advance(READING).await?;
        Ok(())
    }

    /// The relay's own messages are in the stream, behind `last`.
    pub(crate) fn published(&mut self, last: u64, bodies: &[bytes::Bytes]) {
        let Some(fold) = &mut self.fold else {
            return;
        };
        for (body, sequence) in bodies.iter().zip(last + 1..) {
            let event: WalEvent =
                serde_json::from_slice(body).expect("the relay wrote it a moment ago");
            fold.add(sequence, &event);
        }
    }

    /// Only the stream knows what is in it: it is read again. What was compared stays compared.
    pub(crate) fn forget(&mut self) {
        self.fold = None;
    }

    /// Compares a chunk with the stream. Nothing counts before [`Self::passed`].
    pub(crate) fn compare(&self, chunk: Chunk, translator: &Translator) -> Compared {
        let at = now();
        let mut compared = Compared {
            events: Vec::new(),
            upto: chunk.upto,
            found: Levelled::default(),
        };
        let Some(fold) = &self.fold else {
            return Compared {
                upto: chunk.after,
                ..compared
            };
        };
        let mut large = chunk.large;
        let held = chunk.files.into_iter().filter(|file| fold.covers(file.id));
        let mut held = held.peekable();
        let mut believed = fold
            .range(chunk.after, chunk.upto)
            .filter(|(_, last)| last.state.is_some())
            .peekable();
        let source = translator.source().to_string();
        // Both by id: a merge tells on which side each is.
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
            let event = snapshot(fold, &source, translator, next, held, at);
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
            self.fold = None;
            if let Some(groups) = &mut self.groups {
                groups.pop_front();
            }
        }
    }

    /// What tells that the stream is level. `end`: its last sequence.
    pub(crate) fn levelled(&self, translator: &Translator, end: u64) -> Translated {
        let name = format!("artstore/levelled/v1/{}/{end}", translator.source());
        let id = Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes());
        let facts = SourceLevelled {
            compared: self.done.compared,
            created: self.done.created,
            deleted: self.done.deleted,
            unchanged: self.done.unchanged,
        };
        translator.levelled(id, now(), json!(facts))
    }
}

impl Levelled {
    fn count(&mut self, event: Option<&Translated>) {
        self.compared += 1;
        match event.map(|event| event.event_type.action.as_str()) {
            None => self.unchanged += 1,
            Some("deleted") => self.deleted += 1,
            Some(_) => self.created += 1,
        }
    }
}

/// None where the stream says of the file what the element says.
fn snapshot(
    fold: &Fold,
    source: &str,
    translator: &Translator,
    id: Uuid,
    held: Option<(File, Vec<Omitted>)>,
    at: DateTime<Utc>,
) -> Option<Translated> {
    let last = fold.last(id);
    let said = last.and_then(|last| last.state);
    let state = held.as_ref().map(|(file, large)| State::of(file, large));
    let same = match (&said, state.as_ref().zip(held.as_ref())) {
        // Another URL is a difference where the element itself says which one is right.
        (Some(said), Some((state, (file, _)))) => {
            let url = translator.api_url();
            let moved =
                |last: Last| url.stored && last.api_url != state::of_url(url.url.as_deref());
            said.is_held_as(state, file) && !last.is_some_and(moved)
        }
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    if same {
        return None;
    }
    let after = last.map_or(0, |last| last.sequence).max(fold.damage_at);
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

/// The bodies of a batch, to be folded once it is stored.
pub(crate) fn bodies(batch: &[Outgoing]) -> Vec<bytes::Bytes> {
    batch.iter().map(|message| message.body.clone()).collect()
}
