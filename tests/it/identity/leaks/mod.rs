//! No secret leaves the process that has it: everything runs with known ones, as talkative as it can be, and then all
//! outputs, logs, answers over HTTP, streams, tables and files are searched for each of them, and for any token.

mod processes;
mod search;

use artstore::commands::definition::definition;
use artstore_projectors::audit_log::note::SignerKey;
use artstore_schemas::source::Source;
use clap::Command;
use serde_json::json;

use self::processes::{Running, Said};
use self::search::{Secrets, search, server_log};
use super::{file, folder_of_exports, keys, signed, text};
use crate::support::load::{create, new_file};
use crate::support::signed::{now, user};
use crate::support::{Program, World, eventually, execute, pg, run, value};

const HMAC: &str = "k3Jq8vX1mZ0wR7tY5uB2nC6dF9gH4sLa";
const OLD_HMAC: &str = "Qw8eRt5yUi2oPa7sDf4gHj1kLz9xCv6b";
/// In passwords and URLs that are wrong.
const WRONG: &str = "Zq7mWrongX4pT";

/// Of a role that `artstore migrate roles` makes.
const ROLE_PASSWORD: &str = "Vb3nRolePq9sKt";

/// The paths of all commands.
fn commands(command: &Command, path: &[String], found: &mut Vec<Vec<String>>) {
    found.push(path.to_vec());
    for below in command.get_subcommands() {
        commands(
            below,
            &[path, &[below.get_name().to_owned()]].concat(),
            found,
        );
    }
}

/// A URL with another password.
fn with_password(url: &str, password: &str) -> String {
    let mut url: url::Url = url.parse().unwrap();
    url.set_password(Some(password)).unwrap();
    url.to_string()
}

/// With every secret in its environment.
fn knowing(program: Program, token: &str) -> Program {
    program
        .env("SECURITY_AUDIT_HMAC_SECRET", HMAC)
        .env("ARTSTORE_TOKEN", token)
        .env("DB_PASSWORD", WRONG)
        .env("DATABASE_PASSWORD", WRONG)
        .env(
            "STORAGE_DATABASE_URL",
            &format!("postgres://x:{WRONG}@127.0.0.1:1/x"),
        )
}

#[test]
fn no_secret_is_in_any_output_stream_table_or_file() {
    run(async {
        let world = World::new(&["one"]).await;
        let (public, exports) = (keys(), folder_of_exports());
        let key = SignerKey::generate("test.example/audit").unwrap();
        let signing = file("signing.key", &key.to_private_text());
        let verifiers = file("verifier.keys", &key.verifier().to_string());
        let old = file("old", OLD_HMAC);
        let admin = signed(&user(json!({"jti": "t-1"})));
        let refused = signed(&user(json!({"role": "user"})));
        let expired = signed(&user(json!({"exp": now() - 60})));

        let mut secrets = Secrets::default();
        for (name, url) in [("query", &world.query_url), ("NATS", &world.nats_url)] {
            let url: url::Url = url.parse().unwrap();
            secrets.add(&format!("the password of {name}"), url.password().unwrap());
        }
        for entry in std::fs::read_dir(world.nats_keys.as_ref().unwrap()).unwrap() {
            let path = entry.unwrap().path();
            let seed = std::fs::read_to_string(&path).unwrap();
            secrets.add(&path.display().to_string(), seed.trim());
        }
        let private = key.to_private_text();
        // Base64 has that sign, too.
        let private = private.splitn(5, '+').last().unwrap();
        for (name, secret) in [
            ("the HMAC secret", HMAC),
            ("the old HMAC secret", OLD_HMAC),
            ("a wrong password", WRONG),
            ("the signing key", private),
            ("the password of a role", ROLE_PASSWORD),
            (
                "the administrator's token",
                admin.rsplit_once('.').unwrap().1,
            ),
            ("a refused token", refused.rsplit_once('.').unwrap().1),
            ("an expired token", expired.rsplit_once('.').unwrap().1),
        ] {
            secrets.add(name, secret);
        }
        let mut said = Said::default();

        let audited = |arguments: &[&str]| {
            world
                .command(arguments)
                .env("SECURITY_AUDIT_HMAC_SECRET", HMAC)
                .env("SECURITY_AUDIT_HMAC_OLD_SECRETS_PATH", text(&old))
                .env("SECURITY_AUDIT_VERIFIER_KEYS_PATH", text(&verifiers))
                .env("AUTH_REQUIRED", "true")
                .env("AUTH_PUBLIC_KEY_PATH", text(&public))
        };
        let with_token = |arguments: &[&str]| audited(arguments).env("ARTSTORE_TOKEN", &admin);
        let relay = Running::start("the relay", world.command(&["run", "relay", "--verify"])).await;
        let projector = Running::start("the projector", world.command(&["run", "projector"])).await;
        let audit = audited(&["run", "projector", "--projection", "audit-log"])
            .env("SECURITY_AUDIT_SIGNING_KEY_PATH", text(&signing))
            .env("SECURITY_AUDIT_HEAD_SECONDS", "1");
        let audit = Running::start("the audit log", audit).await;

        let mut publisher = (world.elements[0].0.clone(), world.element(0).await);
        for name in ["a.pdf", "b.pdf"] {
            create(&mut publisher, &new_file(name)).await.unwrap();
        }
        // Commands that do something, by a token from the variable and from a file.
        let pause = ["projection", "pause", "query-cache", "--reason", "x"];
        assert!(said.run("pause", with_token(&pause)).await);
        let republish = [
            "relay",
            "republish",
            "--source",
            "one",
            "--yes",
            "--reason",
            "x",
        ];
        let resume = audited(&["projection", "resume", "query-cache"]);
        let resume = resume.env("ARTSTORE_TOKEN_FILE", text(&file("admin", &admin)));
        assert!(said.run("resume", resume).await);
        assert!(said.run("search", with_token(&["search", "pdf"])).await);
        // Refused: a role that may not, one that has expired, tokens in wrong places.
        for token in [&refused, &expired] {
            // One is recorded by the query module, the other by the admin module.
            for arguments in [&pause[..], &republish] {
                let program = audited(arguments).env("ARTSTORE_TOKEN", token);
                assert!(!said.run("a refused command", program).await);
            }
            let check = audited(&["token", "check", "--token", token]);
            said.run("token check", check).await;
        }
        let misplaced: [&[&str]; 4] = [
            &["token", "check", &admin],
            &["token", "check", "--tokn", &admin],
            &["token", "check", "--token-file", &admin],
            &["migrate", "status", &with_password(&world.query_url, WRONG)],
        ];
        for arguments in misplaced {
            assert!(!said.run("a wrong usage", audited(arguments)).await);
            let json = audited(arguments).env("LOG_FORMAT", "json");
            assert!(!said.run("a wrong usage", json).await);
        }
        // Wrong passwords, broken URLs, a parameter that nobody knows.
        let wrong = with_password(&world.query_url, WRONG);
        let unknown = format!("{}?passwd={WRONG}", world.query_url);
        for (variable, value) in [
            ("QUERY_DATABASE_URL", wrong.as_str()),
            ("QUERY_DATABASE_URL", &format!("postgres://ann:{WRONG}@[/x")),
            ("QUERY_DATABASE_URL", &format!("mysql://ann:{WRONG}@h/x")),
            ("QUERY_DATABASE_URL", &unknown),
            (
                "ARTSTORE_ELEMENTS",
                &format!("postgres://ann:{WRONG}@h/x?a=b"),
            ),
            ("NATS_URL", &format!("nats://ann:{WRONG}")),
            ("NATS_URL", &format!("nats://ann:{WRONG},x@h:1")),
            ("NATS_URL", &format!("nats://ann:{WRONG}@[")),
            ("NATS_URL", &format!("nats://ann:{WRONG}@127.0.0.1:1")),
        ] {
            for arguments in [
                &["run", "projector"][..],
                &["run", "relay"],
                &["status", "--json"],
                &["verify"],
                &["migrate", "check"],
            ] {
                // A service would run on where it does not need it, or ignores a part of it.
                let elsewhere = arguments[1..] == ["projector"] && variable == "ARTSTORE_ELEMENTS";
                if arguments[0] == "run" && (value == unknown || elsewhere) {
                    continue;
                }
                let program = world
                    .command(arguments)
                    .without("NATS_CREDENTIALS")
                    .env("ARTSTORE_WAIT_SECONDS", "0")
                    .env("ARTSTORE_VERIFY_WAIT_SECONDS", "1")
                    .env(variable, value);
                said.run(&format!("{arguments:?} with a wrong {variable}"), program)
                    .await;
            }
        }
        // A password that the command sets, where the server logs each statement that changes a role.
        let tag = uuid::Uuid::new_v4().simple().to_string();
        let prefix = format!("l{}", &tag[..12]);
        let password = file(&format!("{prefix}_console"), ROLE_PASSWORD);
        let passwords = text(password.parent().unwrap()).to_owned();
        let make = [
            &["migrate", "roles", "--module", "query", "--duty", "console"][..],
            &["--prefix", &prefix, "--passwords", &passwords],
        ];
        let logged = format!("{}?options[log_statement]=ddl", world.query_url);
        let roles = world
            .command(&make.concat())
            .env("QUERY_DATABASE_URL", &logged);
        assert!(said.run("roles", roles).await);
        let log = std::fs::read_to_string(server_log().await).unwrap();
        assert!(
            log.contains(&format!("alter role {prefix}_console password")),
            "it is not logged"
        );
        let backup = exports.join("dumps");
        let dump = world.command(&["migrate", "backup", "--to", text(&backup)]);
        said.run("a backup", dump).await;

        for (source, least) in [(world.source(0), 2), (Source::Query, 5), (Source::Admin, 2)] {
            let what =
                format!("{least} events of {source} are rows of the audit log, under a head");
            eventually(&what, async || {
                let last = world.last_sequence(&source).await;
                let heads = format!(
                    "select coalesce((select max(size) from audit_heads where stream = '{}'), 0)",
                    source.stream()
                );
                let size: i64 = value(&mut world.admin().await, heads).await;
                (last >= least && u64::try_from(size).unwrap() >= last).then_some(())
            })
            .await;
        }
        world.projected().await;
        let export = exports.join("rows.jsonl");
        let export = [
            "audit",
            "export",
            "--format",
            "jsonl",
            "--to",
            text(&export),
        ];
        assert!(said.run("an export", with_token(&export)).await);
        let state = exports.join("verify.state");
        for arguments in [
            &["verify", "--resume", text(&state)][..],
            &["status"],
            &["status", "--json"],
            &["audit", "verify"],
            &["audit", "tail"],
            &["audit", "head"],
            &["projection", "status", "query-cache"],
            &["migrate", "status"],
            &["migrate", "check"],
            &["wal", "pending"],
        ] {
            said.run(&arguments.join(" "), audited(arguments)).await;
        }
        for service in [&relay, &projector, &audit] {
            service.look(&mut said).await;
        }
        let mut paths = Vec::new();
        commands(&definition(), &[], &mut paths);
        for path in paths {
            let arguments: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
            let program = knowing(world.command(&arguments), &admin);
            assert!(said.run(&arguments.join(" "), program).await);
        }
        let settings = knowing(world.command(&["help", "settings"]), &admin);
        assert!(said.run("help settings", settings).await);
        for service in [&relay, &projector, &audit] {
            service.process.signal("-TERM").await;
        }
        for mut service in [relay, projector, audit] {
            service.process.ended().await;
            said.of(service.name, &service.process);
        }

        let found = search(&world, &said, &exports, &secrets).await;
        assert!(found.is_empty(), "{found:#?}");

        // The search sees what is there: planted in a row, with its message, in a file and in a log.
        let planted = format!("{WRONG} {admin}");
        execute(
            &mut pg(&world.query_url).await,
            format!(
                "insert into event_outbox (event_id, entity, action, data, actor) values \
                 (gen_random_uuid(), 'user', 'created', jsonb_build_object('note', '{planted}'), \
                     jsonb_build_object('type', 'system'))"
            ),
        )
        .await;
        let before = world.last_sequence(&Source::Query).await;
        let again = world.command(&["run", "relay"]).start();
        eventually("it is published", async || {
            (world.last_sequence(&Source::Query).await > before).then_some(())
        })
        .await;
        drop(again);
        std::fs::write(exports.join("planted"), &planted).unwrap();
        said.0.push(("a planted log".to_owned(), planted));
        let found = search(&world, &said, &exports, &secrets).await;
        for place in [
            "message",
            "table public.event_outbox",
            "/planted",
            "a planted log",
            // The server's own files.
            ".blk",
        ] {
            let of = |what: &str| {
                let is_there = |found: &&String| found.starts_with(what) && found.contains(place);
                found.iter().any(|found| is_there(&found))
            };
            assert!(
                of("a wrong password") && of("a token"),
                "{place}: {found:#?}"
            );
        }
    });
}
