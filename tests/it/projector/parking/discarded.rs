//! A parked event is given up by an operator, with a reason, and that can be taken back.

use artstore_schemas::source::Source;

use super::*;

#[test]
fn an_event_is_given_up_with_a_reason_and_that_is_audited() {
    run(async {
        let world = World::new(&["elem"]).await;
        let relay = world.relay(0).start();
        let projector = world.projector().start();
        poison(&world, 1).await;
        passed(&world).await;
        let stream = world.source(0).stream();
        let discard = |sequence: &str, reason: &str| {
            world
                .command(&["parked", "discard", &stream, sequence, "--reason"])
                .argument(reason)
        };
        let (status, said) = discard("1", " ").finish().await;
        assert!(
            status.code() == Some(2) && said.contains("say why"),
            "{said}"
        );
        let (status, said) = discard("7", "no").finish().await;
        assert!(
            status.code() == Some(2) && said.contains("is not parked"),
            "{said}"
        );
        for sequence in ["1", "2"] {
            let (status, said) = discard(sequence, "test data").output().await;
            assert!(status.success(), "{said}");
        }
        assert_eq!(parked(&world).await, []);
        let events: Vec<Value> = sqlx::query_scalar(
            "select data from event_outbox where entity = 'projection' and action = 'discard' \
             order by position",
        )
        .fetch_all(&mut world.query().await)
        .await
        .unwrap();
        assert_eq!(events.len(), 2);
        assert_eq!(events[0]["reason"], "test data");
        assert_eq!(events[0]["sequence"], 1);
        let was = events[0]["was"].as_str().unwrap();
        assert!(was.contains("check_file_size_positive"), "{was}");
        assert_eq!(
            world.source(0),
            Source::Element(world.elements[0].0.clone())
        );
        projector.kill().await;
        relay.kill().await;
    });
}

/// Given up by mistake: later events of the file were applied since, and must not be overtaken.
#[test]
fn a_discard_is_taken_back_and_the_key_keeps_its_order() {
    run(async {
        let world = World::new(&["elem"]).await;
        let relay = world.relay(0).start();
        let projector = world.projector().start();
        let file = poison(&world, 2).await;
        files(&world, 5).await;
        passed(&world).await;
        let stream = world.source(0).stream();
        let undo = |sequence: &str| {
            let undo = [
                "parked",
                "undiscard",
                &stream,
                sequence,
                "--reason",
                "a mistake",
            ];
            world.command(&undo)
        };
        let (status, said) = undo("1").finish().await;
        assert!(
            status.code() == Some(2) && said.contains("was not discarded"),
            "{said}"
        );
        for sequence in ["1", "2"] {
            let discard = ["parked", "discard", &stream, sequence, "--reason", "a test"];
            let (status, said) = world.command(&discard).output().await;
            let advice =
                format!("artstore parked undiscard --projection query-cache {stream} {sequence}");
            assert!(status.success() && said.contains(&advice), "{said}");
        }
        execute(&mut world.query().await, REPAIR).await;
        let (ok, said) = retry(&world).await;
        assert!(ok && said["applied"] == 1, "{said}");
        let mut element = (world.elements[0].0.clone(), world.element(0).await);
        update(&mut element, file, "since").await.unwrap();
        passed(&world).await;
        assert_eq!(parked(&world).await, []);

        let (status, said) = undo("1").output().await;
        assert!(
            status.success() && said.contains("3 events in all"),
            "{said}"
        );
        // The second discard stands; what was applied since waits behind the first one.
        let waiting = parked(&world).await;
        let sequences: Vec<i64> = waiting.iter().map(|parked| parked.0).collect();
        assert_eq!(sequences, [1, 3, 9]);
        assert!(
            waiting.iter().all(|parked| parked.1 == Some(file)),
            "{waiting:?}"
        );
        assert!(
            waiting[0].2.as_deref().unwrap().contains("a mistake"),
            "{waiting:?}"
        );
        update(&mut element, file, "behind").await.unwrap();
        passed(&world).await;
        assert_eq!(parked(&world).await.len(), 4);
        let (_, said) = world.command(&["parked", "list"]).output().await;
        assert!(said.contains("\"poison") && said.contains("ago"), "{said}");
        let (ok, said) = retry(&world).await;
        assert!(ok && said["applied"] == 4, "{said}");
        caught_up(&world).await;
        let description: String = value(
            &mut world.query().await,
            format!("select description from file_metadata_cache where id = '{file}'"),
        )
        .await;
        assert_eq!(description, "behind");

        let (status, said) = undo("1").finish().await;
        let known = "these were: 2";
        assert!(status.code() == Some(2) && said.contains(known), "{said}");
        let recorded: i64 = value(
            &mut world.query().await,
            "select count(*) from event_outbox where entity = 'projection' and action = 'undiscard' \
             and data->>'was' = 'a test' and data->>'reason' = 'a mistake'",
        )
        .await;
        assert_eq!(recorded, 1);
        projector.kill().await;
        relay.kill().await;
    });
}

/// A retry has the event in hand when it is to be given up: it was applied, and nobody says otherwise.
#[test]
fn of_a_retry_and_a_discard_at_once_one_happens_and_is_recorded() {
    run(async {
        let world = World::new(&["elem"]).await;
        let relay = world.relay(0).start();
        let projector = world.projector().start();
        poison(&world, 0).await;
        passed(&world).await;
        let mut query = world.query().await;
        execute(&mut query, REPAIR).await;
        let retry = world
            .command(&["parked", "retry"])
            .stop_at("parked.applied", 1)
            .start();
        retry.frozen().await;
        let stream = world.source(0).stream();
        let discard = ["parked", "discard", &stream, "1", "--reason", "a test"];
        let mut discard = world.command(&discard).start();
        eventually("the discard waits", || async {
            let waiting: i64 = value(
                &mut world.query().await,
                "select count(*) from pg_stat_activity where wait_event_type = 'Lock' \
                 and application_name = 'artstore parked' and datname = current_database()",
            )
            .await;
            (waiting > 0).then_some(())
        })
        .await;
        retry.signal("-CONT").await;
        let mut retry = retry;
        assert!(retry.ended().await.success(), "{}", retry.log());
        assert_eq!(discard.ended().await.code(), Some(2), "{}", discard.log());
        assert!(discard.log().contains("is not parked (any more)"));
        let actions: Vec<String> = sqlx::query_scalar(
            "select action from event_outbox where entity = 'projection' order by position",
        )
        .fetch_all(&mut query)
        .await
        .unwrap();
        assert_eq!(actions, ["retry"]);
        let given_up: i64 = value(&mut query, "select count(*) from projection_discarded").await;
        assert_eq!((cached(&world).await, given_up), (1, 0));
        projector.kill().await;
        relay.kill().await;
    });
}
