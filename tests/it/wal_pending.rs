//! Operations whose process died before it finished them: what `artstore wal pending` says of
//! each, and that the cache ends as `_files` stands however `artstore wal resolve` finishes it.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use artstore_producers::files::{self, FileUpdate};
use artstore_producers::pending::{self, Limits, Proposal};
use artstore_producers::resolve::{self, Decision, Refused};
use artstore_producers::wal::{self, Begin, OperationType, PublishError};
use artstore_schemas::actor::Actor;
use artstore_schemas::event::{Event, Status, WalEvent, decode};
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};
use tokio::io::AsyncWriteExt as _;
use uuid::Uuid;

use crate::load::{create, delete, new_file};
use crate::support::*;

/// Everything is old enough, and nothing is open for long.
const AT_ONCE: Limits = Limits {
    older_than: Duration::ZERO,
    open_for: Duration::from_secs(5),
};

/// How far an operation of the product's service came.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Killed {
    /// The pending row is there.
    BeforeTheChange,
    /// The change is in an open transaction.
    InTheChange,
    /// The change is there.
    AfterTheChange,
    /// The finish is in an open transaction.
    InTheFinish,
}

use Killed::{AfterTheChange, BeforeTheChange, InTheChange, InTheFinish};

const EVERYWHERE: [Killed; 4] = [BeforeTheChange, InTheChange, AfterTheChange, InTheFinish];

/// The statements of an operation in the product's way: three transactions.
struct Product {
    id: Uuid,
    begin: String,
    change: String,
    finish: String,
}

impl Product {
    fn new(kind: &str, file: Uuid) -> Self {
        let id = Uuid::new_v4();
        let names = format!(
            "'original_filename', 'report.pdf', 'storage_filename', '{file}.pdf', \
             'relative_path', '2026/01/02/03'"
        );
        let (data, change) = match kind {
            "file_create" => (
                format!("{names}, 'content_type', 'application/pdf'"),
                insert_file(file),
            ),
            "file_update" => (
                format!("'description', '{id}', 'version', null, 'metadata', null"),
                format!(
                    "update elem_files set description = '{id}', updated_at = clock_timestamp() \
                     where file_id = '{file}'"
                ),
            ),
            _ => (
                names,
                format!("delete from elem_files where file_id = '{file}'"),
            ),
        };
        Self {
            id,
            begin: format!(
                "insert into elem_wal (transaction_id, operation_type, status, file_id, \
                     operation_data, user_id, started_at) \
                 values ('{id}', '{kind}', 'pending', '{file}', jsonb_build_object({data}), '17', \
                     clock_timestamp())"
            ),
            change,
            finish: format!(
                "update elem_wal set status = 'committed', completed_at = clock_timestamp(), \
                     duration_ms = 12, operation_data = operation_data \
                         || jsonb_build_object('result', jsonb_build_object('file_id', '{file}')) \
                 where transaction_id = '{id}'"
            ),
        }
    }

    /// What was sent to the database when the process was killed: statement by statement, or an
    /// open transaction would take in those before it.
    fn until(&self, killed: Killed) -> Vec<&str> {
        let Self {
            begin,
            change,
            finish,
            ..
        } = self;
        match killed {
            BeforeTheChange => vec![begin],
            InTheChange => vec![begin, "begin", change],
            AfterTheChange => vec![begin, change],
            InTheFinish => vec![begin, change, "begin", finish],
        }
    }

    /// Left behind by a connection that ends.
    async fn abandon(&self, url: &str, killed: Killed) {
        let mut connection = pg(url).await;
        execute(&mut connection, "set application_name = 'abandoned'").await;
        for statement in self.until(killed) {
            execute(&mut connection, statement).await;
        }
        drop(connection);
        gone(url, "abandoned").await;
    }

    /// Left behind by a process that is killed.
    async fn kill(&self, url: &str, killed: Killed) {
        let mut process = shared_stack()
            .await
            .postgres_command("psql")
            .args([
                "--no-psqlrc",
                "--quiet",
                "--set",
                "ON_ERROR_STOP=1",
                "--dbname",
                url,
            ])
            .env("PGAPPNAME", "the product")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut input = process.stdin.take().unwrap();
        // The last line says how far it is.
        let text = format!(
            "{};\nset application_name = 'the product, there';\n",
            self.until(killed).join(";\n")
        );
        input.write_all(text.as_bytes()).await.unwrap();
        input.flush().await.unwrap();
        eventually("the process is there", || async {
            let sql = "select count(*) from pg_stat_activity \
                       where application_name = 'the product, there' \
                         and state like 'idle%' and datname = current_database()";
            (value::<i64>(&mut pg(url).await, sql).await == 1).then_some(())
        })
        .await;
        process.kill().await.unwrap();
        gone(url, "the product, there").await;
    }
}

fn insert_file(file: Uuid) -> String {
    format!(
        "insert into elem_files (file_id, original_filename, storage_filename, file_size, \
             content_type, created_at, updated_at, created_by_id, created_by_username, \
             storage_path, checksum, search_vector, metadata_json) \
         values ('{file}', 'report.pdf', '{file}.pdf', 5, 'application/pdf', clock_timestamp(), \
             clock_timestamp(), '17', 'ann', '/data/{file}.pdf', repeat('c', 64), null, '{{}}')"
    )
}

/// Waits until the server has taken back what a dead session left open.
async fn gone(url: &str, application: &str) {
    eventually("the dead session is gone", || async {
        let sql = format!(
            "select count(*) from pg_stat_activity where application_name = '{application}' \
             and datname = current_database()"
        );
        (value::<i64>(&mut pg(url).await, sql).await == 0).then_some(())
    })
    .await;
}

/// A finished create in the product's way.
async fn file(connection: &mut PgConnection) -> Uuid {
    let file = Uuid::new_v4();
    let create = Product::new("file_create", file);
    execute(connection, create.begin).await;
    execute(connection, create.change).await;
    execute(connection, create.finish).await;
    file
}

/// A file for an operation of this kind.
async fn file_for(kind: &str, connection: &mut PgConnection) -> Uuid {
    match kind {
        "file_create" => Uuid::new_v4(),
        _ => file(connection).await,
    }
}

const KINDS: [&str; 3] = ["file_create", "file_update", "file_delete"];

/// `artstore wal …` on an element, and what it printed.
async fn wal_command(world: &World, arguments: &[&str]) -> (ExitStatus, Value) {
    let arguments = [&["wal"], arguments, &["--older-than", "0s", "--json"]].concat();
    let (status, output) = world.command(&arguments).output().await;
    (status, serde_json::from_str(&output).unwrap_or(Value::Null))
}

fn found(report: &Value, id: Uuid) -> &Value {
    let rows = report.as_array().unwrap();
    rows.iter()
        .find(|row| row["transaction_id"] == id.to_string())
        .unwrap_or_else(|| panic!("{id} is not in {report:#}"))
}

async fn agree(world: &World) {
    world.published(0).await;
    world.projected().await;
}

/// The event of an operation.
async fn event(world: &World, id: Uuid) -> WalEvent {
    let source = world.source(0);
    let messages = world.messages(&source).await;
    let place = messages
        .iter()
        .position(|message| message.id == id)
        .unwrap();
    let stream = world
        .bus
        .jetstream
        .get_stream(source.stream())
        .await
        .unwrap();
    let message = stream.get_raw_message(place as u64 + 1).await.unwrap();
    match decode(&source, &messages[place].event_type, &message.payload).unwrap() {
        Event::Wal(event) => *event,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_process_of_the_product_killed_anywhere_is_proposed_as_files_tells() {
    run(async {
        let world = World::new(&["elem"]).await;
        let (relay, projector) = (world.relay(0).start(), world.projector().start());
        let url = world.elements[0].1.clone();
        let mut connection = world.element(0).await;
        let mut left = Vec::new();
        for kind in KINDS {
            for killed in EVERYWHERE {
                let operation = Product::new(kind, file_for(kind, &mut connection).await);
                operation.kill(&url, killed).await;
                left.push((operation.id, kind, killed));
            }
        }

        let (status, report) = wal_command(&world, &["pending"]).await;
        assert!(status.success());
        assert_eq!(report.as_array().unwrap().len(), left.len());
        for (id, kind, killed) in &left {
            let row = found(&report, *id);
            let expected = match killed {
                BeforeTheChange | InTheChange => "rolled_back",
                AfterTheChange | InTheFinish => "committed",
            };
            assert_eq!(row["status"], expected, "{kind} {killed:?}: {row:#}");
            assert_eq!(row["proposal"], "certain");
            assert_eq!(row["operation_type"], *kind);
            let there = match (*kind, expected) {
                ("file_create", _) => expected == "committed",
                ("file_delete", _) => expected != "committed",
                _ => true,
            };
            assert_eq!(!row["file"].is_null(), there, "{kind} {killed:?}: {row:#}");
        }
        let (status, _) = wal_command(&world, &["pending", "--check"]).await;
        assert_eq!(status.code(), Some(1));

        // Taken one and all.
        let (status, report) = wal_command(&world, &["resolve", "--proposed", "--yes"]).await;
        assert!(status.success(), "{report:#}");
        for (id, _, _) in &left {
            let row = found(&report, *id);
            assert_eq!(row["result"], "resolved");
            let position: i64 = value(
                &mut connection,
                format!("select position from elem_wal where transaction_id = '{id}'"),
            )
            .await;
            assert_eq!(row["position"], position);
        }
        agree(&world).await;
        let (status, report) = wal_command(&world, &["pending", "--check"]).await;
        assert!(status.success());
        assert_eq!(report, Value::Array(Vec::new()));
        relay.kill().await;
        projector.kill().await;
    });
}

#[test]
fn whatever_is_decided_the_cache_ends_as_the_files_stand() {
    run(async {
        let world = World::new(&["elem"]).await;
        let (relay, projector) = (world.relay(0).start(), world.projector().start());
        let url = world.elements[0].1.clone();
        let mut connection = world.element(0).await;
        let mut decided = Vec::new();
        for outcome in ["committed", "failed", "rolled-back"] {
            let mut ids = Vec::new();
            for kind in KINDS {
                for killed in EVERYWHERE {
                    let operation = Product::new(kind, file_for(kind, &mut connection).await);
                    operation.abandon(&url, killed).await;
                    ids.push(operation.id.to_string());
                }
            }
            agree_but_for_pending(&world).await;
            let command = [
                "resolve",
                "--as",
                outcome,
                "--reason",
                "the host burnt",
                "--yes",
            ];
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            let (status, report) = wal_command(&world, &[&command[..], &ids].concat()).await;
            assert!(status.success(), "{report:#}");
            agree(&world).await;
            decided.push((outcome, ids[0].parse().unwrap()));
        }

        // Who and why is where a reader of the event finds it.
        for (outcome, id) in decided {
            let event = event(&world, id).await;
            let data = serde_json::to_value(&event.operation.data).unwrap()["json"].take();
            assert_eq!(data["resolved"]["reason"], "the host burnt");
            assert_eq!(data["resolved"]["by"]["actor"]["type"], "system");
            assert_eq!(
                data["storage_filename"].as_str().unwrap().len(),
                40,
                "{data}"
            );
            assert_eq!(event.actor, Actor::user("17"));
            assert_eq!(event.operation.duration_ms, None);
            let message = event.operation.error_message.as_deref();
            match outcome {
                "committed" => assert_eq!(message, None),
                _ => assert_eq!(
                    message,
                    Some("the host burnt (resolved by artstore wal resolve)")
                ),
            }
        }
        relay.kill().await;
        projector.kill().await;
    });
}

/// Every finished row is published; the cache does not know what pending ones changed.
async fn agree_but_for_pending(world: &World) {
    world.published(0).await;
}

#[test]
fn operations_of_our_api_left_pending_changed_nothing() {
    run(async {
        let world = World::new(&["elem"]).await;
        let (relay, projector) = (world.relay(0).start(), world.projector().start());
        let (element, url) = world.elements[0].clone();
        let mut connected = (element.clone(), world.element(0).await);
        let there = new_file("there");
        create(&mut connected, &there).await.unwrap();
        let begin = |kind, file_id| Begin {
            kind,
            file_id: Some(file_id),
            request_id: Some("upload 7".to_owned()),
            data: None,
        };
        let change = FileUpdate {
            description: Some("new".to_owned()),
            ..FileUpdate::default()
        };

        // Its connection ends behind the begin, behind the change, and behind the finish.
        let mut left = Vec::new();
        for steps in 0..3 {
            let mut connection = pg(&url).await;
            execute(&mut connection, "set application_name = 'ours'").await;
            let begin = begin(OperationType::FileUpdate, there.id);
            let actor = Actor::user("1").named("ann");
            let operation = wal::begin(&mut connection, &element, actor, begin)
                .await
                .unwrap();
            execute(&mut connection, "begin").await;
            if steps > 0 {
                let row = files::update(&mut connection, &element, there.id, &change).await;
                if steps > 1 {
                    let row = row.unwrap();
                    operation.commit(&mut connection, row).await.unwrap();
                }
            }
            drop(connection);
            gone(&url, "ours").await;
            left.push(operation.id());
        }
        let mut connection = world.element(0).await;
        let pending = pending::list(&mut connection, &element, AT_ONCE, 10)
            .await
            .unwrap();
        assert_eq!(pending.len(), left.len());
        for pending in &pending {
            assert!(pending.ours);
            let rolled_back = matches!(&pending.proposal, Proposal::Certain(Status::RolledBack, _));
            assert!(rolled_back, "{:?}", pending.proposal);
        }

        // Against the proposal: the pending row does not say that the file is there, and must
        // not be taken at its word.
        let ids: Vec<String> = left.iter().map(Uuid::to_string).collect();
        for (id, outcome) in ids.iter().zip(["committed", "failed", "rolled-back"]) {
            let (status, report) =
                wal_command(&world, &["resolve", id, "--as", outcome, "--yes"]).await;
            assert!(status.success(), "{report:#}");
        }
        agree(&world).await;
        for id in &left {
            let event = event(&world, *id).await;
            assert_eq!(event.file.as_ref().map(|file| file.id), Some(there.id));
            assert_eq!(event.actor.id.as_deref(), Some("1"));
        }
        // Not committed, it keeps what our API knew of it.
        let failed = event(&world, left[1]).await;
        assert_eq!(failed.operation.request_id.as_deref(), Some("upload 7"));
        assert_eq!(failed.actor.name.as_deref(), Some("ann"));
        relay.kill().await;
        projector.kill().await;
    });
}

#[test]
fn what_files_does_not_tell_is_left_to_a_person() {
    run(async {
        let url = database("pending").await;
        let element = "elem".parse().unwrap();
        migrate(
            &url,
            artstore_migrations::Module::Storage("elem".parse().unwrap()),
        )
        .await;
        let mut connection = pg(&url).await;
        let kept = file(&mut connection).await;
        let gone = file(&mut connection).await;
        // It is taken back by another delete than the one that was left.
        execute(&mut connection, Product::new("file_delete", gone).begin).await;
        let other = Product::new("file_delete", gone);
        for step in [other.begin, other.change, other.finish] {
            execute(&mut connection, step).await;
        }
        // What it sets was there before.
        let same = Product::new("file_update", kept);
        execute(
            &mut connection,
            format!(
                "update elem_files set description = '{}' where file_id = '{kept}'",
                same.id
            ),
        )
        .await;
        execute(&mut connection, same.begin).await;
        // Somebody else changed the file since.
        execute(&mut connection, Product::new("file_update", kept).begin).await;
        execute(
            &mut connection,
            format!("update elem_files set updated_at = clock_timestamp(), description = 'other' where file_id = '{kept}'"),
        )
        .await;
        let odd = |kind: &str, file: &str, data: &str| {
            format!(
                "insert into elem_wal (transaction_id, operation_type, status, file_id, \
                     operation_data) \
                 values (gen_random_uuid(), '{kind}', 'pending', {file}, '{data}')"
            )
        };
        let quoted = format!("'{kept}'");
        for (kind, file, data) in [
            ("mode_change", "null", "{}"),
            ("defragment", "null", "[1]"),
            ("file_update", "null", "{}"),
            ("file_create", "null", r#"{"storage_filename": "nowhere"}"#),
            (
                "file_create",
                quoted.as_str(),
                r#"{"storage_filename": "other"}"#,
            ),
            ("file_create", quoted.as_str(), "7"),
        ] {
            execute(&mut connection, odd(kind, file, data)).await;
        }
        let pending = pending::list(&mut connection, &element, AT_ONCE, 100)
            .await
            .unwrap();
        assert_eq!(pending.len(), 9);
        for pending in &pending {
            let unclear = matches!(pending.proposal, Proposal::Unclear(_));
            // The same values, changed by somebody else afterwards: differs, changed since.
            assert!(unclear, "{pending:#?}");
        }
        // Nothing of it is taken as proposed, and data that is no object stays readable.
        let take = Decision {
            outcome: None,
            actor: Actor::system(),
            reason: None,
            force: false,
            dry_run: false,
        };
        for pending in pending {
            let ended =
                resolve::resolve(&mut connection, &element, pending.id, AT_ONCE, &take).await;
            assert!(matches!(ended, Err(Refused::Unclear(_))), "{ended:?}");
            let failed = Decision {
                outcome: Some(Status::Failed),
                ..take.clone()
            };
            resolve::resolve(&mut connection, &element, pending.id, AT_ONCE, &failed)
                .await
                .unwrap();
        }
        let kept_data: i64 = value(
            &mut connection,
            "select count(*) from elem_wal where operation_data ? 'resolved' \
             and (operation_data -> 'operation_data' in ('7', '[1]') \
                  or not operation_data ? 'operation_data')",
        )
        .await;
        assert_eq!(kept_data, 9);

        // The missing are failed, the present without an id are found by their name on disk.
        let absent = Product::new("file_update", Uuid::new_v4());
        execute(&mut connection, absent.begin).await;
        let nameless = odd(
            "file_create",
            "null",
            &format!(r#"{{"storage_filename": "{kept}.pdf"}}"#),
        );
        execute(&mut connection, nameless).await;
        let pending = pending::list(&mut connection, &element, AT_ONCE, 100)
            .await
            .unwrap();
        let labels: Vec<&str> = pending
            .iter()
            .map(|pending| pending.proposal.label())
            .collect();
        assert_eq!(labels, ["failed", "committed"]);
        resolve::resolve(&mut connection, &element, pending[1].id, AT_ONCE, &take)
            .await
            .unwrap();
        let named: Uuid = value(
            &mut connection,
            format!(
                "select file_id from elem_wal where transaction_id = '{}'",
                pending[1].id
            ),
        )
        .await;
        assert_eq!(named, kept);
    });
}

/// The rows of the log, to the letter.
async fn rows(connection: &mut PgConnection) -> Vec<String> {
    sqlx::query_scalar("select w::text from elem_wal w order by w::text")
        .fetch_all(connection)
        .await
        .unwrap()
}

#[test]
fn what_may_still_be_running_or_is_finished_is_refused() {
    run(async {
        let url = database("refused").await;
        migrate(
            &url,
            artstore_migrations::Module::Storage("elem".parse().unwrap()),
        )
        .await;
        let mut connection = pg(&url).await;
        let operation = Product::new("file_create", Uuid::new_v4());
        execute(&mut connection, operation.begin.as_str()).await;
        let finished = Product::new("file_create", Uuid::new_v4());
        for step in [&finished.begin, &finished.change, &finished.finish] {
            execute(&mut connection, step.as_str()).await;
        }
        let before = rows(&mut connection).await;
        let (id, finished) = (operation.id.to_string(), finished.id.to_string());
        let unknown = Uuid::new_v4().to_string();
        let refused = async |arguments: &[&str], code: i32, said: &str| {
            let arguments = [&["wal", "resolve", "--element", "elem"], arguments].concat();
            let mut process = Program::new(&arguments)
                .env("STORAGE_DATABASE_URL", &url)
                .start();
            let status = process.ended().await;
            let all = process.output() + &process.log();
            assert_eq!(status.code(), Some(code), "{arguments:?}: {all}");
            assert!(all.contains(said), "{arguments:?}: {all}");
        };
        let at_once = ["--older-than", "0s"];
        refused(&[&id, "--as", "failed"], 2, "--yes").await;
        refused(&[&id, "--as", "failed", "--json"], 2, "--yes").await;
        refused(&[&id, "--yes"], 2, "--as").await;
        refused(&["--as", "failed", "--yes"], 2, "TRANSACTION_ID").await;
        refused(&[&id, "--as", "pending", "--yes"], 2, "rolled-back").await;
        refused(&[&id, "--as", "failed", "--yes"], 1, "it began only").await;
        refused(
            &[&finished, "--as", "failed", "--yes"],
            1,
            "finished already: committed at 20",
        )
        .await;
        refused(
            &[&unknown, "--as", "failed", "--yes"],
            1,
            "no such operation",
        )
        .await;
        refused(
            &[&id, &unknown, "--as", "failed", "--dry-run", "--force"],
            1,
            "would be failed",
        )
        .await;

        // Its process is at work on it: no force helps.
        let mut living = pg(&url).await;
        execute(&mut living, format!("begin; {}", operation.finish)).await;
        let force = ["--as", "failed", "--yes", "--force"];
        refused(
            &[&[id.as_str()], &force[..]].concat(),
            1,
            "a living transaction has locked it",
        )
        .await;
        execute(&mut living, "rollback").await;

        // A long transaction on the tables, as the product's while a file comes in.
        execute(&mut living, "begin; select count(*) from elem_wal").await;
        let element = "elem".parse().unwrap();
        let limits = Limits {
            older_than: Duration::ZERO,
            open_for: Duration::ZERO,
        };
        let take = Decision {
            outcome: None,
            actor: Actor::system(),
            reason: None,
            force: false,
            dry_run: false,
        };
        let pending = pending::list(&mut connection, &element, limits, 9)
            .await
            .unwrap();
        let pid: i32 = value(&mut living, "select pg_backend_pid()").await;
        assert_eq!(pending[0].proposal.label(), "may still be running");
        assert!(
            pending[0]
                .proposal
                .reason()
                .contains(&format!("session {pid}"))
        );
        let ended = resolve::resolve(&mut connection, &element, operation.id, limits, &take).await;
        assert!(matches!(ended, Err(Refused::MayBeRunning(_))), "{ended:?}");
        // Of a role that may not see when that began, it is to be feared for as long as it lasts.
        execute(
            &mut connection,
            "create role wal_pending_reader login password 'reader'; \
             grant select on elem_wal, elem_files to wal_pending_reader",
        )
        .await;
        let mut reader: url::Url = url.parse().unwrap();
        reader.set_username("wal_pending_reader").unwrap();
        reader.set_password(Some("reader")).unwrap();
        let mut reader = pg(reader.as_str()).await;
        let pending = pending::list(&mut reader, &element, AT_ONCE, 9)
            .await
            .unwrap();
        let reason = pending[0].proposal.reason();
        assert!(reason.contains("pg_read_all_stats"), "{reason}");
        execute(&mut living, "rollback").await;
        let pending = pending::list(&mut reader, &element, AT_ONCE, 9)
            .await
            .unwrap();
        assert_eq!(pending[0].proposal.label(), "rolled-back");
        assert_eq!(rows(&mut connection).await, before);

        // Nothing stands against it any more.
        let arguments = [
            &["wal", "resolve", &id, "--proposed", "--yes"],
            &at_once[..],
        ]
        .concat();
        let (status, said) = Program::new(&arguments)
            .env("ARTSTORE_ELEMENTS", &format!("elem={url}"))
            .output()
            .await;
        assert!(status.success());
        assert!(
            said.contains("rolled_back at position 3: the file is not in _files"),
            "{said}"
        );
        let again = [id.as_str(), "--as", "failed", "--yes"];
        refused(&again, 1, "resolved by artstore wal resolve").await;
    });
}

#[test]
fn of_two_who_resolve_one_wins_and_a_slow_process_is_told() {
    run(async {
        let world = World::new(&["elem"]).await;
        let (element, url) = world.elements[0].clone();
        let mut connection = world.element(0).await;
        const ROWS: usize = 25;
        let mut operations = Vec::new();
        for _ in 0..ROWS {
            let operation = Product::new("file_create", Uuid::new_v4());
            execute(&mut connection, operation.begin.as_str()).await;
            operations.push(operation);
        }
        let everybody = operations.iter().map(async |operation| {
            let each = [Status::Committed, Status::Failed].map(async |outcome| {
                let decision = Decision {
                    outcome: Some(outcome),
                    actor: Actor::system(),
                    reason: None,
                    force: true,
                    dry_run: false,
                };
                let mut connection = pg(&url).await;
                let id = operation.id;
                resolve::resolve(&mut connection, &element, id, AT_ONCE, &decision).await
            });
            futures::future::join_all(each).await
        });
        for ended in futures::future::join_all(everybody).await {
            let won = ended.iter().filter(|ended| ended.is_ok()).count();
            assert_eq!(won, 1, "{ended:?}");
            let told = ended
                .iter()
                .any(|ended| matches!(ended, Err(Refused::Locked | Refused::Finished { .. })));
            assert!(told, "{ended:?}");
        }
        assert_eq!(
            finished(&mut connection, &world.source(0)).await,
            ROWS as u64
        );

        // The process was alive after all: it learns that others decided.
        let slow = Product::new("file_create", Uuid::new_v4());
        execute(&mut connection, slow.begin.as_str()).await;
        let begin = Begin {
            kind: OperationType::FileCreate,
            file_id: Some(Uuid::new_v4()),
            request_id: None,
            data: None,
        };
        let ours = wal::begin(&mut connection, &element, Actor::user("1"), begin)
            .await
            .unwrap();
        for id in [slow.id, ours.id()] {
            let (status, _) = wal_command(
                &world,
                &["resolve", &id.to_string(), "--as", "rolled-back", "--yes"],
            )
            .await;
            assert!(status.success());
        }
        execute(&mut connection, slow.change).await;
        let refused = try_execute(&mut connection, slow.finish)
            .await
            .unwrap_err()
            .to_string();
        let expected = format!(
            "operation {} is finished as rolled_back: its status can not become committed",
            slow.id
        );
        assert!(refused.contains(&expected), "{refused}");
        let mut transaction = connection.begin().await.unwrap();
        let refused = ours.commit(&mut transaction, None).await;
        assert!(
            matches!(refused, Err(PublishError::NotPending { .. })),
            "{refused:?}"
        );
        transaction.rollback().await.unwrap();

        // What it changed all the same is told with the file's next operation.
        let mut connected = (element, connection);
        let later = new_file("later");
        create(&mut connected, &later).await.unwrap();
        delete(&mut connected, later.id).await.unwrap();
        let relay = world.relay(0).start();
        world.published(0).await;
        relay.kill().await;
    });
}
