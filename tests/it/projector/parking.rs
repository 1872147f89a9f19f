//! An event that can't be applied is parked with the later ones of its key; everything else flows,
//! and a retry lets the key catch up.

use artstore_schemas::source::Source;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::support::load::{create, new_file, update};
use crate::support::*;

/// The cache's table refuses a negative size.
pub const REPAIR: &str = "alter table file_metadata_cache drop constraint check_file_size_positive";

/// A file that the cache does not take, and so many updates of it.
pub async fn poison(world: &World, updates: usize) -> Uuid {
    let mut element = (world.elements[0].0.clone(), world.element(0).await);
    let mut file = new_file("poison");
    file.file_size = -1;
    create(&mut element, &file).await.unwrap();
    for n in 0..updates {
        update(&mut element, file.id, &format!("update {n}"))
            .await
            .unwrap();
    }
    file.id
}

/// So many files at once, as the product's service writes them.
pub async fn files(world: &World, count: usize) {
    insert(&mut world.element(0).await, count).await;
}

/// The same, on a connection to an element that is called `elem`.
pub async fn insert(element: &mut PgConnection, count: usize) {
    execute(
        element,
        format!(
            "begin; \
             create temp table new on commit drop as \
                 select gen_random_uuid() as id, n from generate_series(1, {count}) n; \
             insert into elem_files (file_id, original_filename, storage_filename, file_size, \
                 content_type, created_by_id, created_by_username, storage_path, checksum) \
             select id, 'report ' || n || '.pdf', id, n, 'application/pdf', '1', 'ann', \
                 '2026/01/02/03', repeat('c', 64) from new; \
             insert into elem_wal (transaction_id, operation_type, status, file_id, operation_data) \
             select gen_random_uuid(), 'file_create', 'committed', id, '{{}}' from new; \
             commit"
        ),
    )
    .await;
}

/// Waits until everything that was published was applied or parked.
pub async fn passed(world: &World) {
    world.published(0).await;
    let source = world.source(0);
    let last = world.last_sequence(&source).await;
    eventually("the checkpoint is at the end", || async {
        (checkpoint(&world.query_url, &source).await == last).then_some(())
    })
    .await;
}

/// Sequences and reasons of what is parked, in order.
pub async fn parked(world: &World) -> Vec<(i64, Option<Uuid>, Option<String>)> {
    let mut query = world.query().await;
    sqlx::query_as(
        "select stream_sequence, key, reason from projection_parked order by stream_sequence",
    )
    .fetch_all(&mut query)
    .await
    .unwrap()
}

async fn cached(world: &World) -> i64 {
    value(
        &mut world.query().await,
        "select count(*) from file_metadata_cache",
    )
    .await
}

pub async fn retry(world: &World) -> (bool, Value) {
    let (status, said) = world.command(&["parked", "retry", "--json"]).output().await;
    (status.success(), serde_json::from_str(&said).unwrap())
}

/// Everything agrees, and nothing is parked.
pub async fn caught_up(world: &World) {
    assert_eq!(parked(world).await, []);
    let (status, said) = world.command(&["parked", "list"]).output().await;
    assert!(
        status.success() && said.contains("Nothing is parked."),
        "{said}"
    );
    world.projected().await;
    crate::verify::cache::clean(world).await;
}

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

#[test]
fn a_paused_projection_commits_nothing_until_it_is_resumed() {
    run(async {
        let world = World::new(&["elem"]).await;
        let relay = world.command(&["run", "relay"]).start();
        let projector = world.projector().start();
        files(&world, 50).await;
        passed(&world).await;
        let pause = |reason: &str| {
            world
                .command(&["projection", "pause", "query-cache", "--reason"])
                .argument(reason)
        };
        let (status, said) = pause(" ").finish().await;
        assert!(
            status.code() == Some(2) && said.contains("say why"),
            "{said}"
        );
        let (status, said) = pause("a test").output().await;
        assert!(status.success() && said.contains(": a test"), "{said}");
        // From here on nothing is committed, also not by a projector that starts now.
        let before = checkpoint(&world.query_url, &world.source(0)).await;
        files(&world, 50).await;
        world.published(0).await;
        let other = world.projector().start();
        eventually("status reports it", async || {
            let (_, said) = world.command(&["status", "--json"]).output().await;
            said.contains("a test; to go on: artstore projection resume query-cache")
                .then_some(())
        })
        .await;
        assert_eq!(checkpoint(&world.query_url, &world.source(0)).await, before);
        let resume = || world.command(&["projection", "resume", "query-cache"]);
        let (status, said) = resume().output().await;
        assert!(status.success() && said.contains("goes on"), "{said}");
        passed(&world).await;
        let (status, said) = resume().output().await;
        assert!(
            status.success() && said.contains("was not paused"),
            "{said}"
        );
        let events: Vec<String> = sqlx::query_scalar(
            "select action from event_outbox where entity = 'projection' order by position",
        )
        .fetch_all(&mut world.query().await)
        .await
        .unwrap();
        assert_eq!(events, ["pause", "resume"]);
        caught_up(&world).await;
        for process in [relay, projector, other] {
            process.kill().await;
        }
    });
}
