//! nats-server with the configuration of deploy/nats: it syncs always, and its users may do what the pages say.

use std::process::Stdio;
use std::time::{Duration, Instant};

use artstore_producers::relay::publish::{self, Outgoing, PublishMode};
use artstore_projectors::audit_log::published;
use futures::StreamExt as _;
use serde_json::Value;
use tokio::process::Command;

use super::dockerfile::Stage;
use crate::support::compose::{self, Variables, filled, words};
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
            .envs(compose::environment(&root["services"]["nats"]))
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

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    pub fn url(&self, user: &str, variables: &Variables) -> String {
        let password = &variables[&format!("NATS_{}_PASSWORD", user.to_uppercase())];
        format!("nats://{user}:{password}@127.0.0.1:{}", self.port)
    }

    async fn asked(&self, path: &str) -> Value {
        let url = format!("http://127.0.0.1:{}/{path}", self.monitor);
        let (status, said) = Program::new(&["health", "--url", &url]).output().await;
        assert!(status.success());
        serde_json::from_str(&said).unwrap()
    }
}

#[test]
fn the_nats_configuration_syncs_always_and_lets_only_the_relay_publish() {
    run(async {
        let variables = compose::some_variables();
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

        let init = |url: &str| Program::new(&["bus", "init"]).env("NATS_URL", url);
        let (status, said) = init(&nats.url("setup", &variables)).output().await;
        assert!(status.success(), "{said}");
        for wrong in [
            format!("nats://127.0.0.1:{}", nats.port),
            format!("nats://setup:wrong@127.0.0.1:{}", nats.port),
        ] {
            let (status, said) = init(&wrong).finish().await;
            assert_eq!(status.code(), Some(1), "{said}");
            assert!(said.contains("authorization violation"), "{said}");
        }

        // A message that the relay did not write would stop it.
        let subject = "artstore.wal.storage_elem_01.p00.file.created";
        for user in ["setup", "reader"] {
            let bus = connect(&nats.url(user, &variables)).await;
            bus.client.publish(subject, "forged".into()).await.unwrap();
            bus.client.flush().await.unwrap();
            eventually("the server refuses it", || async {
                let refused = |line: &str| {
                    line.contains("Publish Violation")
                        && line.contains(subject)
                        && line.contains(&format!("user:{user}\""))
                };
                nats.log().lines().any(refused).then_some(())
            })
            .await;
        }
        // Only the projector of the audit log publishes its heads.
        let subject = "artstore.audit.head.ARTSTORE_ADMIN";
        for user in ["setup", "reader", "relay"] {
            let bus = connect(&nats.url(user, &variables)).await;
            bus.client.publish(subject, "forged".into()).await.unwrap();
            bus.client.flush().await.unwrap();
            eventually("the server refuses it", || async {
                let refused = |line: &str| {
                    line.contains("Publish Violation")
                        && line.contains(subject)
                        && line.contains(&format!("user:{user}\""))
                };
                nats.log().lines().any(refused).then_some(())
            })
            .await;
        }
        let relay = connect(&nats.url("relay", &variables)).await;
        // A command asks with the relay's user, and is answered in its inbox; nobody else may ask.
        let asked = "artstore.control.storage_elem_01";
        let mut requests = relay.client.subscribe(asked).await.unwrap();
        relay.client.flush().await.unwrap();
        let command = connect(&nats.url("relay", &variables)).await;
        let answer = tokio::spawn(async move {
            let answer = command.client.request(asked, "step aside".into()).await;
            answer.unwrap().payload
        });
        let request = requests.next().await.unwrap();
        let reply = request.reply.unwrap();
        relay.client.publish(reply, "ok".into()).await.unwrap();
        assert_eq!(answer.await.unwrap(), "ok");
        for user in ["setup", "reader"] {
            let bus = connect(&nats.url(user, &variables)).await;
            bus.client
                .publish(asked, "step aside".into())
                .await
                .unwrap();
            bus.client.flush().await.unwrap();
            eventually("the server refuses it", || async {
                let refused = |line: &str| {
                    line.contains("Publish Violation")
                        && line.contains(asked)
                        && line.contains(&format!("user:{user}\""))
                };
                nats.log().lines().any(refused).then_some(())
            })
            .await;
        }
        let source = artstore_schemas::source::Source::Element("storage_elem_01".parse().unwrap());
        let info = relay.stream_info(&source.stream()).await.unwrap();
        assert_eq!(info.state.messages, 0);

        // A refused publish or request is answered by nothing. It is named all the same, and at once.
        let begun = Instant::now();
        let no_stream = nats.url("reader", &variables);
        let (status, said) = init(&no_stream)
            .env("ARTSTORE_ELEMENTS", "other=postgres://127.0.0.1/other")
            .finish()
            .await;
        assert_eq!(status.code(), Some(1), "{said}");
        let lacks = "NATS user \"reader\" may not publish to $JS.API.STREAM.CREATE.";
        assert!(said.contains(lacks), "{said}");
        let reader = connect(&nats.url("reader", &variables)).await;
        let message = Outgoing {
            id: uuid::Uuid::new_v4(),
            position: None,
            subject: "artstore.wal.storage_elem_01.p00.file.created".to_owned(),
            headers: async_nats::HeaderMap::new(),
            body: "{}".into(),
        };
        for (count, mode) in [(1, PublishMode::Pipelined), (2, PublishMode::Atomic)] {
            let messages = vec![message.clone(); count];
            let failure = publish::publish(&reader, mode, messages, 0).await;
            let said = failure.unwrap_err().to_string();
            let lacks = format!(
                "NATS user \"reader\" may not publish to {}:",
                message.subject
            );
            assert!(said.starts_with(&lacks), "{said}");
        }
        let head = published::publish(&reader, "ARTSTORE_ADMIN", 0, "forged").await;
        let said = head.unwrap_err().to_string();
        let lacks = "NATS user \"reader\" may not publish to artstore.audit.head.ARTSTORE_ADMIN:";
        assert!(said.starts_with(lacks), "{said}");
        // Without the server's word each of the four waits for five seconds or more.
        assert!(
            begun.elapsed() < Duration::from_secs(15),
            "{:?}",
            begun.elapsed()
        );
    });
}

/// Who may take backups and restore them: `operator` alone. A missing right is named.
#[test]
fn the_operator_alone_takes_backups_of_streams_and_restores_them() {
    run(async {
        let variables = compose::some_variables();
        let nats = Nats::start(&filled()).await;
        let as_user = |user: &str, words: &[&str]| {
            Program::new(words).env("NATS_URL", &nats.url(user, &variables))
        };
        let (status, said) = as_user("setup", &["bus", "init"]).output().await;
        assert!(status.success(), "{said}");
        let operator = connect(&nats.url("operator", &variables)).await;
        let subject = "artstore.admin.p00.thing.seen";
        let sent = operator.jetstream.publish(subject, "x".repeat(100).into());
        sent.await.unwrap().await.unwrap();

        let to = folder("operator");
        let to = |name: &str| to.join(name).to_str().unwrap().to_owned();
        let one = to("one");
        let refused = as_user("reader", &["bus", "backup", &one]);
        let (status, log) = refused.finish().await;
        assert_eq!(status.code(), Some(1), "{log}");
        let lacks =
            "NATS user \"reader\" may not publish to $JS.API.STREAM.SNAPSHOT.ARTSTORE_AUDIT_HEADS";
        assert!(log.contains(lacks), "{log}");
        // Nothing of it is left.
        let (status, log) = as_user("operator", &["bus", "backup", &one]).finish().await;
        assert!(status.success(), "{log}");
        operator
            .jetstream
            .delete_stream("ARTSTORE_ADMIN")
            .await
            .unwrap();
        let restore = ["bus", "restore", &one, "--stream", "admin"];
        for (user, lacks) in [
            ("reader", "$JS.API.STREAM.RESTORE.ARTSTORE_ADMIN"),
            ("setup", "$JS.SNAPSHOT.RESTORE.ARTSTORE_ADMIN."),
        ] {
            let (status, log) = as_user(user, &restore).finish().await;
            assert_eq!(status.code(), Some(1), "{log}");
            let lacks = format!("NATS user \"{user}\" may not publish to {lacks}");
            assert!(log.contains(&lacks), "{log}");
        }
        let (status, said) = as_user("operator", &restore).output().await;
        // The message was not a relay's, in the backup either: it is reported.
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("`artstore verify --source admin`"), "{said}");
        let info = operator.stream_info("ARTSTORE_ADMIN").await.unwrap();
        assert_eq!(info.state.messages, 1);
    });
}
