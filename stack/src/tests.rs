//! The stack's own promises, on real servers: nothing is left behind, and what is kept comes back.

// Tests connect as anybody does, with the settings that they find.
#![allow(clippy::disallowed_methods)]

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use async_nats::jetstream;
use futures::StreamExt;
use sqlx::{Connection, PgConnection};

use super::{PostgresStop, Stack, StackOptions};

/// How many processes have the folder in their command line: the guard, and the servers.
fn processes_of(folder: &Path) -> usize {
    let folder = folder.to_str().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let line = std::fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        String::from_utf8_lossy(&line)
            .contains(folder)
            .then_some(())
    });
    processes.count()
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A folder that PostgreSQL's user can enter even where we are root.
fn state_folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    folder
}

async fn jetstream(stack: &Stack, account: usize) -> jetstream::Context {
    let urls = stack.nats_url(account);
    let servers = urls
        .split(',')
        .map(|url| url.parse().unwrap())
        .collect::<Vec<async_nats::ServerAddr>>();
    let (user, password) = (
        servers[0].username().unwrap(),
        servers[0].password().unwrap(),
    );
    let options = async_nats::ConnectOptions::with_user_and_password(user.into(), password.into());
    jetstream::new(options.connect(servers).await.unwrap())
}

async fn sql<T>(stack: &Stack, database: &str, statement: &'static str) -> T
where
    T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    let mut connection = PgConnection::connect(&stack.database_url(database))
        .await
        .unwrap();
    sqlx::query_scalar(statement)
        .fetch_one(&mut connection)
        .await
        .unwrap()
}

#[tokio::test]
async fn servers_restart_with_their_data_and_leave_nothing() {
    let stack = Stack::start(StackOptions {
        accounts: 2,
        ..Default::default()
    })
    .await
    .unwrap();
    let folder = stack.directory().to_owned();
    stack.create_database("Quoted \"name\"").await.unwrap();
    stack.create_database("one").await.unwrap();
    stack.create_database("one").await.unwrap();
    assert_eq!(
        sql::<String>(
            &stack,
            "one",
            "select current_setting('track_commit_timestamp')"
        )
        .await,
        "on"
    );
    let mut connection = PgConnection::connect(&stack.database_url("one"))
        .await
        .unwrap();
    sqlx::raw_sql("create table kept as select 7 as seven")
        .execute(&mut connection)
        .await
        .unwrap();

    let context = jetstream(&stack, 0).await;
    context
        .create_stream(jetstream::stream::Config {
            name: "KEPT".into(),
            ..Default::default()
        })
        .await
        .unwrap();
    context
        .publish("KEPT", "message".into())
        .await
        .unwrap()
        .await
        .unwrap();
    let other = jetstream(&stack, 1).await;
    assert!(
        other.get_stream("KEPT").await.is_err(),
        "accounts are apart"
    );

    for how in [PostgresStop::Fast, PostgresStop::Immediate] {
        stack.stop_postgres(how).await.unwrap();
        assert!(
            PgConnection::connect(&stack.database_url("one"))
                .await
                .is_err()
        );
        stack.start_postgres().await.unwrap();
        assert_eq!(sql::<i32>(&stack, "one", "select seven from kept").await, 7);
    }
    let pid = stack.nats_pid(0);
    stack.kill_nats(0).await.unwrap();
    stack.start_nats(0).await.unwrap();
    assert_ne!(stack.nats_pid(0), pid);
    assert_eq!(
        jetstream(&stack, 0)
            .await
            .get_stream("KEPT")
            .await
            .unwrap()
            .cached_info()
            .state
            .messages,
        1
    );

    let dump = stack
        .postgres_command("pg_dump")
        .args(["--table", "kept", "one"])
        .output()
        .await
        .unwrap();
    assert!(String::from_utf8_lossy(&dump.stdout).contains("COPY public.kept"));

    stack.stop().await.unwrap();
    assert!(!folder.exists());
    assert_eq!(processes_of(&folder), 0);
}

#[tokio::test]
async fn a_cluster_replicates_beside_another_stack() {
    let cluster = StackOptions {
        nats_nodes: 3,
        postgres: false,
        ..Default::default()
    };
    let (one, two) =
        tokio::try_join!(Stack::start(cluster.clone()), Stack::start(cluster)).unwrap();
    for stack in [&one, &two] {
        let context = jetstream(stack, 0).await;
        let config = jetstream::stream::Config {
            name: "THREE".into(),
            num_replicas: 3,
            ..Default::default()
        };
        let created = context.create_stream(config).await.unwrap();
        let leader = created
            .cached_info()
            .cluster
            .as_ref()
            .unwrap()
            .leader
            .clone()
            .unwrap();
        let leader = stack.nats_node_named(&leader).unwrap();
        stack.kill_nats(leader).await.unwrap();
        stack.start_nats(leader).await.unwrap();
    }
    assert_eq!(one.nats_node_named("another"), None);
    let folders = [one.directory().to_owned(), two.directory().to_owned()];
    one.stop().await.unwrap();
    // Dropped, not stopped.
    drop(two);
    for folder in folders {
        assert!(!folder.exists());
        assert_eq!(processes_of(&folder), 0);
    }
}

#[tokio::test]
async fn a_kept_folder_comes_back_and_has_one_user() {
    let parent = state_folder();
    let options = StackOptions {
        state: Some(parent.path().join("a state")),
        ..Default::default()
    };
    let first = Stack::start(options.clone()).await.unwrap();
    let refused = Stack::start(options.clone()).await.unwrap_err().to_string();
    assert!(refused.contains("in use by another stack"), "{refused}");
    first.create_database("kept").await.unwrap();
    let context = jetstream(&first, 0).await;
    context
        .create_stream(jetstream::stream::Config {
            name: "KEPT".into(),
            ..Default::default()
        })
        .await
        .unwrap();
    first.stop().await.unwrap();
    assert_eq!(processes_of(parent.path()), 0);

    let second = Stack::start(StackOptions {
        accounts: 2,
        ..options.clone()
    })
    .await
    .unwrap();
    assert_eq!(sql::<i32>(&second, "kept", "select 1").await, 1);
    jetstream(&second, 0)
        .await
        .get_stream("KEPT")
        .await
        .unwrap();
    drop(second);
    assert_eq!(processes_of(parent.path()), 0);

    let refused = Stack::start(StackOptions {
        nats_nodes: 3,
        ..options
    })
    .await
    .unwrap_err()
    .to_string();
    assert!(refused.contains("1 NATS node"), "{refused}");
}

#[tokio::test]
async fn a_server_that_does_not_start_is_explained() {
    let folder = state_folder();
    let program = folder.path().join("nats-server");
    std::fs::write(&program, "#!/bin/sh\necho out of order; exit 3\n").unwrap();
    std::process::Command::new("chmod")
        .arg("755")
        .arg(&program)
        .status()
        .unwrap();
    let state = folder.path().join("state");
    let options = StackOptions {
        state: Some(state),
        nats_server: Some(program),
        ..Default::default()
    };
    let error = format!("{:#}", Stack::start(options).await.unwrap_err());
    assert!(error.contains("out of order"), "{error}");
    assert_eq!(processes_of(folder.path()), 0);
}

/// Not a test of its own: what a test below kills.
#[tokio::test]
#[ignore = "runs until it is killed"]
async fn holds_a_stack() {
    let state = std::env::var_os("STACK_STATE").map(PathBuf::from);
    let stack = Stack::start(StackOptions {
        state,
        ..Default::default()
    })
    .await
    .unwrap();
    stack.create_database("kept").await.unwrap();
    println!("\nfolder {}", stack.directory().display());
    std::future::pending::<()>().await;
}

/// A process of its own group that holds a stack, and the stack's folder.
fn holder(state: Option<&Path>) -> (Child, PathBuf) {
    use std::io::BufRead;
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "--ignored", "--nocapture"])
        .arg(format!(
            "{}::holds_a_stack",
            module_path!().split_once("::").unwrap().1
        ));
    command.envs(state.map(|state| ("STACK_STATE", state)));
    let mut child = command
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let folder = lines
        .map_while(Result::ok)
        .find_map(|line| Some(PathBuf::from(line.strip_prefix("folder ")?)));
    (child, folder.expect("the stack starts"))
}

fn signal(name: &str, target: &str) {
    assert!(
        Command::new("kill")
            .args(["-s", name, "--", target])
            .status()
            .unwrap()
            .success()
    );
}

/// Its streams would not be found: they were in one account.
#[tokio::test]
async fn a_folder_of_before_there_were_accounts_is_refused() {
    let state = state_folder();
    let secrets =
        r#"{"nats_nodes": 1, "accounts": ["a"], "system": "b", "routes": "c", "postgres": "d"}"#;
    std::fs::write(state.path().join("secrets.json"), secrets).unwrap();
    let options = StackOptions {
        state: Some(state.path().to_owned()),
        postgres: false,
        ..Default::default()
    };
    let refused = Stack::start(options).await.unwrap_err().to_string();
    assert!(refused.contains("made by an earlier version"), "{refused}");
    assert_eq!(processes_of(state.path()), 0);
}

#[test]
fn a_killed_owner_leaves_neither_servers_nor_folder() {
    for name in ["KILL", "INT"] {
        let (mut owner, folder) = holder(None);
        assert!(processes_of(&folder) >= 3, "the guard and two servers");
        // To the whole group, as a terminal sends its Ctrl-C.
        signal(name, &format!("-{}", owner.id()));
        owner.wait().unwrap();
        until("the servers end", || processes_of(&folder) == 0);
        until("the folder goes", || !folder.exists());
    }
}

#[tokio::test]
async fn a_kept_folder_waits_for_the_servers_of_a_killed_owner() {
    let parent = state_folder();
    let state = parent.path().join("state");
    let (mut owner, _) = holder(Some(&state));
    owner.kill().unwrap();
    owner.wait().unwrap();
    let stack = Stack::start(StackOptions {
        state: Some(state),
        ..Default::default()
    })
    .await
    .unwrap();
    assert_eq!(sql::<i32>(&stack, "kept", "select 1").await, 1);
    stack.stop().await.unwrap();
    assert_eq!(processes_of(parent.path()), 0);
}

#[tokio::test]
async fn a_killed_guard_is_replaced_at_the_end() {
    let stack = Stack::start(StackOptions {
        postgres: false,
        ..Default::default()
    })
    .await
    .unwrap();
    let folder = stack.directory().to_owned();
    // Neither is it ended by what a terminal sends.
    let guard = stack.guard.as_ref().unwrap().pid().to_string();
    for name in ["INT", "HUP", "TERM"] {
        signal(name, &guard);
    }
    let messages = jetstream(&stack, 0).await.streams().count().await;
    assert_eq!((messages, processes_of(&folder)), (0, 2));
    signal("KILL", &guard);
    stack.stop().await.unwrap();
    assert!(!folder.exists());
    assert_eq!(processes_of(&folder), 0);
}
