//! How fast the projector applies a stream, compared with upserting the very same rows with `unnest` in
//! batches of the same size, on the same table and indexes, with nothing else to do.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use artstore_projectors::projector::Received;
use artstore_projectors::query_cache::files;
use artstore_projectors::query_cache::ownership::{Claim, fold};
use artstore_runtime::connection;
use artstore_schemas::envelope::Envelope;
use artstore_schemas::event;
use artstore_schemas::source::Source;
use sqlx::{Connection as _, PgConnection};

use super::drain;
use super::line::Line;
use crate::system::{Running, System};

const BATCH: usize = 1_000;

/// Applies the stream to empty tables, and upserts its rows into empty tables, in turn.
pub async fn measure(system: &System, events: u32, rounds: u32) -> anyhow::Result<Line> {
    let source = Source::Element(system.elements[0].clone());
    let received = received(system, &source, events).await?;
    let mut query = connection::open(&system.query_database()?).await?;
    let mut measured = Vec::new();
    for _ in 0..rounds {
        empty(&mut query).await?;
        let ours = project(system, &source, events, &mut query).await?;
        empty(&mut query).await?;
        let raw = upsert(system, &received, &mut query).await?;
        measured.push((ours, raw));
    }
    empty(&mut query).await?;
    let limit = "the same rows, upserted with unnest into the same table";
    Ok(Line::of("live projection", "/s", limit, measured))
}

async fn received(system: &System, source: &Source, events: u32) -> anyhow::Result<Vec<Received>> {
    let messages = drain::messages(system, source, events).await?;
    let read = messages.into_iter().zip(1..).map(|(message, sequence)| {
        let envelope = Envelope::from_headers(&message.headers)?;
        Ok(Received {
            sequence,
            event: event::decode(source, &envelope.event_type, &message.body)?,
            size: message.body.len(),
            envelope,
        })
    });
    read.collect()
}

async fn project(
    system: &System,
    source: &Source,
    events: u32,
    query: &mut PgConnection,
) -> anyhow::Result<f64> {
    let mut running = Running::default();
    let started = Instant::now();
    system.start_projector(&mut running).await?;
    let ended = async {
        loop {
            let last: Option<i64> = sqlx::query_scalar(
                "select last_sequence from public.projection_checkpoints where stream = $1",
            )
            .bind(source.stream())
            .fetch_optional(&mut *query)
            .await?;
            if last >= Some(events.into()) {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(600), ended)
        .await
        .context("the projector does not come to the end of the stream")??;
    let elapsed = started.elapsed();
    running.stop().await?;
    Ok(f64::from(events) / elapsed.as_secs_f64())
}

async fn upsert(
    system: &System,
    received: &[Received],
    query: &mut PgConnection,
) -> anyhow::Result<f64> {
    // Made ready before the clock starts: only the statements count.
    let batches: Vec<Vec<Claim<'_>>> = received
        .chunks(BATCH)
        .map(|batch| fold(batch).into_values().filter_map(|f| f.claim).collect())
        .collect();
    sqlx::raw_sql("set synchronous_commit = off")
        .execute(&mut *query)
        .await?;
    let started = Instant::now();
    for batch in &batches {
        let claims: Vec<&Claim<'_>> = batch.iter().collect();
        let mut transaction = query.begin().await?;
        files::upsert(&mut transaction, &system.elements[0], &claims).await?;
        transaction.commit().await?;
    }
    Ok(received.len() as f64 / started.elapsed().as_secs_f64())
}

async fn empty(query: &mut PgConnection) -> anyhow::Result<()> {
    sqlx::raw_sql(
        "truncate public.file_metadata_cache, public.file_ownership, \
             public.projection_checkpoints; checkpoint",
    )
    .execute(query)
    .await?;
    Ok(())
}
