//! The folder of a stack: its path, who may have it, and the passwords that are kept in it.

use artstore_runtime::count::counted;
use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

/// Longer than the guard of a kept folder takes to end its servers.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who runs PostgreSQL when we are root, because PostgreSQL refuses to run as root.
#[derive(Debug, Clone)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl User {
    /// `None` where we are an ordinary user: then PostgreSQL runs as we do.
    pub(super) fn unprivileged() -> anyhow::Result<Option<User>> {
        if id(&["-u"])? != Some(0) {
            return Ok(None);
        }
        for name in ["postgres", "nobody"] {
            if let (Some(uid), Some(gid)) = (id(&["-u", name])?, id(&["-g", name])?) {
                return Ok(Some(User {
                    name: name.to_owned(),
                    uid,
                    gid,
                }));
            }
        }
        bail!(
            "PostgreSQL can't run as root, and there is no user `postgres` or `nobody`: create one, or don't be root"
        )
    }

    /// Whether this user can pass through `folder` to what lies below it.
    fn reaches(&self, folder: &Path) -> anyhow::Result<bool> {
        let mut test = Command::new("test");
        let status = test
            .arg("-x")
            .arg(folder)
            .current_dir("/")
            .gid(self.gid)
            .uid(self.uid)
            .status();
        Ok(status.context("can't run `test`")?.success())
    }
}

fn id(arguments: &[&str]) -> anyhow::Result<Option<u32>> {
    let output = Command::new("id")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("can't run `id`")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse().ok())
}

#[derive(Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    pub(super) temporary: bool,
    /// Also held by the guard: the folder is free again when both are gone.
    pub(super) lock: File,
    pub(super) user: Option<User>,
}

impl Folder {
    /// A new temporary folder, or the folder `state`, created where it is missing. An error where another
    /// stack has it.
    pub(super) async fn open(state: Option<&Path>, user: Option<User>) -> anyhow::Result<Folder> {
        let path = match state {
            None => temporary(user.as_ref())?,
            Some(state) => kept(state, user.as_ref())?,
        };
        let lock = lock(&path).await?;
        Ok(Folder {
            path,
            temporary: state.is_none(),
            lock,
            user,
        })
    }

    /// A folder below ours that only its owner can read. Where `owner` is given it belongs to that user.
    pub(super) fn private(&self, name: &str, owner: Option<&User>) -> anyhow::Result<PathBuf> {
        let path = self.path.join(name);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.with_context(|| format!("can't create {}", path.display()))?;
        if let Some(user) = owner {
            std::os::unix::fs::chown(&path, Some(user.uid), Some(user.gid))?;
        }
        Ok(path)
    }
}

fn temporary(user: Option<&User>) -> anyhow::Result<PathBuf> {
    // A temporary folder of root's own is of no use to PostgreSQL's user.
    for base in [std::env::temp_dir(), "/tmp".into(), "/var/tmp".into()] {
        let folder = tempfile::Builder::new()
            .prefix("artstore-")
            .tempdir_in(&base);
        let folder =
            folder.with_context(|| format!("can't create a folder in {}", base.display()))?;
        open_to(folder.path(), user)?;
        if user.is_none_or(|user| user.reaches(folder.path()).unwrap_or(false)) {
            return Ok(folder.keep().canonicalize()?);
        }
    }
    bail!(
        "the user that runs PostgreSQL can't enter /tmp: set TMPDIR to a folder that everybody can enter"
    )
}

fn kept(state: &Path, user: Option<&User>) -> anyhow::Result<PathBuf> {
    if !state.exists() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(state);
        made.with_context(|| format!("can't create the state folder {}", state.display()))?;
        open_to(state, user)?;
    }
    let path = state
        .canonicalize()
        .with_context(|| format!("can't open the state folder {}", state.display()))?;
    let plain = |text: &str| !text.contains(|c: char| c.is_control() || c == '"' || c == '\\');
    if !path.to_str().is_some_and(plain) {
        bail!(
            "the path of the state folder {} has characters that a server's configuration can't hold",
            path.display()
        );
    }
    if let Some(user) = user
        && !user.reaches(&path)?
    {
        let (name, path) = (&user.name, path.display());
        bail!(
            "PostgreSQL runs as the user {name}, who can't enter the state folder {path}: \
             take a folder below /var/lib, or allow it with chmod o+x on {path} and the folders above"
        );
    }
    Ok(path)
}

/// Others may pass through, not look around, where PostgreSQL's user is one of them.
fn open_to(folder: &Path, user: Option<&User>) -> anyhow::Result<()> {
    let mode = if user.is_some() { 0o711 } else { 0o700 };
    Ok(std::fs::set_permissions(
        folder,
        Permissions::from_mode(mode),
    )?)
}

async fn lock(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .open(&path);
    let mut file = file.with_context(|| format!("can't write {}", path.display()))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(error)) => {
                return Err(error).context(format!("can't lock {}", path.display()));
            }
            Err(TryLockError::WouldBlock) => {}
        }
        // The holder is a running stack, or the guard of one that is gone and whose servers are just ending.
        let mut holder = String::new();
        file.rewind()?;
        file.read_to_string(&mut holder)?;
        let holder = holder.trim();
        let running = !holder.is_empty() && Path::new("/proc").join(holder).exists();
        if running || Instant::now() > deadline {
            let folder = folder.display();
            bail!(
                "the folder {folder} is in use by another stack (process {holder}): stop it, or take another folder"
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "{}", std::process::id())?;
    Ok(file)
}

/// What a kept folder must remember, because its data was made with it.
#[derive(Serialize, Deserialize)]
pub(super) struct Secrets {
    pub(super) nats_nodes: usize,
    /// The password of `account0`, `account1`, …
    pub(super) accounts: Vec<String>,
    pub(super) system: String,
    /// The password of the reader who has no key.
    #[serde(default)]
    pub(super) reader: String,
    pub(super) routes: String,
    pub(super) postgres: String,
}

impl Secrets {
    /// The folder's passwords, made at its first start; accounts that it has not had yet are added.
    pub(super) fn of(
        folder: &Folder,
        nats_nodes: usize,
        accounts: usize,
    ) -> anyhow::Result<Secrets> {
        let path = folder.path.join("secrets.json");
        let mut secrets = if path.exists() {
            let text =
                std::fs::read(&path).with_context(|| format!("can't read {}", path.display()))?;
            serde_json::from_slice(&text)
                .with_context(|| format!("{} is damaged", path.display()))?
        } else {
            Secrets {
                nats_nodes,
                accounts: Vec::new(),
                system: password(),
                reader: password(),
                routes: password(),
                postgres: password(),
            }
        };
        if secrets.nats_nodes != nats_nodes {
            let (folder, had) = (folder.path.display(), secrets.nats_nodes);
            bail!(
                "the state folder {folder} was made for {}, not {nats_nodes}: take another folder",
                counted(had, "NATS node")
            );
        }
        if secrets.reader.is_empty() {
            bail!(
                "the state folder {} was made by an earlier version, whose NATS server had one account for everything: \
                 take another folder",
                folder.path.display()
            );
        }
        while secrets.accounts.len() < accounts {
            secrets.accounts.push(password());
        }
        // Complete or not at all: the data is of no use without its passwords.
        let new = path.with_extension("new");
        write_private(&new, &serde_json::to_vec_pretty(&secrets)?)?;
        std::fs::rename(&new, &path)?;
        Ok(secrets)
    }
}

/// 128 random bits, in characters that a URL and a configuration file take as they are.
fn password() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// A file that only we can read, never half written under the name of an older one.
pub fn write_private(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    let mut file = file.with_context(|| format!("can't write {}", path.display()))?;
    file.write_all(content)?;
    Ok(file.sync_all()?)
}
