//! A nats-server with a configuration of the test's own.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::eventually;

/// It ends with the test.
pub struct NatsServer {
    _process: tokio::process::Child,
    pub folder: tempfile::TempDir,
    pub port: u16,
}

impl NatsServer {
    /// With JetStream on a free port of this machine, and this configuration besides.
    pub async fn start(configuration: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let configuration = format!(
            "host: 127.0.0.1\nport: {port}\njetstream {{ store_dir: \"{}\" }}\n{configuration}\n",
            folder.path().display()
        );
        let path = folder.path().join("nats.conf");
        std::fs::write(&path, configuration).unwrap();
        let process = tokio::process::Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program())
            .arg("-c")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.path().join("log")).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let server = Self {
            _process: process,
            folder,
            port,
        };
        eventually("the server listens", || async {
            let log = server.log();
            assert!(
                !log.contains("[FTL]") && !log.contains("nats-server:"),
                "{log}"
            );
            let listens = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
            listens.is_ok().then_some(())
        })
        .await;
        server
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

fn program() -> PathBuf {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/bin/nats-server");
    if ours.exists() {
        ours
    } else {
        PathBuf::from("nats-server")
    }
}
