//! No command that changes or exports something gets through without its token. The commands are those of
//! the program's own definition: a new one that stands in neither list here fails.

use std::collections::BTreeSet;

use artstore::commands::definition::{definition, parse};
use clap::Command;
use serde_json::json;
use sqlx::PgConnection;

use super::{assert_absent, file, folder_of_exports, keys, signed, text};
use crate::support::signed::{now, user};
use crate::support::{Program, World, execute, pg, run, value};

const ID: &str = "0191d3a5-7c1e-7b5e-9f00-000000000001";

/// Commands that need a token, each as it would do something.
const GUARDED: &[&[&str]] = &[
    &["projection", "rebuild", "query-cache"],
    &["projection", "rollback", "query-cache"],
    &["projection", "remove", "query-cache", "query_cache_x"],
    &["projection", "pause", "query-cache", "--reason", "x"],
    &["projection", "resume", "query-cache"],
    &["projection", "repair", "query-cache", "--file", ID],
    &["parked", "retry"],
    &["parked", "discard", "one", "1", "--reason", "x"],
    &["parked", "undiscard", "one", "1", "--reason", "x"],
    &["wal", "resolve", ID, "--as", "failed", "--yes"],
    &["wal", "number", "--source", "one", "--yes"],
    &["wal", "prune", "--older-than", "1d", "--yes"],
    &[
        "relay",
        "accept-source",
        "--source",
        "one",
        "--yes",
        "--reason",
        "x",
    ],
    &[
        "relay",
        "republish",
        "--source",
        "one",
        "--yes",
        "--reason",
        "x",
    ],
    &["element", "backfill", "one"],
    &["element", "set-url", "one", "http://x.example"],
    &[
        "audit",
        "accept-stream",
        "--stream",
        "admin",
        "--reason",
        "x",
    ],
    &["audit", "archive", "--before", "2001-01-01", "--to", "TO"],
    &["audit", "export", "--format", "jsonl", "--to", "TO/rows"],
];

/// Commands that need none: they read, run as services, or work on the installation with the rights of
/// its owner.
const FREE: &[&str] = &[
    "audit check-archive",
    "audit check-proof",
    "audit consistency",
    "audit head",
    "audit keygen",
    "audit prove",
    "audit show",
    "audit tail",
    "audit verify",
    "audit witness",
    "bench",
    "bus backup",
    "bus check-backup",
    "bus init",
    "bus permissions",
    "bus restore",
    "completion",
    "demo",
    "dev",
    "health",
    "help",
    "man",
    "migrate adopt",
    "migrate backup",
    "migrate check",
    "migrate down",
    "migrate grant",
    "migrate redo",
    "migrate roles",
    "migrate smoke",
    "migrate status",
    "migrate up",
    "parked list",
    "parked show",
    "projection list",
    "projection status",
    "run projector",
    "run relay",
    "search",
    "status",
    "token check",
    "verify",
    "version",
    "wal pending",
];

fn leaves(command: &Command, path: &str, found: &mut BTreeSet<String>) {
    let mut below = command.get_subcommands().peekable();
    if below.peek().is_none() {
        found.insert(path.trim().to_owned());
    }
    for one in below {
        leaves(one, &format!("{path} {}", one.get_name()), found);
    }
}

fn path(arguments: &[&str]) -> String {
    arguments[..2].join(" ")
}

#[test]
fn each_command_of_the_program_is_guarded_or_free() {
    let mut all = BTreeSet::new();
    leaves(&definition(), "", &mut all);
    let guarded = GUARDED.iter().map(|arguments| path(arguments));
    let known: BTreeSet<String> = guarded
        .chain(FREE.iter().map(|path| (*path).to_owned()))
        .collect();
    assert_eq!(all, known, "decide whether it needs a token");
    for arguments in GUARDED {
        let line = ["artstore"].iter().chain(*arguments);
        let cli = parse(line.map(Into::into)).unwrap();
        let attempt = cli.command.attempt().unwrap();
        assert_eq!(attempt.command, path(arguments));
    }
    for only_looks in [
        "wal resolve --proposed --dry-run",
        "wal number --source one",
        "wal prune --older-than 1d --dry-run",
        "relay accept-source --source one",
        "relay republish --source one",
        "audit archive --before 2001-01-01 --to x --dry-run",
    ] {
        let line = ["artstore"].into_iter().chain(only_looks.split(' '));
        let cli = parse(line.map(Into::into)).unwrap();
        assert_eq!(cli.command.attempt(), None, "{only_looks}");
    }
}

/// All rows of all tables but the outbox, in one digest.
async fn digest(connection: &mut PgConnection) -> String {
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('%I', tablename) from pg_tables where schemaname = 'public' \
         and tablename <> 'event_outbox' order by 1",
    )
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    let mut all = String::new();
    for table in tables {
        let sql = format!(
            "select coalesce(md5(string_agg(t::text, '|' order by t::text)), '') from {table} t"
        );
        let rows: String = value(connection, sql).await;
        all += &format!("{table} {rows}\n");
    }
    all
}

async fn state(world: &World) -> String {
    let mut all = String::new();
    for mut connection in [
        world.element(0).await,
        world.query().await,
        world.admin().await,
    ] {
        all += &digest(&mut connection).await;
    }
    for source in world.sources() {
        all += &format!("{source} {}\n", world.last_sequence(&source).await);
    }
    all
}

async fn events(url: &str) -> Vec<(String, String)> {
    sqlx::query_as("select entity || '.' || action, data ->> 'command' from event_outbox")
        .fetch_all(&mut pg(url).await)
        .await
        .unwrap()
}

fn run_as(world: &World, arguments: &[&str], exports: &str, keys: &str) -> Program {
    let arguments: Vec<String> = arguments
        .iter()
        .map(|word| match word.strip_prefix("TO") {
            Some(rest) => format!("{exports}{rest}"),
            None => (*word).to_owned(),
        })
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    world
        .command(&arguments)
        .env("AUTH_REQUIRED", "true")
        .env("AUTH_PUBLIC_KEY_PATH", keys)
}

#[test]
fn without_an_administrators_token_no_command_does_anything() {
    run(async {
        let world = World::new(&["one"]).await;
        let pending = format!(
            "insert into one_wal (transaction_id, operation_type, status, operation_data, started_at) \
             values ('{ID}', 'mode_change', 'pending', '{{}}', now() - interval '3 days')"
        );
        execute(&mut world.element(0).await, pending).await;
        let (folder, exports) = (keys(), folder_of_exports());
        let before = state(&world).await;
        let user_token = signed(&user(json!({"role": "user"})));
        let expired = signed(&user(json!({"exp": now() - 60})));
        let mut tried = 0;
        for arguments in GUARDED {
            for (token, reason) in [
                (None, "needs a token of role admin"),
                (Some(&user_token), "the token has the role user"),
                (Some(&expired), "expired"),
            ] {
                let program = run_as(&world, arguments, text(&exports), text(&folder));
                let program = match token {
                    Some(token) => program.env("ARTSTORE_TOKEN", token),
                    None => program,
                };
                let mut process = program.start();
                let status = process.ended().await;
                let said = process.output() + &process.log();
                assert_eq!(status.code(), Some(1), "{arguments:?}: {said}");
                assert!(said.contains("permission denied"), "{arguments:?}: {said}");
                assert!(said.contains(reason), "{arguments:?}: {said}");
                assert!(!said.contains("not recorded"), "{arguments:?}: {said}");
                assert_absent(token.map_or("", String::as_str), &said);
                tried += 1;
            }
        }
        assert_eq!(state(&world).await, before);
        assert_eq!(std::fs::read_dir(&exports).unwrap().count(), 0);
        let mut recorded = events(&world.admin_url).await;
        recorded.extend(events(&world.query_url).await);
        assert_eq!(recorded.len(), tried);
        for (event, command) in &recorded {
            assert_eq!(event, "permission.denied", "{command}");
        }
        let commands: BTreeSet<&str> = recorded.iter().map(|(_, of)| of.as_str()).collect();
        assert_eq!(commands.len(), GUARDED.len());
    });
}

/// Who has only the arguments of a command does not decide who may.
#[test]
fn an_option_does_not_undo_what_a_variable_demands() {
    run(async {
        let world = World::new(&["one"]).await;
        let (folder, exports) = (keys(), folder_of_exports());
        let own = folder_of_exports();
        for option in [
            &["--auth-required", "false"][..],
            &["--auth-public-key-path", text(&own)],
            &["--auth-token-types", "access,other"],
        ] {
            let arguments = [GUARDED[0], option].concat();
            let program = run_as(&world, &arguments, text(&exports), text(&folder));
            let (status, said) = program.env("AUTH_TOKEN_TYPES", "access").finish().await;
            assert_eq!(status.code(), Some(2), "{option:?}: {said}");
            assert!(said.contains("the variable decides"), "{option:?}: {said}");
        }
        // Keys alone demand tokens, too.
        let arguments = [GUARDED[0], &["--auth-required", "false"]].concat();
        let program = run_as(&world, &arguments, text(&exports), text(&folder));
        let (status, said) = program.without("AUTH_REQUIRED").finish().await;
        assert_eq!(status.code(), Some(2), "{said}");
        assert!(said.contains("the variable decides"), "{said}");
        // A token in the place of its file is not shown.
        let token = signed(&user(json!({"role": "admin"})));
        let program = run_as(&world, GUARDED[0], text(&exports), text(&folder));
        let (status, said) = program.env("ARTSTORE_TOKEN_FILE", &token).finish().await;
        assert_eq!(status.code(), Some(2), "{said}");
        assert!(!said.contains(&token[..40]), "{said}");
    });
}

#[test]
fn an_administrator_may_and_an_auditor_may_export() {
    run(async {
        let world = World::new(&["one"]).await;
        let (folder, exports) = (keys(), folder_of_exports());
        let admin = file("admin", &signed(&user(json!({"role": "ADMIN"}))));
        let auditor = file("auditor", &signed(&user(json!({"role": "auditor"}))));
        let pause = &["projection", "pause", "query-cache", "--reason", "x"];
        let export = &["audit", "export", "--format", "jsonl", "--to", "TO/rows"];
        for (arguments, token, code) in [
            (&pause[..], &auditor, 1),
            (&pause[..], &admin, 0),
            (&export[..], &auditor, 0),
        ] {
            let program = run_as(&world, arguments, text(&exports), text(&folder));
            let program = program.argument("--token-file").argument(text(token));
            let (status, log) = program.finish().await;
            assert_eq!(status.code(), Some(code), "{arguments:?}: {log}");
        }
    });
}

/// Nobody decided it: such a command does nothing, and says what to set.
#[test]
fn where_nobody_decided_who_may_the_settings_are_named() {
    run(async {
        let world = World::new(&[]).await;
        let before = state_of_query(&world).await;
        let pause = ["projection", "pause", "query-cache", "--reason", "x"];
        let (status, said) = world
            .command(&pause)
            .env("AUTH_REQUIRED", "")
            .finish()
            .await;
        assert_eq!(status.code(), Some(2), "{said}");
        for setting in ["AUTH_PUBLIC_KEY_PATH", "AUTH_REQUIRED=false", "admin"] {
            assert!(said.contains(setting), "{said}");
        }
        assert_eq!(state_of_query(&world).await, before);
        // Keys alone decide it, and so does the setting without keys.
        let keys = keys();
        for (name, value, code) in [
            ("AUTH_PUBLIC_KEY_PATH", text(&keys), 1),
            ("AUTH_REQUIRED", "true", 2),
        ] {
            let program = world.command(&pause).env("AUTH_REQUIRED", "");
            let (status, said) = program.env(name, value).finish().await;
            assert_eq!(status.code(), Some(code), "{said}");
        }
        // What reads needs no decision.
        let list = world.command(&["projection", "list"]);
        let (status, said) = list.env("AUTH_REQUIRED", "").finish().await;
        assert!(status.success(), "{said}");
    });
}

async fn state_of_query(world: &World) -> String {
    digest(&mut world.query().await).await
}
