//! Publishing: message *n* of a stream is accepted only as *n*. A failure stops everything after
//! it, and then only the stream shows how far it came; acknowledgements are never remembered.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::time::Duration;

use artstore_bus::connection::Bus;
use artstore_bus::link::Lost;
use artstore_bus::refusals::Refusal;
use artstore_runtime::crash;
use artstore_schemas::size::MAX_BATCH_MESSAGES;
use async_nats::HeaderMap;
use async_nats::client::{Request, RequestErrorKind};
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::publish::PublishAck;
use bytes::Bytes;
use serde::Deserialize;
use uuid::Uuid;

const EXPECTED_SEQUENCE: &str = "Nats-Expected-Last-Sequence";
const EXPECTED_ID: &str = "Nats-Expected-Last-Msg-Id";
const BATCH_ID: &str = "Nats-Batch-Id";
const BATCH_SEQUENCE: &str = "Nats-Batch-Sequence";
const BATCH_COMMIT: &str = "Nats-Batch-Commit";
const ACK_TIMEOUT: Duration = Duration::from_secs(10);

/// How messages are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PublishMode {
    /// Atomic batches on one replica, pipelined on more.
    #[default]
    Auto,
    /// Batches that are stored as a whole or not at all, one acknowledgement each.
    Atomic,
    /// Single messages, many in flight.
    Pipelined,
}

impl PublishMode {
    /// What to do on a stream with so many replicas.
    pub fn on(self, replicas: usize) -> Self {
        match self {
            Self::Auto if replicas > 1 => Self::Pipelined,
            Self::Auto => Self::Atomic,
            Self::Atomic | Self::Pipelined => self,
        }
    }
}

/// A message that is ready to be published.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Its event.
    pub id: Uuid,
    /// Its row's position; none for a message that no row caused.
    pub position: Option<i64>,
    /// Its subject.
    pub subject: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Outgoing {
    /// What counts towards the size of a batch.
    pub fn size(&self) -> usize {
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, values)| {
                let name: &str = name.as_ref();
                values
                    .iter()
                    .map(|value| name.len() + value.as_str().len() + 4)
                    .sum::<usize>()
            })
            .sum();
        self.subject.len() + headers + self.body.len()
    }
}

/// Cuts messages into batches that the server takes as one.
pub(crate) fn batches(messages: Vec<Outgoing>, most: usize) -> Vec<Vec<Outgoing>> {
    let mut batches: Vec<Vec<Outgoing>> = Vec::new();
    let mut bytes = 0;
    for message in messages {
        let size = message.size();
        match batches.last_mut() {
            Some(batch) if batch.len() < MAX_BATCH_MESSAGES && bytes + size <= most => {
                batch.push(message);
                bytes += size;
            }
            _ => {
                batches.push(vec![message]);
                bytes = size;
            }
        }
    }
    batches
}

/// Publishing failed: read the stream's end and continue from there.
#[derive(Debug, thiserror::Error)]
pub enum PublishFailure {
    /// Somebody else's message, or an earlier one of ours, is at this sequence already.
    #[error("the stream does not end where it should: {0}")]
    Refused(String),
    /// The server knows this message id already.
    #[error("event {id} was acknowledged as a duplicate")]
    Duplicate {
        /// The event.
        id: Uuid,
        /// Its position; none for a message that no row caused.
        position: Option<i64>,
    },
    /// The relay's user has no right to publish this.
    #[error(transparent)]
    NotPermitted(#[from] Refusal),
    /// No clear answer: the messages may or may not be stored.
    #[error("NATS did not confirm that it stored {what}: {reason}")]
    Unclear {
        /// Which messages.
        what: String,
        /// Its answer, or that there was none.
        reason: String,
    },
}

impl PublishFailure {
    /// Whether NATS did not store what it should have stored: its disk is full, or it does not answer.
    pub(crate) fn is_of_the_bus(&self) -> bool {
        matches!(self, Self::Unclear { .. })
    }
}

/// The name of a batch in an error.
#[derive(Debug, Clone)]
struct Named(String);

impl Named {
    fn of(messages: &[Outgoing], expected: u64) -> Self {
        let subjects: BTreeSet<&str> = messages.iter().map(|m| m.subject.as_str()).collect();
        let count = messages.len();
        let first = expected + 1;
        let subject = subjects.first().unwrap_or(&"");
        Self(match (count, subjects.len()) {
            (1, _) => format!("message {first} ({subject})"),
            (_, 1) => format!(
                "messages {first} to {} ({subject})",
                expected + count as u64
            ),
            (_, more) => format!(
                "messages {first} to {} ({subject} and {} more)",
                expected + count as u64,
                match more {
                    2 => "one subject".to_owned(),
                    more => format!("{} subjects", more - 1),
                }
            ),
        })
    }

    fn unclear(&self, reason: &dyn fmt::Display) -> PublishFailure {
        PublishFailure::Unclear {
            what: self.0.clone(),
            reason: reason.to_string(),
        }
    }
}

/// Publishes in order. `Ok`: all are stored, directly after `expected`. On any error nothing is
/// known but what the stream states.
pub async fn publish(
    bus: &Bus,
    mode: PublishMode,
    messages: Vec<Outgoing>,
    expected: u64,
) -> Result<(), PublishFailure> {
    let subjects: HashSet<String> = messages.iter().map(|m| m.subject.clone()).collect();
    let named = Named::of(&messages, expected);
    let publish = async {
        match mode {
            PublishMode::Atomic | PublishMode::Auto if messages.len() > 1 => {
                atomic(bus, messages, expected, &named).await
            }
            PublishMode::Atomic | PublishMode::Auto | PublishMode::Pipelined => {
                pipelined(bus, messages, expected, &named).await
            }
        }
    };
    let is_its = |refused: &str| subjects.contains(refused);
    let permitted = bus.refusals.unless_refused(is_its, publish);
    match bus.link.unless_lost(permitted).await {
        Ok(published) => published?,
        Err(lost @ Lost) => Err(named.unclear(&lost)),
    }
}

/// Passes a message to the connection, which accepts none while its buffer is full: it has no server, or
/// one that accepts nothing.
async fn handed<T, E: fmt::Display>(
    named: &Named,
    send: impl Future<Output = Result<T, E>>,
) -> Result<T, PublishFailure> {
    match tokio::time::timeout(ACK_TIMEOUT, send).await {
        Ok(sent) => sent.map_err(|error| named.unclear(&error)),
        Err(_) => Err(named.unclear(&"the connection takes nothing more")),
    }
}

/// Each message expects the sequence before it, and all but the first also the id before it: a
/// sequence alone would let the rest of a frozen relay's pipeline in behind another relay's
/// messages, as soon as their numbers meet.
async fn pipelined(
    bus: &Bus,
    messages: Vec<Outgoing>,
    expected: u64,
    named: &Named,
) -> Result<(), PublishFailure> {
    let mut acknowledgements = Vec::with_capacity(messages.len());
    let mut previous: Option<Uuid> = None;
    for (message, expected) in messages.into_iter().zip(expected..) {
        let mut headers = message.headers;
        headers.insert(EXPECTED_SEQUENCE, expected.to_string());
        if let Some(previous) = previous {
            headers.insert(EXPECTED_ID, previous.to_string());
        }
        previous = Some(message.id);
        let publish = PublishMessage::build()
            .payload(message.body)
            .headers(headers);
        crash::point("relay.publishing");
        let sent = bus.jetstream.send_publish(message.subject, publish);
        let acknowledgement = handed(named, sent).await?;
        acknowledgements.push((message.id, message.position, expected + 1, acknowledgement));
    }
    for (id, position, sequence, acknowledgement) in acknowledgements {
        match acknowledgement.await {
            Ok(ack) => check_ack(&ack, id, position, sequence)?,
            Err(error) => {
                return Err(match error.kind() {
                    PublishErrorKind::WrongLastSequence | PublishErrorKind::WrongLastMessageId => {
                        PublishFailure::Refused(error.to_string())
                    }
                    _ => named.unclear(&error),
                });
            }
        }
    }
    Ok(())
}

fn check_ack(
    ack: &PublishAck,
    id: Uuid,
    position: Option<i64>,
    sequence: u64,
) -> Result<(), PublishFailure> {
    if ack.duplicate {
        return Err(PublishFailure::Duplicate { id, position });
    }
    if ack.sequence != sequence {
        let stored = ack.sequence;
        return Err(PublishFailure::Refused(format!(
            "event {id} was stored as {stored}, expected {sequence}"
        )));
    }
    Ok(())
}

#[derive(Debug, Deserialize)]
struct BatchAnswer {
    error: Option<BatchError>,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    count: usize,
}

#[derive(Debug, Deserialize)]
struct BatchError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

/// One atomic batch: the expected sequence is on its first message, the commit on its last.
async fn atomic(
    bus: &Bus,
    messages: Vec<Outgoing>,
    expected: u64,
    named: &Named,
) -> Result<(), PublishFailure> {
    const WRONG_LAST_SEQUENCE: u64 = 10071;
    const WRONG_LAST_SEQUENCE_CONSTANT: u64 = 10164;
    let batch = Uuid::new_v4().to_string();
    let count = messages.len();
    let first = messages.first().map(|m| (m.id, m.position));
    let mut answer = None;
    for (message, number) in messages.into_iter().zip(1_usize..) {
        let mut headers = message.headers;
        headers.insert(BATCH_ID, batch.as_str());
        headers.insert(BATCH_SEQUENCE, number.to_string());
        if number == 1 {
            headers.insert(EXPECTED_SEQUENCE, expected.to_string());
        }
        crash::point("relay.publishing");
        if number < count {
            let sent = bus
                .client
                .publish_with_headers(message.subject, headers, message.body);
            handed(named, sent).await?;
            continue;
        }
        headers.insert(BATCH_COMMIT, "1");
        let request = Request::new()
            .payload(message.body)
            .headers(headers)
            .timeout(Some(ACK_TIMEOUT));
        let reply = bus.client.send_request(message.subject, request);
        // The client's own patience begins when the connection has taken it.
        let Ok(reply) = tokio::time::timeout(ACK_TIMEOUT * 2, reply).await else {
            return Err(named.unclear(&"the connection takes nothing more"));
        };
        answer = Some(reply.map_err(|error| match error.kind() {
            RequestErrorKind::TimedOut => {
                named.unclear(&format!("no answer within {} s", ACK_TIMEOUT.as_secs()))
            }
            _ => named.unclear(&error),
        })?);
    }
    let Some(answer) = answer else {
        return Ok(());
    };
    let answer = serde_json::from_slice::<BatchAnswer>(&answer.payload);
    let answer = answer.map_err(|error| named.unclear(&error))?;
    match (answer.error, first) {
        (Some(error), Some((id, position))) if is_duplicate(&error) => {
            Err(PublishFailure::Duplicate { id, position })
        }
        (Some(error), _)
            if [WRONG_LAST_SEQUENCE, WRONG_LAST_SEQUENCE_CONSTANT].contains(&error.err_code) =>
        {
            Err(PublishFailure::Refused(error.description))
        }
        (Some(error), _) => {
            Err(named.unclear(&format!("{} ({})", error.description, error.err_code)))
        }
        (None, _) if answer.count == count && answer.seq == expected + count as u64 => Ok(()),
        (None, _) => Err(PublishFailure::Refused(format!(
            "a batch of {count} was stored as {} up to {}, expected up to {}",
            answer.count,
            answer.seq,
            expected + count as u64
        ))),
    }
}

fn is_duplicate(error: &BatchError) -> bool {
    const CONTAINS_DUPLICATE: u64 = 10201;
    error.err_code == CONTAINS_DUPLICATE
}
