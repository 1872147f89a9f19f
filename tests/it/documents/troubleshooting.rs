//! `docs/troubleshooting.md` is read by the message that somebody sees: its headings are parts of messages
//! that the program has, and each halt of relay and projector has a heading.

use std::collections::BTreeSet;

use super::{Page, code};
use crate::documents::advice::{files, literals};
use crate::support::repository::{repository, text};

fn headings() -> BTreeSet<String> {
    let page = Page {
        path: "docs/troubleshooting.md".to_owned(),
        text: text("docs/troubleshooting.md"),
    };
    let headings = page.prose().filter(|line| line.starts_with("### "));
    headings.flat_map(code).map(str::to_owned).collect()
}

fn messages(file: &std::path::Path) -> impl Iterator<Item = String> {
    let text = std::fs::read_to_string(file).unwrap();
    literals(&text).into_iter().map(|(_, _, literal)| literal)
}

#[test]
fn each_heading_is_part_of_a_message() {
    let mut all = String::new();
    for folder in std::fs::read_dir(repository("")).unwrap() {
        let sources = folder.unwrap().path().join("src");
        if sources.is_dir() {
            for file in files(&sources, "rs") {
                all.extend(messages(&file).map(|message| message + "\n"));
            }
        }
    }
    for file in files(&repository("src"), "rs") {
        all.extend(messages(&file).map(|message| message + "\n"));
    }
    let unknown: Vec<_> = headings()
        .into_iter()
        .filter(|heading| !all.contains(heading.as_str()))
        .collect();
    assert!(unknown.is_empty(), "no message has {unknown:#?}");
}

#[test]
fn each_halt_has_a_heading() {
    // What these say is in the text that they are given.
    const GENERAL: &[&str] = &[
        "database {database}: {problem}",
        "{0}; nothing was published",
        "database {database}: {unfit}; nothing was applied",
    ];
    let headings = headings();
    let mut missing = Vec::new();
    for file in [
        "producers/src/relay/relay_error.rs",
        "projectors/src/projector_error.rs",
    ] {
        let source = text(file);
        let (_, halts) = source.split_once("pub enum Halt {").unwrap();
        let (halts, _) = halts.split_once("\n}\n").unwrap();
        let errors = literals(halts).into_iter();
        let errors = errors.filter(|(_, before, _)| before.trim_end().ends_with("#[error("));
        for (_, _, message) in errors {
            let is_there = headings.iter().any(|heading| message.contains(heading));
            if !is_there && !GENERAL.contains(&message.as_str()) {
                missing.push(message);
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
