//! The check of source and stream that runs beside a relay: what it finds, why it does not continue, and
//! that it is stuck.

use artstore_stack::{Stack, StackOptions};

use super::*;
use crate::services::frozen::Frozen;

const VERIFYING: [&str; 3] = ["run", "relay", "--verify"];

#[test]
fn findings_of_the_check_beside_a_relay_end_in_all_is_well() {
    run(async {
        let world = World::new(&["elem"]).await;
        let mut element = world.element(0).await;
        for _ in 0..3 {
            execute(&mut element, ROW).await;
        }
        let relay = world.command(&VERIFYING).start();
        world.published(0).await;
        let mut services = vec![world.projector().start()];
        well(|words| world.command(words), "the start").await;

        // What was checked is checked again by the next process.
        relay.kill().await;
        let changed = "update elem_wal set user_id = '7' where position = 2";
        forge(&mut element, "elem", changed).await;
        services.push(world.command(&VERIFYING).start());
        let what = "source and stream do not agree: findings: 1";
        told(|words| world.command(words), "elem", what, "list them").await;
        let done = follow(&world, "findings", &mut services).await;
        assert_eq!(done, ["artstore verify --source elem"]);
        for service in services {
            service.kill().await;
        }
    });
}

/// Only the check reads with a consumer: its requests get lost.
#[test]
fn a_check_that_does_not_go_on_names_the_cause_and_goes_on_without_it() {
    run_waiting(async {
        let world = World::new(&["elem"]).await;
        let proxy = Proxy::to(&world.nats_url).await;
        proxy.drop_publishes(Some("$JS.API.CONSUMER."));
        let relay = world.command(&VERIFYING);
        let relay = relay.env("NATS_URL", &proxy.way(&world.nats_url)).start();
        let projector = world.projector().start();
        execute(&mut world.element(0).await, ROW).await;
        world.published(0).await;
        let program = |words: &[&str]| world.command(words);
        let what = "the check of source and stream does not continue: ";
        told(program, "elem", what, "remove the cause that is named").await;
        proxy.drop_publishes(None);
        well(program, "its requests are answered").await;
        relay.kill().await;
        projector.kill().await;
    });
}

/// PostgreSQL answers, but not the session of the check.
#[test]
#[ignore = "five minutes: make standstill"]
fn a_check_that_stands_still_goes_on_after_a_restart_of_its_relay() {
    run_measurement(async {
        let stack = Stack::start(StackOptions::default()).await.unwrap();
        let world = World::on(&stack, 0, &["elem"], 1).await;
        let program = |words: &[&str]| world.command(words);
        let relay = program(&VERIFYING).start();
        let projector = world.projector().start();
        let mut element = world.element(0).await;
        execute(&mut element, ROW).await;
        world.published(0).await;
        let session =
            "select pid from pg_stat_activity where application_name = 'artstore verify elem'";
        let pid: i32 = eventually("the check has a session", async || {
            let mut element = world.element(0).await;
            sqlx::query_scalar(session)
                .fetch_optional(&mut element)
                .await
                .unwrap()
        })
        .await;
        well(program, "the start").await;
        let frozen = Frozen::new(vec![u32::try_from(pid).unwrap()]);
        execute(&mut element, ROW).await;
        let what = "the check of source and stream has not moved for 5 min";
        // Longer than a test waits elsewhere: so long nobody calls it a standstill.
        let begun = std::time::Instant::now();
        while begun.elapsed().as_secs() < 200 {
            let (status, said) = program(&["status"]).output().await;
            assert!(status.success(), "{said}");
        }
        told(program, "elem", what, "start the relay again").await;
        relay.kill().await;
        let relay = program(&VERIFYING).start();
        well(program, "its relay is started again").await;
        drop(frozen);
        relay.kill().await;
        projector.kill().await;
        drop(world);
        stack.stop().await.unwrap();
    });
}
