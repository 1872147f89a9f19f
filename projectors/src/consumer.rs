//! Reading a stream from a checkpoint on: contiguous, chained, and from the right source, or not
//! at all, but for damage that an operator accepted (`artstore_schemas::damage`). There are no
//! acknowledgements: the checkpoint is the only position. What it reads goes
//! to [`crate::runner`] in batches.

use std::time::Duration;

use artstore_schemas::breaks;
use artstore_schemas::bus::{Bus, BusError};
use artstore_schemas::damage::Damage;
use artstore_schemas::envelope::Envelope;
use artstore_schemas::event;
use artstore_schemas::source::Source;
use artstore_schemas::subject;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::message::Message;
use futures::{FutureExt as _, StreamExt as _};
use uuid::Uuid;

use crate::projector::Received;
use crate::projector_error::{Halt, Previous, WorkerError};

/// The most messages of one pull request; far below what a subscription holds.
const PULL_MESSAGES: usize = 2_000;

/// The most bytes of one pull request.
const PULL_BYTES: usize = 16 * 1024 * 1024;

/// The server says so often that it has nothing; twice without means a lost consumer.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// A consumer that goes on from one place of a stream.
pub struct StreamReader {
    projection: &'static str,
    source: Source,
    stream: String,
    messages: pull::Stream,
    /// The sequence and the event of the last message that was read.
    last: (u64, Option<Uuid>),
    bus: Bus,
    /// The places that an operator accepted; looked up again at each that is not among them.
    damage: Damage,
    /// Where the consumer was made anew because of a hole already.
    hole_at: Option<u64>,
    /// What came behind the messages that were given out: it is told with the next call.
    failed: Option<WorkerError>,
}

impl StreamReader {
    /// Reads on behind `last` (sequence and event; 0 and none at the start).
    pub async fn open(
        bus: &Bus,
        projection: &'static str,
        source: &Source,
        last: (u64, Option<Uuid>),
        hole_at: Option<u64>,
    ) -> Result<Self, WorkerError> {
        let stream = source.stream();
        let failed = |error: &dyn std::fmt::Display| {
            WorkerError::from(BusError::JetStream(format!("stream {stream}: {error}")))
        };
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence {
                start_sequence: last.0 + 1,
            },
            ack_policy: AckPolicy::None,
            memory_storage: true,
            num_replicas: 1,
            inactive_threshold: Duration::from_secs(30),
            ..pull::Config::default()
        };
        let consumer = bus
            .jetstream
            .create_consumer_on_stream(config, stream.clone())
            .await
            .map_err(|e| failed(&e))?;
        let messages = consumer
            .stream()
            .max_messages_per_batch(PULL_MESSAGES)
            .max_bytes_per_batch(PULL_BYTES)
            .heartbeat(HEARTBEAT)
            .expires(Duration::from_secs(30))
            .messages()
            .await
            .map_err(|e| failed(&e))?;
        let damage = breaks::damage(bus, source).await?;
        Ok(Self {
            bus: bus.clone(),
            damage,
            projection,
            source: source.clone(),
            stream,
            messages,
            last,
            hole_at,
            failed: None,
        })
    }

    /// Waits for a message, then takes with it what is there already, up to a limit.
    /// None: nothing came within `patience`.
    pub async fn batch(
        &mut self,
        most: usize,
        most_bytes: usize,
        patience: Duration,
    ) -> Result<Option<Vec<Received>>, WorkerError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let Ok(first) = tokio::time::timeout(patience, self.messages.next()).await else {
            return Ok(None);
        };
        let mut next = Some(first);
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(message) = next {
            let received = match message {
                Some(Ok(message)) => self.take(&message).await,
                Some(Err(error)) => Err(self.ended(&error)),
                None => Err(self.ended(&"it has ended")),
            };
            match received {
                Ok(Some(received)) => {
                    bytes += received.size;
                    batch.push(received);
                }
                Ok(None) => {}
                Err(error) if batch.is_empty() => return Err(error),
                // What came before it is applied first.
                Err(error) => {
                    self.failed = Some(error);
                    break;
                }
            }
            if batch.len() >= most || bytes >= most_bytes {
                break;
            }
            next = self.messages.next().now_or_never();
        }
        // All that came may be messages that do not count.
        Ok(Some(batch).filter(|batch| !batch.is_empty()))
    }

    /// Reads a message; none for one that does not count. What is wrong with it may have been
    /// accepted since the list was looked up.
    async fn take(&mut self, message: &Message) -> Result<Option<Received>, WorkerError> {
        match self.read(message) {
            Err(error @ (WorkerError::Hole { .. } | WorkerError::Halt(_))) => {
                let damage = breaks::damage(&self.bus, &self.source).await?;
                if damage == self.damage {
                    return Err(error);
                }
                self.damage = damage;
                self.read(message)
            }
            read => read,
        }
    }

    fn ended(&self, reason: &dyn std::fmt::Display) -> WorkerError {
        WorkerError::Consumer {
            stream: self.stream.clone(),
            reason: reason.to_string(),
        }
    }

    fn read(&mut self, message: &Message) -> Result<Option<Received>, WorkerError> {
        let info = message.info().map_err(|error| self.ended(&error))?;
        let sequence = info.stream_sequence;
        let expected = self.last.0 + 1;
        if sequence != expected && !self.damage.covers_hole(expected, sequence - 1) {
            return Err(self.hole(expected, sequence));
        }
        if self.damage.ignores(sequence) {
            self.last.0 = sequence;
            return Ok(None);
        }
        let headers = message.headers.clone().unwrap_or_default();
        let envelope = Envelope::from_headers(&headers)
            .map_err(|error| self.unreadable(sequence, None, error.to_string()))?;
        let id = Some(envelope.id);
        if envelope.previous != self.last.1 && !self.damage.covers_break(sequence) {
            return Err(Halt::Spliced {
                projection: self.projection,
                source_name: self.source.to_string(),
                stream: self.stream.clone(),
                sequence,
                previous: Previous(envelope.previous),
                expected: Previous(self.last.1),
            }
            .into());
        }
        if envelope.source != self.source.ce_source()
            || !subject::belongs(&message.subject, &self.source, &envelope.event_type)
        {
            let reason = format!(
                "subject {}, source {} and type {} do not belong into this stream",
                message.subject, envelope.source, envelope.event_type
            );
            return Err(self.unreadable(sequence, id, reason));
        }
        let event = event::decode(&self.source, &envelope.event_type, &message.payload)
            .map_err(|error| self.unreadable(sequence, id, error.to_string()))?;
        self.last = (sequence, id);
        Ok(Some(Received {
            sequence,
            envelope,
            event,
            size: message.payload.len(),
        }))
    }

    /// The first hole may be the consumer's; a second at the same place is the stream's.
    fn hole(&self, expected: u64, found: u64) -> WorkerError {
        if self.hole_at == Some(expected) {
            return Halt::Hole {
                projection: self.projection,
                source_name: self.source.to_string(),
                stream: self.stream.clone(),
                expected,
                found,
            }
            .into();
        }
        WorkerError::Hole {
            stream: self.stream.clone(),
            expected,
            found,
        }
    }

    fn unreadable(&self, sequence: u64, id: Option<Uuid>, reason: String) -> WorkerError {
        Halt::Unreadable {
            projection: self.projection,
            source_name: self.source.to_string(),
            stream: self.stream.clone(),
            sequence,
            id: Previous(id),
            reason,
        }
        .into()
    }
}
