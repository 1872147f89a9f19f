//! How fast the relay drains a backlog, compared with publishing the very same messages in the same
//! batches with nothing else to do.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use artstore_producers::relay::publish::{self, Outgoing, PublishMode};
use artstore_runtime::connection;
use artstore_schemas::size::MAX_BATCH_MESSAGES;
use artstore_schemas::source::Source;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use futures::StreamExt as _;
use sqlx::{AssertSqlSafe, ConnectOptions as _};
use tracing::log::LevelFilter;
use uuid::Uuid;

use super::line::Line;
use crate::system::{Running, System};

/// A backlog as the product's own service leaves it: files, and finished rows with thin data.
pub async fn fill(system: &System, events: u32) -> anyhow::Result<()> {
    let element = &system.elements[0];
    let source = Source::Element(element.clone());
    let database = system.source_database(&source)?;
    let quiet = database.log_slow_statements(LevelFilter::Off, Duration::ZERO);
    let mut connection = connection::open(&quiet).await?;
    let files = format!(
        "insert into public.{element}_files (file_id, original_filename, storage_filename, \
             file_size, content_type, created_by_id, created_by_username, description, \
             storage_path, checksum, metadata_json) \
         select gen_random_uuid(), 'annual report ' || n || '.pdf', 'stored_' || n, n, \
             'application/pdf', '1', 'ann', 'the report of year ' || n, '2026/01/02/03', \
             md5(n::text) || md5(n::text), '{{\"tags\": [\"report\", \"year\"]}}' \
         from generate_series(1, {events}) n"
    );
    let rows = format!(
        "insert into public.{element}_wal (transaction_id, operation_type, status, file_id, \
             operation_data, completed_at, user_id) \
         select gen_random_uuid(), 'file_create', 'committed', file_id, \
             jsonb_build_object('original_filename', original_filename), now(), '1' \
         from public.{element}_files"
    );
    for sql in [files, rows, "vacuum analyze".to_owned()] {
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut connection)
            .await?;
    }
    Ok(())
}

/// Drains into a fresh stream, and publishes what is in it again, in turn.
pub async fn measure(system: &System, events: u32, rounds: u32) -> anyhow::Result<Line> {
    let source = Source::Element(system.elements[0].clone());
    let mut measured = Vec::new();
    for _ in 0..rounds {
        remake(system, &source).await?;
        let ours = drain(system, &source, events).await?;
        let messages = messages(system, &source, events).await?;
        remake(system, &source).await?;
        let started = Instant::now();
        let mut expected = 0;
        for batch in messages.chunks(MAX_BATCH_MESSAGES) {
            publish::publish(&system.bus, PublishMode::Atomic, batch.to_vec(), expected).await?;
            expected += batch.len() as u64;
        }
        let raw = f64::from(events) / started.elapsed().as_secs_f64();
        measured.push((ours, raw));
    }
    let limit = "the same messages, published in the same atomic batches";
    Ok(Line::of("relay drain", "/s", limit, measured))
}

async fn drain(system: &System, source: &Source, events: u32) -> anyhow::Result<f64> {
    let mut running = Running::default();
    let started = Instant::now();
    system.start_relay(source.clone(), &mut running).await?;
    wait_for(system, source, events.into()).await?;
    let elapsed = started.elapsed();
    running.stop().await?;
    Ok(f64::from(events) / elapsed.as_secs_f64())
}

async fn wait_for(system: &System, source: &Source, sequence: u64) -> anyhow::Result<()> {
    let stream = source.stream();
    let ended = async {
        while system.bus.stream_info(&stream).await?.state.last_sequence < sequence {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(300), ended)
        .await
        .context("the relay does not come to the end of its backlog")?
}

async fn remake(system: &System, source: &Source) -> anyhow::Result<()> {
    system.bus.jetstream.delete_stream(source.stream()).await?;
    system.bus.ensure_stream(source, 1).await?;
    Ok(())
}

/// What the relay published, ready to be published again.
pub async fn messages(
    system: &System,
    source: &Source,
    events: u32,
) -> anyhow::Result<Vec<Outgoing>> {
    let config = pull::Config {
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::None,
        memory_storage: true,
        ..pull::Config::default()
    };
    // As somebody else would read it, and on a server of our own.
    #[allow(clippy::disallowed_methods)]
    let consumer = system
        .bus
        .jetstream
        .create_consumer_on_stream(config, source.stream())
        .await?;
    let mut stream = consumer
        .stream()
        .max_messages_per_batch(2_000)
        .messages()
        .await?;
    let mut messages = Vec::new();
    for _ in 0..events {
        let message = stream.next().await.context("the stream ended early")??;
        let mut headers = message.headers.clone().unwrap_or_default();
        // Another id in every round: the server remembers ids for a while.
        let id = Uuid::new_v4();
        headers.insert("Nats-Msg-Id", id.to_string());
        for added in [
            "Nats-Batch-Id",
            "Nats-Batch-Sequence",
            "Nats-Batch-Commit",
            "Nats-Expected-Last-Sequence",
        ] {
            headers = without(&headers, added);
        }
        messages.push(Outgoing {
            id,
            position: Some(0),
            subject: message.subject.to_string(),
            headers,
            body: message.payload.clone(),
        });
    }
    Ok(messages)
}

fn without(headers: &async_nats::HeaderMap, removed: &str) -> async_nats::HeaderMap {
    let mut kept = async_nats::HeaderMap::new();
    for (name, values) in headers.iter() {
        let text: &str = name.as_ref();
        if text != removed {
            for value in values {
                kept.append(text, value.as_str());
            }
        }
    }
    kept
}
