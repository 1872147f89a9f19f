//! What a NATS user may not do is named at once, wherever the program asks; it never looks like a server
//! that does not answer.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::relay::refusals::{publish_all, rows};
use crate::support::*;

/// Users of one account, and what each may not do.
const USERS: [(&str, &str, &str); 10] = [
    ("no-api", "publish", "$JS.API.>"),
    ("no-info", "publish", "$JS.API.STREAM.INFO.>"),
    ("no-get", "publish", "$JS.API.STREAM.MSG.GET.>"),
    ("no-consumer", "publish", "$JS.API.CONSUMER.CREATE.>"),
    ("no-next", "publish", "$JS.API.CONSUMER.MSG.NEXT.>"),
    ("no-names", "publish", "$JS.API.STREAM.NAMES"),
    ("no-status", "publish", "artstore.status.>"),
    ("no-events", "publish", "artstore.wal.>"),
    ("no-inbox", "subscribe", "_INBOX.>"),
    ("no-control", "subscribe", "artstore.control.>"),
];

/// What is reported about a server or a stream that is silent.
const SILENT: [&str; 4] = [
    "does not answer",
    "timed out",
    "can't be reached",
    "heartbeat",
];

struct Server {
    _process: tokio::process::Child,
    _folder: tempfile::TempDir,
    port: u16,
}

impl Server {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let users: String = USERS
            .iter()
            .map(|(user, right, subject)| {
                format!(
                    "{{ user: {user}, password: secret, \
                     permissions: {{ {right}: {{ deny: [\"{subject}\"] }} }} }}\n"
                )
            })
            .collect();
        let configuration = format!(
            "host: 127.0.0.1\nport: {port}\njetstream {{ store_dir: \"{}\" }}\n\
             accounts {{ a {{ jetstream: enabled, users: [\n\
             {{ user: all, password: secret }}\n{users}] }} }}\n",
            folder.path().display(),
        );
        let path = folder.path().join("nats.conf");
        std::fs::write(&path, configuration).unwrap();
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/bin/nats-server");
        let server = if ours.exists() {
            ours
        } else {
            PathBuf::from("nats-server")
        };
        let log = folder.path().join("log");
        let process = tokio::process::Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(server)
            .arg("-c")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        eventually("the server is ready", || async {
            let log = std::fs::read_to_string(&log).unwrap();
            assert!(!log.contains("[FTL]"), "{log}");
            log.contains("Server is ready").then_some(())
        })
        .await;
        Self {
            _process: process,
            _folder: folder,
            port,
        }
    }

    fn url(&self, user: &str) -> String {
        format!("nats://{user}:secret@127.0.0.1:{}", self.port)
    }
}

/// Some messages that are applied, on this server.
async fn world(server: &Server) -> World {
    let mut world = World::new(&["elem"]).await;
    world.nats_url = server.url("all");
    world.nats_keys = None;
    world.bus = connect(&world.nats_url).await;
    let (status, said) = world.command(&["bus", "init"]).output().await;
    assert!(status.success(), "{said}");
    rows(&mut world.element(0).await, 3).await;
    publish_all(&world).await;
    let projector = world.projector().start();
    world.projected().await;
    projector.kill().await;
    // For whoever keeps reading.
    rows(&mut world.element(0).await, 3).await;
    world
}

/// The user and the subject's beginning, and what the server's configuration calls the right.
fn named(user: &str, right: &str, subject: &str) -> [String; 3] {
    [
        format!("may not {right} to {subject}"),
        format!("NATS user \"{user}\" may not"),
        format!("add the subject to this user's `permissions.{right}`"),
    ]
}

fn check(what: &str, said: &str, names: &[String]) {
    // Tables break lines where the terminal ends.
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let said = said.replace("\\\"", "\"");
    for name in names {
        assert!(said.contains(name), "{what} does not say {name:?}:\n{said}");
    }
    for silent in SILENT {
        assert!(!said.contains(silent), "{what} says {silent:?}:\n{said}");
    }
}

/// A command that ends: on which of the two channels it says it, it decides.
async fn command_names(world: &World, url: &str, arguments: &[&str], names: &[String]) {
    let mut process = world.command(arguments).env("NATS_URL", url).start();
    let status = process.ended().await;
    let said = format!("{}{}", process.output(), process.log());
    assert_eq!(status.code(), Some(1), "{arguments:?}: {said}");
    check(&format!("{arguments:?}"), &said, names);
}

/// A process that may keep trying.
async fn process_names(program: Program, url: &str, names: &[String]) {
    let process = program.env("NATS_URL", url).start();
    process.says(&names[0]).await;
    check("the process", &process.log(), names);
    process.kill().await;
}

#[test]
fn a_request_without_its_permission_is_named_at_once() {
    run_waiting(async {
        let server = Server::start().await;
        let world = world(&server).await;
        const VERIFY: &[&str] = &["verify", "--wait", "3"];
        const STATUS: &[&str] = &["status"];
        const INIT: &[&str] = &["bus", "init"];
        const CHECK: &[&str] = &["migrate", "check"];
        let info = "$JS.API.STREAM.INFO.ARTSTORE_";
        let get = "$JS.API.STREAM.MSG.GET.ARTSTORE_";
        let create = "$JS.API.CONSUMER.CREATE.ARTSTORE_";
        let next = "$JS.API.CONSUMER.MSG.NEXT.ARTSTORE_";
        let commands: &[(&str, &[&str], &str)] = &[
            ("no-api", VERIFY, info),
            ("no-api", STATUS, info),
            ("no-api", INIT, info),
            ("no-api", CHECK, "$JS.API.INFO"),
            ("no-info", VERIFY, info),
            ("no-info", STATUS, info),
            ("no-get", VERIFY, get),
            ("no-get", STATUS, get),
            ("no-consumer", VERIFY, create),
            ("no-next", VERIFY, next),
            ("no-status", STATUS, "artstore.status."),
        ];
        for (user, arguments, subject) in commands {
            let names = named(user, "publish", subject);
            command_names(&world, &server.url(user), arguments, &names).await;
        }
        for arguments in [VERIFY, STATUS, INIT, CHECK] {
            let names = named("no-inbox", "subscribe", "_INBOX.>");
            command_names(&world, &server.url("no-inbox"), arguments, &names).await;
        }
        let processes = [
            ("no-api", world.relay(0), info),
            ("no-get", world.relay(0), get),
            ("no-consumer", world.relay(0), create),
            ("no-next", world.relay(0), next),
            ("no-api", world.projector(), "$JS.API.STREAM.NAMES"),
            ("no-names", world.projector(), "$JS.API.STREAM.NAMES"),
            ("no-info", world.projector(), info),
            ("no-get", world.projector(), get),
            ("no-consumer", world.projector(), create),
            ("no-next", world.projector(), next),
        ];
        for (user, program, subject) in processes {
            let names = named(user, "publish", subject);
            process_names(program, &server.url(user), &names).await;
        }
        for program in [world.relay(0), world.projector()] {
            let names = named("no-inbox", "subscribe", "_INBOX.>");
            process_names(program, &server.url("no-inbox"), &names).await;
        }
        // A command that keeps trying would keep the source's lock.
        rows(&mut world.element(0).await, 1).await;
        let names = named("no-events", "publish", "artstore.wal.");
        let backfill = ["element", "backfill", "elem"];
        command_names(&world, &server.url("no-events"), &backfill, &names).await;
        // A relay that hears no requests publishes all the same.
        let before = world.last_sequence(&world.source(0)).await;
        let relay = world.relay(0).env("NATS_URL", &server.url("no-control"));
        let relay = relay.start();
        let names = named("no-control", "subscribe", "artstore.control.elem");
        relay.says(&names[0]).await;
        rows(&mut world.element(0).await, 1).await;
        world.published(0).await;
        assert!(world.last_sequence(&world.source(0)).await > before);
        relay.kill().await;
    });
}
