//! Who may do what: tokens as the program meets them, and the commands that need one.
//!
//! - `tokens`: attacks on `artstore token check`, keys that come and go
//! - `commands`: no command that changes or exports something gets through without its token
//! - `events`: whose event it is

mod commands;
mod events;
mod tokens;

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

/// A file with a token.
fn file(name: &str, token: &str) -> PathBuf {
    let file = folder("token").join(name);
    std::fs::write(&file, format!("{token}\n")).unwrap();
    file
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
