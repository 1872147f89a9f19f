//! Processes that run with secrets, and all that they say.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Process, Program, eventually};

/// Everything that processes said.
#[derive(Default)]
pub(super) struct Said(pub(super) Vec<(String, String)>);

impl Said {
    pub(super) async fn run(&mut self, what: &str, program: Program) -> bool {
        let mut process = program.env("LOG_LEVEL", "trace").start();
        let status = process.ended().await;
        self.of(what, &process);
        status.success()
    }

    pub(super) fn of(&mut self, what: &str, process: &Process) {
        self.0
            .push((format!("the output of {what}"), process.output()));
        self.0.push((format!("the log of {what}"), process.log()));
    }
}

/// A service that listens, and what its process shows of itself.
pub(super) struct Running {
    pub(super) name: &'static str,
    pub(super) process: Process,
    address: String,
}

impl Running {
    pub(super) async fn start(name: &'static str, program: Program) -> Self {
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

    pub(super) async fn look(&self, said: &mut Said) {
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
