//! nats-server with the configuration of deploy/nats: it syncs always, and its users may do what the pages say.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use artstore_bus::accounts::role::Role;
use artstore_bus::connection::Bus;
use artstore_bus::inbox::is_inbox;
use artstore_producers::relay::publish::{self, Outgoing, PublishMode};
use artstore_projectors::audit_log::published;
use artstore_schemas::source::Source;
use futures::StreamExt as _;
use serde_json::Value;
use tokio::process::Command;

use super::dockerfile::Stage;
use crate::support::compose::{self, filled, words};
use crate::support::repository::{repository, text};
use crate::support::*;

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// nats-server with the very configuration of deploy/nats, elsewhere on this machine.
pub struct Nats {
    _process: tokio::process::Child,
    pub folder: tempfile::TempDir,
    pub port: u16,
    monitor: u16,
}

impl Nats {
    pub async fn start(root: &Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        permissions(root, folder.path()).await;
        let (port, monitor) = (free_port(), free_port());
        let mut configuration = text("deploy/nats/nats.conf");
        let store = folder.path().join("data").display().to_string();
        for (there, here) in [
            ("\"0.0.0.0:4222\"", format!("\"127.0.0.1:{port}\"")),
            ("\"127.0.0.1:8222\"", format!("\"127.0.0.1:{monitor}\"")),
            ("\"/data\"", format!("\"{store}\"")),
        ] {
            assert_eq!(configuration.matches(there).count(), 1, "{there}");
            configuration = configuration.replace(there, &here);
        }
        let path = folder.path().join("nats.conf");
        std::fs::write(&path, configuration).unwrap();
        // As the image starts it.
        let stage = Stage::named("nats");
        let command: Vec<String> = serde_json::from_str(stage.last("CMD").unwrap()).unwrap();
        assert_eq!(command, ["nats-server", "-c", "/etc/nats/nats.conf"]);
        assert!(stage.has("COPY", "deploy/nats/nats.conf /etc/nats/nats.conf"));
        let ours = repository(".tools/bin/nats-server");
        let server = if ours.exists() {
            ours
        } else {
            "nats-server".into()
        };
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(server)
            .arg("-c")
            .arg(&path)
            .env_clear()
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.path().join("log")).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let nats = Self {
            _process: process,
            folder,
            port,
            monitor,
        };
        // The health check of compose.yaml, with our own program in the place of wget.
        let check = words(&root["services"]["nats"]["healthcheck"]["test"]);
        let url = check
            .last()
            .unwrap()
            .replace(":8222/", &format!(":{monitor}/"));
        eventually("the NATS server is healthy", || async {
            let (status, _) = Program::new(&["health", "--url", &url]).output().await;
            assert!(!nats.log().contains("[FTL]"), "{}", nats.log());
            status.success().then_some(())
        })
        .await;
        nats
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The folder of keys that a service has as its volume.
    pub fn keys_of(&self, root: &Value, service: &Value) -> PathBuf {
        let (volume, _) = mounted(service, |to| to == "/nats");
        let made_by = &root["services"]["nats-permissions"];
        let (_, folder) = mounted_from(made_by, &volume);
        self.folder.path().join(folder.strip_prefix('/').unwrap())
    }

    /// The folder of one role's keys.
    pub fn keys(&self, folder: &str) -> PathBuf {
        self.folder.path().join("nats").join(folder)
    }

    /// The program as somebody who has these keys.
    pub fn command(&self, keys: &str, words: &[&str]) -> Program {
        Program::new(words)
            .env("NATS_URL", &self.url())
            .env("NATS_CREDENTIALS", &self.keys(keys).display().to_string())
    }

    pub async fn connect(&self, role: Role) -> Bus {
        let keys = self.keys(role.folder());
        connect_as(role, &self.url(), Some(&keys)).await
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    async fn asked(&self, path: &str) -> Value {
        let url = format!("http://127.0.0.1:{}/{path}", self.monitor);
        let (status, said) = Program::new(&["health", "--url", &url]).output().await;
        assert!(status.success());
        serde_json::from_str(&said).unwrap()
    }
}

/// The keys and the accounts, as compose.yaml has them made: again, and nothing has changed.
async fn permissions(root: &Value, folder: &Path) {
    let service = &root["services"]["nats-permissions"];
    let place = folder.join("nats").display().to_string();
    let command: Vec<String> = words(&service["command"])
        .iter()
        .map(|word| word.replace("/nats", &place))
        .collect();
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let mut before = None;
    for _ in 0..2 {
        let program = compose::environment(service)
            .iter()
            .fold(Program::new(&command), |program, (name, value)| {
                program.env(name, value)
            });
        let (status, said) = program.output().await;
        assert!(status.success(), "{said}");
        let made = std::fs::read(folder.join("nats/server/accounts.conf")).unwrap();
        assert_eq!(*before.get_or_insert(made.clone()), made);
    }
    // The server has the same volume where its configuration includes it from.
    let (volume, _) = mounted(service, |to| to == "/nats/server");
    let (_, there) = mounted_from(&root["services"]["nats"], &volume);
    assert_eq!(there, "/etc/nats/permissions");
    std::os::unix::fs::symlink("nats/server", folder.join("permissions")).unwrap();
}

/// A volume of a service and where it has it.
fn mounted(service: &Value, is_it: impl Fn(&str) -> bool) -> (String, String) {
    let volumes = service["volumes"].as_array().unwrap().iter();
    let mut volumes = volumes.map(|volume| {
        let mut parts = volume.as_str().unwrap().split(':');
        let (from, to) = (parts.next().unwrap(), parts.next().unwrap());
        (from.to_owned(), to.to_owned())
    });
    volumes.find(|(_, to)| is_it(to)).unwrap()
}

fn mounted_from(service: &Value, volume: &str) -> (String, String) {
    let volumes = service["volumes"].as_array().unwrap().iter();
    let mut volumes = volumes.filter_map(|entry| {
        let to = entry.as_str().unwrap().strip_prefix(volume)?;
        let to = to.strip_prefix(':')?.split(':').next().unwrap();
        Some((volume.to_owned(), to.to_owned()))
    });
    volumes.next().unwrap()
}

const ELEMENT: &str = "storage_elem_01";

fn element() -> Source {
    Source::Element(ELEMENT.parse().unwrap())
}

#[test]
fn the_nats_configuration_syncs_always_and_lets_nobody_in_without_a_key() {
    run(async {
        let nats = Nats::start(&filled()).await;
        let server = nats.asked("varz").await;
        assert_eq!(server["auth_required"], true);
        assert!(server["max_payload"].as_u64().unwrap() >= 921_600);
        let jetstream = &server["jetstream"]["config"];
        assert_eq!(jetstream["sync_always"], true, "{jetstream}");
        let store = jetstream["store_dir"].as_str().unwrap();
        assert!(
            store.starts_with(nats.folder.path().to_str().unwrap()),
            "{store}"
        );
        let (status, said) = nats.command("operator", &["bus", "init"]).output().await;
        assert!(status.success(), "{said}");
        // No key; and one that this server does not know.
        let other = tempfile::tempdir().unwrap();
        let wrong = Program::new(&["bus", "permissions", other.path().to_str().unwrap()]);
        assert!(wrong.output().await.0.success());
        let wrong = other.path().join("operator").display().to_string();
        let init = || Program::new(&["bus", "init"]).env("NATS_URL", &nats.url());
        for refused in [init(), init().env("NATS_CREDENTIALS", &wrong)] {
            let (status, said) = refused.finish().await;
            assert_eq!(status.code(), Some(1), "{said}");
            assert!(said.contains("authorization violation"), "{said}");
        }
        // A folder without the key that a command needs.
        let (status, said) = nats.command("relay", &["bus", "init"]).finish().await;
        assert_eq!(status.code(), Some(2), "{said}");
        assert!(said.contains("operator.nk"), "{said}");
    });
}

/// Each of the others tries to publish an event, a head, and a request to step aside.
#[test]
fn only_the_relay_publishes_and_a_refused_right_is_named_at_once() {
    run(async {
        let nats = Nats::start(&filled()).await;
        let (status, said) = nats.command("operator", &["bus", "init"]).output().await;
        assert!(status.success(), "{said}");
        let event = "artstore.wal.storage_elem_01.p00.file.created";
        let head = "artstore.audit.head.ARTSTORE_ADMIN";
        let control = "artstore.control.storage_elem_01";
        let foreign = "artstore.admin.p00.user.created";
        let everywhere = [event, head, control, foreign];
        let begun = Instant::now();
        for (role, refused) in [
            (Role::Relay(element()), &[head, foreign][..]),
            (Role::Relay(Source::Query), &everywhere),
            (Role::Projector, &everywhere),
            (Role::AuditLog, &everywhere),
            (Role::AuditHeads, &[event, control, foreign]),
            (Role::Reader, &everywhere),
        ] {
            let bus = nats.connect(role.clone()).await;
            for subject in refused {
                let mut watch = bus.refusals.watch();
                bus.client.publish(*subject, "forged".into()).await.unwrap();
                let refusal = watch.refused(|it| it == *subject).await.to_string();
                let lacks = format!("may not publish to {subject}");
                assert!(refusal.contains(&lacks), "{role}: {refusal}");
            }
        }
        let operator = nats.connect(Role::Operator).await;
        for source in [element(), Source::Admin] {
            let info = operator.stream_info(&source.stream()).await.unwrap();
            assert_eq!(info.state.messages, 0);
        }

        // What a command or a service needs and may not do is named, and does not look like a server that is silent.
        let reader = nats.connect(Role::Reader).await;
        let message = Outgoing {
            id: uuid::Uuid::new_v4(),
            position: None,
            subject: event.to_owned(),
            headers: async_nats::HeaderMap::new(),
            body: "{}".into(),
        };
        for (count, mode) in [(1, PublishMode::Pipelined), (2, PublishMode::Atomic)] {
            let messages = vec![message.clone(); count];
            let failure = publish::publish(&reader, mode, messages, 0).await;
            let said = failure.unwrap_err().to_string();
            assert!(
                said.contains(&format!("may not publish to {event}")),
                "{said}"
            );
        }
        let failure = published::publish(&reader, "ARTSTORE_ADMIN", 0, "forged").await;
        let said = failure.unwrap_err().to_string();
        assert!(
            said.contains(&format!("may not publish to {head}")),
            "{said}"
        );
        assert!(
            begun.elapsed() < PATIENCE / 3,
            "each without the server's answer waits for five seconds or more: {:?}",
            begun.elapsed()
        );

        // A command asks with the operator's key, and is answered in its inbox.
        let relay = nats.connect(Role::Relay(element())).await;
        let mut requests = relay.client.subscribe(control).await.unwrap();
        processed(&relay.client).await;
        let answering = async {
            let request = requests.next().await.unwrap();
            let reply = request.reply.unwrap();
            assert!(is_inbox(&reply), "{reply}");
            relay.client.publish(reply, "ok".into()).await.unwrap();
        };
        let asked = operator.client.request(control, "step aside".into());
        let (answer, ()) = tokio::join!(async { asked.await.unwrap() }, answering);
        assert_eq!(answer.payload, "ok");
    });
}

/// Who may take backups and restore them: the operator alone. A missing right is named.
#[test]
fn the_operator_alone_takes_backups_of_streams_and_restores_them() {
    run(async {
        let nats = Nats::start(&filled()).await;
        let (status, said) = nats.command("operator", &["bus", "init"]).output().await;
        assert!(status.success(), "{said}");
        let administrator = nats.connect(Role::Administrator).await;
        let subject = "artstore.admin.p00.thing.seen";
        let sent = administrator
            .jetstream
            .publish(subject, "x".repeat(100).into());
        sent.await.unwrap().await.unwrap();

        let to = folder("operator");
        let to = |name: &str| to.join(name).to_str().unwrap().to_owned();
        let one = to("one");
        // The reader's key under another name does not do more.
        let renamed = nats.keys("renamed");
        std::fs::create_dir(&renamed).unwrap();
        let copied = std::fs::copy(
            nats.keys("reader").join("reader.nk"),
            renamed.join("operator.nk"),
        );
        copied.unwrap();
        let refused = nats.command("renamed", &["bus", "backup", &one]);
        let (status, log) = refused.finish().await;
        assert_eq!(status.code(), Some(1), "{log}");
        let lacks = "may not publish to $JS.API.STREAM.SNAPSHOT.ARTSTORE_AUDIT_HEADS";
        assert!(
            log.contains(lacks) || log.contains("may not subscribe to artstore.backup."),
            "{log}"
        );
        // Nothing of it is left.
        let backup = nats.command("operator", &["bus", "backup", &one]);
        let (status, log) = backup.finish().await;
        assert!(status.success(), "{log}");
        let removed = administrator.jetstream.delete_stream("ARTSTORE_ADMIN");
        removed.await.unwrap();
        let restore = ["bus", "restore", &one, "--stream", "admin"];
        let (status, log) = nats.command("renamed", &restore).finish().await;
        assert_eq!(status.code(), Some(1), "{log}");
        let lacks = "may not publish to $JS.API.STREAM.RESTORE.ARTSTORE_ADMIN";
        assert!(log.contains(lacks), "{log}");
        let (status, said) = nats.command("operator", &restore).output().await;
        // The message was not a relay's, in the backup either: it is reported.
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("`artstore verify --source admin`"), "{said}");
        let info = administrator.stream_info("ARTSTORE_ADMIN").await.unwrap();
        assert_eq!(info.state.messages, 1);
    });
}
