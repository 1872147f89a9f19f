//! How memory and time of a check grow with the rows.

use std::time::{Duration, Instant};

use super::command::bulk;
use super::*;

/// The most memory that a process has had, in MiB.
pub fn most_memory(process: &Process) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}

/// Rows, seconds and MiB of one check of all that there is.
async fn measure(world: &World) -> (u64, f64, f64) {
    let source = world.source(0);
    let mut element = world.element(0).await;
    let rows = finished(&mut element, &source).await;
    let begun = Instant::now();
    let mut check = world
        .command(&["verify", "--source", "elem", "--json"])
        .start();
    let mut memory: f64 = 0.0;
    let ended = loop {
        memory = memory.max(most_memory(&check).unwrap_or(0.0));
        let ended = tokio::time::timeout(Duration::from_millis(50), check.ended_late()).await;
        if let Ok(status) = ended {
            break status;
        }
    };
    assert!(ended.success(), "{}{}", check.output(), check.log());
    assert!(
        check.output().contains(&format!("\"rows\":{rows}")),
        "{}",
        check.output()
    );
    (rows, begun.elapsed().as_secs_f64(), memory)
}

async fn publish(world: &World, rows: usize) {
    bulk(world, rows).await;
    let source = world.source(0);
    let mut element = world.element(0).await;
    let all = finished(&mut element, &source).await;
    let relay = world.relay(0).start();
    let mut before = world.last_sequence(&source).await;
    while before < all {
        before = eventually("one more row is published", || async {
            let last = world.last_sequence(&source).await;
            (last > before).then_some(last)
        })
        .await;
    }
    relay.kill().await;
}

async fn grow(first: usize, all: usize) -> ((u64, f64, f64), (u64, f64, f64)) {
    let world = World::new(&["elem"]).await;
    publish(&world, first).await;
    let few = measure(&world).await;
    publish(&world, all - first).await;
    let many = measure(&world).await;
    for (rows, seconds, memory) in [few, many] {
        let rate = rows as f64 / seconds;
        println!("{rows:>9} rows: {seconds:6.1} s, {rate:6.0}/s, {memory:5.0} MiB");
    }
    println!(
        "{:.1} times the rows: {:.1} times the time, {:.2} times the memory",
        many.0 as f64 / few.0 as f64,
        many.1 / few.1,
        many.2 / few.2
    );
    (few, many)
}

#[test]
fn memory_stays_flat_as_rows_grow() {
    run(async {
        let ((_, _, few), (_, _, many)) = grow(10_000, 40_000).await;
        assert!(many < few * 1.3, "{few} MiB, then {many} MiB");
    });
}

/// `make measure-verify`.
#[test]
#[ignore = "minutes: make measure-verify"]
fn memory_is_flat_and_time_linear_from_100_000_to_1_000_000_rows() {
    run_measurement(async {
        let (few, many) = grow(100_000, 1_000_000).await;
        assert!(many.2 < few.2 * 1.2, "memory: {few:?}, {many:?}");
        assert!(many.1 < few.1 * 13.0, "time: {few:?}, {many:?}");
    });
}
