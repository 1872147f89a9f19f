//! NATS that does not store what is published: because publishes get lost, or because its disk is full. The
//! lock stays where it is, the relays are not ready, and `artstore status` shows what NATS reports.

use artstore_stack::{Stack, StackOptions};
use serde_json::Value;

use super::watched::Watched;
use super::*;
use crate::followed_advice::follow;

/// The session that has the relay's lock.
async fn holder(world: &World) -> i32 {
    value(
        &mut world.element(0).await,
        "select pid from pg_locks where locktype = 'advisory' and granted \
           and database = (select oid from pg_database where datname = current_database())",
    )
    .await
}

/// The status' exit code, all of it, and the element's relays in it.
async fn status(world: &World) -> (Option<i32>, Value, Value) {
    let (status, said) = world.command(&["status", "--json"]).output().await;
    let said: Value = serde_json::from_str(&said).unwrap();
    let mut sources = said["sources"].as_array().unwrap().iter();
    let element = sources.find(|source| source["source"] == "elem").unwrap();
    let relay = element["relay"].clone();
    (status.code(), said, relay)
}

/// Waits until the status reports that rows wait, and that the cause is this.
async fn stuck(world: &World, cause: &str) -> Value {
    eventually(&format!("the status says: stuck, {cause}"), async || {
        let (code, said, relay) = status(world).await;
        let seconds = relay["stuck_seconds"].as_f64()?;
        let troubles = said["troubles"].to_string();
        (seconds >= 10.0 && code == Some(1) && troubles.contains(cause)).then_some(said)
    })
    .await
}

fn troubles_of<'a>(status: &'a Value, source: &str) -> Vec<&'a Value> {
    let troubles = status["troubles"].as_array().unwrap().iter();
    troubles
        .filter(|trouble| trouble["about"] == source)
        .collect()
}

#[test]
fn publishes_that_get_lost_are_named_and_the_lock_stays() {
    run_waiting(async {
        let world = World::new(&["elem"]).await;
        let proxy = Proxy::to(&world.nats_url).await;
        let relay = || world.relay(0).env("NATS_URL", &proxy.way(&world.nats_url));
        let first = Watched::start(relay()).await;
        first.process.says("relay active").await;
        let second = Watched::start(relay()).await;
        second.process.says("standby").await;
        file(&world, 0).await;
        world.caught_up(0).await;
        let before = holder(&world).await;

        proxy.drop_publishes(Some("artstore.wal."));
        file(&world, 0).await;
        let said = stuck(&world, "artstore.wal.elem.p").await;
        let troubles = troubles_of(&said, "elem");
        let [trouble] = troubles.as_slice() else {
            panic!("one cause is one trouble: {troubles:?}");
        };
        let what = trouble["what"].as_str().unwrap();
        assert!(
            what.contains("no answer within") || what.contains("timed out"),
            "{what}"
        );
        assert!(what.contains("restart nats-server"), "{what}");
        first.becomes_unready("artstore.wal.elem.p").await;
        second.becomes_unready("nothing is stored").await;
        assert_eq!(
            holder(&world).await,
            before,
            "a fault of the bus does not move the lock"
        );
        let log = first.process.log();
        assert!(!log.contains("session of its lock has ended"), "{log}");
        assert!(
            !log.contains("idle"),
            "its sessions live while NATS is waited for: {log}"
        );

        proxy.drop_publishes(None);
        world.published(0).await;
        first.becomes_ready().await;
        second.becomes_ready().await;
        let mut services = Vec::new();
        follow(&world, "what is published is stored", &mut services).await;
        for service in services {
            service.kill().await;
        }
        first.process.kill().await;
        second.process.kill().await;
    });
}

/// Limits the size of the server's files, as a full disk would; none: no more.
fn files_of(pid: u32, limit: Option<u64>) {
    let limit = limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
    // The hard limit stays, so that it can be taken back.
    let set = std::process::Command::new("prlimit")
        .args([format!("--pid={pid}"), format!("--fsize={limit}:")])
        .status()
        .unwrap();
    assert!(set.success());
}

#[test]
fn a_full_disk_of_nats_is_named_and_freeing_it_as_advised_helps() {
    run_waiting(async {
        let stack = Stack::start(StackOptions::default()).await.unwrap();
        let world = World::on(&stack, 0, &["elem"], 1).await;
        let first = Watched::start(world.relay(0)).await;
        first.process.says("relay active").await;
        let second = Watched::start(world.relay(0)).await;
        second.process.says("standby").await;
        file(&world, 0).await;
        world.caught_up(0).await;
        let before = holder(&world).await;

        files_of(stack.nats_pid(0), Some(256));
        for _ in 0..5 {
            file(&world, 0).await;
        }
        let said = stuck(&world, "NATS did not confirm").await;
        println!("{:#}", said["troubles"]);
        first.becomes_unready("NATS did not confirm").await;
        second.becomes_unready("nothing is stored").await;
        assert_eq!(
            holder(&world).await,
            before,
            "a fault of the bus does not move the lock"
        );

        // As it is advised.
        files_of(stack.nats_pid(0), None);
        stack.kill_nats(0).await.unwrap();
        stack.start_nats(0).await.unwrap();
        world.published(0).await;
        first.becomes_ready().await;
        second.becomes_ready().await;
        let mut services = Vec::new();
        follow(&world, "what is published is stored", &mut services).await;
        for service in services {
            service.kill().await;
        }
        first.process.kill().await;
        second.process.kill().await;
        drop(world);
        stack.stop().await.unwrap();
    });
}

#[test]
fn a_relay_stays_active_while_nats_is_away_for_some_seconds() {
    run_waiting(async {
        let stack = Stack::start(StackOptions::default()).await.unwrap();
        let world = World::on(&stack, 0, &["elem"], 1).await;
        let relay = Watched::start(world.relay(0)).await;
        file(&world, 0).await;
        world.caught_up(0).await;
        relay.becomes_ready().await;
        let before = holder(&world).await;

        stack.kill_nats(0).await.unwrap();
        file(&world, 0).await;
        relay.process.says("the relay starts again").await;
        stack.start_nats(0).await.unwrap();
        world.published(0).await;
        relay.becomes_ready().await;
        eventually("the status shows it active", async || {
            let (_, _, relay) = status(&world).await;
            (relay["state"] == "active").then_some(())
        })
        .await;
        println!("lock of session {before}, now {}", holder(&world).await);
        relay.process.kill().await;
        drop(world);
        stack.stop().await.unwrap();
    });
}
