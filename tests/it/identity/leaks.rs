//! No secret leaves the process that has it: everything runs with known ones, as talkative as it can be, and then all
//! outputs, logs, answers over HTTP, streams, tables and files are searched for each of them, and for any token.

use std::path::{Path, PathBuf};

use artstore::commands::definition::definition;
use artstore_projectors::audit_log::note::SignerKey;
use artstore_schemas::source::Source;
use clap::Command;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{file, folder_of_exports, keys, signed, text};
use crate::support::load::{create, new_file};
use crate::support::signed::{now, user};
use crate::support::{Process, Program, World, eventually, execute, pg, run, shared_stack, value};

const HMAC: &str = "k3Jq8vX1mZ0wR7tY5uB2nC6dF9gH4sLa";
const OLD_HMAC: &str = "Qw8eRt5yUi2oPa7sDf4gHj1kLz9xCv6b";
/// In passwords and URLs that are wrong.
const WRONG: &str = "Zq7mWrongX4pT";

/// Of a role that `artstore migrate roles` makes.
const ROLE_PASSWORD: &str = "Vb3nRolePq9sKt";

/// What is searched for, each with its name.
struct Secrets(Vec<(String, String)>);

impl Secrets {
    fn add(&mut self, name: &str, secret: &str) {
        assert!(secret.len() > 8, "{name} is too short to be searched for");
        self.0.push((name.to_owned(), secret.to_owned()));
        // As PostgreSQL prints bytes.
        let hex = HEXLOWER.encode(secret.as_bytes());
        self.0.push((format!("{name}, in hex"), hex));
    }

    /// Those that are in some bytes, with the place.
    fn found_in(&self, place: &str, bytes: &[u8]) -> Vec<String> {
        let text = String::from_utf8_lossy(bytes);
        let mut found: Vec<String> = self
            .0
            .iter()
            .filter(|(_, secret)| text.contains(secret))
            .map(|(name, _)| format!("{name} in {place}"))
            .collect();
        if has_token(&text) {
            found.push(format!("a token in {place}"));
        }
        found
    }
}

/// `eyJ`, with which each token begins. What comes behind it has to be JSON: a signature in Base64 may have the same
/// three letters.
fn has_token(text: &str) -> bool {
    let starts = text.match_indices("eyJ");
    starts
        .filter_map(|(at, _)| {
            BASE64URL_NOPAD
                .decode(text.get(at..at + 12)?.as_bytes())
                .ok()
        })
        .any(|decoded| decoded.iter().all(|byte| (b' '..=b'~').contains(byte)))
}

/// Everything that processes said.
#[derive(Default)]
struct Said(Vec<(String, String)>);

impl Said {
    async fn run(&mut self, what: &str, program: Program) -> bool {
        let mut process = program.env("LOG_LEVEL", "trace").start();
        let status = process.ended().await;
        self.of(what, &process);
        status.success()
    }

    fn of(&mut self, what: &str, process: &Process) {
        self.0
            .push((format!("the output of {what}"), process.output()));
        self.0.push((format!("the log of {what}"), process.log()));
    }
}

/// A service that listens, and what its process shows of itself.
struct Running {
    name: &'static str,
    process: Process,
    address: String,
}

impl Running {
    async fn start(name: &'static str, program: Program) -> Self {
        let process = program
            .env("LOG_LEVEL", "trace")
            .env("ARTSTORE_LISTEN", "127.0.0.1:0")
            .start();
        let address = eventually("it says where it listens", async || {
            let log = process.log();
            let (_, address) = log.split_once(" address=")?;
            Some(address.split([' ', '\n']).next()?.to_owned())
        })
        .await;
        Self {
            name,
            process,
            address,
        }
    }

    async fn look(&self, said: &mut Said) {
        for path in ["/metrics", "/health/live", "/health/ready"] {
            let mut stream = TcpStream::connect(&self.address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: artstore\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
            said.0.push((format!("{path} of {}", self.name), answer));
        }
        let arguments = std::fs::read(format!("/proc/{}/cmdline", self.process.pid())).unwrap();
        let arguments = String::from_utf8_lossy(&arguments).into_owned();
        said.0
            .push((format!("the arguments of {}", self.name), arguments));
    }
}

/// Every row of every table, as text.
async fn tables(connection: &mut PgConnection) -> Vec<(String, String)> {
    let names: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', schemaname, tablename) from pg_tables \
         where schemaname not in ('pg_catalog', 'information_schema') order by 1",
    )
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    assert!(names.len() > 2, "{names:?}");
    let mut all = Vec::new();
    for name in names {
        let sql = format!("select coalesce(string_agg(t::text, e'\\n'), '') from {name} t");
        let rows: String = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(&mut *connection)
            .await
            .unwrap();
        all.push((format!("table {name}"), rows));
    }
    all
}

/// Every file below a folder, but where the secrets are at home.
fn files(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    // A private server has the passwords of its users in its configuration.
    const HOMES: &[&str] = &["nats-keys", "secrets.json", "server.conf"];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if HOMES.contains(&name) {
            continue;
        }
        if path.is_dir() {
            files(&path, found);
        } else if let Ok(bytes) = std::fs::read(&path) {
            // A temporary file may be gone again.
            found.push((path.display().to_string(), bytes));
        }
    }
}

async fn server_log() -> PathBuf {
    shared_stack().await.directory().join("postgres/server.log")
}

/// Where any of the secrets is. `exports`: what commands wrote.
async fn search(world: &World, said: &Said, exports: &Path, secrets: &Secrets) -> Vec<String> {
    let mut found = Vec::new();
    for (place, text) in &said.0 {
        found.extend(secrets.found_in(place, text.as_bytes()));
    }
    let mut streams: Vec<String> = world.sources().iter().map(Source::stream).collect();
    streams.push(artstore_bus::stream_name::AUDIT_HEADS.to_owned());
    for stream in streams {
        let info = world.bus.stream_info(&stream).await.unwrap();
        assert!(info.state.messages > 0, "{stream} is empty");
        found.extend(secrets.found_in(&stream, json!(info.config).to_string().as_bytes()));
        for sequence in info.state.first_sequence..=info.state.last_sequence {
            let message = world.bus.message_at(&stream, sequence).await.unwrap();
            let Some(message) = message else { continue };
            let place = format!("message {sequence} of {stream}");
            let headers = format!("{} {:?}", message.subject, message.headers);
            found.extend(secrets.found_in(&place, headers.as_bytes()));
            found.extend(secrets.found_in(&place, &message.body));
        }
    }
    for mut connection in [
        world.element(0).await,
        world.query().await,
        world.admin().await,
    ] {
        for (place, rows) in tables(&mut connection).await {
            found.extend(secrets.found_in(&place, rows.as_bytes()));
        }
    }
    let mut all = Vec::new();
    files(exports, &mut all);
    files(world.nats_folder(), &mut all);
    let server = server_log().await;
    all.push((
        server.display().to_string(),
        std::fs::read(&server).unwrap(),
    ));
    assert!(all.len() > 10, "{} files", all.len());
    for (place, bytes) in &all {
        found.extend(secrets.found_in(place, bytes));
    }
    found
}

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

        let mut secrets = Secrets(Vec::new());
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
