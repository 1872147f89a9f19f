//! The guard: a small shell process that ends the servers of a folder when the pipe from us to it is closed.
//!
//! Closing the pipe is the only way in which a stack ends. An orderly stop closes it, a dropped stack
//! closes it, and the kernel closes it when this process dies, even by SIGKILL; so the way that is taken
//! after a crash is the one taken every day. The guard also holds the folder's lock, so that the next stack
//! on a kept folder starts only when the servers of the last one are gone.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// Longer than the guard's own patience with a server that keeps its data.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Guard {
    shell: Child,
    temporary: bool,
}

impl Guard {
    /// Starts the guard of `directory`; from now on the folder's servers don't outlive us.
    pub(super) fn start(directory: &Path, temporary: bool, lock: &File) -> anyhow::Result<Guard> {
        let shell = Command::new("/bin/sh")
            .args(["-c", include_str!("guard.sh"), "artstore-guard"])
            .arg(directory)
            .arg(if temporary { "temporary" } else { "kept" })
            .stdin(Stdio::piped())
            // It prints nothing: standard output is only the place where the lock is held.
            .stdout(lock.try_clone()?)
            .stderr(Stdio::null())
            .current_dir("/")
            .process_group(0)
            .spawn()
            .context("can't start /bin/sh as the guard of the private servers")?;
        Ok(Guard { shell, temporary })
    }

    #[cfg(test)]
    pub(super) fn pid(&self) -> u32 {
        self.shell.id()
    }

    /// Closes the pipe and waits until servers and, where it is temporary, the folder are gone.
    pub(super) async fn finish(mut self, directory: &Path, lock: &File) -> anyhow::Result<()> {
        if !self.ended().await? {
            // Somebody killed the guard. A second one does what the first could not.
            let mut second = Guard::start(directory, self.temporary, lock)?;
            if !second.ended().await? {
                bail!("servers of {} would not end", directory.display());
            }
        }
        if self.temporary && directory.exists() {
            bail!(
                "the temporary folder {} could not be removed",
                directory.display()
            );
        }
        Ok(())
    }

    async fn ended(&mut self) -> anyhow::Result<bool> {
        drop(self.shell.stdin.take());
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.shell.try_wait()? {
                return Ok(status.success());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(false)
    }
}

impl Drop for Guard {
    /// Blocks until the guard has done its work, so that neither a server nor a folder is left when we are
    /// gone.
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && matches!(self.shell.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
