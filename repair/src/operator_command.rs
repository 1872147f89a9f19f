//! What an operator's commands on a stream share: the decision, the source's lock for as long as they
//! work, publishing at the stream's end, and why they refuse.

use std::time::Duration;

use artstore_bus::connection::Bus;
use artstore_schemas::actor::Actor;
use artstore_schemas::envelope::Envelope;
use artstore_schemas::event::EventType;
use artstore_schemas::subject::subject;
use bytes::Bytes;
use chrono::Utc;
use sqlx::PgConnection;
use uuid::Uuid;

use artstore_producers::relay::RelayOptions;
use artstore_producers::relay::api_url;
use artstore_producers::relay::election::{self, Lease};
use artstore_producers::relay::lock_handover;
use artstore_producers::relay::publish::{self, Outgoing, PublishFailure, PublishMode};
use artstore_producers::relay::relay_error::RelayError;
use artstore_producers::relay::resume_state::ResumeState;
use artstore_producers::relay::source::SourceTable;
use artstore_producers::relay::source_check;
use artstore_producers::relay::translate::Translator;

/// How long a relay may take to release its lock: longer than it takes to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// An operator's decision.
#[derive(Debug, Clone)]
pub struct OperatorDecision {
    /// Why: it travels with the record.
    pub reason: String,
    /// Who, as the command's system knows them.
    pub by: String,
    /// The actor of the record.
    pub actor: Actor,
}

/// Why a command changed nothing, or stopped on its way; it can be run again.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// Source or stream failed, or can't be read.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// The source is not the one that the stream was written from.
    #[error(
        "the source is not as its stream says ({problem}); nothing was changed. Decide that first: \
         `artstore relay accept-source --source {source_name}`"
    )]
    OtherSource {
        /// The source.
        source_name: String,
        /// What shows it.
        problem: String,
    },
    /// No message of the stream has its row in this database.
    #[error(
        "not one of the {messages} messages of stream {stream} has its row in this database: is it \
         the right one for this source? Nothing was changed. If everything that the source had is \
         really lost, and this database takes its place, add --nothing-agrees"
    )]
    NothingAgrees {
        /// The stream.
        stream: String,
        /// How many messages there are.
        messages: u64,
    },
    /// The sequence would give out a position again.
    #[error(
        "the source's sequence {sequence} is at {at}, but its table holds a row at position \
         {position}: new rows would fail. Set it with `select setval('{sequence}', greatest({position}, \
         (select last_value from {sequence})))`, and try again; nothing was changed"
    )]
    Sequence {
        /// The sequence.
        sequence: String,
        /// Where it is.
        at: i64,
        /// The highest position.
        position: i64,
    },
    /// It was asked to stop.
    #[error("stopped before anything was changed")]
    Stopped,
    /// More ranges than a record can list.
    #[error(
        "stream {stream} is damaged in so many separate ranges that no record can list them \
         ({bytes} bytes, at most {most}); nothing was changed. Restore the stream from a backup, or \
         move it away and run `artstore bus init`: the relay publishes every row again"
    )]
    TooManyRanges {
        /// The stream.
        stream: String,
        /// How large the record would be.
        bytes: usize,
        /// How large it may be.
        most: usize,
    },
    /// A message was not taken.
    #[error(
        "the stream did not take a message: {0}; what is stored before it stays. Run the command \
         again: it continues from what the stream says"
    )]
    Publish(#[from] PublishFailure),
}

impl From<sqlx::Error> for RepairError {
    fn from(error: sqlx::Error) -> Self {
        Self::Relay(error.into())
    }
}

/// A connection to the source, checked as the relay checks it.
pub(crate) async fn connect(
    options: &RelayOptions,
    name: &str,
) -> Result<PgConnection, RepairError> {
    election::refuse_pooler(&options.database).await?;
    let mut connection = election::connect(&options.database, name).await?;
    source_check::check(&mut connection, &SourceTable::of(&options.source)).await?;
    Ok(connection)
}

/// What makes the messages of a command: they state the API URL that the relay states.
pub(crate) async fn translator(
    bus: &Bus,
    options: &RelayOptions,
    connection: &mut PgConnection,
) -> Result<Translator, RepairError> {
    let translator = Translator::new(options.source.clone());
    translator.reached_at(api_url::known(bus, options, connection).await?);
    Ok(translator)
}

/// Takes the source's lock; its relays step aside for the command.
pub(crate) async fn lock(
    bus: &Bus,
    options: &RelayOptions,
    name: &str,
) -> Result<Lease, RepairError> {
    let RelayOptions {
        source, database, ..
    } = options;
    Ok(lock_handover::acquire(bus, database, source, name, PATIENCE).await?)
}

/// Publishes behind the stream's end, each message chained to the one before it.
pub(crate) struct Publisher<'a> {
    pub(crate) bus: &'a Bus,
    pub(crate) lease: &'a Lease,
    pub(crate) translator: &'a Translator,
    pub(crate) resume_state: ResumeState,
    pub(crate) identity: String,
}

impl Publisher<'_> {
    /// The envelope of the next message; its own parts are still to be filled in.
    pub(crate) fn envelope(&self, id: Uuid, event_type: EventType) -> Envelope {
        Envelope {
            id,
            source: self.translator.source().ce_source(),
            event_type,
            subject: None,
            time: Utc::now(),
            traceparent: None,
            position: None,
            high_water_mark: self.resume_state.seen_positions.high_water_mark(),
            gaps: self.resume_state.seen_positions.gaps(),
            identity: self.identity.clone(),
            previous: self.resume_state.last_id,
            snapshot: None,
            backfill_due: self.resume_state.backfill_due,
        }
    }

    /// Publishes a record.
    pub(crate) async fn record(
        &mut self,
        event_type: EventType,
        actor: Actor,
        facts: serde_json::Value,
    ) -> Result<u64, RepairError> {
        let id = Uuid::new_v4();
        let body = self.translator.record(id, &event_type, actor, facts);
        let envelope = self.envelope(id, event_type);
        self.publish(vec![self.outgoing(envelope, None, body, None)])
            .await?;
        self.resume_state.last_id = Some(id);
        Ok(self.resume_state.sequence)
    }

    /// A message that is ready. `message_id` is what the server compares for duplicates, where
    /// the event's id is to be published a second time.
    pub(crate) fn outgoing(
        &self,
        envelope: Envelope,
        key: Option<Uuid>,
        body: Bytes,
        message_id: Option<String>,
    ) -> Outgoing {
        let subject = subject(self.translator.source(), key, &envelope.event_type);
        let mut headers = envelope.to_headers();
        if let Some(message_id) = message_id {
            headers.insert("Nats-Msg-Id", message_id);
        }
        Outgoing {
            id: envelope.id,
            position: envelope.position,
            subject,
            headers,
            body,
        }
    }

    /// Stores a batch as a whole or not at all, and only directly after what is known.
    pub(crate) async fn publish(&mut self, batch: Vec<Outgoing>) -> Result<(), RepairError> {
        self.lease.check()?;
        let count = batch.len() as u64;
        publish::publish(
            self.bus,
            PublishMode::Atomic,
            batch,
            self.resume_state.sequence,
        )
        .await?;
        self.resume_state.sequence += count;
        Ok(())
    }
}
