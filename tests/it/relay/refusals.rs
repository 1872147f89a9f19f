//! What must not be read, or not be built on, is refused with a message that states what happened
//! and what to do; nothing is published and nothing is applied.

use std::path::Path;

use artstore_schemas::envelope::Envelope;
use artstore_schemas::event::EventType;
use artstore_stack::{PostgresStop, Stack, StackOptions};
use async_nats::jetstream::message::PublishMessage;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::support::load::{create, new_file};
use crate::support::*;

pub async fn rows(connection: &mut PgConnection, count: usize) {
    execute(
        connection,
        format!(
            "insert into elem_wal (transaction_id, operation_type, status, operation_data) \
             select gen_random_uuid(), 'cache_rebuild', 'committed', '{{}}' \
             from generate_series(1, {count})"
        ),
    )
    .await;
}

/// Publishes everything there is, with a relay that is then ended.
pub async fn publish_all(world: &World) {
    let relay = world.relay(0).start();
    world.published(0).await;
    relay.kill().await;
}

pub async fn copy(from: &Path, to: &Path) {
    for step in [vec!["rm", "-rf"], vec!["cp", "-a"]] {
        let mut command = tokio::process::Command::new(step[0]);
        command.arg(step[1]);
        if step[0] == "cp" {
            command.arg(from);
        }
        assert!(command.arg(to).status().await.unwrap().success());
    }
}

/// A cold copy of the whole cluster keeps its identity: only its content shows that it is old.
#[test]
fn a_source_set_back_to_an_earlier_state_is_refused() {
    run(async {
        let stack = Stack::start(StackOptions::default()).await.unwrap();
        let world = World::on(&stack, 0, &["elem"], 1).await;
        let source = world.source(0);
        rows(&mut world.element(0).await, 10).await;
        publish_all(&world).await;

        let data = stack.postgres_data();
        let backup = data.with_file_name("backup");
        stack.stop_postgres(PostgresStop::Fast).await.unwrap();
        copy(&data, &backup).await;
        stack.start_postgres().await.unwrap();
        rows(&mut world.element(0).await, 10).await;
        let mut relay = world.relay(0).start();
        world.published(0).await;

        // Restored under a relay that runs: it keeps trying, and says why it does not continue.
        stack.stop_postgres(PostgresStop::Fast).await.unwrap();
        copy(&backup, &data).await;
        stack.start_postgres().await.unwrap();
        relay.says("sequence is at").await;
        relay.says("set back to an earlier state").await;
        relay.signal("-TERM").await;
        assert_eq!(
            relay.ended().await.code(),
            Some(1),
            "stopped where it had halted"
        );

        // New rows bring the sequence up again; the rows are others.
        rows(&mut world.element(0).await, 30).await;
        let (status, log) = world.relay(0).finish().await;
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(
            log.contains("10 messages that the source does not hold any more"),
            "{log}"
        );
        assert!(log.contains("from position 11 to 20"), "{log}");
        assert_eq!(
            world.last_sequence(&source).await,
            20,
            "nothing was published"
        );
        drop(world);
        stack.stop().await.unwrap();
    });
}

#[test]
fn a_restore_into_another_database_and_a_promoted_standby_are_refused() {
    run(async {
        let stack = Stack::start(StackOptions::default()).await.unwrap();
        let world = World::on(&stack, 0, &["elem"], 1).await;
        rows(&mut world.element(0).await, 10).await;
        publish_all(&world).await;

        // A copy of the database beside it.
        let url = world.elements[0].1.clone();
        let name = url.rsplit('/').next().unwrap();
        let mut admin = pg(&stack.database_url("postgres")).await;
        execute(
            &mut admin,
            format!("create database restored template {name}"),
        )
        .await;
        let restored = format!("elem={}", stack.database_url("restored"));
        let refused = world
            .relay(0)
            .env("ARTSTORE_ELEMENTS", &restored)
            .finish()
            .await;
        assert_eq!(refused.0.code(), Some(1));
        assert!(
            refused.1.contains("was written from the database"),
            "{}",
            refused.1
        );

        // A standby that was promoted: another timeline.
        let standby = stack.postgres_data().with_file_name("standby");
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port().to_string();
        drop(free);
        let backup = stack
            .postgres_command("pg_basebackup")
            .args(["-h", "127.0.0.1", "-p", &stack.postgres_port().to_string()])
            .args(["-U", "artstore", "-R", "-c", "fast", "-D"])
            .arg(&standby)
            .status()
            .await
            .unwrap();
        assert!(backup.success());
        let control = async |words: &[&str]| {
            let ended = stack
                .postgres_command("pg_ctl")
                .args(["-w", "-D"])
                .arg(&standby)
                .args(words)
                .stdout(std::process::Stdio::null())
                .status()
                .await
                .unwrap();
            assert!(ended.success(), "pg_ctl {words:?}");
        };
        let log = standby.with_file_name("standby.log");
        let options = format!("-p {port} -c unix_socket_directories=''");
        control(&["start", "-l", log.to_str().unwrap(), "-o", &options]).await;
        let there = format!(
            "elem={}",
            url.replace(&stack.postgres_port().to_string(), &port)
        );
        let refused = world
            .relay(0)
            .env("ARTSTORE_ELEMENTS", &there)
            .finish()
            .await;
        assert_eq!(refused.0.code(), Some(1));
        assert!(refused.1.contains("is a standby"), "{}", refused.1);
        control(&["promote"]).await;
        let refused = world
            .relay(0)
            .env("ARTSTORE_ELEMENTS", &there)
            .finish()
            .await;
        assert_eq!(refused.0.code(), Some(1));
        assert!(
            refused.1.contains("restored, promoted or replaced"),
            "{}",
            refused.1
        );
        assert_eq!(world.last_sequence(&world.source(0)).await, 10);
        control(&["stop", "-m", "immediate"]).await;
        drop(world);
        stack.stop().await.unwrap();
    });
}

#[test]
fn a_stream_that_lost_its_end_is_refused_by_the_projector() {
    run(async {
        let stack = Stack::start(StackOptions::default()).await.unwrap();
        let world = World::on(&stack, 0, &["elem"], 1).await;
        let mut element = (world.elements[0].0.clone(), world.element(0).await);
        for n in 0..5 {
            create(&mut element, &new_file(&n.to_string()))
                .await
                .unwrap();
        }
        publish_all(&world).await;
        let store = find_store(stack.directory());
        let backup = store.with_extension("backup");
        stack.kill_nats(0).await.unwrap();
        copy(&store, &backup).await;
        stack.start_nats(0).await.unwrap();
        for n in 0..5 {
            create(&mut element, &new_file(&n.to_string()))
                .await
                .unwrap();
        }
        publish_all(&world).await;
        let projector = world.projector().start();
        world.projected().await;
        projector.kill().await;

        stack.kill_nats(0).await.unwrap();
        copy(&backup, &store).await;
        stack.start_nats(0).await.unwrap();
        let projector = world.projector().start();
        projector
            .says("ends at 5, but the checkpoint is at 10")
            .await;
        projector.kill().await;
        // The relay brings back what the stream lost, in the same order: then all fits again.
        publish_all(&world).await;
        let projector = world.projector().start();
        create(&mut element, &new_file("after")).await.unwrap();
        publish_all(&world).await;
        world.projected().await;
        projector.kill().await;
        drop(world);
        stack.stop().await.unwrap();
    });
}

/// The folder in which the server keeps its streams.
fn find_store(folder: &Path) -> std::path::PathBuf {
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name() == "jetstream" {
                return entry.path();
            }
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
        }
    }
    panic!("no folder named jetstream below {}", folder.display());
}

/// A message that does not continue what was applied, or that came from elsewhere.
#[test]
fn a_spliced_stream_is_refused_by_projector_and_relay() {
    run(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        let mut element = (world.elements[0].0.clone(), world.element(0).await);
        create(&mut element, &new_file("a")).await.unwrap();
        publish_all(&world).await;
        let projector = world.projector().start();
        world.projected().await;
        forge(&world, Uuid::new_v4()).await;
        projector.says("the stream was spliced or rewritten").await;
        assert_eq!(checkpoint(&world.query_url, &source).await, 1);
        projector.kill().await;
        let (status, log) = world.relay(0).finish().await;
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(
            log.contains("it does not follow the message before it"),
            "{log}"
        );
    });
}

/// The chain fits, but the message has no row in the source.
#[test]
fn a_message_without_a_row_is_refused_by_the_relay() {
    run(async {
        let world = World::new(&["elem"]).await;
        rows(&mut world.element(0).await, 3).await;
        publish_all(&world).await;
        let last = world.messages(&world.source(0)).await.pop().unwrap();
        forge(&world, last.id).await;
        let (status, log) = world.relay(0).finish().await;
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(
            log.contains("1 message that the source does not hold"),
            "{log}"
        );
    });
}

/// A source that was set back halts; the other sources of the same process do not.
#[test]
fn a_source_that_halts_at_the_start_does_not_end_the_others() {
    run(async {
        let world = World::new(&["elem", "other"]).await;
        let mut element = world.element(0).await;
        rows(&mut element, 3).await;
        publish_all(&world).await;
        execute(&mut element, "delete from elem_wal where position = 3").await;
        let mut relay = world.command(&["run", "relay"]).start();
        relay.says("the relay has halted").await;
        relay.says("relay accept-source --source elem").await;
        execute(
            &mut world.element(1).await,
            "insert into other_wal (transaction_id, operation_type, status, operation_data) \
             values (gen_random_uuid(), 'cache_rebuild', 'committed', '{}')",
        )
        .await;
        world.published(1).await;
        assert_eq!(world.last_sequence(&world.source(0)).await, 3);
        // Decided on meanwhile, it continues as well.
        let accept = ["relay", "accept-source", "--source", "elem"];
        let words = accept.iter().chain(&["--yes", "--reason", "an accident"]);
        let (status, said) = world
            .command(&words.copied().collect::<Vec<_>>())
            .output()
            .await;
        assert!(status.success(), "{said}");
        let before = world.last_sequence(&world.source(0)).await;
        rows(&mut element, 1).await;
        eventually("the halted source is published again", || async {
            (world.last_sequence(&world.source(0)).await > before).then_some(())
        })
        .await;
        relay.signal("-TERM").await;
        assert_eq!(relay.ended().await.code(), Some(0));
    });
}

/// A message of somebody who may publish and is no relay.
async fn forge(world: &World, previous: Uuid) {
    let source = world.source(0);
    let last = world.messages(&source).await.pop().unwrap();
    let event_type = EventType::new("element", "cache-rebuilt", 1);
    let envelope = Envelope {
        id: Uuid::new_v4(),
        event_type: event_type.clone(),
        subject: None,
        position: Some(last.high_water_mark),
        previous: Some(previous),
        snapshot: None,
        backfill_due: false,
        ..last
    };
    let subject = artstore_schemas::subject::subject(&source, None, &event_type);
    let message = PublishMessage::build().headers(envelope.to_headers());
    let sent = world.bus.jetstream.send_publish(subject, message).await;
    sent.unwrap().await.unwrap();
}

/// Deleted: the relay reports what to run. Made again: it publishes everything again, and the
/// projector does not take it for the stream that it knew.
#[test]
fn a_stream_is_deleted_and_made_again() {
    run(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        let mut connection = world.element(0).await;
        rows(&mut connection, 20).await;
        let relay = world.relay(0).start();
        world.published(0).await;
        let projector = world.projector().start();
        world.projected().await;
        let gone = world.bus.jetstream.delete_stream(source.stream()).await;
        assert!(gone.unwrap().success);
        rows(&mut connection, 1).await;
        relay.says("does not exist: run `artstore bus init`").await;
        let (status, _) = world.command(&["bus", "init"]).finish().await;
        assert!(status.success());
        world.published(0).await;
        assert_eq!(world.last_sequence(&source).await, 21, "everything again");
        projector
            .says("the stream was removed and made again")
            .await;
        assert_eq!(checkpoint(&world.query_url, &source).await, 20);
        projector.kill().await;
        relay.kill().await;
    });
}
