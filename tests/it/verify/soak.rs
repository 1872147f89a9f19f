//! No false alarm while everything is in use and gets killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::load::Load;
use crate::mix::Mix;

/// Checks again and again while writers of every kind work, and relay and projector get killed.
/// Between two checks the writers pause until the backlog is gone: it must not outgrow the time.
async fn soak(time: Duration) {
    let world = World::new(&["elem", "other"]).await;
    let mix = Arc::new(Mix::new(&world, 20).await);
    let begun = Instant::now();
    let (mut checks, mut whole, mut kills) = (0, 0, 0);
    while begun.elapsed() < time || checks < 3 {
        let relay = world.command(&["run", "relay", "--verify"]).start();
        let projector = world.projector().start();
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = mix.start(4, &stop, false);
        let publishers = Load::start(&world, 2, false);
        let before = world.last_sequence(&world.source(0)).await;
        let mut check = world.command(&["verify", "--wait", "60"]).start();
        eventually("the relay goes on", || async {
            (world.last_sequence(&world.source(0)).await > before + 50).then_some(())
        })
        .await;
        // While it runs, they die and others begin.
        relay.kill().await;
        projector.kill().await;
        let relay = world.command(&["run", "relay", "--verify"]).start();
        let projector = world.projector().start();
        kills += 2;
        let status = check.ended_late().await;
        let said = check.output();
        assert_eq!(status.code(), Some(0), "{said}\n{}", check.log());
        let verdicts = ["All agree.", "What could be judged agrees;"];
        assert!(verdicts.iter().any(|v| said.contains(v)), "{said}");
        whole += u32::from(said.contains(verdicts[0]));
        checks += 1;
        stop.store(true, Ordering::Relaxed);
        while let Some(ended) = writers.join_next().await {
            ended.unwrap();
        }
        publishers.stop().await;
        for element in 0..world.elements.len() {
            world.caught_up(element).await;
        }
        for process in [&relay, &projector] {
            let log = process.log();
            assert!(!log.contains(" ERROR "), "{log}");
        }
        assert!(
            !relay.log().contains("verification.finding"),
            "{}",
            relay.log()
        );
        relay.kill().await;
        projector.kill().await;
        kills += 2;
    }
    let messages = world.last_sequence(&world.source(0)).await;
    println!(
        "{checks} checks, {whole} of them to the last candidate, {kills} kills, {messages} messages \
         in the first stream"
    );
}

#[test]
fn no_false_alarm_under_mixed_load_with_kills() {
    run(soak(Duration::from_secs(10)));
}

/// `make soak-verify`: ten minutes.
#[test]
#[ignore = "ten minutes: make soak-verify"]
fn no_false_alarm_in_ten_minutes() {
    run(soak(Duration::from_secs(600)));
}
