//! Finds the servers' programs in the places where `scripts/setup` leaves or finds them.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::bail;

type Version = [u32; 3];

const NATS_OLDEST: Version = [2, 12, 1];
const POSTGRES_OLDEST: Version = [15, 0, 0];

/// PATH first, then `.tools/bin` below the current folder and those above it, then the same from the program's own
/// folder: a clone works from wherever its program is called.
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

/// A folder with `initdb`, `pg_ctl` and `postgres`: PATH first, then Debian's places, the newest first.
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
    let mut debian = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| {
            entries
                .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
                .collect()
        })
        .unwrap_or_else(|_| Vec::<PathBuf>::new());
    debian.sort_by_cached_key(|folder| Reverse(version(&folder.join("postgres"))));
    for folder in on_path.chain(debian) {
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

/// What a program says about its version; nothing where it doesn't run or says no number.
fn version(program: &Path) -> Option<Version> {
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    parse(&String::from_utf8_lossy(&output.stdout))
}

/// The first word with a number and a dot: `nats-server: v2.14.6`, `postgres (PostgreSQL) 15.18 (Debian …)`, `17beta1`.
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
