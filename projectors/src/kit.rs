//! A test kit for authors of projectors: given these events, then these rows, whatever happens on
//! the way. It needs a database with the projector's tables; it empties them.
//!
//! [`Kit::holds`] applies the events as a whole, twice, cut into batches of every size, in other
//! orders between keys, and with a crash after each step of each batch; after each, the rows have to
//! be the same. `projectors/examples/files_per_user.rs` is a projector with its test.

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

use crate::checkpoint::{self, Checkpoint};
use crate::projector::{Projector, Received, Rejection};

/// So many other orders are tried.
const ORDERS: u64 = 10;

/// An event, before it has a place in its stream.
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

    fn key(&self) -> Option<&str> {
        self.subject.as_deref()
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
        self.after("as a whole", &streams, most, expected).await;
        // From the beginning again, on the rows that are there: a checkpoint that was set back.
        self.forget().await;
        self.run(&streams, most, None).await;
        self.compare("applied twice", expected).await;
        for size in 1..most {
            self.after(&format!("in batches of {size}"), &streams, size, expected)
                .await;
        }
        for order in 1..=ORDERS {
            let streams = placed(&shuffled(given, order));
            self.after(
                &format!("in order {order} between keys"),
                &streams,
                most,
                expected,
            )
            .await;
        }
        for crash in [Crash::Applied, Crash::Advanced] {
            for size in [1, 2, most] {
                self.empty().await;
                self.run(&streams, size, Some(crash)).await;
                self.compare(
                    &format!("killed after each batch of {size} was {crash:?}"),
                    expected,
                )
                .await;
            }
        }
    }

    async fn after(
        &mut self,
        what: &str,
        streams: &BTreeMap<Source, Vec<Received>>,
        size: usize,
        expected: &[&str],
    ) {
        self.empty().await;
        self.run(streams, size, None).await;
        self.compare(what, expected).await;
    }

    /// Applies all streams, batch by batch in turns, as the runner does.
    async fn run(
        &mut self,
        streams: &BTreeMap<Source, Vec<Received>>,
        size: usize,
        crash: Option<Crash>,
    ) {
        let most = streams.values().map(Vec::len).max().unwrap_or(0);
        for begin in (0..most).step_by(size) {
            for (source, events) in streams {
                if !self.projector.reads(source) || begin >= events.len() {
                    continue;
                }
                let batch = &events[begin..events.len().min(begin + size)];
                if crash.is_some() {
                    self.commit(source, batch, crash).await;
                }
                self.commit(source, batch, None).await;
            }
        }
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
            source_high: last.envelope.high,
            source_missing: String::new(),
            generation: 0,
            parks_in_row: 0,
        };
        let mut transaction = self.connection.begin().await.expect("a transaction");
        if let Err(rejection) = self.projector.apply(&mut transaction, source, batch).await {
            let (Rejection::Event(reason) | Rejection::Halt(reason)) = rejection else {
                panic!("the database: {rejection}");
            };
            panic!("{stream}, up to {}: refused: {reason}", last.sequence);
        }
        if crash == Some(Crash::Applied) {
            return transaction.rollback().await.expect("rolled back");
        }
        let advanced = checkpoint::advance(&mut transaction, P::NAME, &stream, old.as_ref(), &new);
        assert!(
            advanced.await.expect("the checkpoint can be moved"),
            "{stream}: fenced"
        );
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

/// Each event with its place in its stream.
fn placed(given: &[Given]) -> BTreeMap<Source, Vec<Received>> {
    let mut streams: BTreeMap<Source, Vec<Received>> = BTreeMap::new();
    for given in given {
        let stream = streams.entry(given.source.clone()).or_default();
        let sequence = stream.len() as u64 + 1;
        let position = i64::try_from(sequence).unwrap_or(i64::MAX);
        let id = match &given.event {
            Event::Wal(wal) => wal.operation.id,
            Event::Outbox(event) => event.operation.id,
        };
        let previous = stream.last().map(|before| before.envelope.id);
        stream.push(Received {
            sequence,
            envelope: Envelope {
                id,
                source: given.source.ce_source(),
                event_type: given.event_type.clone(),
                subject: given.subject.clone(),
                time: DateTime::UNIX_EPOCH + TimeDelta::seconds(position),
                traceparent: None,
                position: Some(position),
                high: position,
                missing: Ranges::default(),
                identity: "kit".to_owned(),
                previous,
                snapshot: None,
                levelling: false,
            },
            event: given.event.clone(),
            size: 0,
        });
    }
    streams
}

/// Another order: events of one key and stream stay in theirs.
fn shuffled(given: &[Given], seed: u64) -> Vec<Given> {
    let mut queues: Vec<Vec<&Given>> = Vec::new();
    let mut of: HashMap<(&Source, Option<&str>), usize> = HashMap::new();
    for event in given {
        let place = (&event.source, event.key());
        // What has no key is by itself.
        let queue = match event.key() {
            Some(_) => *of.entry(place).or_insert_with(|| {
                queues.push(Vec::new());
                queues.len() - 1
            }),
            None => {
                queues.push(Vec::new());
                queues.len() - 1
            }
        };
        queues[queue].insert(0, event);
    }
    // Any order does; the same seed gives the same one.
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut order = Vec::new();
    while order.len() < given.len() {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let at = usize::try_from(state >> 33).unwrap_or(0) % queues.len();
        order.extend(queues[at].pop().cloned());
    }
    order
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
