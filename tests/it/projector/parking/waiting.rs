//! An event that can't be applied is parked with the later ones of its key; everything else flows,
//! and a retry lets the key catch up.

use super::*;

#[test]
fn one_poisoned_file_among_ten_thousand_waits_and_all_others_flow() {
    run(async {
        let world = World::new(&["elem"]).await;
        files(&world, 5_000).await;
        let poisoned = poison(&world, 3).await;
        files(&world, 4_999).await;
        let mut element = (world.elements[0].0.clone(), world.element(0).await);
        let relay = world.relay(0).start();
        // Two workers: one of them works.
        let projectors = [world.projector().start(), world.projector().start()];
        passed(&world).await;
        update(&mut element, poisoned, "later").await.unwrap();
        passed(&world).await;
        assert_eq!(cached(&world).await, 9_999);
        let waiting = parked(&world).await;
        let sequences: Vec<i64> = waiting.iter().map(|parked| parked.0).collect();
        assert_eq!(sequences, [5_001, 5_002, 5_003, 5_004, 10_004]);
        assert!(waiting.iter().all(|parked| parked.1 == Some(poisoned)));
        let reason = waiting[0].2.as_deref().unwrap();
        assert!(reason.contains("check_file_size_positive"), "{reason}");
        assert!(
            waiting[1..].iter().all(|parked| parked.2.is_none()),
            "{waiting:?}"
        );

        // It is said where people look.
        let (status, said) = world.command(&["parked", "list"]).output().await;
        assert_eq!(status.code(), Some(1));
        assert!(
            said.contains(&poisoned.to_string()) && said.contains("4 behind it"),
            "{said}"
        );
        for command in ["list", "retry"] {
            let mistyped = ["parked", command, "--stream", "ARTSTORE_WAL_elm"];
            let (status, log) = world.command(&mistyped).finish().await;
            assert_eq!(status.code(), Some(2), "{log}");
            let known = "nothing of a stream ARTSTORE_WAL_elm; it has read ARTSTORE_WAL_elem";
            assert!(log.contains(known), "{log}");
        }
        let (status, said) = world.command(&["status"]).output().await;
        assert_eq!(status.code(), Some(1));
        assert!(said.contains("5 events parked: can't be applied"), "{said}");
        let stream = world.source(0).stream();
        let (status, said) = world
            .command(&["parked", "show", &stream, "5001"])
            .output()
            .await;
        assert!(status.success(), "{said}");
        assert!(said.contains("ce-type: artstore.file.created.v1"), "{said}");
        assert!(said.contains("\"file_size\": -1"), "{said}");
        let report = crate::verify::cache::verify(&world).await;
        assert_eq!(report.findings.len(), 1, "{:#?}", report.findings);
        let repair = format!("artstore parked retry --key {poisoned}");
        assert_eq!(report.findings[0].repair, repair);

        // Before the cause is repaired nothing moves; then everything does.
        let (ok, said) = retry(&world).await;
        assert!(!ok && said["applied"] == 0 && said["stuck"] == 1, "{said}");
        assert_eq!(parked(&world).await.len(), 5);
        execute(&mut world.query().await, REPAIR).await;
        let (ok, said) = retry(&world).await;
        assert!(ok && said["applied"] == 5, "{said}");
        // The fence is gone: what comes now flows.
        update(&mut element, poisoned, "flows").await.unwrap();
        passed(&world).await;
        assert_eq!(cached(&world).await, 10_000);
        caught_up(&world).await;
        let events: i64 = value(
            &mut world.query().await,
            "select count(*) from event_outbox where entity = 'projection' and action = 'retry' \
             and data->'operator'->>'database_role' is not null",
        )
        .await;
        assert_eq!(events, 2, "each retry is an event");
        for projector in projectors {
            projector.kill().await;
        }
        relay.kill().await;
    });
}

#[test]
fn killed_at_any_step_parked_events_stay_in_order_and_catch_up() {
    run(async {
        let world = World::new(&["elem"]).await;
        let relay = world.relay(0).start();
        let mut element = (world.elements[0].0.clone(), world.element(0).await);
        let mut expected = 0;
        for point in [
            "projector.applied",
            "projector.parked",
            "projector.advanced",
            "projector.committed",
        ] {
            let file = poison(&world, 2).await;
            files(&world, 50).await;
            world.published(0).await;
            expected += 4;
            let mut killed = world.projector().crash_at(point, 1).start();
            let status = killed.ended().await;
            assert_eq!(status.code(), None, "{point}: {}", killed.log());
            let projector = world.projector().start();
            passed(&world).await;
            // By itself it could be applied; a worker that has just started knows that it can't.
            execute(
                &mut element.1,
                format!("update elem_files set file_size = 5 where file_id = '{file}'"),
            )
            .await;
            update(&mut element, file, "sound").await.unwrap();
            passed(&world).await;
            projector.kill().await;
            let waiting = parked(&world).await;
            assert_eq!(waiting.len(), expected, "{point}: {waiting:?}");
            let of_file = waiting.iter().filter(|parked| parked.1 == Some(file));
            let reasons: Vec<bool> = of_file.map(|parked| parked.2.is_some()).collect();
            assert_eq!(reasons, [true, false, false, false], "{point}");
        }
        execute(&mut world.query().await, REPAIR).await;
        let projector = world.projector().start();
        let file = parked(&world).await[0].1.unwrap();
        for (point, times) in [
            ("parked.locked", 1),
            ("parked.applied", 1),
            ("parked.applied", 2),
        ] {
            let mut killed = world
                .command(&["parked", "retry"])
                .crash_at(point, times)
                .start();
            assert_eq!(
                killed.ended().await.code(),
                None,
                "{point}: {}",
                killed.log()
            );
            // Whatever was parked is parked or applied, and what comes now finds its place.
            update(&mut element, file, point).await.unwrap();
        }
        passed(&world).await;
        let (ok, said) = retry(&world).await;
        assert!(ok, "{said}");
        assert_eq!(cached(&world).await, 204);
        caught_up(&world).await;
        projector.kill().await;
        relay.kill().await;
    });
}

/// While one retries, another publishes and a third projects: nothing overtakes.
#[test]
fn a_retry_under_load_keeps_the_order_of_the_key() {
    run(async {
        let world = World::new(&["elem"]).await;
        let relay = world.relay(0).start();
        let projectors = [world.projector().start(), world.projector().start()];
        let file = poison(&world, 5).await;
        passed(&world).await;
        let mut element = (world.elements[0].0.clone(), world.element(0).await);
        for round in 0..10 {
            update(&mut element, file, &format!("round {round}"))
                .await
                .unwrap();
            if round == 3 {
                execute(&mut world.query().await, REPAIR).await;
            }
            if round > 3 {
                retry(&world).await;
            }
        }
        passed(&world).await;
        let (ok, said) = retry(&world).await;
        assert!(ok, "{said}");
        let description: String = value(
            &mut world.query().await,
            format!("select description from file_metadata_cache where id = '{file}'"),
        )
        .await;
        assert_eq!(description, "round 9");
        caught_up(&world).await;
        for projector in projectors {
            projector.kill().await;
        }
        relay.kill().await;
    });
}

#[test]
fn twenty_in_a_row_are_a_bug_and_halt_the_stream() {
    run(async {
        let world = World::new(&["elem"]).await;
        let relay = world.relay(0).start();
        files(&world, 10).await;
        // At once: nothing of the batch is committed. One by one: those before are parked.
        for _ in 0..25 {
            poison(&world, 0).await;
        }
        world.published(0).await;
        let projector = world.projector().start();
        projector
            .says("20 events one after another can't be applied")
            .await;
        assert!(parked(&world).await.len() < 20);
        projector.kill().await;
        // Nor after a restart.
        let projector = world.projector().start();
        projector
            .says("20 events one after another can't be applied")
            .await;
        assert!(parked(&world).await.len() < 20);
        execute(&mut world.query().await, REPAIR).await;
        passed(&world).await;
        let (ok, said) = retry(&world).await;
        assert!(ok, "{said}");
        assert_eq!(cached(&world).await, 35);
        caught_up(&world).await;
        projector.kill().await;
        relay.kill().await;
    });
}
