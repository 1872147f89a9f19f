//! Files of the repository, and programs that `scripts/setup --tests` has left in it.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use tokio::process::Command;

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

pub fn text(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A file that `scripts/setup --tests` has left, of whatever version.
pub fn tool(prefix: &str, file: &str) -> std::path::PathBuf {
    let setup = text("scripts/setup");
    let variable = match prefix {
        "hadolint" => "hadolint_pinned=",
        "cyclonedx" => "cyclonedx_schema_in=",
        _ => "compose_schema_in=",
    };
    let version = setup
        .lines()
        .find_map(|line| line.strip_prefix(variable))
        .unwrap();
    let version = version.split(' ').next().unwrap();
    let path = repository(&format!(".tools/{prefix}-{version}/{file}"));
    assert!(
        path.exists(),
        "{} is not there: run scripts/setup --tests",
        path.display()
    );
    path
}

/// A program's output; where it failed, also in the error.
pub async fn succeeded(command: &mut Command) -> Output {
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let said = [output.stdout.clone(), output.stderr.clone()].concat();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&said)
    );
    output
}
