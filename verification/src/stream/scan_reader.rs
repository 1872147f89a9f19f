//! Reads a whole stream in order, from its first message to the end that it has when the reading
//! begins. Nothing is checked here: holes and foreign messages are passed on as they are.

use std::time::Duration;

use artstore_bus::bus_error::BusError;
use artstore_bus::connection::Bus;
use artstore_bus::message::Message;
use artstore_bus::selection::Selection;
use artstore_bus::stream_reader::StreamReader;
use artstore_schemas::source::Source;

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
    messages: StreamReader,
    /// The last sequence that the stream had when the reading began.
    pub(crate) end: u64,
}

impl ScanReader {
    /// Begins a reading, with bodies or without.
    pub(crate) async fn open(bus: &Bus, source: &Source, bodies: bool) -> Result<Self, RelayError> {
        let stream = source.stream();
        let end = bus.stream_info(&stream).await?.state.last_sequence;
        let selection = Selection {
            to: Some(end),
            headers_only: !bodies,
            ..Selection::from(1)
        };
        Ok(Self {
            bus: bus.clone(),
            messages: StreamReader::open(bus, &stream, selection).await?,
            stream,
            end,
        })
    }

    /// The next messages, in order; none at the end.
    pub(crate) async fn batch(&mut self) -> Result<Vec<Message>, RelayError> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH
            && bytes < BATCH_BYTES
            && let Some(message) = self.messages.next_or_end(PATIENCE).await?
        {
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
