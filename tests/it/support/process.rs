//! Real processes of the program: started, ended, frozen, and their output.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{PATIENCE, eventually_or, logs};

/// The program, not started yet. It dies with the test that started it.
pub struct Program {
    command: tokio::process::Command,
    log: PathBuf,
}

/// A running process of the program; killed when it is dropped.
pub struct Process {
    child: tokio::process::Child,
    log: PathBuf,
}

impl Program {
    pub fn new(arguments: &[&str]) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let log = logs().join(format!("{number}.log"));
        // A test program that is killed takes its processes with it.
        let mut command = tokio::process::Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", env!("CARGO_BIN_EXE_artstore")])
            .args(arguments)
            .env_clear()
            .env("ARTSTORE_OPERATOR", "a test")
            // Commands need no token here; `identity` is about those that do.
            .env("AUTH_REQUIRED", "false")
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(log.with_extension("out")).unwrap())
            .stderr(std::fs::File::create(&log).unwrap())
            .kill_on_drop(true);
        Self { command, log }
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Without a variable that the world sets.
    pub fn without(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Ends itself with SIGKILL when it reaches this point for the n-th time.
    pub fn crash_at(self, point: &str, times: usize) -> Self {
        self.env("ARTSTORE_CRASH_AT", &format!("{point}:{times}"))
    }

    /// Freezes itself when it reaches this point for the n-th time.
    pub fn stop_at(self, point: &str, times: usize) -> Self {
        self.env("ARTSTORE_CRASH_AT", &format!("{point}:{times}:stop"))
    }

    pub fn start(mut self) -> Process {
        Process {
            child: self.command.spawn().unwrap(),
            log: self.log,
        }
    }

    /// Runs it to its end: exit status and what it wrote to standard error.
    pub async fn finish(self) -> (ExitStatus, String) {
        let mut process = self.start();
        let status = process.ended().await;
        (status, process.log())
    }

    /// Runs it to its end: exit status and what it printed.
    pub async fn output(self) -> (ExitStatus, String) {
        let mut process = self.start();
        let status = process.ended().await;
        (status, process.output())
    }

    pub fn argument(mut self, argument: &str) -> Self {
        self.command.arg(argument);
        self
    }
}

impl Process {
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    pub async fn ended(&mut self) -> ExitStatus {
        tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .unwrap_or_else(|_| panic!("still running; its log:\n{}", self.log()))
            .unwrap()
    }

    /// Waits for its end without a deadline of its own.
    pub async fn ended_late(&mut self) -> ExitStatus {
        self.child.wait().await.unwrap()
    }

    pub async fn signal(&self, signal: &str) {
        let sent = tokio::process::Command::new("kill")
            .args([signal, &self.pid().to_string()])
            .status()
            .await;
        assert!(sent.unwrap().success());
    }

    /// Waits until it has frozen itself ([`Program::stop_at`]).
    pub async fn frozen(&self) {
        self.says("artstore: frozen at ").await;
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub fn output(&self) -> String {
        std::fs::read_to_string(self.log.with_extension("out")).unwrap()
    }

    pub async fn says(&self, text: &str) {
        let what = || format!("the log says {text:?}; it is:\n{}", self.log());
        eventually_or(what, async || self.log().contains(text).then_some(())).await;
    }
}
