//! Messages of a stream as they are: from one sequence to another, optionally only of
//! some partitions or only their headers. Whether the stream is sound is not checked here.

use std::collections::BTreeSet;
use std::time::Duration;

use artstore_bus::connection::Bus;
use artstore_bus::message::Message;
use artstore_bus::selection::Selection;
use artstore_bus::stream_reader::StreamReader;
use artstore_projectors::projector::Received;
use artstore_schemas::envelope::Envelope;
use artstore_schemas::event;
use artstore_schemas::source::Source;
use futures::{Stream, StreamExt as _};

/// How long the next message may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many messages are asked for at once.
const IN_FLIGHT: usize = 64;

/// A reading that ends at a fixed sequence. Its consumer is removed by [`Messages::close`], else by the
/// server after half a minute.
pub struct Messages(StreamReader);

/// Which messages.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The first sequence.
    pub from: u64,
    /// The last one.
    pub to: u64,
    /// Only these partitions; none: all.
    pub partitions: Option<BTreeSet<u32>>,
    /// Without bodies.
    pub headers_only: bool,
}

impl Messages {
    /// Begins to read.
    pub async fn open(bus: &Bus, source: &Source, wanted: &Wanted) -> anyhow::Result<Self> {
        let partitions = wanted.partitions.iter().flatten();
        let selection = Selection {
            to: Some(wanted.to),
            subjects: partitions
                .map(|p| format!("{}.p{p:02}.>", source.subject_prefix()))
                .collect(),
            headers_only: wanted.headers_only,
            ..Selection::from(wanted.from)
        };
        let reader = StreamReader::open(bus, &source.stream(), selection).await?;
        Ok(Self(reader))
    }

    /// The next one; none at the end.
    pub async fn next(&mut self) -> anyhow::Result<Option<Message>> {
        Ok(self.0.next_or_end(PATIENCE).await?)
    }

    /// Removes the consumer.
    pub async fn close(self) {
        self.0.close().await;
    }
}

/// A message as a projector receives it. None where it can't be read: no projector has applied it.
pub fn received(source: &Source, message: &Message) -> Option<Received> {
    let envelope = message.envelope()?;
    let event = event::decode(source, &envelope.event_type, &message.body).ok()?;
    (envelope.source == source.ce_source()).then_some(Received {
        sequence: message.sequence,
        envelope,
        event,
        size: message.body.len(),
    })
}

/// Some messages, in the order of their sequences, as the stream's leader has them.
pub fn each(
    bus: &Bus,
    source: &Source,
    sequences: Vec<u64>,
) -> impl Stream<Item = anyhow::Result<Option<Received>>> {
    let (bus, source) = (bus.clone(), source.clone());
    let get = move |sequence: u64| {
        let (bus, source) = (bus.clone(), source.clone());
        async move {
            let message = bus.message_at(&source.stream(), sequence).await?;
            Ok(message.and_then(|message| received(&source, &message)))
        }
    };
    futures::stream::iter(sequences)
        .map(get)
        .buffered(IN_FLIGHT)
}

/// The headers of one message; none where there is no message or none that can be read.
pub(crate) async fn headers_at(
    bus: &Bus,
    source: &Source,
    sequence: u64,
) -> anyhow::Result<Option<Envelope>> {
    let message = bus.message_at(&source.stream(), sequence).await?;
    Ok(message.and_then(|message| message.envelope()))
}
