//! How memory and time of a rebuild grow with the events.

use std::time::{Duration, Instant};

use super::*;
use crate::verify::size::most_memory;

/// Events, seconds and MiB of one rebuild of all that there is, with its swap.
async fn measure(world: &World) -> (u64, f64, f64) {
    let events = world.last_sequence(&world.source(0)).await;
    let begun = Instant::now();
    let mut rebuild = command(world, &["--json"]).start();
    let mut memory: f64 = 0.0;
    let ended = loop {
        memory = memory.max(most_memory(&rebuild).unwrap_or(0.0));
        let ended = tokio::time::timeout(Duration::from_millis(50), rebuild.ended_late()).await;
        if let Ok(status) = ended {
            break status;
        }
    };
    assert!(ended.success(), "{}{}", rebuild.output(), rebuild.log());
    let said: Value = serde_json::from_str(&rebuild.output()).unwrap();
    assert_eq!(said["outcome"], "swapped", "{said:#}");
    (events, begun.elapsed().as_secs_f64(), memory)
}

/// So many files more, published.
async fn publish(world: &World, files: usize) {
    for _ in 0..files / 50_000 {
        crate::projector::parking::files(world, 50_000).await;
    }
    let relay = world.relay(0).start();
    world.caught_up(0).await;
    relay.kill().await;
}

async fn projected(world: &World, projector: &Process) {
    let source = world.source(0);
    let last = world.last_sequence(&source).await;
    let mut before = checkpoint(&world.query_url, &source).await;
    while before < last {
        before = eventually(
            &format!("more is applied: {}", projector.log()),
            async || {
                let now = checkpoint(&world.query_url, &source).await;
                (now > before).then_some(now)
            },
        )
        .await;
    }
}

/// `make measure-rebuild`.
#[test]
#[ignore = "minutes: make measure-rebuild"]
fn memory_is_flat_and_time_linear_from_100_000_to_1_000_000_events() {
    run_measurement(async {
        let world = World::new(&["elem"]).await;
        let projector = world.projector().start();
        let mut measured = Vec::new();
        for more in [100_000, 200_000, 700_000] {
            publish(&world, more).await;
            projected(&world, &projector).await;
            let (events, seconds, memory) = measure(&world).await;
            let rate = events as f64 / seconds;
            println!("{events:>9} events: {seconds:6.1} s, {rate:6.0}/s, {memory:5.0} MiB");
            measured.push((events, seconds, memory));
        }
        let (few, many) = (measured[0], measured[2]);
        println!(
            "{:.1} times the events: {:.1} times the time, {:.2} times the memory",
            many.0 as f64 / few.0 as f64,
            many.1 / few.1,
            many.2 / few.2
        );
        assert!(many.2 < few.2 * 1.3, "memory: {few:?}, {many:?}");
        assert!(many.1 < few.1 * 15.0, "time: {few:?}, {many:?}");
        projector.kill().await;
    });
}
