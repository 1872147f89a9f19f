//! From a publisher's commit to the visible row at a steady, moderate rate, compared with the least that
//! the servers need for one event: a publish, a delivery, and an upsert of one row.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use artstore_runtime::connection;
use artstore_schemas::source::Source;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::Config;
use chrono::{DateTime, Utc};
use futures::StreamExt as _;
use sqlx::{AssertSqlSafe, Row as _};
use uuid::Uuid;

use super::line::{Line, median};
use crate::system::{Running, System};

const EVENTS: usize = 200;
const PACE: Duration = Duration::from_millis(10);

/// Both sides in turn; the median of each round's medians.
pub async fn measure(system: &System, rounds: u32) -> anyhow::Result<Line> {
    let mut running = Running::default();
    system.start_relay(Source::Query, &mut running).await?;
    system.start_projector(&mut running).await?;
    let mut measured = Vec::new();
    // One round to warm up.
    ours(system).await?;
    for _ in 0..rounds {
        measured.push((ours(system).await?, raw(system).await?));
    }
    running.stop().await?;
    let limit = "one publish, one delivery, one upsert";
    Ok(Line::of("latency (median)", "ms", limit, measured))
}

/// Downloads are recorded at the pace; commit timestamps of both ends show how long each took.
async fn ours(system: &System) -> anyhow::Result<f64> {
    let mut query = connection::open(&system.query_database()?).await?;
    let mut ids = Vec::new();
    let mut pace = tokio::time::interval(PACE);
    for _ in 0..EVENTS {
        pace.tick().await;
        let id: Uuid = sqlx::query_scalar(
            "insert into public.event_outbox (event_id, entity, action, data, actor) \
             values (gen_random_uuid(), 'file', 'downloaded', jsonb_build_object('file_id', \
                 gen_random_uuid(), 'bytes_transferred', 1, 'download_time_ms', 1, \
                 'storage_element_id', 'e'), '{\"type\": \"system\"}') returning event_id",
        )
        .fetch_one(&mut query)
        .await?;
        ids.push(id);
    }
    let waited = Instant::now();
    loop {
        let waits: Vec<f64> = sqlx::query(
            "select pg_xact_commit_timestamp(d.xmin) as seen, \
                    pg_xact_commit_timestamp(o.xmin) as written \
             from public.event_outbox o join public.download_statistics d using (event_id) \
             where o.event_id = any($1)",
        )
        .bind(&ids)
        .fetch_all(&mut query)
        .await?
        .iter()
        .map(|row| {
            let seen: DateTime<Utc> = row.try_get("seen")?;
            let written: DateTime<Utc> = row.try_get("written")?;
            let micros = (seen - written).num_microseconds().unwrap_or(i64::MAX);
            Ok(micros as f64 / 1_000.0)
        })
        .collect::<Result<_, sqlx::Error>>()?;
        if waits.len() == EVENTS {
            return Ok(median(waits));
        }
        anyhow::ensure!(
            waited.elapsed() < Duration::from_secs(30),
            "{} of {EVENTS} events became visible",
            waits.len()
        );
        tokio::time::sleep(PACE).await;
    }
}

async fn raw(system: &System) -> anyhow::Result<f64> {
    let mut query = connection::open(&system.query_database()?).await?;
    let create = "create unlogged table if not exists public.bench_raw (id bigint primary key)";
    for sql in [
        create,
        "truncate public.bench_raw",
        "set synchronous_commit = off",
    ] {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut query)
            .await?;
    }
    let jetstream = &system.bus.jetstream;
    let name = "BENCH_RAW";
    let stream = Config {
        name: name.to_owned(),
        subjects: vec!["bench.raw".to_owned()],
        ..Config::default()
    };
    jetstream.create_or_update_stream(stream).await?;
    let config = pull::Config {
        deliver_policy: DeliverPolicy::New,
        ack_policy: AckPolicy::None,
        memory_storage: true,
        ..pull::Config::default()
    };
    // As somebody else would read it, and on a server of our own.
    #[allow(clippy::disallowed_methods)]
    let consumer = jetstream.create_consumer_on_stream(config, name).await?;
    let mut messages = consumer
        .stream()
        .max_messages_per_batch(1_000)
        .messages()
        .await?;
    let mut waits = Vec::new();
    let mut pace = tokio::time::interval(PACE);
    for n in 0..i64::try_from(EVENTS)? {
        pace.tick().await;
        let started = Instant::now();
        let acknowledgement = jetstream.publish("bench.raw", "{}".into()).await?;
        messages.next().await.context("the stream ended")??;
        sqlx::query("insert into public.bench_raw values ($1) on conflict (id) do nothing")
            .bind(n)
            .execute(&mut query)
            .await?;
        waits.push(started.elapsed().as_secs_f64() * 1_000.0);
        acknowledgement.await?;
    }
    Ok(median(waits))
}
