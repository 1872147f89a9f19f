//! What a projector is: it turns a batch of received events into rows, in the transaction that
//! also moves the checkpoint. `crate::runtime::runner` does everything else.

use std::future::Future;

use artstore_bus::connection::Bus;
use artstore_bus::message::Message;
use artstore_runtime::words::{is_untranslatable, refused};
use artstore_schemas::envelope::Envelope;
use artstore_schemas::event::{self, Event};
use artstore_schemas::source::Source;
use async_nats::HeaderMap;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::projector_error::WorkerError;
use crate::runtime::checkpoint::Checkpoint;

/// Builds one read model.
pub trait Projector: Send + Sync + 'static {
    /// The projection's name, as in its checkpoints.
    const NAME: &'static str;
    /// The version of its tables. A new one means that they have to be rebuilt.
    const VERSION: u32;
    /// The tables that it owns.
    const TABLES: &'static [&'static str];
    /// Those of them that are rebuilt as a whole, compared and swapped; none: it can't be built
    /// again. Statements of [`Self::apply`] name tables without a schema, so that they can be.
    const REBUILT: &'static [Table] = &[];
    /// The module whose database they are in.
    const MODULE: &'static str;
    /// Where that database is configured.
    const VARIABLE: &'static str;
    /// Whether a commit waits for the disk. Without, rows and checkpoint are lost or kept
    /// together when the database crashes, and the stream still has the events.
    const DURABLE: bool;
    /// Whether an event that can't be applied is parked, with those of its key behind it. Without,
    /// it halts its stream.
    const PARKS: bool = true;

    /// What it reads of a stream: events, or every message.
    type Message: ReadMessage;

    /// Whether it reads the stream of this source.
    fn reads(&self, source: &Source) -> bool;

    /// What an event is about: events with the same key are applied in stream order or not at all.
    /// None: nothing has to wait for it.
    fn key(&self, envelope: &Envelope) -> Option<Uuid> {
        envelope.subject.as_deref()?.parse().ok()
    }

    /// Before the first batch of a session. An error ends the session; nothing was applied.
    fn begin(
        &self,
        _connection: &mut PgConnection,
        _bus: &Bus,
        _source: &Source,
        _checkpoint: Option<&Checkpoint>,
    ) -> impl Future<Output = Result<(), WorkerError>> + Send {
        async { Ok(()) }
    }

    /// After each commit, and every second or two while nothing is new. An error ends the session;
    /// what was committed stays.
    fn settle(
        &self,
        _connection: &mut PgConnection,
        _bus: &Bus,
        _source: &Source,
    ) -> impl Future<Output = Result<(), WorkerError>> + Send {
        async { Ok(()) }
    }

    /// Why a stream that it publishes to removes messages, or will; none also where NATS does not say it
    /// now. Asked every second or two.
    fn limited(&self, _bus: &Bus) -> impl Future<Output = Option<String>> + Send {
        async { None }
    }

    /// Applies a batch of one stream, in stream order. The runner commits it with the checkpoint,
    /// or nothing of it; it is called again with the same events after an error.
    fn apply(
        &self,
        transaction: &mut PgConnection,
        source: &Source,
        batch: &[Self::Message],
    ) -> impl Future<Output = Result<(), Rejection>> + Send;
}

/// A table as a rebuild compares and swaps it.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// What distinguishes a row from others, whoever built it: an expression of its columns.
    pub key: &'static str,
    /// Columns that can't be equal: clocks, serial numbers.
    pub left_out: &'static [&'static str],
    /// Where the product's own services write rows of their own into it: the column that distinguishes these
    /// from each other. They have no `event_id`, and survive.
    pub shared: Option<&'static str>,
    /// The file or other thing that a row is about, as in [`Projector::key`]; an expression of its
    /// columns.
    pub about: &'static str,
}

/// A message as the bus has it.
#[derive(Debug, Clone)]
pub struct RawMessage {
    /// Its subject.
    pub subject: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl From<Message> for RawMessage {
    fn from(message: Message) -> Self {
        Self {
            subject: message.subject,
            headers: message.headers,
            body: message.body,
        }
    }
}

/// How a projector reads the messages of a stream.
pub trait ReadMessage: Sized + Clone + Send + Sync {
    /// Whether messages are taken that can't be read, do not belong in the stream, do not count,
    /// or are gone where an operator accepted that. Without, the first three of them end the worker
    /// unless an operator accepted them, and then they are skipped.
    const EVERYTHING: bool;

    /// Takes a message; `envelope` is none where it does not count. The error reports why it can't be
    /// read.
    fn of_message(
        source: &Source,
        at: At,
        envelope: Option<&Envelope>,
        message: &RawMessage,
    ) -> Result<Self, String>;

    /// Takes a message that is gone.
    fn of_gone(at: At) -> Option<Self>;
}

/// The sequence and time of a message.
#[derive(Debug, Clone, Copy)]
pub struct At {
    /// Its sequence.
    pub sequence: u64,
    /// When the bus stored it; of a message that is gone, the next one that is there.
    pub published: DateTime<Utc>,
}

/// An event as it was received.
#[derive(Debug, Clone)]
pub struct Received {
    /// Its sequence in the stream.
    pub sequence: u64,
    /// Its headers.
    pub envelope: Envelope,
    /// Its body.
    pub event: Event,
    /// The size of its body in bytes.
    pub size: usize,
}

impl ReadMessage for Received {
    const EVERYTHING: bool = false;

    fn of_message(
        source: &Source,
        at: At,
        envelope: Option<&Envelope>,
        message: &RawMessage,
    ) -> Result<Self, String> {
        let envelope = envelope.ok_or("it does not count")?;
        let event = event::decode(source, &envelope.event_type, &message.body);
        Ok(Self {
            sequence: at.sequence,
            envelope: envelope.clone(),
            event: event.map_err(|error| error.to_string())?,
            size: message.body.len(),
        })
    }

    fn of_gone(_at: At) -> Option<Self> {
        None
    }
}

/// Why a batch was not applied.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// It may work the next time: a lost connection, a deadlock.
    #[error("{0}")]
    Retry(sqlx::Error),
    /// An event of the batch can't be applied, whatever is tried.
    #[error("{0}")]
    Event(String),
    /// A bug, or tables that are not as they should be: no event can be applied.
    #[error("{0}")]
    Halt(String),
    /// What is signed, and what the tables or the bus report, do not agree: somebody has changed one of them.
    #[error("{0}")]
    Evidence(String),
}

impl From<sqlx::Error> for Rejection {
    fn from(error: sqlx::Error) -> Self {
        if is_untranslatable(&error) {
            return Self::Event(refused(&error));
        }
        match &error {
            sqlx::Error::Database(database) => {
                let code = database.code().unwrap_or_default().into_owned();
                match code.get(..2).unwrap_or_default() {
                    // Data that does not fit, a broken rule, a program limit.
                    "22" | "23" | "54" => Self::Event(error.to_string()),
                    // Syntax, missing objects, missing rights.
                    "42" | "3F" => Self::Halt(error.to_string()),
                    _ => Self::Retry(error),
                }
            }
            sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::TypeNotFound { .. }
            | sqlx::Error::Encode(_)
            | sqlx::Error::Decode(_) => Self::Halt(error.to_string()),
            _ => Self::Retry(error),
        }
    }
}
