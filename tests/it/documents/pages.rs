//! A page has a size that is read to its end, and the index has every page.

use std::collections::BTreeSet;

use super::{Page, all, links};
use crate::support::repository::text;

const MOST_LINES: usize = 300;
const README_LINES: usize = 150;
const README_BYTES: usize = 9 * 1024;
/// Characters in a row of a table: a longer one wraps many times, and should be a section.
const MOST_IN_A_ROW: usize = 500;

#[test]
fn no_page_is_too_long() {
    let mut long = Vec::new();
    for page in all() {
        let (lines, bytes) = (page.text.lines().count(), page.text.len());
        let is_fine = match page.path.as_str() {
            "README.md" => lines <= README_LINES && bytes <= README_BYTES,
            "CHANGELOG.md" => true,
            _ => lines <= MOST_LINES,
        };
        if !is_fine {
            long.push(format!("{}: {lines} lines, {bytes} bytes", page.path));
        }
    }
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn no_row_of_a_table_is_a_page() {
    let mut long = Vec::new();
    for page in all() {
        for line in page.prose().filter(|line| line.starts_with('|')) {
            let length = line.chars().count();
            if length > MOST_IN_A_ROW {
                let begins: String = line.chars().take(60).collect();
                long.push(format!("{}: {length} characters: {begins}", page.path));
            }
        }
    }
    assert!(long.is_empty(), "{long:#?}");
}

/// `scripts/docs` makes the contents of the site from the two indexes.
#[test]
fn the_index_has_every_page_once() {
    let listed = |index: &str, folder: &str| -> Vec<String> {
        let index = Page {
            path: index.to_owned(),
            text: text(index),
        };
        let entries = index.prose().filter(|line| line.starts_with("- ["));
        entries
            .map(|line| links(line)[0])
            .filter(|target| !target.starts_with(".."))
            .map(|target| format!("{folder}/{target}"))
            .collect()
    };
    let mut entries = listed("docs/README.md", "docs");
    entries.extend(listed("docs/decisions/README.md", "docs/decisions"));
    let once: BTreeSet<String> = entries.iter().cloned().collect();
    assert_eq!(
        once.len(),
        entries.len(),
        "a page is listed twice: {entries:#?}"
    );
    let there: BTreeSet<String> = all()
        .into_iter()
        .map(|page| page.path)
        .filter(|path| path.starts_with("docs/") && path != "docs/README.md")
        .collect();
    assert_eq!(once, there);
}
