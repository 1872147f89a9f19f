//! A source that lost something is refused, its loss is shown exactly, and an operator accepts it: then
//! the relay continues, and each row that the source contains has one message that survives.

use std::collections::BTreeMap;
use std::path::PathBuf;

use artstore_bus::breaks;
use artstore_producers::relay::source::SourceTable;
use artstore_stack::{PostgresStop, Stack, StackOptions};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Row as _};
use uuid::Uuid;

use crate::relay::refusals::{copy, publish_all, rows};
use crate::support::load::{create, new_file};
use crate::support::*;

/// Creates files, one operation each.
async fn files(world: &World, count: usize) {
    let mut element = (world.elements[0].0.clone(), world.element(0).await);
    for n in 0..count {
        create(&mut element, &new_file(&n.to_string()))
            .await
            .unwrap();
    }
}

/// The positions and ids of an element's finished rows.
async fn held(world: &World) -> BTreeMap<i64, Uuid> {
    let source = world.source(0);
    let table = SourceTable::of(&source);
    let sql = format!(
        "select position, {} as id from {} where position is not null",
        table.id_column(),
        table.name()
    );
    let mut connection = world.element(0).await;
    let rows = sqlx::query(AssertSqlSafe(sql))
        .fetch_all(&mut connection)
        .await;
    let rows = rows.unwrap();
    rows.iter()
        .map(|row| (row.get("position"), row.get("id")))
        .collect()
}

/// The positions and ids of the messages that survive every break: each once.
async fn surviving(world: &World) -> BTreeMap<i64, Uuid> {
    let source = world.source(0);
    let breaks = breaks::read(&world.bus, &source, breaks::Chain::Checked).await;
    let epochs = breaks.unwrap().epochs;
    let mut surviving = BTreeMap::new();
    for (message, sequence) in world.messages(&source).await.into_iter().zip(1..) {
        let Some(position) = message.position else {
            continue;
        };
        if epochs.survives(sequence, position) {
            let before = surviving.insert(position, message.id);
            assert_eq!(before, None, "position {position} twice");
        }
    }
    surviving
}

/// Runs a relay until each row has one message.
async fn goes_on(world: &World) {
    let relay = world.relay(0).start();
    eventually("each row has one message that survives", || async {
        (surviving(world).await == held(world).await).then_some(())
    })
    .await;
    relay.kill().await;
    let mut element = world.element(0).await;
    let report = world.checked(&world.source(0), &mut element).await;
    assert!(report.is_clean(), "{report:?}");
}

fn accept(world: &World, arguments: &[&str]) -> Program {
    let mut program = world.command(&["relay", "accept-source", "--source", "elem"]);
    for argument in arguments {
        program = program.argument(argument);
    }
    program
}

const YES: &[&str] = &["--yes", "--reason", "the disk burned"];

async fn shown(world: &World) -> Value {
    let (status, output) = accept(world, &["--json"]).output().await;
    assert_eq!(status.code(), Some(1), "{output}");
    serde_json::from_str(&output).unwrap()
}

async fn accepted(world: &World) {
    let (status, output) = accept(world, YES).output().await;
    assert!(status.success(), "{output}");
    assert!(output.contains("begins a new epoch"), "{output}");
}

async fn refused(world: &World, text: &str) {
    let (status, log) = world.relay(0).finish().await;
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains(text), "{log}");
    let command = "artstore relay accept-source --source elem";
    assert!(log.replace("\\\n", "").contains(command), "{log}");
}

#[test]
fn a_healthy_source_has_nothing_to_accept_and_another_database_needs_a_word() {
    run(async {
        let mut world = World::new(&["elem"]).await;
        let source = world.source(0);
        files(&world, 5).await;
        let relay = world.relay(0).start();
        world.published(0).await;
        for arguments in [&[], YES] {
            let (status, output) = accept(&world, arguments).output().await;
            assert!(status.success(), "{output}");
            assert!(output.contains("nothing to accept"), "{output}");
        }
        assert_eq!(
            world.last_sequence(&source).await,
            5,
            "nothing was published"
        );
        relay.kill().await;

        // An element's database, and not this one's.
        let other = database("elem").await;
        migrate(
            &other,
            artstore_migrations::Module::Storage("elem".parse().unwrap()),
        )
        .await;
        world.elements[0].1 = other;
        files(&world, 7).await;
        let (status, log) = accept(&world, YES).finish().await;
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(
            log.contains("is it the right one for this source?"),
            "{log}"
        );
        assert_eq!(
            world.last_sequence(&source).await,
            5,
            "nothing was published"
        );
        let word = ["--yes", "--reason", "a new beginning", "--nothing-agrees"];
        let (status, output) = accept(&world, &word).output().await;
        assert!(status.success(), "{output}");
        goes_on(&world).await;
    });
}

#[test]
fn a_source_is_set_back_twice_and_accepted() {
    run(async {
        let stack = Stack::start(StackOptions::default()).await.unwrap();
        let world = World::on(&stack, 0, &["elem"], 1).await;
        let source = world.source(0);
        files(&world, 5).await;
        publish_all(&world).await;
        let data = stack.postgres_data();
        let backup = data.with_file_name("backup");
        stack.stop_postgres(PostgresStop::Fast).await.unwrap();
        copy(&data, &backup).await;
        let set_back = async || {
            stack.stop_postgres(PostgresStop::Fast).await.unwrap();
            copy(&backup, &data).await;
            stack.start_postgres().await.unwrap();
        };
        stack.start_postgres().await.unwrap();
        files(&world, 4).await;
        publish_all(&world).await;
        let lost: Vec<Uuid> = held(&world).await.into_values().skip(5).collect();
        set_back().await;
        refused(&world, "sequence is at").await;
        // Positions 6 to 8 are used again, by other rows.
        files(&world, 3).await;

        let before = shown(&world).await;
        assert_eq!(before["lost"]["messages"], 4);
        assert_eq!(before["lost"]["positions"][0]["first"], 6);
        assert_eq!(before["lost"]["positions"][0]["last"], 9);
        assert_eq!(before["lost"]["files"].as_array().unwrap().len(), 4);
        let listed = before["lost"]["list"].as_array().unwrap();
        let ids: Vec<Uuid> = listed
            .iter()
            .map(|lost| lost["id"].as_str().unwrap().parse().unwrap())
            .collect();
        assert_eq!(ids, lost);
        assert_eq!(before["new"]["rows"], 3);
        assert_eq!(before["high_water_mark"], 5);
        assert_eq!(
            world.last_sequence(&source).await,
            9,
            "nothing was published"
        );

        accepted(&world).await;
        let messages = world.messages(&source).await;
        let (record, last) = (&messages[9], messages.last().unwrap());
        assert!(record.backfill_due, "the files are to be compared");
        assert_eq!((record.high_water_mark, record.position), (5, None));
        assert!(!last.backfill_due, "they were");
        let gone = messages.iter().filter(|m| m.snapshot.is_some()).count();
        assert_eq!(gone, 4, "the lost files, and no others");
        goes_on(&world).await;
        let projector = world.projector().start();
        world.projected().await;

        // Again; and killed on both sides of the record.
        set_back().await;
        refused(&world, "sequence is at").await;
        let sequence = world.last_sequence(&source).await;
        let (status, _) = accept(&world, YES)
            .crash_at("accept.recording", 1)
            .finish()
            .await;
        assert_eq!(status.code(), None, "killed");
        assert_eq!(world.last_sequence(&source).await, sequence);
        let (status, _) = accept(&world, YES)
            .crash_at("accept.recorded", 1)
            .finish()
            .await;
        assert_eq!(status.code(), None, "killed");
        assert_eq!(world.last_sequence(&source).await, sequence + 1);
        files(&world, 20).await;
        goes_on(&world).await;
        // The relay found that a backfill is due, and that the command that was to do it is dead.
        let relay = world.relay(0).start();
        eventually("the files are backfilled", || async {
            let last = world.messages(&source).await.pop()?;
            (!last.backfill_due).then_some(())
        })
        .await;
        relay.kill().await;
        world.projected().await;
        projector.kill().await;

        // A row from before the first break is gone: seen through both epochs.
        let mut connection = world.element(0).await;
        execute(&mut connection, "delete from elem_wal where position = 2").await;
        refused(&world, "1 message that the source does not hold any more").await;
        accepted(&world).await;
        goes_on(&world).await;
        drop(world);
        stack.stop().await.unwrap();
    });
}

/// More was lost than the relay compares: what survived before it is compared all the same.
#[test]
fn a_second_set_back_is_noticed_below_a_long_lost_end() {
    run(async {
        let world = World::new(&["elem"]).await;
        let mut connection = world.element(0).await;
        rows(&mut connection, 20).await;
        rows(&mut connection, 1_500).await;
        publish_all(&world).await;
        let delete = "delete from elem_wal where position > 20";
        execute(&mut connection, delete).await;
        refused(&world, "1000 messages that the source does not hold").await;
        accepted(&world).await;
        let delete = "delete from elem_wal where position between 11 and 20";
        execute(&mut connection, delete).await;
        refused(&world, "10 messages that the source does not hold").await;
        accepted(&world).await;
        rows(&mut connection, 5).await;
        goes_on(&world).await;
    });
}

#[test]
fn a_dump_that_was_restored_into_another_cluster_is_accepted() {
    run(async {
        let (stack, other) = tokio::join!(
            Stack::start(StackOptions::default()),
            Stack::start(StackOptions::default())
        );
        let (stack, other) = (stack.unwrap(), other.unwrap());
        let mut world = World::on(&stack, 0, &["elem"], 1).await;
        files(&world, 6).await;
        let url = world.elements[0].1.clone();
        let dumped = stack
            .postgres_command("pg_dump")
            .args(["--no-owner", &url])
            .stdout(std::process::Stdio::piped())
            .output()
            .await
            .unwrap();
        assert!(dumped.status.success());
        let dump = stack.directory().join("dump.sql");
        std::fs::write(&dump, dumped.stdout).unwrap();
        files(&world, 3).await;
        publish_all(&world).await;

        other.create_database("restored").await.unwrap();
        let restored = other.database_url("restored");
        let loaded = other
            .postgres_command("psql")
            .args(["-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", &restored])
            .stdin(std::fs::File::open(&dump).unwrap())
            .status()
            .await;
        assert!(loaded.unwrap().success());
        world.elements[0].1 = restored;
        refused(&world, "was written from the database").await;
        files(&world, 2).await;
        let before = shown(&world).await;
        assert_eq!(before["lost"]["messages"], 3);
        assert_eq!(before["new"]["rows"], 2);
        assert_ne!(before["identity"]["stream"], before["identity"]["source"]);
        accepted(&world).await;
        goes_on(&world).await;
        drop(world);
        stack.stop().await.unwrap();
        other.stop().await.unwrap();
    });
}

/// A copy of the stack's PostgreSQL, as `pg_basebackup` makes it.
struct BaseBackup<'a> {
    stack: &'a Stack,
    folder: PathBuf,
}

impl<'a> BaseBackup<'a> {
    async fn take(stack: &'a Stack, name: &str, arguments: &[&str]) -> Self {
        let folder = stack.postgres_data().with_file_name(name);
        let backup = stack
            .postgres_command("pg_basebackup")
            .args(["-h", "127.0.0.1", "-p", &stack.postgres_port().to_string()])
            .args(["-U", "artstore", "-c", "fast", "-D"])
            .arg(&folder)
            .args(arguments)
            .status()
            .await;
        assert!(backup.unwrap().success());
        Self { stack, folder }
    }

    async fn control(&self, words: &[&str]) {
        let ended = self
            .stack
            .postgres_command("pg_ctl")
            .args(["-w", "-D"])
            .arg(&self.folder)
            .args(words)
            .stdout(std::process::Stdio::null())
            .status()
            .await;
        assert!(ended.unwrap().success(), "pg_ctl {words:?}");
    }

    /// Runs it in the element's place.
    async fn start(&self, world: &mut World, options: &str) {
        let log = self.folder.with_extension("log");
        // Not before: other tests look for free ports, too.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let options = format!("-p {port} -c unix_socket_directories='' {options}");
        self.control(&["start", "-l", log.to_str().unwrap(), "-o", &options])
            .await;
        let url = &mut world.elements[0].1;
        // A password may contain the same digits.
        let before = format!(":{}/", self.stack.postgres_port());
        assert!(url.contains(&before), "{url}");
        *url = url.replace(&before, &format!(":{port}/"));
    }
}

#[test]
fn a_standby_that_was_promoted_without_the_tail_is_accepted() {
    run(async {
        let stack = Stack::start(StackOptions::default()).await.unwrap();
        let mut world = World::on(&stack, 0, &["elem"], 1).await;
        files(&world, 6).await;
        let standby = BaseBackup::take(&stack, "standby", &["-R"]).await;
        // The resume state never reaches back to it.
        files(&world, 3).await;
        publish_all(&world).await;
        standby.start(&mut world, "-c primary_conninfo=''").await;
        let (status, log) = accept(&world, YES).finish().await;
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains("is a standby"), "{log}");
        standby.control(&["promote"]).await;
        refused(&world, "restored, promoted or replaced").await;
        let before = shown(&world).await;
        assert_eq!(before["lost"]["messages"], 3);
        assert_eq!(before["high_water_mark"], 6);
        accepted(&world).await;
        files(&world, 4).await;
        goes_on(&world).await;
        standby.control(&["stop", "-m", "immediate"]).await;
        drop(world);
        stack.stop().await.unwrap();
    });
}

/// A base backup and the log after it, up to a moment that was given a name.
#[test]
fn a_restore_to_a_point_in_time_is_accepted() {
    run(async {
        let stack = Stack::start(StackOptions::default()).await.unwrap();
        let mut world = World::on(&stack, 0, &["elem"], 1).await;
        files(&world, 6).await;
        let restored = BaseBackup::take(&stack, "restored", &[]).await;
        files(&world, 2).await;
        let moment = "select pg_create_restore_point('before')";
        execute(&mut world.element(0).await, moment).await;
        files(&world, 3).await;
        publish_all(&world).await;
        let log = stack.postgres_data().join("pg_wal");
        let settings = format!(
            "\nrestore_command = 'cp {}/%f %p'\nrecovery_target_name = 'before'\n\
             recovery_target_action = 'promote'\n",
            log.display()
        );
        let path = restored.folder.join("postgresql.auto.conf");
        let before = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, before + &settings).unwrap();
        std::fs::write(restored.folder.join("recovery.signal"), "").unwrap();
        restored.start(&mut world, "").await;
        eventually("it takes writers", || async {
            let sql = "select pg_is_in_recovery()";
            let mut element = try_pg(&world.elements[0].1).await.ok()?;
            (!value::<bool>(&mut element, sql).await).then_some(())
        })
        .await;
        refused(&world, "restored, promoted or replaced").await;
        let before = shown(&world).await;
        assert_eq!(
            (&before["lost"]["messages"], &before["high_water_mark"]),
            (&3.into(), &8.into())
        );
        accepted(&world).await;
        files(&world, 4).await;
        goes_on(&world).await;
        restored.control(&["stop", "-m", "immediate"]).await;
        drop(world);
        stack.stop().await.unwrap();
    });
}
