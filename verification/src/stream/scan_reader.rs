//! Reads a whole stream in order, from its first message to the end that it has when the reading
//! begins. Nothing is checked here: holes and foreign messages are passed on as they are.

use std::time::Duration;

use artstore_bus::bus_error::BusError;
use artstore_bus::connection::Bus;
use artstore_bus::message::Message;
use artstore_bus::stream_reader::{Pull, StreamReader};
use artstore_schemas::source::Source;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};

use artstore_producers::relay::relay_error::RelayError;

/// The most messages of one batch.
const BATCH: usize = 1_000;

/// The most bytes of bodies of one batch.
const BATCH_BYTES: usize = 16 * 1024 * 1024;

/// How long the server may take to give the next message.
const PATIENCE: Duration = Duration::from_secs(30);

/// A reading.
pub(crate) struct ScanReader {
    bus: Bus,
    stream: String,
    messages: Option<StreamReader>,
    /// How many messages it still has to give.
    left: u64,
    /// The last sequence that the stream had when the reading began.
    pub(crate) end: u64,
}

impl ScanReader {
    /// Begins a reading, with bodies or without.
    pub(crate) async fn open(bus: &Bus, source: &Source, bodies: bool) -> Result<Self, RelayError> {
        let stream = source.stream();
        let state = bus.stream_info(&stream).await?.state;
        let mut reader = Self {
            bus: bus.clone(),
            stream,
            messages: None,
            left: state.messages,
            end: state.last_sequence,
        };
        if state.messages == 0 {
            return Ok(reader);
        }
        let config = pull::Config {
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::None,
            headers_only: !bodies,
            memory_storage: true,
            num_replicas: 1,
            inactive_threshold: PATIENCE,
            ..pull::Config::default()
        };
        let pull = Pull {
            heartbeat: Duration::from_secs(5),
            ..Pull::default()
        };
        let messages = StreamReader::open(bus, &reader.stream, config, pull).await?;
        reader.left = messages.pending();
        reader.messages = Some(messages).filter(|_| reader.left > 0);
        Ok(reader)
    }

    /// The next messages, in order; none at the end.
    pub(crate) async fn batch(&mut self) -> Result<Vec<Message>, RelayError> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH && bytes < BATCH_BYTES {
            let Some(messages) = &mut self.messages else {
                break;
            };
            let message = messages.expect_within(PATIENCE).await?;
            self.left -= 1;
            if message.sequence >= self.end || self.left == 0 {
                self.messages = None;
            }
            if message.sequence > self.end {
                break;
            }
            bytes += message.body.len();
            batch.push(message);
        }
        Ok(batch)
    }

    /// Whether the stream really lacks these messages. A consumer may lose some; what is written
    /// down for ever is asked twice. Only the two ends are asked for.
    pub(crate) async fn is_hole(&self, first: u64, last: u64) -> Result<bool, RelayError> {
        for sequence in [first, last] {
            if self.bus.message_at(&self.stream, sequence).await?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(crate) fn failed(&self, error: &dyn std::fmt::Display) -> RelayError {
        BusError::JetStream(format!("stream {}: {error}", self.stream)).into()
    }
}
