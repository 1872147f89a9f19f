//! `artstore wal resolve` refuses what is finished or may be alive, and of two who resolve an
//! operation one does.

use std::time::Duration;

use artstore_producers::operations::pending::{self, Limits};
use artstore_producers::operations::resolve::{self, Refused, Resolution};
use artstore_producers::publish::publish_error::PublishError;
use artstore_producers::publish::wal::{self, Begin, OperationType};
use artstore_schemas::actor::Actor;
use artstore_schemas::event::Status;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::publishers::wal_pending::{AT_ONCE, wal_command};
use crate::support::abandoned::Product;
use crate::support::load::{create, delete, new_file};
use crate::support::*;

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
            "no configured element has such an operation",
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
        let take = Resolution {
            outcome: None,
            actor: Actor::system(),
            reason: None,
            force: false,
            dry_run: false,
        };
        let pid: i32 = value(&mut living, "select pg_backend_pid()").await;
        // The sessions of the commands above may be on their way out.
        eventually("the long transaction is named", || async {
            let mut connection = pg(&url).await;
            let pending = pending::list(&mut connection, &element, limits, 9)
                .await
                .unwrap();
            let proposal = &pending[0].proposal;
            assert_eq!(proposal.label(), "may still be running");
            proposal
                .reason()
                .contains(&format!("session {pid} "))
                .then_some(())
        })
        .await;
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
                let decision = Resolution {
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

        // The file's next operation reports what it changed nevertheless.
        let mut connected = (element, connection);
        let later = new_file("later");
        create(&mut connected, &later).await.unwrap();
        delete(&mut connected, later.id).await.unwrap();
        let relay = world.relay(0).start();
        world.published(0).await;
        relay.kill().await;
    });
}
