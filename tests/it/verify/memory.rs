//! What `verify` of the read model costs: memory does not depend on how many files there are, time
//! is linear in them. Run by `make proof`: it takes minutes.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

use artstore_verification::cache::{self, Scope};
use tokio::process::Command;

use crate::support::*;

const DAMAGED: u32 = 2_000;

/// What one run took.
#[derive(Debug, Clone, Copy)]
struct Cost {
    seconds: f64,
    /// Peak of the process's resident memory, in MiB.
    memory: f64,
    findings: usize,
}

/// How many files at first (`PROOF_FILES`); then ten times as many.
fn small() -> u32 {
    let files = std::env::var("PROOF_FILES");
    files.map_or(100_000, |files| files.parse().unwrap())
}

#[test]
#[ignore = "takes minutes: make proof"]
fn memory_is_flat_and_time_linear_for_ten_times_as_many_files() {
    run_measurement(async {
        let few = small();
        let many = 10 * few;
        let world = World::new(&["elem"]).await;
        let relay = world.relay(0).start();
        let projector = world.projector().start();
        let small = at(&world, 0, few).await;
        let large = at(&world, few, many).await;
        for (what, small, large) in [("clean", small.0, large.0), ("damaged", small.1, large.1)] {
            println!(
                "{what:<8} {few} files: {:6.1} s, {:5.1} MiB; {many} files: {:6.1} s, {:5.1} MiB; \
                 ratios: time {:.2}, memory {:.2}",
                small.seconds,
                small.memory,
                large.seconds,
                large.memory,
                large.seconds / small.seconds,
                large.memory / small.memory
            );
        }
        for (small, large) in [(small.0, large.0), (small.1, large.1)] {
            assert!(large.memory < small.memory * 1.5);
            // Quadratic would be 100 times as long; other work on the machine shows in it too.
            assert!(large.seconds < small.seconds * 10.0 * 2.5);
        }
        assert_eq!(small.0.findings + large.0.findings, 0);
        for damaged in [small.1, large.1] {
            assert_eq!(damaged.findings, DAMAGED as usize);
        }
        relay.kill().await;
        projector.kill().await;
    });
}

/// Fills up to so many files, and measures without and with damage, which is then taken back.
async fn at(world: &World, from: u32, to: u32) -> (Cost, Cost) {
    fill(world, from, to).await;
    let clean = measure(world).await;
    let mut query = world.query().await;
    let damage = format!(
        "create table damaged as select id, filename, search_vector from file_metadata_cache \
         order by id limit {DAMAGED}; \
         update file_metadata_cache c set filename = 'damaged' from damaged d where c.id = d.id"
    );
    execute(&mut query, damage).await;
    let damaged = measure(world).await;
    execute(
        &mut query,
        "update file_metadata_cache c set filename = d.filename, search_vector = d.search_vector \
         from damaged d where c.id = d.id; drop table damaged",
    )
    .await;
    (clean, damaged)
}

/// Files as the product's service writes them.
async fn fill(world: &World, from: u32, to: u32) {
    const CHUNK: u32 = 20_000;
    let mut connection = world.element(0).await;
    let source = world.source(0);
    for first in (from..to).step_by(CHUNK as usize) {
        execute(
            &mut connection,
            format!(
                "begin; \
                 create temp table new on commit drop as \
                     select gen_random_uuid() as id, n from generate_series({first} + 1, {first} + {CHUNK}) n; \
                 insert into elem_files (file_id, original_filename, storage_filename, file_size, \
                     content_type, created_by_id, created_by_username, storage_path, checksum, \
                     description, metadata_json) \
                 select id, 'report ' || n || '.pdf', id, n, 'application/pdf', '1', 'ann', \
                     '2026/01/02/03', repeat('c', 64), 'the report of ' || n, \
                     '{{\"tags\": [\"a\", \"b\"]}}' \
                 from new; \
                 insert into elem_wal (transaction_id, operation_type, status, file_id, operation_data) \
                 select gen_random_uuid(), 'file_create', 'committed', id, '{{}}' from new; \
                 commit"
            ),
        )
        .await;
    }
    println!("{to} files are written");
    // As long as it moves, it is well.
    let mut before = checkpoint(&world.query_url, &source).await;
    while before < u64::from(to) {
        before = eventually("the projector goes on", || async {
            let now = checkpoint(&world.query_url, &source).await;
            (now > before).then_some(now)
        })
        .await;
    }
    execute(&mut connection, "analyze").await;
    execute(&mut world.query().await, "analyze").await;
    println!("{to} files are applied");
}

/// In a process of its own.
async fn measure(world: &World) -> Cost {
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "verify_memory::one_run",
            "--ignored",
            "--nocapture",
        ])
        .env("VERIFY_NATS", &world.nats_url)
        .env("VERIFY_QUERY", &world.query_url)
        .env("VERIFY_ELEMENT", &world.elements[0].1)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let output = String::from_utf8(child.stdout).unwrap();
    assert!(child.status.success(), "{output}");
    let line = output
        .lines()
        .find_map(|line| line.split_once("cost "))
        .unwrap()
        .1;
    let numbers: Vec<f64> = line.split(' ').map(|n| n.parse().unwrap()).collect();
    Cost {
        seconds: numbers[0],
        memory: numbers[1],
        findings: numbers[2] as usize,
    }
}

#[test]
#[ignore = "a part of the measurement above"]
fn one_run() {
    let Ok(nats) = std::env::var("VERIFY_NATS") else {
        return;
    };
    run(async {
        let bus = connect(&nats).await;
        let query = std::env::var("VERIFY_QUERY").unwrap().parse().unwrap();
        let element = std::env::var("VERIFY_ELEMENT").unwrap().parse().unwrap();
        let elements = [("elem".parse().unwrap(), element)];
        let scope = Scope {
            bus: &bus,
            query: &query,
            elements: &elements,
            history: true,
            unpublished: &BTreeSet::new(),
            unapplied: &BTreeSet::new(),
            patience: Duration::from_secs(10),
        };
        let started = Instant::now();
        let report = cache::verify(&scope, &mut |_| ()).await.unwrap();
        let seconds = started.elapsed().as_secs_f64();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak: f64 = peak
            .unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap();
        println!("cost {seconds} {} {}", peak / 1024.0, report.findings.len());
    });
}
