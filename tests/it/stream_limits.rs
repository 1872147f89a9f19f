//! A limit that somebody gives to a stream while all runs: noticed within seconds by the relay and the
//! projector, shown with the command that takes it away, and what it has removed is reported.

use artstore_schemas::bus::check_limits;
use serde_json::Value;

use crate::load::{create, new_file};
use crate::support::*;

async fn status(world: &World) -> (bool, Value) {
    let (status, said) = world.command(&["status", "--json"]).output().await;
    (status.success(), serde_json::from_str(&said).unwrap())
}

async fn well(world: &World) {
    eventually("all is well", async || {
        let (well, _) = status(world).await;
        well.then_some(())
    })
    .await;
}

#[test]
fn a_limit_set_while_all_runs_is_noticed_and_can_be_taken_away() {
    run(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        let stream = source.stream();
        let (relay, projector) = (
            world.command(&["run", "relay"]).start(),
            world.projector().start(),
        );
        let file = async || {
            let mut element = (world.elements[0].0.clone(), world.element(0).await);
            create(&mut element, &new_file("a.txt")).await.unwrap();
        };
        for _ in 0..40 {
            file().await;
        }
        world.published(0).await;
        world.projected().await;
        well(&world).await;
        let last = world.last_sequence(&source).await;

        // So high that nothing is removed yet.
        let mut config = world.bus.stream_info(&stream).await.unwrap().config;
        config.max_messages_per_subject = 1_000;
        world.bus.jetstream.update_stream(&config).await.unwrap();
        relay.says("the relay has halted").await;
        projector
            .says("limits (messages, bytes, per subject, age)")
            .await;
        let about = eventually("status names it, once", async || {
            let (well, said) = status(&world).await;
            let troubles = said["troubles"].as_array().unwrap().clone();
            (!well && troubles.len() == 1).then(|| troubles[0].clone())
        })
        .await;
        assert_eq!(about["about"], "elem", "{about}");
        assert_eq!(
            about["command"], "artstore bus init --remove-limits",
            "{about}"
        );
        // Each message might remove another one.
        file().await;
        let (stopped, said) = world.command(&["bus", "init"]).finish().await;
        assert!(
            !stopped.success() && said.contains("--remove-limits"),
            "{said}"
        );
        assert_eq!(world.last_sequence(&source).await, last);

        let (status_code, said) = world
            .command(&["bus", "init", "--remove-limits"])
            .output()
            .await;
        assert!(status_code.success(), "{said}");
        assert!(
            said.contains("limits removed") && !said.contains("missing"),
            "{said}"
        );
        let config = world.bus.stream_info(&stream).await.unwrap().config;
        check_limits(&config).unwrap();
        world.published(0).await;
        world.projected().await;
        well(&world).await;
        assert!(
            !projector.log().contains("starts again"),
            "{}",
            projector.log()
        );

        // Forty files in sixteen partitions: some subjects have more than one message.
        let before = world.bus.stream_info(&stream).await.unwrap();
        let mut config = before.config;
        config.max_messages_per_subject = 1;
        world.bus.jetstream.update_stream(&config).await.unwrap();
        let after = world.bus.stream_info(&stream).await.unwrap().state;
        let gone = before.state.messages - after.messages;
        assert!(gone > 0);
        let (_, said) = world
            .command(&["bus", "init", "--remove-limits"])
            .output()
            .await;
        assert!(
            said.contains(&format!("{gone} messages are missing")),
            "{said}"
        );
        let (verified, said) = world
            .command(&["verify", "--source", "elem"])
            .output()
            .await;
        assert_eq!(verified.code(), Some(1), "{said}");
        relay.kill().await;
        projector.kill().await;
    });
}
