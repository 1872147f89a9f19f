//! Who may do what: tokens as the program meets them, and the commands that need one.
//!
//! - `tokens`: attacks on `artstore token check`, keys that come and go
//! - `commands`: no command that changes or exports something gets through without its token
//! - `events`: whose event it is
//! - `secret_files`: secrets from files and from systemd credentials; passwords that everybody knows
//! - `leaks`: no secret is in any output, stream, table or file

mod commands;
mod events;
mod leaks;
mod secret_files;
mod tokens;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::folder;
use crate::support::signed::TestKey;

/// A folder with the first key, as `main.pem`.
fn keys() -> PathBuf {
    let folder = folder("keys");
    std::fs::write(folder.join("main.pem"), TestKey::first().pem()).unwrap();
    folder
}

/// A file with a token, or another secret, for its owner alone.
fn file(name: &str, token: &str) -> PathBuf {
    let file = folder("token").join(name);
    std::fs::write(&file, format!("{token}\n")).unwrap();
    give(&file, 0o600);
    file
}

fn give(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// An empty folder for what a command may write.
fn folder_of_exports() -> PathBuf {
    folder("exports")
}

fn signed(claims: &Value) -> String {
    TestKey::first().token(claims)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Nothing of a token is in a text: no part of it, signed or not.
#[track_caller]
fn assert_absent(token: &str, said: &str) {
    for part in token.split('.').filter(|part| part.len() > 8) {
        assert!(!said.contains(&part[..8]), "{said}");
    }
}
