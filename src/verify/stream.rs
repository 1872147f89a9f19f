//! What a stream holds: every message's headers, from the first to the last.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use artstore_schemas::bus::Bus;
use artstore_schemas::envelope::Envelope;
use artstore_schemas::source::Source;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use futures::StreamExt as _;

/// Reads the headers of every message that the stream had when this was called. Fails where the
/// stream is not contiguous from 1, or where a message is not chained to the one before it.
pub async fn read(bus: &Bus, source: &Source) -> anyhow::Result<Vec<Envelope>> {
    let stream = source.stream();
    let last = bus.stream_info(&stream).await?.state.last_sequence;
    let mut envelopes: Vec<Envelope> = Vec::new();
    if last == 0 {
        return Ok(envelopes);
    }
    let config = pull::Config {
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::None,
        headers_only: true,
        memory_storage: true,
        inactive_threshold: Duration::from_secs(30),
        ..pull::Config::default()
    };
    let consumer = bus
        .jetstream
        .create_consumer_on_stream(config, stream.clone())
        .await?;
    let mut messages = consumer
        .stream()
        .max_messages_per_batch(2_000)
        .heartbeat(Duration::from_secs(5))
        .messages()
        .await?;
    for expected in 1..=last {
        let message = tokio::time::timeout(Duration::from_secs(30), messages.next())
            .await
            .with_context(|| format!("stream {stream}: message {expected} did not come"))?;
        let Some(message) = message else {
            bail!("stream {stream} ended before message {expected}");
        };
        let message = message?;
        let sequence = message
            .info()
            .map_err(|error| anyhow::anyhow!("stream {stream}: {error}"))?
            .stream_sequence;
        ensure!(
            sequence == expected,
            "stream {stream}: message {expected} is missing, {sequence} came"
        );
        let headers = message.headers.clone().unwrap_or_default();
        let envelope = Envelope::from_headers(&headers)
            .with_context(|| format!("stream {stream}, message {sequence}"))?;
        let before = envelopes.last().map(|before| before.id);
        ensure!(
            envelope.previous == before,
            "stream {stream}, message {sequence} is not chained to the one before it"
        );
        envelopes.push(envelope);
    }
    Ok(envelopes)
}
