//! Relay and projector recover by themselves when NATS or PostgreSQL is restarted under load.

use artstore::stack::{PostgresStop, Stack, StackOptions};

use crate::load::Load;
use crate::support::*;

#[test]
fn nats_and_postgres_are_restarted_under_load() {
    run(async {
        let stack = Stack::start(StackOptions::default()).await.unwrap();
        let world = World::on(&stack, 0, &["elem_a", "elem_b"], 1).await;
        let mut relay = world.command(&["run", "relay"]).start();
        let mut projector = world.projector().start();
        let load = Load::start(&world, 3, true);
        let goes_on = async |what: &str| {
            let before = checkpoint(&world.query_url, &world.source(0)).await;
            eventually(what, || async {
                (checkpoint(&world.query_url, &world.source(0)).await > before + 50).then_some(())
            })
            .await;
        };
        goes_on("before anything").await;
        for round in 0..2 {
            stack.kill_nats(0).await.unwrap();
            stack.start_nats(0).await.unwrap();
            goes_on(&format!("NATS was killed, round {round}")).await;
            stack.stop_postgres(PostgresStop::Immediate).await.unwrap();
            stack.start_postgres().await.unwrap();
            goes_on(&format!("PostgreSQL was killed, round {round}")).await;
            stack.stop_postgres(PostgresStop::Fast).await.unwrap();
            stack.start_postgres().await.unwrap();
            goes_on(&format!("PostgreSQL was restarted, round {round}")).await;
        }
        load.stop().await;
        for element in [0, 1] {
            world.published(element).await;
        }
        world.projected().await;
        for (process, name) in [(&mut relay, "relay"), (&mut projector, "projector")] {
            process.signal("-TERM").await;
            let status = process.ended().await;
            assert!(status.success(), "{name}: {}", process.log());
        }
        drop(world);
        stack.stop().await.unwrap();
    });
}
