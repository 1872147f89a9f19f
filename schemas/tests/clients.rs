//! The contract as others see it: the official CloudEvents SDKs of Python and Node decode every sample,
//! and their validators decide about every body of `rules.json` as ours does. `scripts/setup --tests`
//! installs them, of the versions that `clients/` pins.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn ours(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A folder that setup has left, made from the file that pins its versions.
fn installed(folder: &str, pinned: &str) -> PathBuf {
    let folder = ours("../.tools").join(folder);
    let made_from = fs::read(folder.join("made-from")).unwrap_or_default();
    let pinned = fs::read(ours("clients").join(pinned)).expect("it is there");
    assert!(
        made_from == pinned,
        "{} is not there, or of other versions: run scripts/setup --tests",
        folder.display()
    );
    folder
}

/// The program that setup has found for it.
fn program(folder: &Path) -> Command {
    let path = fs::read_to_string(folder.join("program")).expect("setup writes it");
    Command::new(path.trim())
}

#[track_caller]
fn agrees(command: &mut Command) {
    let output = command.output().expect("it runs");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{command:?}: {said}");
    assert!(said.starts_with("14 schemas, 14 samples, "), "{said}");
}

#[test]
fn python_reads_every_sample_and_decides_as_the_page_does() {
    let folder = installed("contract-python", "requirements.txt");
    let mut python = program(&folder);
    python.arg("-B").arg(ours("clients/contract.py"));
    agrees(python.env("PYTHONPATH", folder.join("packages")));
}

#[test]
fn node_reads_every_sample_and_decides_as_the_page_does() {
    let folder = installed("contract-node", "package-lock.json");
    let mut node = program(&folder);
    node.arg(ours("clients/contract.mjs")).arg(ours(""));
    agrees(node.current_dir(&folder));
}
