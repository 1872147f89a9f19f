//! Finds the servers' programs where `scripts/setup` installs or finds them.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::bail;

type Version = [u32; 3];

const NATS_OLDEST: Version = [2, 12, 1];
const POSTGRES_OLDEST: Version = [15, 0, 0];

/// PATH first, then `.tools/bin` below the current folder and those above it, then the same from the
/// program's own folder: a clone works from wherever its program is called.
pub(super) fn nats_server() -> anyhow::Result<PathBuf> {
    let tools = start_folders()
        .iter()
        .flat_map(|folder| folder.ancestors())
        .map(|folder| folder.join(".tools/bin"))
        .collect::<Vec<_>>();
    for program in path_folders()
        .iter()
        .chain(&tools)
        .map(|folder| folder.join("nats-server"))
    {
        if program.is_file() && version(&program).is_some_and(|version| version >= NATS_OLDEST) {
            return Ok(program);
        }
    }
    bail!("no nats-server 2.12.1 or newer on PATH or in .tools/bin: run scripts/setup")
}

/// A folder with `initdb`, `pg_ctl` and `postgres`: PATH first, then Debian's folders, the newest first.
pub(super) fn postgres() -> anyhow::Result<PathBuf> {
    let on_path = path_folders().into_iter().filter_map(|folder| {
        // A link on PATH may stand alone; the other programs are beside what it points to.
        Some(
            folder
                .join("initdb")
                .canonicalize()
                .ok()?
                .parent()?
                .to_owned(),
        )
    });
    for folder in on_path.chain(debian_folders()) {
        let complete = ["initdb", "pg_ctl", "postgres"]
            .iter()
            .all(|program| folder.join(program).is_file());
        if complete
            && version(&folder.join("postgres")).is_some_and(|version| version >= POSTGRES_OLDEST)
        {
            return Ok(folder);
        }
    }
    bail!(
        "no PostgreSQL 15 or newer (initdb, pg_ctl, postgres) on PATH or in /usr/lib/postgresql: run scripts/setup"
    )
}

/// A folder with `pg_dump` and `pg_restore` that are not older than a server of this major version, and what
/// `pg_dump` reports about itself: PATH first, then Debian's folders, the newest first.
pub fn postgres_clients(server: u32) -> anyhow::Result<(PathBuf, String)> {
    clients_in(path_folders().into_iter().chain(debian_folders()), server)
}

fn clients_in(
    folders: impl Iterator<Item = PathBuf>,
    server: u32,
) -> anyhow::Result<(PathBuf, String)> {
    let mut older = Vec::new();
    for folder in folders {
        let dump = folder.join("pg_dump");
        if !dump.is_file() || !folder.join("pg_restore").is_file() {
            continue;
        }
        match version(&dump) {
            Some(found) if found[0] >= server => {
                return Ok((folder, format!("{}.{}", found[0], found[1])));
            }
            Some(found) => older.push(format!("{} in {}", found[0], folder.display())),
            None => {}
        }
    }
    if older.is_empty() {
        bail!(
            "no pg_dump and pg_restore on PATH or in /usr/lib/postgresql: install PostgreSQL's client programs, \
             version {server} or newer"
        );
    }
    bail!(
        "pg_dump is older than the server, which it then can't dump: found {}, needed {server} or newer; install \
         PostgreSQL's client programs of that version",
        older.join(", ")
    )
}

/// The newest first.
fn debian_folders() -> Vec<PathBuf> {
    let mut folders = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| {
            entries
                .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
                .collect()
        })
        .unwrap_or_else(|_| Vec::<PathBuf>::new());
    folders.sort_by_cached_key(|folder| Reverse(version(&folder.join("postgres"))));
    folders
}

fn path_folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .collect()
}

fn start_folders() -> Vec<PathBuf> {
    let here = std::env::current_dir().ok();
    let program = std::env::current_exe()
        .ok()
        .and_then(|program| Some(program.parent()?.to_owned()));
    here.into_iter().chain(program).collect()
}

/// What a program reports about its version; nothing where it doesn't run or reports no number.
fn version(program: &Path) -> Option<Version> {
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    parse(&String::from_utf8_lossy(&output.stdout))
}

/// The first word with a number and a dot: `nats-server: v2.14.6`, `postgres (PostgreSQL) 15.18 (Debian
/// …)`, `17beta1`.
fn parse(text: &str) -> Option<Version> {
    let word = text
        .split_whitespace()
        .map(|word| word.trim_start_matches('v'))
        .find(|word| word.starts_with(|first: char| first.is_ascii_digit()))?;
    let mut version = [0; 3];
    for (place, part) in version.iter_mut().zip(word.split('.')) {
        let digits = part
            .split(|c: char| !c.is_ascii_digit())
            .next()
            .unwrap_or_default();
        *place = digits.parse().ok()?;
    }
    Some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pg_dump_older_than_the_server_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = |version: &str| {
            let folder = tempfile::tempdir().expect("a folder");
            for program in ["pg_dump", "pg_restore"] {
                let path = folder.path().join(program);
                let script = format!("#!/bin/sh\necho '{program} (PostgreSQL) {version}'\n");
                std::fs::write(&path, script).expect("a script");
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
                    .expect("it can be run");
            }
            folder
        };
        let (old, new) = (folder("14.9"), folder("17.2"));
        let paths = |folders: &[&tempfile::TempDir]| {
            let paths: Vec<PathBuf> = folders.iter().map(|f| f.path().to_owned()).collect();
            paths.into_iter()
        };
        let (found, version) = clients_in(paths(&[&old, &new]), 15).expect("the newer one");
        assert_eq!((found.as_path(), version.as_str()), (new.path(), "17.2"));
        let refused = clients_in(paths(&[&old]), 15)
            .expect_err("too old")
            .to_string();
        assert!(refused.contains("older than the server"), "{refused}");
        assert!(
            refused.contains("14 in") && refused.contains("15 or newer"),
            "{refused}"
        );
        let none = clients_in(paths(&[]), 15)
            .expect_err("nothing there")
            .to_string();
        assert!(none.contains("install"), "{none}");
    }

    #[test]
    fn versions_are_read_from_what_programs_say() {
        assert_eq!(parse("nats-server: v2.14.6\n"), Some([2, 14, 6]));
        assert_eq!(parse("nats-server: v2.15.0-RC.1\n"), Some([2, 15, 0]));
        assert_eq!(
            parse("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"),
            Some([15, 18, 0])
        );
        assert_eq!(parse("postgres (PostgreSQL) 19beta1\n"), Some([19, 0, 0]));
        assert_eq!(parse("no number\n"), None);
        assert!(parse("v2.9.25") < Some(NATS_OLDEST) && parse("v2.12.1") == Some(NATS_OLDEST));
    }
}
