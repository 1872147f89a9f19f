//! `artstore element backfill`: files that no operation reported are found and published, while other
//! files change, wherever the command is killed; and a second run has nothing to do.

use std::collections::HashSet;

use artstore_producers::backfill;
use artstore_producers::backfill::differences::BackfillCounts;
use artstore_producers::publish::files::{self, FileUpdate};
use artstore_producers::publish::wal::{self, Begin, OperationType};
use artstore_producers::relay::RelayOptions;
use artstore_producers::relay::lock_handover;
use artstore_producers::relay::progress::RelayProgress;
use artstore_producers::relay::publish::PublishMode;
use artstore_schemas::actor::Actor;
use artstore_schemas::element::ElementName;
use artstore_schemas::envelope::{Envelope, Snapshot};
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::*;

/// Files in the table of files alone, numbered from `from`: their ids are in that order.
async fn files_without_rows(connection: &mut PgConnection, from: u32, to: u32) {
    execute(
        connection,
        format!(
            "insert into elem_files (file_id, original_filename, storage_filename, file_size, \
                 content_type, created_by_id, created_by_username, storage_path, checksum, \
                 description, metadata_json) \
             select ('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'f' || n, \
                 's' || n, n, 'text/plain', '1', 'u', '/', lpad(to_hex(n), 64, '0'), \
                 'before the bus', jsonb_build_object('n', n, 'tags', jsonb_build_array('old')) \
             from generate_series({from}, {to}) n"
        ),
    )
    .await;
}

fn file(number: u32) -> Uuid {
    Uuid::from_u128(0x4000_8000_0000_0000_0000 | u128::from(number))
}

/// A committed operation by the publishers' API, whose row carries the full state.
async fn operation(
    connection: &mut PgConnection,
    element: &ElementName,
    kind: OperationType,
    id: Uuid,
) {
    let begin = Begin {
        kind,
        file_id: Some(id),
        request_id: None,
        data: None,
    };
    let actor = Actor::user("7");
    let operation = wal::begin(connection, element, actor, begin).await.unwrap();
    let mut transaction = connection.begin().await.unwrap();
    let row = match kind {
        OperationType::FileDelete => {
            files::delete(&mut transaction, element, id).await.unwrap();
            None
        }
        _ => {
            let change = FileUpdate {
                description: Some("changed by an operation".to_owned()),
                ..FileUpdate::default()
            };
            files::update(&mut transaction, element, id, &change)
                .await
                .unwrap()
        }
    };
    operation.commit(&mut transaction, row).await.unwrap();
    transaction.commit().await.unwrap();
}

async fn backfill(world: &World) -> Value {
    let command = world.command(&["element", "backfill", "elem", "--json"]);
    let mut process = command.start();
    let status = process.ended().await;
    assert!(status.success(), "{}", process.log());
    let report: Value = serde_json::from_str(&process.output()).unwrap();
    assert_eq!(report["complete"], true);
    report
}

fn counts(report: &Value) -> (u64, u64, u64) {
    let count = |field: &str| report[field].as_u64().unwrap();
    assert_eq!(
        count("compared"),
        count("created") + count("deleted") + count("unchanged")
    );
    (count("created"), count("deleted"), count("unchanged"))
}

/// A run that finds nothing and leaves the stream as it is.
async fn nothing_to_do(world: &World) {
    let before = world.last_sequence(&world.source(0)).await;
    let (created, deleted, _) = counts(&backfill(world).await);
    assert_eq!((created, deleted), (0, 0));
    assert_eq!(world.last_sequence(&world.source(0)).await, before);
}

/// The stream's messages, no id twice.
async fn messages(world: &World) -> Vec<Envelope> {
    let messages = world.messages(&world.source(0)).await;
    let ids: HashSet<Uuid> = messages.iter().map(|message| message.id).collect();
    assert_eq!(ids.len(), messages.len(), "an id is there twice");
    messages
}

#[test]
fn twenty_thousand_files_are_backfilled_while_some_change_and_some_are_deleted() {
    const FILES: u32 = 20_000;
    const WRITERS: u32 = 4;
    run(async {
        let world = World::new(&["elem"]).await;
        let mut connection = world.element(0).await;
        files_without_rows(&mut connection, 1, FILES).await;
        let relay = world.relay(0).start();
        let projector = world.projector().start();
        relay.says("relay active").await;

        // Every tenth is changed, every fortieth deleted, all over the table.
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let element = world.elements[0].0.clone();
            let mut connection = world.element(0).await;
            writers.spawn(async move {
                for n in (1..=FILES).filter(|n| n / 10 % WRITERS == writer) {
                    let kind = match n {
                        n if n % 10 == 1 => OperationType::FileUpdate,
                        n if n % 40 == 2 => OperationType::FileDelete,
                        _ => continue,
                    };
                    // 7919 is prime: each file once, in no order.
                    let id = file(n * 7_919 % FILES + 1);
                    operation(&mut connection, &element, kind, id).await;
                }
            });
        }
        let report = backfill(&world).await;
        while let Some(ended) = writers.join_next().await {
            ended.unwrap();
        }
        relay.says("stepped aside").await;
        let operations: i64 = value(&mut connection, "select count(*) from elem_wal").await;
        let deleted: i64 = value(
            &mut connection,
            "select count(*) from elem_wal where operation_type = 'file_delete'",
        )
        .await;
        assert_eq!((operations, deleted), (2_500, 500));
        // The service continues with what came after the command's end.
        eventually("every operation has its message", || async {
            let messages = world.messages(&world.source(0)).await;
            let rows = messages.iter().filter(|m| m.position.is_some()).count();
            (rows == usize::try_from(operations).unwrap()).then_some(())
        })
        .await;
        world.projected().await;

        let messages = messages(&world).await;
        let snapshots = messages.iter().filter(|m| m.snapshot.is_some()).count();
        let (created, deleted, _) = counts(&report);
        assert_eq!(snapshots as u64, created + deleted);
        assert!(created > u64::from(FILES) / 2, "{report}");
        let is_live = |m: &Envelope| m.position.is_some();
        let first = messages.iter().position(|m| m.snapshot.is_some()).unwrap();
        let last = messages.iter().rposition(|m| m.snapshot.is_some()).unwrap();
        let meanwhile = messages[first..last].iter().filter(|m| is_live(m)).count();
        assert!(meanwhile > 100, "only {meanwhile} operations meanwhile");
        for message in messages.iter().filter(|m| m.snapshot.is_some()) {
            assert_eq!(message.snapshot, Some(Snapshot::Backfill));
            assert_eq!(message.position, None);
        }
        nothing_to_do(&world).await;
        world.projected().await;
        relay.kill().await;
        projector.kill().await;
    });
}

#[test]
fn files_that_changed_came_and_went_without_rows_are_found_and_an_empty_checksum_is_no_change() {
    run(async {
        let world = World::new(&["elem"]).await;
        let mut connection = world.element(0).await;
        let element = world.elements[0].0.clone();
        files_without_rows(&mut connection, 1, 3_000).await;
        let projector = world.projector().start();
        // No relay runs.
        assert_eq!(counts(&backfill(&world).await), (3_000, 0, 0));
        let backfilled = messages(&world).await.pop().unwrap();
        assert_eq!(
            backfilled.event_type.to_string(),
            "artstore.source.backfilled.v1"
        );
        world.projected().await;

        operation(
            &mut connection,
            &element,
            OperationType::FileUpdate,
            file(5),
        )
        .await;
        execute(
            &mut connection,
            "update elem_files set description = null, version = '2' where file_size <= 10; \
             delete from elem_files where file_size between 1001 and 2200; \
             delete from elem_files where file_size = 3000",
        )
        .await;
        files_without_rows(&mut connection, 3_001, 3_007).await;
        assert_eq!(counts(&backfill(&world).await), (17, 1_201, 1_789));
        world.projected().await;
        nothing_to_do(&world).await;

        // A row of the product's own, whose result contains a checksum that the element lost.
        execute(
            &mut connection,
            format!(
                "update elem_files set checksum = '', file_size = 0 where file_id = '{0}'; \
                 insert into elem_wal (transaction_id, operation_type, status, file_id, \
                     operation_data) \
                 values (gen_random_uuid(), 'file_update', 'committed', '{0}', \
                     '{{\"result\": {{\"checksum\": \"ab\", \"file_size\": 9}}}}')",
                file(7)
            ),
        )
        .await;
        // Too long for a message.
        execute(
            &mut connection,
            format!(
                "update elem_files set description = repeat('ж', 700000) where file_id = '{}'",
                file(8)
            ),
        )
        .await;
        let (created, deleted, _) = counts(&backfill(&world).await);
        assert_eq!((created, deleted), (1, 0));
        world.projected().await;
        nothing_to_do(&world).await;
        projector.kill().await;
    });
}

/// Rows whose full state is older than what the table of files holds, more of them than one poll
/// takes, committed while the command works: the later state has the last word.
#[test]
fn a_chunk_counts_only_behind_the_rows_of_its_moment() {
    run(async {
        let world = World::new(&["elem"]).await;
        let mut connection = world.element(0).await;
        let element = world.elements[0].0.clone();
        files_without_rows(&mut connection, 1, 2_600).await;
        // Not committed yet; the rows in the other order than the files.
        let mut transaction = connection.begin().await.unwrap();
        for n in (1_001..=2_600).rev() {
            operation(
                &mut transaction,
                &element,
                OperationType::FileUpdate,
                file(n),
            )
            .await;
        }
        execute(
            &mut transaction,
            "update elem_files set description = 'and changed again' where file_size > 1000",
        )
        .await;
        let projector = world.projector().start();
        let mut command = world
            .command(&["element", "backfill", "elem"])
            .stop_at("backfill.compared", 1)
            .start();
        command.frozen().await;
        transaction.commit().await.unwrap();
        command.signal("-CONT").await;
        assert!(command.ended().await.success(), "{}", command.log());
        world.projected().await;
        nothing_to_do(&world).await;
        projector.kill().await;
    });
}

#[test]
fn killed_anywhere_the_next_run_ends_it_and_the_service_goes_on() {
    const POINTS: [(&str, usize); 9] = [
        ("relay.reconciled", 1),
        ("relay.polled", 3),
        ("backfill.compared", 1),
        ("backfill.compared", 4),
        ("relay.publishing", 1_500),
        ("relay.published", 1),
        ("relay.published", 3),
        ("backfill.stored", 2),
        ("backfill.complete", 1),
    ];
    run(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        let element = world.elements[0].0.clone();
        let mut connection = world.element(0).await;
        files_without_rows(&mut connection, 1, 5_000).await;
        let relay = world.relay(0).start();
        let projector = world.projector().start();
        relay.says("relay active").await;
        for (round, (point, times)) in POINTS.into_iter().enumerate() {
            execute(
                &mut connection,
                format!(
                    "update elem_files set description = 'round {round}' where file_size % 2 = 0; \
                     delete from elem_files where file_size % 100 = {round}"
                ),
            )
            .await;
            let mut command = world
                .command(&["element", "backfill", "elem"])
                .crash_at(point, times)
                .start();
            let status = command.ended().await;
            assert_eq!(status.code(), None, "{point}: {}", command.log());
            let id = file(u32::try_from(round).unwrap() * 2 + 51);
            operation(&mut connection, &element, OperationType::FileUpdate, id).await;
            let rows = finished(&mut connection, &source).await;
            eventually("the service publishes it", || async {
                let messages = world.messages(&source).await;
                let live = messages.iter().filter(|m| m.position.is_some()).count();
                (live as u64 == rows).then_some(())
            })
            .await;
        }
        backfill(&world).await;
        world.projected().await;
        messages(&world).await;
        nothing_to_do(&world).await;
        relay.kill().await;
        projector.kill().await;
    });
}

fn options(world: &World) -> RelayOptions {
    RelayOptions {
        source: world.source(0),
        database: world.elements[0].1.parse().unwrap(),
        api_url: None,
        mode: PublishMode::Auto,
        poll_interval: std::time::Duration::from_millis(50),
    }
}

/// As many passes as there are groups of partitions, each with its part of the files.
#[test]
fn with_little_memory_it_takes_several_passes() {
    run(async {
        let world = World::new(&["elem"]).await;
        let mut connection = world.element(0).await;
        files_without_rows(&mut connection, 1, 4_000).await;
        backfill(&world).await;
        execute(
            &mut connection,
            "update elem_files set version = '2' where file_size % 4 = 0; \
             delete from elem_files where file_size % 4 = 1",
        )
        .await;
        let stop = CancellationToken::new();
        let name = "artstore element backfill";
        for expected in [(1_000, 1_000, 2_000), (0, 0, 3_000)] {
            let options = options(&world);
            let (database, source) = (options.database.clone(), options.source.clone());
            let lease = lock_handover::acquire(&world.bus, &database, &source, name, PATIENCE)
                .await
                .unwrap();
            // At most some 300 files at a time: fourteen groups.
            let progress = RelayProgress::default();
            let backfill = backfill::run(
                world.bus.clone(),
                options,
                lease,
                300,
                progress,
                stop.clone(),
            );
            let done: BackfillCounts = backfill.await.unwrap().unwrap();
            assert_eq!((done.created, done.deleted, done.unchanged), expected);
        }
        let projector = world.projector().start();
        world.projected().await;
        projector.kill().await;
    });
}

#[test]
fn a_lock_that_is_not_let_go_is_named_and_a_wrong_element_is_refused() {
    run(async {
        let world = World::new(&["elem"]).await;
        let options = options(&world);
        let (database, source) = (options.database.clone(), options.source.clone());
        let name = "artstore element backfill";
        let short = std::time::Duration::from_secs(1);
        let lease = lock_handover::acquire(&world.bus, &database, &source, name, PATIENCE)
            .await
            .unwrap();
        let refused =
            lock_handover::acquire(&world.bus, &database, &source, "artstore other", short)
                .await
                .unwrap_err()
                .to_string();
        assert!(
            refused.contains("\"artstore element backfill\""),
            "{refused}"
        );
        assert!(refused.contains("wait until that command"), "{refused}");
        lease.release(&source).await.unwrap();

        let (status, said) = world
            .command(&["element", "backfill", "elam"])
            .finish()
            .await;
        assert_eq!(status.code(), Some(2), "{said}");
        assert!(said.contains("configured are: elem"), "{said}");
    });
}

/// A stream whose last message states that a backfill is due: whatever relay is active does it.
#[test]
fn a_relay_that_finds_a_backfill_due_does_it_by_itself() {
    run(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        let mut connection = world.element(0).await;
        let relay = world.relay(0).start();
        execute(&mut connection, crate::support::mix::finished_row()).await;
        world.published(0).await;
        relay.kill().await;
        files_without_rows(&mut connection, 1, 2_500).await;
        // As `relay accept-source` leaves it when it is killed.
        let mut last = messages(&world).await.pop().unwrap();
        last.previous = Some(last.id);
        last.id = Uuid::new_v4();
        last.position = None;
        last.backfill_due = true;
        let stream = world
            .bus
            .jetstream
            .get_stream(source.stream())
            .await
            .unwrap();
        let message = stream.get_raw_message(1).await.unwrap();
        let subject = message.subject.to_string();
        let sent = world
            .bus
            .jetstream
            .publish_with_headers(subject, last.to_headers(), message.payload)
            .await
            .unwrap();
        sent.await.unwrap();
        // Killed on the way, twice.
        for times in [1, 2] {
            let mut killed = world.relay(0).crash_at("backfill.stored", times).start();
            assert_eq!(killed.ended().await.code(), None);
            let last = messages(&world).await.pop().unwrap();
            assert!(last.backfill_due, "{last:?}");
        }
        let relay = world.relay(0).start();
        eventually("the stream is backfilled", || async {
            let last = messages(&world).await.pop().unwrap();
            (!last.backfill_due).then_some(())
        })
        .await;
        let last = messages(&world).await.pop().unwrap();
        assert_eq!(last.event_type.to_string(), "artstore.source.backfilled.v1");
        let projector = world.projector().start();
        world.projected().await;
        relay.kill().await;
        projector.kill().await;
    });
}
