//! Whoever may ask a relay to step aside may ask often: it publishes all the same.

use artstore_bus::accounts::role::Role;

use super::refusals::rows;
use crate::support::*;

#[test]
fn many_requests_to_step_aside_do_not_keep_a_relay_from_publishing() {
    run_waiting(async {
        let world = World::new(&["elem"]).await;
        let relay = world.relay(0).start();
        rows(&mut world.element(0).await, 1).await;
        world.published(0).await;
        let operator = world.connect(Role::Operator).await;
        for _ in 0..20 {
            let subject = world.source(0).control_subject();
            let sent = operator.client.publish(subject, "step aside".into());
            sent.await.unwrap();
        }
        operator.client.flush().await.unwrap();
        relay.says("stepped aside").await;
        rows(&mut world.element(0).await, 1).await;
        world.published(0).await;
        let asides = relay.log().matches("stepped aside").count();
        assert_eq!(asides, 1, "{}", relay.log());
        // A command gets its turn nevertheless, the relay's pause of before just over.
        let backfill = world.command(&["element", "backfill", "elem"]);
        let (status, said) = backfill.finish().await;
        assert!(status.success(), "{said}");
        relay.kill().await;
    });
}
