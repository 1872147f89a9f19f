//! A test kit for authors of projectors: these events must give these rows, whatever happens on
//! the way. It needs a database with the projector's tables; it empties them.
//!
//! [`Kit::holds`] applies the events as a whole, twice, cut into batches of every size, with each stream
//! wholly before and wholly after the others, in other orders between keys and streams, and with each
//! transaction lost after each of its steps, as if the process were killed there. The rows have to be
//! the same each time. `projectors/examples/files_per_user.rs` is a projector with its test.

use std::collections::{BTreeMap, HashMap};

use artstore_schemas::actor::Actor;
use artstore_schemas::element::ElementName;
use artstore_schemas::envelope::Envelope;
use artstore_schemas::event::{
    Element, Event, EventType, File, Operation, OutboxEvent, OutboxOperation, Status, WalEvent,
};
use artstore_schemas::json::Document;
use artstore_schemas::ranges::Ranges;
use artstore_schemas::source::Source;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use uuid::Uuid;

use crate::projector::{Projector, Received, Rejection};
use crate::runtime::checkpoint::{self, Advance, Checkpoint};

/// So many other orders are tried.
const ORDERS: u64 = 10;

/// An event, before it has a sequence in its stream.
#[derive(Debug, Clone)]
pub struct Given {
    source: Source,
    event_type: EventType,
    subject: Option<String>,
    event: Event,
}

impl Given {
    /// A file as it is on an element after an action: `created`, `updated`.
    pub fn file(element: &str, action: &str, file: File) -> Self {
        Self::wal(element, action, file.id, Some(file))
    }

    /// Gives it a subject: what it is about, as in `ce-subject`.
    pub fn about(mut self, subject: impl ToString) -> Self {
        self.subject = Some(subject.to_string());
        self
    }

    /// A file that is gone from an element.
    pub fn deleted(element: &str, id: Uuid) -> Self {
        Self::wal(element, "deleted", id, None)
    }

    fn wal(element: &str, action: &str, id: Uuid, file: Option<File>) -> Self {
        let element: ElementName = element.parse().expect("a name of an element");
        let verb = action.trim_end_matches('d');
        Self {
            event_type: EventType::new("file", action, 1),
            subject: Some(id.to_string()),
            event: Event::Wal(Box::new(WalEvent {
                operation: Operation {
                    id: Uuid::new_v4(),
                    kind: format!("file_{verb}"),
                    status: Status::Committed,
                    started_at: DateTime::UNIX_EPOCH,
                    completed_at: None,
                    duration_ms: None,
                    error_message: None,
                    request_id: None,
                    file_id: Some(id),
                    data: None,
                },
                actor: Actor::system(),
                element: Element {
                    name: element.to_string(),
                    api_url: None,
                },
                file,
                omitted: Vec::new(),
            })),
            source: Source::Element(element),
        }
    }

    /// An event of a module's outbox.
    pub fn outbox(source: Source, entity: &str, action: &str, data: Value) -> Self {
        Self {
            source,
            event_type: EventType::new(entity, action, 1),
            subject: None,
            event: Event::Outbox(Box::new(OutboxEvent {
                operation: OutboxOperation {
                    id: Uuid::new_v4(),
                    kind: format!("{entity}.{action}"),
                    occurred_at: DateTime::UNIX_EPOCH,
                    request_id: None,
                },
                actor: Actor::system(),
                data: Some(Document::Json(data)),
                omitted: Vec::new(),
            })),
        }
    }

    fn envelope(&self, sequence: u64, previous: Option<Uuid>) -> Envelope {
        let position = i64::try_from(sequence).unwrap_or(i64::MAX);
        Envelope {
            id: match &self.event {
                Event::Wal(wal) => wal.operation.id,
                Event::Outbox(event) => event.operation.id,
            },
            source: self.source.ce_source(),
            event_type: self.event_type.clone(),
            subject: self.subject.clone(),
            time: DateTime::UNIX_EPOCH + TimeDelta::seconds(position),
            traceparent: None,
            position: Some(position),
            high_water_mark: position,
            gaps: Ranges::default(),
            identity: "kit".to_owned(),
            previous,
            snapshot: None,
            backfill_due: false,
        }
    }
}

/// A projector with the database that it is tested in.
#[derive(Debug)]
pub struct Kit<'a, P> {
    /// The projector.
    pub projector: P,
    /// Its database; its tables are emptied.
    pub connection: &'a mut PgConnection,
    /// What the tables have before the first event: SQL.
    pub before: &'a str,
    /// The rows that count: a query of one text, in an order of its own.
    pub rows: &'a str,
}

/// Where the process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crash {
    Applied,
    Advanced,
}

impl<P: Projector<Message = Received>> Kit<'_, P> {
    /// The rows are these, whatever happens on the way. Panics with what happened where they are not.
    pub async fn holds(&mut self, given: &[Given], expected: &[&str]) {
        sqlx::raw_sql("set search_path = public")
            .execute(&mut *self.connection)
            .await
            .expect("the search path can be set");
        let streams = placed(given);
        let most = streams.values().map(Vec::len).max().unwrap_or(0).max(1);
        let whole = in_turns(&streams, most);
        self.after("as a whole", &whole, expected).await;
        // From the beginning again, on the rows that are there: a checkpoint that was set back.
        self.forget().await;
        self.run(&whole, None).await;
        self.compare("applied twice", expected).await;
        for size in 1..most {
            let batches = in_turns(&streams, size);
            self.after(&format!("in batches of {size}"), &batches, expected)
                .await;
        }
        for source in streams.keys() {
            for (place, first) in [("before", true), ("behind", false)] {
                let what = format!("with all of {source} {place} all others");
                // The others, and where this one comes.
                let mut sources: Vec<_> = streams.keys().filter(|other| *other != source).collect();
                sources.insert(if first { 0 } else { sources.len() }, source);
                let batches = sources.iter().flat_map(|s| cut(s, &streams[*s], most));
                self.after(&what, &batches.collect::<Vec<_>>(), expected)
                    .await;
            }
        }
        for order in 1..=ORDERS {
            let mut chance = Chance::new(order);
            let streams = placed(&self.shuffled(given, &mut chance));
            let what = format!("in order {order} between keys and streams");
            let batches = interleaved(&streams, &mut chance);
            self.after(&what, &batches, expected).await;
        }
        for crash in [Crash::Applied, Crash::Advanced] {
            for size in [1, 2, most] {
                self.empty().await;
                self.run(&in_turns(&streams, size), Some(crash)).await;
                self.compare(
                    &format!("killed after each batch of {size} was {crash:?}"),
                    expected,
                )
                .await;
            }
        }
    }

    async fn after(&mut self, what: &str, batches: &[Batch<'_>], expected: &[&str]) {
        self.empty().await;
        self.run(batches, None).await;
        self.compare(what, expected).await;
    }

    /// Applies batch after batch, as the runner does.
    async fn run(&mut self, batches: &[Batch<'_>], crash: Option<Crash>) {
        for (source, batch) in batches {
            if !self.projector.reads(source) {
                continue;
            }
            if crash.is_some() {
                self.commit(source, batch, crash).await;
            }
            self.commit(source, batch, None).await;
        }
    }

    /// Another order: events of one stream and key, by the projector's own key, stay in theirs.
    fn shuffled(&self, given: &[Given], chance: &mut Chance) -> Vec<Given> {
        let mut queues: Vec<Vec<&Given>> = Vec::new();
        let mut of: HashMap<(&Source, Uuid), usize> = HashMap::new();
        for event in given {
            let mut own = || {
                queues.push(Vec::new());
                queues.len() - 1
            };
            // What has no key is by itself.
            let queue = match self.projector.key(&event.envelope(1, None)) {
                Some(key) => *of.entry((&event.source, key)).or_insert_with(own),
                None => own(),
            };
            queues[queue].insert(0, event);
        }
        let mut order = Vec::new();
        while order.len() < given.len() {
            let at = chance.below(queues.len());
            order.extend(queues[at].pop().cloned());
        }
        order
    }

    async fn commit(&mut self, source: &Source, batch: &[Received], crash: Option<Crash>) {
        let stream = source.stream();
        let old = checkpoint::load(&mut *self.connection, P::NAME, &stream)
            .await
            .expect("the checkpoints can be read");
        let last = batch.last().expect("a batch has events");
        let new = Checkpoint {
            last_sequence: last.sequence,
            last_event_id: Some(last.envelope.id),
            stream_created_at: DateTime::UNIX_EPOCH,
            version: i32::try_from(P::VERSION).unwrap_or(i32::MAX),
            source_high: last.envelope.high_water_mark,
            source_missing: String::new(),
            generation: 0,
            parks_in_row: 0,
        };
        let mut transaction = self.connection.begin().await.expect("a transaction");
        if let Err(rejection) = self.projector.apply(&mut transaction, source, batch).await {
            let reason = match rejection {
                Rejection::Event(reason)
                | Rejection::Halt(reason)
                | Rejection::Evidence(reason) => reason,
                Rejection::Retry(error) => panic!("the database: {error}"),
            };
            panic!("{stream}, up to {}: refused: {reason}", last.sequence);
        }
        if crash == Some(Crash::Applied) {
            return transaction.rollback().await.expect("rolled back");
        }
        let advanced = checkpoint::advance(&mut transaction, P::NAME, &stream, old.as_ref(), &new);
        let advanced = advanced.await.expect("the checkpoint can be moved");
        assert_eq!(advanced, Advance::Moved, "{stream}: fenced");
        if crash == Some(Crash::Advanced) {
            return transaction.rollback().await.expect("rolled back");
        }
        transaction.commit().await.expect("committed");
    }

    async fn empty(&mut self) {
        let tables: Vec<String> = P::TABLES
            .iter()
            .map(|table| format!("public.{table}"))
            .collect();
        let sql = format!("truncate {} cascade; {}", tables.join(", "), self.before);
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut *self.connection)
            .await
            .expect("the tables are there");
        self.forget().await;
    }

    async fn forget(&mut self) {
        sqlx::query("delete from public.projection_checkpoints where projection = $1")
            .bind(P::NAME)
            .execute(&mut *self.connection)
            .await
            .expect("the checkpoints can be deleted");
    }

    async fn compare(&mut self, what: &str, expected: &[&str]) {
        let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(self.rows.to_owned()))
            .fetch_all(&mut *self.connection)
            .await
            .expect("a query of one text");
        assert_eq!(rows, expected, "{}, {what}", P::NAME);
    }
}

/// Each event with its sequence in its stream.
fn placed(given: &[Given]) -> BTreeMap<Source, Vec<Received>> {
    let mut streams: BTreeMap<Source, Vec<Received>> = BTreeMap::new();
    for given in given {
        let stream = streams.entry(given.source.clone()).or_default();
        let sequence = stream.len() as u64 + 1;
        let previous = stream.last().map(|before| before.envelope.id);
        stream.push(Received {
            sequence,
            envelope: given.envelope(sequence, previous),
            event: given.event.clone(),
            size: 0,
        });
    }
    streams
}

/// Some events of one stream that are applied at once.
type Batch<'a> = (&'a Source, &'a [Received]);

fn cut<'a>(
    source: &'a Source,
    events: &'a [Received],
    size: usize,
) -> impl Iterator<Item = Batch<'a>> {
    events.chunks(size).map(move |batch| (source, batch))
}

/// Batches of all streams, one of each in turns.
fn in_turns(streams: &BTreeMap<Source, Vec<Received>>, size: usize) -> Vec<Batch<'_>> {
    let mut left: Vec<_> = streams
        .iter()
        .map(|(source, events)| cut(source, events, size))
        .collect();
    let mut batches = Vec::new();
    loop {
        let round: Vec<_> = left.iter_mut().filter_map(Iterator::next).collect();
        if round.is_empty() {
            return batches;
        }
        batches.extend(round);
    }
}

/// Batches of any size, of any stream next.
fn interleaved<'a>(
    streams: &'a BTreeMap<Source, Vec<Received>>,
    chance: &mut Chance,
) -> Vec<Batch<'a>> {
    let mut left: Vec<Batch<'a>> = streams.iter().map(|(s, e)| (s, e.as_slice())).collect();
    let mut batches = Vec::new();
    while !left.is_empty() {
        let at = chance.below(left.len());
        let (source, events) = left[at];
        let (now, later) = events.split_at(1 + chance.below(events.len()));
        batches.push((source, now));
        match later.is_empty() {
            true => drop(left.remove(at)),
            false => left[at].1 = later,
        }
    }
    batches
}

/// Any numbers do; the same seed gives the same ones.
struct Chance(u64);

impl Chance {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % end.max(1)
    }
}

/// A file of a user.
pub fn file(id: u128, user: &str, size: i64, created_at: DateTime<Utc>) -> File {
    let id = Uuid::from_u128(id);
    File {
        id,
        original_filename: format!("{id}.pdf"),
        storage_filename: id.to_string(),
        storage_path: "2026/01/02/03".to_owned(),
        file_size: size,
        content_type: "application/pdf".to_owned(),
        checksum: "c".repeat(64),
        created_at,
        updated_at: created_at,
        created_by_id: "1".to_owned(),
        created_by_username: user.to_owned(),
        created_by_fullname: None,
        description: None,
        version: None,
        metadata: None,
    }
}
