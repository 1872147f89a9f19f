//! One server process: started in its own process group, writing to a log file, watched until it answers.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// How long a server may take until it answers, or until it has ended.
const PATIENCE: Duration = Duration::from_secs(60);
const GLANCE: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct Process {
    name: String,
    child: Arc<Mutex<Child>>,
    log: PathBuf,
    /// Where in the log this run of the server begins.
    log_start: u64,
}

impl Process {
    /// Starts a server whose output is appended to `log`. Its own process group keeps a terminal's Ctrl-C
    /// from it: it ends when we have finished with it.
    pub(super) fn start(name: &str, command: &mut Command, log: &Path) -> anyhow::Result<Process> {
        let output = OpenOptions::new().create(true).append(true).open(log);
        let output = output.with_context(|| format!("can't write {}", log.display()))?;
        let log_start = output.metadata()?.len();
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .with_context(|| format!("can't start {}", command.get_program().display()))?;
        Ok(Process {
            name: name.to_owned(),
            child: Arc::new(Mutex::new(child)),
            log: log.to_owned(),
            log_start,
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child().id()
    }

    pub(super) fn has_ended(&self) -> bool {
        !matches!(self.child().try_wait(), Ok(None))
    }

    /// That it has ended, with its last output.
    pub(super) fn ended(&self) -> Option<String> {
        self.has_ended().then(|| {
            let (name, log) = (&self.name, self.log.display());
            format!(
                "{name} has ended; its log ({log}) ends with\n{}",
                self.log_tail()
            )
        })
    }

    /// Waits until `question` is answered. An error, with the end of the server's log, where the server
    /// ends before that or the time is up.
    pub(super) async fn until_answered<F, T>(&self, question: F) -> anyhow::Result<T>
    where
        F: AsyncFn() -> anyhow::Result<T>,
    {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let what = match tokio::time::timeout(PATIENCE / 10, question()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => format!("{error:#}"),
                Err(_) => "no answer".to_owned(),
            };
            if self.has_ended() {
                bail!(
                    "{} ended at its start; its log ends with\n{}",
                    self.name,
                    self.log_tail()
                );
            }
            if Instant::now() > deadline {
                let (name, seconds, log) = (&self.name, PATIENCE.as_secs(), self.log_tail());
                bail!(
                    "{name} does not answer after {seconds} s ({what}); its log ends with\n{log}"
                );
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Waits until the process, asked to end by other means, is gone.
    pub(super) async fn until_ended(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.has_ended() {
            if Instant::now() > deadline {
                bail!(
                    "{} does not end; its log ends with\n{}",
                    self.name,
                    self.log_tail()
                );
            }
            tokio::time::sleep(GLANCE).await;
        }
        Ok(())
    }

    /// SIGKILL. Nothing happens where the process is gone already.
    pub(super) async fn kill(&self) -> anyhow::Result<()> {
        self.child()
            .kill()
            .with_context(|| format!("can't kill {}", self.name))?;
        self.until_ended().await
    }

    /// What the server has logged last, since this start.
    pub(super) fn log_tail(&self) -> String {
        let mut text = Vec::new();
        let read = File::open(&self.log).and_then(|mut log| {
            let end = log.metadata()?.len();
            log.seek(SeekFrom::Start(
                self.log_start.max(end.saturating_sub(4_096)),
            ))?;
            log.read_to_end(&mut text)
        });
        match read {
            Ok(0) => "(nothing was logged)".to_owned(),
            Ok(_) => String::from_utf8_lossy(&text).trim_end().to_owned(),
            Err(error) => format!("({}: {error})", self.log.display()),
        }
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    /// The guard ends the process. Here it is only waited for, so that no zombie stays in a program that
    /// continues.
    fn drop(&mut self) {
        if !self.has_ended() {
            let child = Arc::clone(&self.child);
            std::thread::spawn(move || child.lock().unwrap_or_else(PoisonError::into_inner).wait());
        }
    }
}
