//! No false alarm while everything is in use and gets killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::support::load::Load;
use crate::support::mix::Mix;

/// How many rows the writers are ahead of the relay before they wait for it.
const BURST: u64 = 300;

/// Checks again and again while writers of every kind work, and relay and projector get killed.
async fn soak(time: Duration) {
    let world = World::new(&["elem", "other"]).await;
    let mix = Arc::new(Mix::new(&world, 20).await);
    // Its files are there from before any operation.
    let (status, log) = world
        .command(&["element", "backfill", "elem"])
        .finish()
        .await;
    assert!(status.success(), "{log}");
    let begun = Instant::now();
    let (mut checks, mut whole) = (0, 0);
    while begun.elapsed() < time || checks < 3 {
        let stop = AtomicBool::new(false);
        let check = async {
            let checked = checked_while_they_die(&world).await;
            stop.store(true, Ordering::Relaxed);
            checked
        };
        let ((said, processes), ()) = tokio::join!(check, writers(&world, &mix, &stop));
        for process in processes {
            // A finding of the check beside the relay is an error in its log.
            let log = process.log();
            assert!(!log.contains(" ERROR "), "{log}");
            process.kill().await;
        }
        let verdicts = [
            "Sources, streams and query cache agree.",
            "What could be judged agrees;",
        ];
        assert!(verdicts.iter().any(|v| said.contains(v)), "{said}");
        whole += u32::from(said.contains(verdicts[0]));
        checks += 1;
    }
    let messages = world.last_sequence(&world.source(0)).await;
    println!(
        "{checks} checks, {whole} of them to the last candidate, {} kills, {messages} messages in \
         the first stream",
        4 * checks
    );
}

/// Writers of every kind, in bursts: a relay that is slower than they are would never catch up, and
/// no check of what was finished when it began would end.
async fn writers(world: &World, mix: &Arc<Mix>, stop: &AtomicBool) {
    let source = world.source(0);
    let mut element = world.element(0).await;
    while !stop.load(Ordering::Relaxed) {
        let before = finished(&mut element, &source).await;
        let enough = Arc::new(AtomicBool::new(false));
        let mut writers = mix.start(4, &enough, false);
        let publishers = Load::start(world, 2, false);
        eventually("the writers go on", async || {
            (finished(&mut element, &source).await >= before + BURST).then_some(())
        })
        .await;
        enough.store(true, Ordering::Relaxed);
        while let Some(ended) = writers.join_next().await {
            ended.unwrap();
        }
        publishers.stop().await;
        for element in 0..world.elements.len() {
            world.caught_up(element).await;
        }
    }
}

/// What a check reports during which relay and projector are killed, and others begin; and those.
async fn checked_while_they_die(world: &World) -> (String, [Process; 2]) {
    let relay = world.command(&["run", "relay", "--verify"]).start();
    let projector = world.projector().start();
    let before = world.last_sequence(&world.source(0)).await;
    let mut check = world.command(&["verify", "--wait", "60"]).start();
    eventually("the relay goes on", || async {
        (world.last_sequence(&world.source(0)).await > before + 50).then_some(())
    })
    .await;
    relay.kill().await;
    projector.kill().await;
    let relay = world.command(&["run", "relay", "--verify"]).start();
    let projector = world.projector().start();
    let status = check.ended_late().await;
    let said = check.output();
    assert_eq!(status.code(), Some(0), "{said}\n{}", check.log());
    (said, [relay, projector])
}

#[test]
fn no_false_alarm_under_mixed_load_with_kills() {
    run(soak(Duration::from_secs(10)));
}

/// `make soak-verify`.
#[test]
#[ignore = "ten minutes: make soak-verify"]
fn no_false_alarm_in_ten_minutes() {
    run_measurement(soak(Duration::from_secs(600)));
}
