//! A wrong configuration gives one clear error at the start: what is wrong, where, what to do. No
//! secret is in it, the exit code tells usage (2) from everything else (1), and nothing is changed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use artstore::stack::{Stack, StackOptions};
use artstore_migrations::Module;
use artstore_schemas::element::ElementName;
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use futures::TryStreamExt as _;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::support::*;

/// In every URL that is given as a wrong one: it must not be said again.
const SECRET: &str = "verborgen";

/// Runs it to its end: the exit code, and one error that says all this, once.
async fn refused(program: Program, code: i32, says: &[&str]) {
    let (status, log) = program.finish().await;
    assert_eq!(status.code(), Some(code), "{log}");
    let errors: Vec<&str> = log
        .lines()
        .filter(|line| !line.contains(" INFO "))
        .collect();
    let [error] = errors[..] else {
        panic!("one error, not: {log}");
    };
    assert!(error.starts_with("artstore: "), "{error}");
    let cause = error.rsplit(": ").next().unwrap();
    assert_eq!(error.matches(cause).count(), 1, "said twice: {error}");
    for text in says {
        assert!(error.contains(text), "{text:?} is not in: {error}");
    }
    assert!(!log.contains(SECRET), "a secret: {log}");
}

/// Refused by clap, with its own words and usage.
async fn usage(program: Program, says: &[&str]) {
    let (status, log) = program.finish().await;
    assert_eq!(status.code(), Some(2), "{log}");
    for text in says {
        assert!(log.contains(text), "{text:?} is not in: {log}");
    }
    assert!(!log.contains(SECRET), "a secret: {log}");
}

/// Everything that a database holds: what there is, and what is in it.
async fn content(connection: &mut PgConnection) -> Vec<String> {
    let mut found: Vec<String> = sqlx::query_scalar(
        "select relkind::text || ' ' || relname from pg_class \
         where relnamespace = 'public'::regnamespace order by 1",
    )
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    let tables: Vec<String> = sqlx::query_scalar(
        "select quote_ident(relname) from pg_class \
         where relnamespace = 'public'::regnamespace and relkind in ('r', 'S') order by 1",
    )
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    for table in tables {
        let sql = format!(
            "select coalesce(string_agg(row(t.*)::text, ';' order by row(t.*)::text), '') from public.{table} t"
        );
        let rows: String = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(&mut *connection)
            .await
            .unwrap();
        found.push(format!("{table}: {rows}"));
    }
    found
}

/// Every stream of a world: its settings, and what is in it.
async fn streams(world: &World) -> Vec<String> {
    let mut infos: Vec<_> = world.bus.jetstream.streams().try_collect().await.unwrap();
    infos.sort_by(|a: &async_nats::jetstream::stream::Info, b| a.config.name.cmp(&b.config.name));
    infos
        .into_iter()
        .map(|info| {
            let state = info.state;
            format!(
                "{:?} {} {} {}",
                info.config, info.created, state.messages, state.last_sequence
            )
        })
        .collect()
}

/// A world before and after.
struct Unchanged {
    databases: Vec<(String, Vec<String>)>,
    streams: Vec<String>,
}

impl Unchanged {
    async fn of(world: &World, more: &[&String]) -> Self {
        let own = world.elements.iter().map(|(_, url)| url);
        let urls = own
            .chain([&world.query_url, &world.admin_url])
            .chain(more.iter().copied());
        let mut databases = Vec::new();
        for url in urls {
            databases.push((url.clone(), content(&mut pg(url).await).await));
        }
        Self {
            databases,
            streams: streams(world).await,
        }
    }

    async fn check(self, world: &World) {
        for (url, before) in self.databases {
            same(&before, &content(&mut pg(&url).await).await);
        }
        same(&self.streams, &streams(world).await);
    }
}

/// Shows only what differs.
fn same(before: &[String], now: &[String]) {
    let gone: Vec<&String> = before.iter().filter(|line| !now.contains(line)).collect();
    let new: Vec<&String> = now.iter().filter(|line| !before.contains(line)).collect();
    assert!(
        gone.is_empty() && new.is_empty(),
        "gone: {gone:#?}\nnew: {new:#?}"
    );
}

/// A world with a finished row that a relay would publish, and a message that a projector would
/// apply.
async fn tempting() -> World {
    let world = World::new(&["elem"]).await;
    finished_rows(&mut world.element(0).await, 1).await;
    let relay = world.relay(0).start();
    world.published(0).await;
    relay.kill().await;
    finished_rows(&mut world.element(0).await, 1).await;
    world
}

async fn finished_rows(connection: &mut PgConnection, count: u32) {
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

/// The same server, another user, password or database.
fn other(url: &str, change: impl FnOnce(&mut url::Url)) -> String {
    let mut url: url::Url = url.parse().unwrap();
    change(&mut url);
    url.to_string()
}

fn name_of(url: &str) -> String {
    let url: url::Url = url.parse().unwrap();
    url.path().trim_start_matches('/').to_owned()
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn settings_that_cannot_be_used_are_refused_by_name() {
    run(async {
        let world = tempting().await;
        let before = Unchanged::of(&world, &[]).await;
        let relay = || world.relay(0);
        let url = format!("postgres://artstore:{SECRET}@127.0.0.1:1/artstore");
        let elements = |list: &str| relay().env("ARTSTORE_ELEMENTS", &list.replace("URL", &url));

        // An element's name becomes a table prefix, a stream, a subject.
        let allowed = [
            "ARTSTORE_ELEMENTS",
            "start with a-z",
            "at most 34 characters",
        ];
        let long = "e".repeat(35);
        for name in [
            "Elem", "1elem", "el-em", "el.em", "el em", "é", "e\"", "*", "", &long,
        ] {
            refused(elements(&format!("{name}=URL")), 2, &allowed).await;
        }
        let prefix = Program::new(&["migrate", "up", "--module", "storage"])
            .env("STORAGE_DATABASE_URL", &url)
            .env("DB_TABLE_PREFIX", "drop table; --");
        refused(
            prefix,
            2,
            &[
                "--element (DB_TABLE_PREFIX)",
                "\"drop table; --\"",
                "start with a-z",
            ],
        )
        .await;
        let init = world
            .command(&["bus", "init"])
            .env("ARTSTORE_ELEMENTS", "el>=x");
        refused(init, 2, &["ARTSTORE_ELEMENTS", "start with a-z"]).await;

        let form = ["ARTSTORE_ELEMENTS", "NAME=URL"];
        refused(elements("elem"), 2, &form).await;
        refused(
            elements(&format!("elem={}, {url}", world.elements[0].1)),
            2,
            &form,
        )
        .await;
        // Its name forgotten: what stands before the first `=` is a URL with a password.
        refused(elements("URL?sslmode=prefer"), 2, &form).await;
        refused(
            elements(&format!("elem={SECRET}://x")),
            2,
            &["ARTSTORE_ELEMENTS", "postgres://"],
        )
        .await;
        for (variable, command) in [
            ("QUERY_DATABASE_URL", &["run", "projector"][..]),
            ("ADMIN_DATABASE_URL", &["run", "relay"]),
            (
                "STORAGE_DATABASE_URL",
                &["migrate", "up", "--module", "storage"],
            ),
        ] {
            let program = Program::new(command).env(variable, &format!("nats://{SECRET}"));
            refused(
                program,
                2,
                &[variable, "postgres://USER:PASSWORD@HOST:PORT/DATABASE"],
            )
            .await;
        }
        refused(
            relay().env("NATS_URL", &format!("nats://ann:{SECRET}@[")),
            2,
            &["NATS_URL", "nats://"],
        )
        .await;
        refused(
            relay().env("NATS_CREDENTIALS", "/no/such/file"),
            2,
            &["NATS_CREDENTIALS", "/no/such/file"],
        )
        .await;

        refused(
            relay().env("LOG_LEVEL", "loud"),
            2,
            &["LOG_LEVEL", "\"loud\"", "debug or trace"],
        )
        .await;
        usage(
            relay().env("LOG_FORMAT", "xml"),
            &["LOG_FORMAT", "text, json"],
        )
        .await;
        usage(
            relay().env("ARTSTORE_PUBLISH_MODE", "fast"),
            &["--publish-mode", "pipelined"],
        )
        .await;
        usage(
            world
                .command(&["bus", "init"])
                .env("ARTSTORE_REPLICAS", "9"),
            &["--replicas", "1..=5"],
        )
        .await;

        let source = world.command(&["run", "relay", "--source", "elsewhere"]);
        refused(
            source,
            2,
            &["--source elsewhere", "no database is configured"],
        )
        .await;
        refused(
            Program::new(&["run", "relay"]),
            2,
            &["no source", "ARTSTORE_ELEMENTS"],
        )
        .await;
        refused(
            Program::new(&["run", "projector"]),
            2,
            &["QUERY_DATABASE_URL"],
        )
        .await;
        refused(
            Program::new(&["migrate", "up"]),
            2,
            &["no database", "ADMIN_DATABASE_URL"],
        )
        .await;
        before.check(&world).await;
    });
}

#[test]
fn servers_that_cannot_be_reached_are_named_without_the_password() {
    run(async {
        let world = tempting().await;
        let before = Unchanged::of(&world, &[]).await;
        let element = world.elements[0].1.clone();
        let port = free_port();
        let place = format!("127.0.0.1:{port}");
        let commands = |url: &str| {
            let relay = world
                .relay(0)
                .env("ARTSTORE_ELEMENTS", &format!("elem={url}"));
            let projector = world.projector().env("QUERY_DATABASE_URL", url);
            let migrate = Program::new(&["migrate", "up"]).env("QUERY_DATABASE_URL", url);
            [relay, projector, migrate]
        };

        let nobody = format!("postgres://artstore:{SECRET}@{place}/artstore");
        for program in commands(&nobody) {
            refused(
                program,
                1,
                &[&place, "artstore", "can't be reached", "refused"],
            )
            .await;
        }
        let server = element.parse::<url::Url>().unwrap();
        let server = format!("127.0.0.1:{}", server.port().unwrap());
        let password = other(&element, |url| url.set_password(Some(SECRET)).unwrap());
        for program in commands(&password) {
            refused(
                program,
                1,
                &[
                    &server,
                    "can't be reached",
                    "password authentication failed",
                ],
            )
            .await;
        }
        let database = other(&element, |url| url.set_path("/nowhere"));
        for program in commands(&database) {
            refused(program, 1, &[&server, "\"nowhere\" does not exist"]).await;
        }
        let with_relay = world
            .relay(0)
            .env("ARTSTORE_ELEMENTS", &format!("elem={nobody}"));
        refused(with_relay, 1, &["source elem", "ARTSTORE_ELEMENTS"]).await;
        let projector = world.projector().env("QUERY_DATABASE_URL", &nobody);
        refused(projector, 1, &["QUERY_DATABASE_URL"]).await;

        // Without a scheme, with one, one of two.
        for nobody in [
            format!("nats://ann:{SECRET}@{place}"),
            format!("ann:{SECRET}@{place}"),
            format!("ann:{SECRET}@{place},nats://ann:{SECRET}@{place}"),
        ] {
            let bus = world.command(&["bus", "init"]);
            for program in [world.relay(0), world.projector(), bus] {
                let says = ["NATS", &place, "can't be reached", "check NATS_URL"];
                refused(program.env("NATS_URL", &nobody), 1, &says).await;
            }
        }
        let password = other(&world.nats_url, |url| {
            url.set_password(Some(SECRET)).unwrap()
        });
        let says = ["NATS", "authorization violation", "check NATS_URL"];
        refused(world.relay(0).env("NATS_URL", &password), 1, &says).await;
        before.check(&world).await;
    });
}

#[test]
fn databases_without_the_right_tables_are_refused() {
    run(async {
        let world = tempting().await;
        let (element, query) = (world.elements[0].1.clone(), world.query_url.clone());
        let empty = database("empty").await;
        let initial = database("initial").await;
        let name: ElementName = "elem".parse().unwrap();
        let module = Module::Storage(name);
        artstore_migrations::up(&mut pg(&initial).await, &module, Some(1))
            .await
            .unwrap();
        finished_rows(&mut pg(&initial).await, 1).await;
        let before = Unchanged::of(&world, &[&empty, &initial]).await;
        let relay = |url: &str| {
            world
                .relay(0)
                .env("ARTSTORE_ELEMENTS", &format!("elem={url}"))
        };
        let projector = |url: &str| world.projector().env("QUERY_DATABASE_URL", url);
        let migrate = "artstore migrate up";

        refused(
            relay(&empty),
            1,
            &["elem_wal", "has no table", &name_of(&empty), migrate],
        )
        .await;
        refused(
            projector(&empty),
            1,
            &["file_metadata_cache", &name_of(&empty), migrate],
        )
        .await;
        // As the product made it: rows without positions.
        refused(
            relay(&initial),
            1,
            &["elem_wal", "position trigger is missing", migrate],
        )
        .await;

        let wrong = name_of(&query);
        refused(
            relay(&query),
            1,
            &["elem_wal", "has no table", &wrong, "ARTSTORE_ELEMENTS"],
        )
        .await;
        let wrong = name_of(&element);
        refused(
            projector(&element),
            1,
            &["file_metadata_cache", &wrong, "QUERY_DATABASE_URL"],
        )
        .await;
        let outbox = world
            .command(&["run", "relay", "--source", "query"])
            .env("QUERY_DATABASE_URL", &element);
        refused(
            outbox,
            1,
            &["source query", "event_outbox", "has no table", &wrong],
        )
        .await;
        let mixed_up = Program::new(&["migrate", "up"]).env("QUERY_DATABASE_URL", &element);
        refused(
            mixed_up,
            1,
            &[&wrong, "a storage element's", "QUERY_DATABASE_URL"],
        )
        .await;
        let mixed_up =
            Program::new(&["migrate", "up"]).env("ARTSTORE_ELEMENTS", &format!("elem={query}"));
        refused(
            mixed_up,
            1,
            &[
                &name_of(&query),
                "the query module's",
                "nothing was changed",
            ],
        )
        .await;
        before.check(&world).await;
    });
}

/// The right source waits until the wrong one is known to be wrong.
#[test]
fn one_source_that_cannot_be_started_keeps_all_others_from_starting() {
    run(async {
        let world = tempting().await;
        let before = Unchanged::of(&world, &[]).await;
        // Takes connections and never answers.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let place = silent.local_addr().unwrap().to_string();
        let elements = format!(
            "elem={},other=postgres://artstore:{SECRET}@{place}/artstore",
            world.elements[0].1
        );
        let relay = world
            .command(&["run", "relay"])
            .env("ARTSTORE_ELEMENTS", &elements);
        refused(relay, 1, &["source other", &place]).await;
        before.check(&world).await;
    });
}

/// A stream as somebody else may have made it.
fn stream(name: &str) -> Config {
    Config {
        name: format!("ARTSTORE_WAL_{name}"),
        subjects: vec![format!("artstore.wal.{name}.>")],
        storage: StorageType::File,
        discard: DiscardPolicy::New,
        ..Config::default()
    }
}

#[test]
fn a_stream_that_is_missing_or_unfit_is_refused_and_left_alone() {
    run(async {
        let world = tempting().await;
        let url = database("missing").await;
        migrate(&url, Module::Storage("missing".parse().unwrap())).await;
        let with = |list: &str, arguments: &[&str]| {
            world
                .command(arguments)
                .env("ARTSTORE_ELEMENTS", &list.replace("URL", &url))
        };
        let before = Unchanged::of(&world, &[&url]).await;
        let relay = with("missing=URL", &["run", "relay", "--source", "missing"]);
        let says = [
            "source missing",
            "ARTSTORE_WAL_missing",
            "artstore bus init",
        ];
        refused(relay, 1, &says).await;
        before.check(&world).await;

        let hour = Duration::from_secs(3_600);
        let aged = Config {
            max_age: hour,
            ..stream("aged")
        };
        let fleeting = Config {
            storage: StorageType::Memory,
            ..stream("fleeting")
        };
        let limited = Config {
            max_bytes: 1 << 20,
            ..stream("limited")
        };
        let dropping = Config {
            discard: DiscardPolicy::Old,
            ..stream("dropping")
        };
        let part = "artstore.wal.narrow.p00.>".to_owned();
        let narrow = Config {
            subjects: vec![part.clone()],
            ..stream("narrow")
        };
        let unfit = [
            ("aged", aged, "3600s"),
            ("fleeting", fleeting, "storage Memory"),
            ("limited", limited, "1048576"),
            ("dropping", dropping, "discard Old"),
            ("narrow", narrow, &part),
        ];
        for (_, config, _) in &unfit {
            world.bus.jetstream.create_stream(config).await.unwrap();
        }
        let before = Unchanged::of(&world, &[&url]).await;
        for (name, config, found) in &unfit {
            // Also the stream before it in the list is not made.
            let init = with(&format!("fresh=URL,{name}=URL"), &["bus", "init"]);
            refused(init, 1, &[&config.name, found, "nothing was changed"]).await;
        }
        before.check(&world).await;
    });
}

#[test]
fn streams_are_made_once_and_mended_where_that_loses_nothing() {
    run(async {
        let world = tempting().await;
        let made = world
            .bus
            .stream_info("ARTSTORE_WAL_elem")
            .await
            .unwrap()
            .config;
        let narrow = Config {
            max_message_size: 1_000,
            no_ack: true,
            name: "ARTSTORE_WAL_mended".to_owned(),
            subjects: vec!["artstore.wal.mended.>".to_owned()],
            ..made
        };
        world.bus.jetstream.create_stream(narrow).await.unwrap();
        let publish = world
            .bus
            .client
            .publish("artstore.wal.mended.p00.a.b", "kept".into());
        publish.await.unwrap();
        let init = || {
            let url = &world.elements[0].1;
            let elements = format!("elem={url},fresh={url},mended={url}");
            world
                .command(&["bus", "init"])
                .env("ARTSTORE_ELEMENTS", &elements)
        };
        let lines = |said: String| -> Vec<String> {
            let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
            said.lines().map(words).collect()
        };
        let (status, said) = init().output().await;
        assert!(status.success());
        let expected = [
            "ARTSTORE_WAL_elem unchanged",
            "ARTSTORE_WAL_fresh created",
            "ARTSTORE_WAL_mended updated",
            "ARTSTORE_ADMIN unchanged",
            "ARTSTORE_QUERY unchanged",
        ];
        assert_eq!(lines(said), expected);
        let info = world.bus.stream_info("ARTSTORE_WAL_mended").await.unwrap();
        assert_eq!(info.state.messages, 1);
        let config = info.config;
        assert_eq!((config.max_message_size, config.no_ack), (-1, false));

        let before = Unchanged::of(&world, &[]).await;
        let (status, said) = init().output().await;
        assert!(status.success());
        assert!(lines(said).iter().all(|line| line.ends_with(" unchanged")));
        before.check(&world).await;
    });
}

/// Below the workspace, where `scripts/setup --tests` puts it.
fn nats_server(version: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(format!(".tools/nats-server-{version}/nats-server"));
    assert!(
        program.is_file(),
        "{} is missing: run scripts/setup --tests",
        program.display()
    );
    program
}

#[test]
fn an_old_nats_server_is_refused() {
    run(async {
        let old = Stack::start(StackOptions {
            nats_server: Some(nats_server("2.11.11")),
            postgres: false,
            ..StackOptions::default()
        })
        .await
        .unwrap();
        let world = tempting().await;
        let before = Unchanged::of(&world, &[]).await;
        let url = old.nats_url(0);
        let says = [
            "nats-server 2.11.11 is too old",
            "2.12.1 or newer",
            "upgrade",
        ];
        for program in [
            world.relay(0),
            world.projector(),
            world.command(&["bus", "init"]),
        ] {
            refused(program.env("NATS_URL", &url), 1, &says).await;
        }
        before.check(&world).await;
        let client = async_nats::ConnectOptions::new();
        let login: url::Url = url.parse().unwrap();
        let client = client
            .user_and_password(
                login.username().to_owned(),
                login.password().unwrap().to_owned(),
            )
            .connect(&url)
            .await
            .unwrap();
        let jetstream = async_nats::jetstream::new(client);
        let streams: Vec<String> = jetstream.stream_names().try_collect().await.unwrap();
        assert_eq!(streams, Vec::<String>::new());
        old.stop().await.unwrap();
    });
}

#[test]
fn the_oldest_supported_nats_server_does_all_that_is_needed() {
    run(async {
        let stack = Stack::start(StackOptions {
            nats_server: Some(nats_server("2.12.1")),
            ..StackOptions::default()
        })
        .await
        .unwrap();
        let world = World::on(&stack, 0, &["elem"], 1).await;
        assert_eq!(world.bus.client.server_info().version, "2.12.1");
        let projector = world.projector().start();
        let mut connection = world.element(0).await;
        for (mode, active) in [("atomic", "mode=Atomic"), ("pipelined", "mode=Pipelined")] {
            finished_rows(&mut connection, 1_500).await;
            let mut relay = world.relay(0).env("ARTSTORE_PUBLISH_MODE", mode).start();
            relay.says(active).await;
            world.published(0).await;
            finished_rows(&mut connection, 1).await;
            world.published(0).await;
            relay.signal("-TERM").await;
            assert!(relay.ended().await.success(), "{}", relay.log());
        }
        world.projected().await;
        assert_eq!(world.last_sequence(&world.source(0)).await, 3_002);
        projector.kill().await;
        drop(world);
        stack.stop().await.unwrap();
    });
}

/// A running pgbouncer in front of the shared stack's PostgreSQL, in transaction pooling mode.
struct Pooler {
    _process: tokio::process::Child,
    _folder: tempfile::TempDir,
    port: u16,
}

impl Pooler {
    async fn start(settings: &str) -> Self {
        let stack = shared_stack().await;
        let url: url::Url = stack.database_url("postgres").parse().unwrap();
        let (user, password) = (url.username(), url.password().unwrap());
        // Its user can pass through to this one, and nobody else can.
        let home = stack.postgres_data().parent().unwrap().to_owned();
        let folder = tempfile::tempdir_in(home).unwrap();
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), everybody).unwrap();
        let port = free_port();
        let users = folder.path().join("users.txt");
        std::fs::write(&users, format!("\"{user}\" \"{password}\"\n")).unwrap();
        let configuration = folder.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\n\
             auth_file = {}\npool_mode = transaction\n{settings}\n",
            stack.postgres_port(),
            users.display(),
        );
        std::fs::write(&configuration, text).unwrap();
        let mut command = tokio::process::Command::new("setpriv");
        let root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
        if root {
            // It refuses to run as root.
            command.args([
                "--reuid",
                "postgres",
                "--regid",
                "postgres",
                "--clear-groups",
            ]);
        }
        let mut process = command
            .args(["--pdeathsig", "KILL", "--", "pgbouncer", "--quiet"])
            .arg(&configuration)
            .env(
                "PATH",
                format!("{}:/usr/sbin", std::env::var("PATH").unwrap()),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        eventually(
            "pgbouncer answers (scripts/setup --tests installs it)",
            || {
                let ended = process.try_wait().unwrap();
                assert!(
                    ended.is_none(),
                    "pgbouncer ended: run scripts/setup --tests"
                );
                async move {
                    tokio::net::TcpStream::connect(("127.0.0.1", port))
                        .await
                        .ok()
                }
            },
        )
        .await;
        Self {
            _process: process,
            _folder: folder,
            port,
        }
    }
}

#[test]
fn a_pooler_in_between_is_refused() {
    run(async {
        let world = tempting().await;
        let before = Unchanged::of(&world, &[]).await;
        let direct = &world.elements[0].1;
        let tolerant = "ignore_startup_parameters = extra_float_digits";
        let one = "default_pool_size = 1\nignore_startup_parameters = extra_float_digits";
        for settings in ["", tolerant, one] {
            let pooler = Pooler::start(settings).await;
            let pooled = other(direct, |url| url.set_port(Some(pooler.port)).unwrap());
            let elements = format!("elem={pooled}");
            let query = other(&world.query_url, |url| {
                url.set_port(Some(pooler.port)).unwrap();
            });
            let projector = world.projector().env("QUERY_DATABASE_URL", &query);
            refused(
                projector,
                1,
                &["pooler", "QUERY_DATABASE_URL", "direct connection"],
            )
            .await;
            let relay = || world.relay(0).env("ARTSTORE_ELEMENTS", &elements);
            // The first finds fresh sessions, the second those that the first has used.
            for _ in 0..2 {
                refused(relay(), 1, &["source elem", "pooler", "direct connection"]).await;
            }
            // Others use the pool too.
            let busy: Vec<_> = (0..8)
                .map(|_| tokio::spawn(query_for_ever(pooled.clone())))
                .collect();
            if !settings.is_empty() {
                for _ in 0..5 {
                    refused(relay(), 1, &["source elem", "pooler", "direct connection"]).await;
                }
            }
            for client in busy {
                client.abort();
            }
        }
        before.check(&world).await;
    });
}

/// A client of a pool that other programs use as well.
async fn query_for_ever(url: String) {
    loop {
        let Ok(mut connection) = try_pg(&url).await else {
            tokio::task::yield_now().await;
            continue;
        };
        while try_execute(&mut connection, "begin; select 1; commit")
            .await
            .is_ok()
        {}
    }
}

#[test]
fn a_standby_is_refused() {
    run(async {
        let stack = Stack::start(StackOptions::default()).await.unwrap();
        let world = World::on(&stack, 0, &["elem"], 1).await;
        finished_rows(&mut world.element(0).await, 5).await;
        let data = stack.postgres_data().with_file_name("standby");
        let backup = stack
            .postgres_command("pg_basebackup")
            .args([
                "--write-recovery-conf",
                "--checkpoint",
                "fast",
                "--no-sync",
                "--pgdata",
            ])
            .arg(&data)
            .status()
            .await
            .unwrap();
        assert!(backup.success());
        let port = free_port();
        // `-D` and a folder of the stack's: it ends with the stack, whatever becomes of us.
        let _standby = stack
            .postgres_command("postgres")
            .arg("-D")
            .arg(&data)
            .args([
                "-c",
                &format!("port={port}"),
                "-c",
                "unix_socket_directories=",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let there = |url: &str| other(url, |url| url.set_port(Some(port)).unwrap());
        let element = there(&world.elements[0].1);
        eventually("the standby answers", || async {
            try_pg(&element).await.ok()
        })
        .await;
        let before = Unchanged::of(&world, &[]).await;
        let relay = world
            .relay(0)
            .env("ARTSTORE_ELEMENTS", &format!("elem={element}"));
        refused(
            relay,
            1,
            &["source elem", "standby", "point the relay at the primary"],
        )
        .await;
        let query = there(&world.query_url);
        let projector = world.projector().env("QUERY_DATABASE_URL", &query);
        refused(projector, 1, &["standby", "primary", "QUERY_DATABASE_URL"]).await;
        before.check(&world).await;
        drop(world);
        stack.stop().await.unwrap();
    });
}

#[test]
fn help_lists_every_variable_and_says_no_secret() {
    const EVERYWHERE: &[&str] = &[
        "NATS_URL",
        "NATS_CREDENTIALS",
        "ADMIN_DATABASE_URL",
        "QUERY_DATABASE_URL",
        "STORAGE_DATABASE_URL",
        "ARTSTORE_ELEMENTS",
        "ARTSTORE_ELEMENT_API_URLS",
        "DB_TABLE_PREFIX",
        "DB_HOST",
        "DB_PORT",
        "DB_USERNAME",
        "DB_PASSWORD",
        "DB_DATABASE",
        "DATABASE_HOST",
        "DATABASE_PORT",
        "DATABASE_USERNAME",
        "DATABASE_PASSWORD",
        "DATABASE_DATABASE",
        "LOG_LEVEL",
        "LOG_FORMAT",
    ];
    const RELAY: &[&str] = &["ARTSTORE_PUBLISH_MODE", "ARTSTORE_POLL_INTERVAL_MS"];
    const SECRETS: &[&str] = &[
        "NATS_URL",
        "ADMIN_DATABASE_URL",
        "QUERY_DATABASE_URL",
        "STORAGE_DATABASE_URL",
        "ARTSTORE_ELEMENTS",
        "DB_PASSWORD",
        "DATABASE_PASSWORD",
    ];
    run(async {
        let commands: [(&[&str], &[&str]); 5] = [
            (&["--help"], &[]),
            (&["run", "relay", "--help"], RELAY),
            (&["run", "projector", "--help"], &[]),
            (&["migrate", "up", "--help"], &[]),
            (&["bus", "init", "--help"], &["ARTSTORE_REPLICAS"]),
        ];
        for (arguments, more) in commands {
            let program = SECRETS
                .iter()
                .fold(Program::new(arguments), |program, name| {
                    program.env(name, &format!("x=postgres://x:{SECRET}@x/x"))
                });
            let (status, help) = program.output().await;
            assert!(status.success());
            for name in EVERYWHERE.iter().chain(more) {
                assert!(
                    help.contains(&format!("[env: {name}")),
                    "{arguments:?}: {name}: {help}"
                );
            }
            assert!(!help.contains(SECRET), "{arguments:?}: {help}");
        }
    });
}
