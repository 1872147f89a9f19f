//! The streams' events of some files: each element's last known state and its highest claim, and what
//! the cache has to show after them. The rule is that of the projector's
//! [`ownership`](artstore_projectors::query_cache::ownership), over whole streams.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::pin::pin;

use artstore_bus::breaks::{self, Chain};
use artstore_bus::connection::Bus;
use artstore_projectors::parking::discarded::Discarded;
use artstore_projectors::projector::Received;
use artstore_schemas::element::ElementName;
use artstore_schemas::event::{Event, File, WalEvent};
use artstore_schemas::source::Source;
use artstore_schemas::subject;
use chrono::{DateTime, Utc};
use futures::StreamExt as _;
use uuid::Uuid;

use super::messages::{self, Messages, Wanted};

/// A message that is asked for costs as much as reading so many.
const SPARSE: u64 = 16;

/// One file's state in one element's stream, up to some sequence.
#[derive(Debug, Clone, Default)]
pub struct FileInStream {
    /// The last event with the highest claim.
    pub claim: Option<Received>,
    /// An event without the file, behind that claim.
    pub removal: Option<Received>,
    /// The last event of all: the element's last word.
    pub last: Option<Received>,
}

impl FileInStream {
    /// `held`: the source holds its row, or it has none.
    fn add(&mut self, event: Received, held: bool) {
        if held {
            self.add_claim(&event);
        }
        self.last = Some(event);
    }

    fn add_claim(&mut self, event: &Received) {
        let claimed = file(event).map(|file| file.created_at);
        let highest = self.claim.as_ref().and_then(file).map(|f| f.created_at);
        match claimed {
            Some(claimed) if highest.is_none_or(|highest| claimed >= highest) => {
                self.claim = Some(event.clone());
                self.removal = None;
            }
            Some(_) => {}
            None if self.claim.is_some() => self.removal = Some(event.clone()),
            None => {}
        }
    }
}

/// The state of some files in all streams.
#[derive(Debug, Clone, Default)]
pub struct Streams {
    /// Discarded events: they have no effect.
    pub discarded: HashMap<ElementName, Discarded>,
    files: HashMap<Uuid, BTreeMap<ElementName, FileInStream>>,
}

impl Streams {
    /// Reads on in one element's stream, behind `from` up to `to`: of the files' partitions, which
    /// the server filters, the headers; of the files the whole messages.
    pub async fn read(
        &mut self,
        bus: &Bus,
        element: &ElementName,
        files: &HashSet<Uuid>,
        from: u64,
        to: u64,
    ) -> anyhow::Result<()> {
        if to <= from || files.is_empty() {
            return Ok(());
        }
        let source = Source::Element(element.clone());
        let wanted = Wanted {
            from: from + 1,
            to,
            partitions: Some(partitions(files)),
            headers_only: true,
        };
        // What readers skip has no effect.
        let breaks = breaks::read(bus, &source, Chain::Checked).await?;
        let damage = breaks.damage;
        // A source that was set back: what its lost rows stated about whose the file is, is no claim.
        let mut epochs = breaks.epochs;
        epochs.0.retain(|epoch| epoch.sequence <= to);
        let discarded = self.discarded.get(element);
        let mut sequences = Vec::new();
        let mut messages = Messages::open(bus, &source, &wanted).await?;
        while let Some(message) = messages.next().await? {
            let (sequence, envelope) = (message.sequence, message.envelope());
            let event_id = envelope.as_ref().map(|envelope| envelope.id);
            let id = envelope.and_then(|envelope| envelope.subject?.parse().ok());
            let given_up = discarded.is_some_and(|events| events.has(sequence, event_id));
            let wanted =
                id.is_some_and(|id| files.contains(&id)) && !damage.ignores(sequence) && !given_up;
            sequences.extend(wanted.then_some(sequence));
        }
        messages.close().await;
        for event in whole(bus, &source, sequences, wanted.partitions).await? {
            if let Some(id) = event.envelope.subject.as_ref().and_then(|s| s.parse().ok()) {
                let elements = self.files.entry(id).or_default();
                let position = event.envelope.position;
                let held = position.is_none_or(|p| epochs.survives(event.sequence, p));
                elements
                    .entry(element.clone())
                    .or_default()
                    .add(event, held);
            }
        }
        Ok(())
    }

    /// A file's state in an element's stream.
    pub fn of(&self, id: Uuid, element: &ElementName) -> Option<&FileInStream> {
        self.files.get(&id)?.get(element)
    }

    /// The event whose file the cache has to show; none where it has to show none.
    pub fn shown(&self, id: Uuid) -> Option<(&ElementName, &Received)> {
        let claims = self.files.get(&id)?.iter();
        let claims = claims.filter_map(|(element, state)| {
            let claim = state.claim.as_ref()?;
            let at: DateTime<Utc> = file(claim)?.created_at;
            Some(((at, element), state, claim))
        });
        let ((_, element), state, claim) = claims.max_by_key(|(key, _, _)| *key)?;
        state.removal.is_none().then_some((element, claim))
    }

    /// The events that give the states of these files in an element's stream, in stream order: the
    /// projector's own apply gives the same with them as with all events.
    pub fn events(&self, element: &ElementName) -> Vec<Received> {
        let state = self.files.values().filter_map(|state| state.get(element));
        let mut events: Vec<Received> = state
            .flat_map(|state| state.claim.iter().chain(&state.removal).cloned())
            .collect();
        events.sort_by_key(|event| event.sequence);
        events
    }
}

/// The whole messages at some sequences, ascending. Where they stand close together, as what changes
/// just now does, all between them are read in one go; else each is asked for.
async fn whole(
    bus: &Bus,
    source: &Source,
    sequences: Vec<u64>,
    partitions: Option<BTreeSet<u32>>,
) -> anyhow::Result<Vec<Received>> {
    let (Some(from), Some(to)) = (sequences.first().copied(), sequences.last().copied()) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::with_capacity(sequences.len());
    if (to - from) / SPARSE > sequences.len() as u64 {
        let mut events = pin!(messages::each(bus, source, sequences));
        while let Some(event) = events.next().await {
            found.extend(event?);
        }
        return Ok(found);
    }
    let wanted = Wanted {
        from,
        to,
        partitions,
        headers_only: false,
    };
    let mut messages = Messages::open(bus, source, &wanted).await?;
    while let Some(message) = messages.next().await? {
        if sequences.binary_search(&message.sequence).is_ok() {
            found.extend(messages::received(source, &message));
        }
    }
    messages.close().await;
    Ok(found)
}

/// The body of an element's event.
pub fn body(event: &Received) -> Option<&WalEvent> {
    match &event.event {
        Event::Wal(body) => Some(body),
        Event::Outbox(_) => None,
    }
}

/// The file in an event.
pub fn file(event: &Received) -> Option<&File> {
    body(event)?.file.as_ref()
}

fn partitions(files: &HashSet<Uuid>) -> BTreeSet<u32> {
    files
        .iter()
        .map(|id| subject::partition(Some(*id)))
        .collect()
}
