//! A stream that refuses every message at once: its relay reports why, retries at growing intervals, and
//! publishes when it may.

use std::time::{Duration, Instant};

use async_nats::Subscriber;
use futures::StreamExt as _;

use artstore_schemas::source::Source;

use super::watched::Watched;
use super::*;

const ROWS: u64 = 3;
const PAUSES: u64 = 10;

/// Ten pauses from 20 ms on, each half as long again, and half of that by chance at worst. Without
/// them ten tries take a tenth of a second.
const LEAST: Duration = Duration::from_secs(1);

/// No message that has a body (`full`), or any message again. A limit on their number would halt the relay.
async fn limit(world: &World, source: &Source, full: bool) {
    let info = world.bus.stream_info(&source.stream()).await.unwrap();
    let mut config = info.config;
    config.max_message_size = if full { 1 } else { -1 };
    world.bus.jetstream.update_stream(config).await.unwrap();
}

/// From the first try to the one after so many pauses. Whoever listens to the subjects hears also
/// what the stream refuses.
async fn tries(heard: &mut Subscriber) -> Duration {
    let mut tried = async || {
        let tried = tokio::time::timeout(PATIENCE, heard.next()).await;
        tried.expect("the relay tries again").unwrap();
    };
    tried().await;
    let first = Instant::now();
    for _ in 0..ROWS * PAUSES {
        tried().await;
    }
    first.elapsed()
}

async fn refused_and_allowed_again(mode: &str) {
    // In an installation nobody but the stream receives what a relay publishes.
    let world = World::without_rights(&["elem"]).await;
    let source = world.source(0);
    let relay = Watched::start(world.relay(0).env("ARTSTORE_PUBLISH_MODE", mode)).await;
    file(&world, 0).await;
    world.published(0).await;
    relay.becomes_ready().await;

    limit(&world, &source, true).await;
    let before = world.last_sequence(&source).await;
    let subjects = format!("{}.>", source.subject_prefix());
    let mut heard = world.bus.client.subscribe(subjects).await.unwrap();
    processed(&world.bus.client).await;
    let mut element = world.element(0).await;
    execute(
        &mut element,
        format!(
            "insert into elem_wal (transaction_id, operation_type, status, operation_data) \
             select gen_random_uuid(), 'cache_rebuild', 'committed', '{{}}' \
             from generate_series(1, {ROWS})"
        ),
    )
    .await;
    let took = tries(&mut heard).await;
    assert!(took >= LEAST, "{mode}: {PAUSES} pauses in {took:?}");
    relay
        .becomes_unready("message size exceeds maximum allowed")
        .await;
    assert!(relay.live().await);
    let shown = relay.scrape().await;
    assert_eq!(shown.of("relay_lag_events", &source), ROWS as f64);
    assert_eq!(
        shown.of("relay_halted", &source),
        0.0,
        "it needs no restart"
    );
    assert_eq!(world.last_sequence(&source).await, before);

    limit(&world, &source, false).await;
    world.published(0).await;
    relay.becomes_ready().await;
    assert_eq!(world.last_sequence(&source).await, before + ROWS);
    relay.process.kill().await;
}

#[test]
fn a_relay_that_is_refused_at_once_pauses_and_says_why_in_atomic_batches() {
    run(refused_and_allowed_again("atomic"));
}

#[test]
fn a_relay_that_is_refused_at_once_pauses_and_says_why_when_pipelined() {
    run(refused_and_allowed_again("pipelined"));
}
