//! Several processes of a role: they share the work, and one takes over for another.

use std::time::{Duration, Instant};

use super::watched::Watched;
use super::*;
use crate::support::load::Load;

/// How many streams a projector has, as it says itself.
pub async fn active(service: &Watched) -> f64 {
    service.scrape().await.sum("projector_active")
}

#[test]
fn two_projectors_share_the_streams_and_one_takes_over() {
    run(async {
        let world = World::new(&["elem_a", "elem_b"]).await;
        let relays = [
            Watched::start(world.command(&["run", "relay"])).await,
            Watched::start(world.command(&["run", "relay"])).await,
        ];
        let load = Load::start(&world, 2, false);
        let first = Watched::start(world.projector()).await;
        eventually("the first takes all three", || async {
            (active(&first).await == 3.0).then_some(())
        })
        .await;
        first.becomes_ready().await;
        let second = Watched::start(world.projector()).await;
        eventually("the second gets its share", || async {
            // Who gives a stream away knows that somebody may take it.
            let (_, said) = first.readiness().await;
            assert!(!said.to_string().contains("was not seen"), "{said}");
            let shares = (active(&first).await, active(&second).await);
            (shares == (2.0, 1.0)).then_some(())
        })
        .await;
        for service in [&first, &second] {
            service.becomes_ready().await;
        }
        // The share stays as it is: nothing is handed to and fro.
        let given = first.process.log().matches("given away").count();
        assert_eq!(given, 1, "{}", first.process.log());

        first.process.kill().await;
        let killed = Instant::now();
        eventually("the second takes over", || async {
            (active(&second).await == 3.0).then_some(())
        })
        .await;
        let took = killed.elapsed();
        assert!(took < Duration::from_secs(10), "{took:?}");
        println!("the second had all streams {took:?} after the kill of the first");

        // Of two relays one is active for a source, and the other is ready to be.
        let mut shown = Vec::new();
        for relay in &relays {
            relay.becomes_ready().await;
            let (_, said) = relay.readiness().await;
            shown.push(said["parts"][0]["standby"].as_bool().unwrap());
        }
        assert!(shown[0] != shown[1], "{shown:?}");
        load.stop().await;
        world.published(0).await;
        world.published(1).await;
        world.projected().await;
        second.becomes_ready().await;
        for service in relays.into_iter().chain([second]) {
            service.process.kill().await;
        }
    });
}
