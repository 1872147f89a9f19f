//! Servers that hang: what services report meanwhile, and how they stop.

use std::time::{Duration, Instant};

use artstore_schemas::source::Source;
use artstore_stack::{Stack, StackOptions};

use super::watched::Watched;
use super::*;

/// Processes that do not run for as long as this exists.
pub struct Frozen(Vec<u32>);

impl Frozen {
    pub fn new(pids: Vec<u32>) -> Self {
        signal(&pids, "-STOP");
        Self(pids)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        signal(&self.0, "-CONT");
    }
}

fn signal(pids: &[u32], signal: &str) {
    let pids = pids.iter().map(u32::to_string);
    // A backend may have ended meanwhile.
    drop(
        std::process::Command::new("kill")
            .arg(signal)
            .args(pids)
            .output()
            .unwrap(),
    );
}

/// PostgreSQL with all its sessions.
pub fn postgres_pids(stack: &Stack) -> Vec<u32> {
    let pid = std::fs::read_to_string(stack.postgres_data().join("postmaster.pid")).unwrap();
    let postmaster: u32 = pid.lines().next().unwrap().parse().unwrap();
    let mut pids = vec![postmaster];
    for entry in std::fs::read_dir("/proc").unwrap() {
        let entry = entry.unwrap();
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .nth(1);
        if parent == Some(&postmaster.to_string()) {
            pids.push(pid);
        }
    }
    pids
}

/// While something is frozen: no lag is ever shown as nothing, and its seconds only grow.
async fn lag_grows(service: &Watched, lag: &str, source: &Source, until: f64) {
    let mut before = 0.0;
    let started = Instant::now();
    loop {
        let shown = service.scrape().await;
        let seconds = shown.of(&format!("{lag}_lag_seconds"), source);
        assert!(seconds > 0.0);
        // An answer may have been on its way.
        assert!(
            before < 2.0 || seconds > before,
            "{lag}: {seconds} after {before}"
        );
        before = seconds;
        let events = shown.of(&format!("{lag}_lag_events"), source);
        let up = shown.of(&format!("{lag}_lag_up"), source);
        assert_eq!(events.is_nan(), up == 0.0);
        // Right after the last measurement it may still be believed.
        if seconds > 7.0 {
            assert!(up == 0.0, "{lag}: {events} after {seconds} s");
        }
        if seconds > until {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{lag}: only {seconds}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Frozen servers: what is shown meanwhile, that it is over afterwards, and that a stop ends.
#[test]
fn frozen_servers_are_shown_and_do_not_keep_a_stopped_service() {
    run_waiting(async {
        let stack = Stack::start(StackOptions::default()).await.unwrap();
        let world = World::on(&stack, 0, &["elem"], 1).await;
        let source = world.source(0);
        let relay = || Watched::start(world.relay(0));
        let projector = || Watched::start(world.projector());
        let (mut a, mut b) = (relay().await, projector().await);
        file(&world, 0).await;
        for service in [&a, &b] {
            service.becomes_ready().await;
        }
        world.projected().await;
        for (server, pids) in [
            ("NATS", vec![stack.nats_pid(0)]),
            ("PostgreSQL", postgres_pids(&stack)),
        ] {
            let frozen = Frozen::new(pids);
            lag_grows(&b, "projector", &source, 8.0).await;
            if server == "PostgreSQL" {
                lag_grows(&a, "relay", &source, 8.0).await;
            }
            for service in [&a, &b] {
                service.becomes_unready("").await;
                assert!(service.live().await);
            }
            drop(frozen);
            for service in [&a, &b] {
                service.becomes_ready().await;
            }
            file(&world, 0).await;
            world.published(0).await;
            world.projected().await;
        }

        // NATS hangs, with a row to publish: nobody knows what becomes of it.
        let frozen = Frozen::new(vec![stack.nats_pid(0)]);
        file(&world, 0).await;
        eventually("the relay has it in hand", || async {
            (a.scrape().await.of("relay_lag_events", &source) >= 1.0).then_some(())
        })
        .await;
        a.process.signal("-TERM").await;
        b.process.signal("-TERM").await;
        ends(&mut a.process, 1).await;
        let log = a.process.log();
        assert!(
            log.contains("stopped before everything was settled"),
            "{log}"
        );
        // The projector has nothing in hand.
        ends(&mut b.process, 0).await;
        drop(frozen);

        // PostgreSQL hangs: the locks can't be released.
        let (mut a, mut b) = (relay().await, projector().await);
        a.process.says("relay active").await;
        let mut c = relay().await;
        c.process.says("standby").await;
        for service in [&a, &b, &c] {
            service.becomes_ready().await;
        }
        let frozen = Frozen::new(postgres_pids(&stack));
        b.process.signal("-TERM").await;
        // It is a standby: it has no lock to release.
        c.process.signal("-TERM").await;
        ends(&mut c.process, 0).await;
        ends(&mut b.process, 1).await;
        let log = b.process.log();
        assert!(
            log.contains("stopped before everything was settled"),
            "{log}"
        );
        // Somebody who asks twice does not want to wait.
        a.process.signal("-TERM").await;
        a.process.says("stopping").await;
        let asked = Instant::now();
        a.process.signal("-TERM").await;
        ends(&mut a.process, 1).await;
        assert!(
            asked.elapsed() < Duration::from_secs(2),
            "{:?}",
            asked.elapsed()
        );
        assert!(
            a.process.log().contains("a second signal"),
            "{}",
            a.process.log()
        );
        drop(frozen);

        let (a, b) = (relay().await, projector().await);
        world.published(0).await;
        world.projected().await;
        drop((a, b, world));
        stack.stop().await.unwrap();
    });
}
