//! `scripts/deny` refuses what deny.toml does not allow, and reports a list of advisories that it can't fetch.

use std::path::Path;
use std::process::Command;

use crate::support::repository::{repository, text};

/// Whether all is allowed, and the output, with the repository `list` in the place of RustSec's.
fn deny(folder: &Path, list: &Path, change: impl Fn(String) -> String) -> (bool, String) {
    let here = format!("[advisories]\ndb-path = {folder:?}");
    // Whether a crate was withdrawn is asked of crates.io, which tests don't.
    let config = text("deny.toml")
        .replace("[advisories]", &here)
        .replace("yanked = \"deny\"", "yanked = \"allow\"");
    let path = folder.join("deny.toml");
    std::fs::write(&path, change(config)).unwrap();
    let instead = format!("url.file://{}.insteadOf", list.display());
    let output = Command::new(repository("scripts/deny"))
        .arg(path)
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", instead)
        .env(
            "GIT_CONFIG_VALUE_0",
            "https://github.com/RustSec/advisory-db",
        )
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

#[test]
fn a_list_of_advisories_that_cannot_be_fetched_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let (is_fine, said) = deny(folder.path(), &folder.path().join("nowhere"), |all| all);
    assert!(is_fine, "{said}");
    assert!(said.contains("bans ok, licenses ok, sources ok"), "{said}");
    assert!(said.contains("advisories NOT CHECKED"), "{said}");
    assert!(!said.contains("advisories ok"), "{said}");
}

#[test]
fn an_advisory_a_licence_and_a_second_version_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list");
    let advise = |package: &str, id: &str| {
        let crates = list.join("crates").join(package);
        std::fs::create_dir_all(&crates).unwrap();
        let advisory = format!(
            "```toml\n[advisory]\nid = \"{id}\"\npackage = \"{package}\"\ndate = \"2026-01-02\"\n\n\
             [versions]\npatched = []\n```\n\n# A weakness\n\nOf a test.\n"
        );
        std::fs::write(crates.join(format!("{id}.md")), advisory).unwrap();
        for arguments in [
            "init --quiet",
            "checkout --quiet -B main",
            "add --all",
            "-c user.name=test -c user.email=test@localhost commit --quiet --message=list",
        ] {
            let mut git = Command::new("git");
            git.arg("-C").arg(&list).args(arguments.split(' '));
            assert!(git.status().unwrap().success(), "{arguments}");
        }
    };
    advise("no-crate-of-ours", "RUSTSEC-2026-9998");
    let (is_fine, said) = deny(folder.path(), &list, |all| all);
    assert!(is_fine && said.contains("advisories ok"), "{said}");

    advise("uuid", "RUSTSEC-2026-9999");
    let (is_fine, said) = deny(folder.path(), &list, |all| all);
    assert!(!is_fine && said.contains("RUSTSEC-2026-9999"), "{said}");

    let (is_fine, said) = deny(folder.path(), &list, |all| all.replace("\"MIT\",", ""));
    assert!(!is_fine && said.contains("licenses FAILED"), "{said}");
    let (is_fine, said) = deny(folder.path(), &list, |all| {
        all.replace("base64@0.22", "base64@0.1")
    });
    assert!(!is_fine && said.contains("crate 'base64'"), "{said}");
}
