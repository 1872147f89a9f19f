//! The documents: what they link to exists, what they name exists, and their examples run.
//!
//! - `links`: files and anchors that pages and sources refer to
//! - `pages`: lengths, and the index that has every page
//! - `guarantees`: each with a test that exists
//! - `configuration`: the page of settings, as the program has them
//! - `troubleshooting`: the messages of the page, as the program has them
//! - `advice`: commands that pages and messages name
//! - `examples`: the quick start, a first subscriber, a publisher in Rust
//! - `store`: that publisher

pub mod advice;
mod configuration;
mod examples;
mod guarantees;
mod links;
mod pages;
mod store;
mod troubleshooting;

use std::path::Path;

use crate::documents::advice::files;
use crate::support::repository::{repository, text};

/// A document, by its path in the repository.
struct Page {
    path: String,
    text: String,
}

/// Every document.
fn all() -> Vec<Page> {
    let root = repository("");
    let below = files(&root.join("docs"), "md").into_iter().map(|file| {
        let path = file.strip_prefix(&root).unwrap();
        path.to_str().unwrap().to_owned()
    });
    [
        "README",
        "ARCHITECTURE",
        "CONTRIBUTING",
        "SECURITY",
        "CHANGELOG",
    ]
    .map(|name| format!("{name}.md"))
    .into_iter()
    .chain(below)
    .map(|path| Page {
        text: text(&path),
        path,
    })
    .collect()
}

impl Page {
    /// Its lines without those of blocks of code.
    fn prose(&self) -> impl Iterator<Item = &str> {
        let mut fence = false;
        self.text.lines().filter(move |line| {
            let is_mark = line.trim_start().starts_with("```");
            fence ^= is_mark;
            !fence && !is_mark
        })
    }

    fn folder(&self) -> &Path {
        Path::new(&self.path).parent().unwrap()
    }
}

/// What stands between backticks in a text.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The targets of the links in a line of Markdown; code spans have none.
fn links(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("](") {
        let is_code = before.matches('`').count() % 2 == 1;
        let target = after.split(')').next().unwrap();
        // A link may have code as its text: then the backtick is closed before the bracket.
        if !is_code {
            found.push(target);
        }
        rest = match is_code {
            true => after.split_once('`').map_or("", |(_, behind)| behind),
            false => after,
        };
    }
    found
}
