//! Operations whose process died before it finished them: what `artstore wal pending` reports about
//! each, and that the cache agrees with `_files` however `artstore wal resolve` finishes it.

use std::process::ExitStatus;
use std::time::Duration;

use artstore_producers::operations::pending::{self, Limits, Proposal};
use artstore_producers::operations::resolve::{self, Refused, Resolution};
use artstore_producers::publish::files::{self, FileUpdate};
use artstore_producers::publish::wal::{self, Begin, OperationType};
use artstore_schemas::actor::Actor;
use artstore_schemas::event::{Event, Status, WalEvent, decode};
use serde_json::Value;
use uuid::Uuid;

use crate::support::abandoned::*;
use crate::support::load::{create, new_file};
use crate::support::*;

/// Everything is old enough, and nothing is open for long.
pub const AT_ONCE: Limits = Limits {
    older_than: Duration::ZERO,
    open_for: Duration::from_secs(5),
};

/// `artstore wal …` on an element, and what it printed.
pub async fn wal_command(world: &World, arguments: &[&str]) -> (ExitStatus, Value) {
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
            // The cache does not know yet what the pending ones changed.
            world.published(0).await;
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
            let actor = Actor {
                database_role: Some("artstore".to_owned()),
                ..Actor::user("17")
            };
            assert_eq!(event.actor, actor);
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
        let take = Resolution {
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
            let failed = Resolution {
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
