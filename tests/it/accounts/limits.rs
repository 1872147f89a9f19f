//! Many consumers: an account holds so many and no more, and whoever reads already reads on.

use artstore_bus::accounts::role::Role;
use futures::StreamExt as _;
use serde_json::{Value, json};

use super::{asked, goes_on};
use crate::relay::refusals::rows;
use crate::support::*;

/// More than an account may have.
const TRIED: usize = 1_100;

#[test]
fn consumers_are_limited_and_who_reads_already_reads_on() {
    run(async {
        let world = World::new(&["elem"]).await;
        let relay = world.command(&["run", "relay"]).start();
        let projector = world.projector().start();
        goes_on(&world).await;

        let bus = world.connect(Role::Reader).await;
        let stream = world.source(0).stream();
        let metadata = "x".repeat(1_000);
        let make = |number: usize| {
            let (client, stream, metadata) = (&bus.client, &stream, &metadata);
            async move {
                let name = format!("many{number}");
                let body = json!({
                    "stream_name": stream,
                    "config": {
                        "name": name, "durable_name": name, "deliver_policy": "all", "ack_policy": "none",
                        "metadata": { "a": metadata }, "inactive_threshold": 600_000_000_000_u64,
                    },
                });
                let request = format!("CONSUMER.CREATE.{stream}.{name}");
                asked(client, &request, &body).await
            }
        };
        let made: Vec<Value> = futures::stream::iter(0..TRIED)
            .map(make)
            .buffer_unordered(16)
            .collect()
            .await;
        let refused = made.iter().filter(|made| !made["error"].is_null());
        let refused: Vec<&Value> = refused.collect();
        assert!(refused.len() >= TRIED - 1_000, "{}", refused.len());
        let info = world.bus.stream_info(&stream).await.unwrap();
        assert!(info.state.consumer_count <= 1_000);
        // Looking at it with a consumer would need one of them.
        rows(&mut world.element(0).await, 3).await;
        world.caught_up(0).await;
        world.applied().await;
        relay.kill().await;
        projector.kill().await;
    });
}
