//! Every link of every document leads to a file and to an anchor that exist, and so does every page that a
//! source names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use super::{Page, all, links};
use crate::documents::advice::files;
use crate::support::repository::{repository, text};

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => assert!(plain.pop(), "{} leaves", path.display()),
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

/// The anchors of a page, as code hosts and mdBook make them from headings, and those that it sets itself.
fn anchors(page: &Page) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for line in page.prose() {
        if line.starts_with('#') {
            let name = slug(line.trim_start_matches('#').trim());
            let times = seen.entry(name.clone()).or_default();
            anchors.insert(match *times {
                0 => name,
                more => format!("{name}-{more}"),
            });
            *times += 1;
        }
        if let Some((_, rest)) = line.split_once("<a id=\"") {
            anchors.insert(rest.split('"').next().unwrap().to_owned());
        }
    }
    anchors
}

fn slug(heading: &str) -> String {
    let kept = heading.to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || ['-', '_', ' '].contains(c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn every_link_leads_to_a_file_and_an_anchor() {
    let pages = all();
    let known: BTreeMap<PathBuf, BTreeSet<String>> = pages
        .iter()
        .map(|page| (PathBuf::from(&page.path), anchors(page)))
        .collect();
    let (mut broken, mut count) = (Vec::new(), 0);
    for page in &pages {
        for target in page.prose().flat_map(links) {
            if target.starts_with("https://") {
                continue;
            }
            count += 1;
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = match path {
                "" => PathBuf::from(&page.path),
                path => plain(&page.folder().join(path)),
            };
            let is_there = repository("").join(&path).exists();
            let has_anchor =
                anchor.is_empty() || known.get(&path).is_some_and(|all| all.contains(anchor));
            if !is_there || !has_anchor {
                broken.push(format!("{}: {target}", page.path));
            }
        }
    }
    assert!(count > 500, "only {count} links were found");
    assert!(broken.is_empty(), "{broken:#?}");
}

/// Also where it is named without a link.
#[test]
fn every_source_that_a_page_names_is_there() {
    const KINDS: &[&str] = &["rs", "sql", "py", "conf", "sh", "json"];
    let (mut missing, mut count) = (Vec::new(), 0);
    for page in all() {
        let is_part = |c: char| c.is_ascii_alphanumeric() || "_./-".contains(c);
        for named in page.text.split(|c| !is_part(c)) {
            let named = named.trim_end_matches('.').trim_start_matches("../");
            let folder = named.split_once('/').map_or("", |(folder, _)| folder);
            let kind = named.rsplit_once('.').map_or("", |(_, kind)| kind);
            // `target` has what was built.
            let is_ours = repository(folder).is_dir() && folder != "target";
            if folder.is_empty() || !is_ours || !KINDS.contains(&kind) {
                continue;
            }
            count += 1;
            if !repository(named).exists() {
                missing.push(format!("{}: {named}", page.path));
            }
        }
    }
    assert!(count > 300, "only {count} names were found");
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Texts and comments of sources, scripts and settings that name a page.
#[test]
fn every_page_that_a_source_names_is_there() {
    let pages: BTreeMap<String, BTreeSet<String>> = all()
        .iter()
        .map(|page| (page.path.clone(), anchors(page)))
        .collect();
    let root = repository("");
    let mut sources = [
        "Makefile",
        "compose.yaml",
        "Dockerfile",
        "deny.toml",
        "book.toml",
    ]
    .map(repository)
    .to_vec();
    for entry in std::fs::read_dir(&root).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_str().unwrap();
        if folder.is_dir() && !name.starts_with('.') && name != "target" && name != "docs" {
            for extension in ["rs", "sql", "toml", "yaml", "conf", "sh", "py", "txt"] {
                sources.extend(files(&folder, extension));
            }
        }
    }
    let (mut broken, mut count) = (Vec::new(), 0);
    for source in sources {
        let shown = source.strip_prefix(&root).unwrap().display().to_string();
        let text = std::fs::read_to_string(&source).unwrap();
        // A comment or a text may break the name over two lines at a blank only.
        for (at, _) in text.match_indices("docs/") {
            let is_part = |c: char| c.is_ascii_alphanumeric() || "/-_.#".contains(c);
            let named: String = text[at..].chars().take_while(|c| is_part(*c)).collect();
            let named = named.trim_end_matches('.');
            let (page, anchor) = named.split_once('#').unwrap_or((named, ""));
            if !page.ends_with(".md") {
                continue;
            }
            count += 1;
            let anchors = pages.get(page);
            if anchors.is_none_or(|all| !anchor.is_empty() && !all.contains(anchor)) {
                broken.push(format!("{shown}: {named}"));
            }
        }
        // Split, as this is a source too.
        if text.contains(concat!("(READ", "ME, ")) {
            broken.push(format!("{shown}: a section of the README"));
        }
    }
    assert!(count > 20, "only {count} names were found");
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_target_of_make_that_a_page_names_is_there() {
    let makefile = text("Makefile");
    let mut missing = Vec::new();
    for page in all() {
        let named = page.text.match_indices("make ").filter(|(at, _)| {
            let before = page.text[..*at].chars().next_back();
            before == Some('`') || before == Some('\n')
        });
        for (at, found) in named {
            let rest = page.text[at + found.len()..].chars();
            let target: String = rest
                .take_while(|c| c.is_ascii_lowercase() || *c == '-')
                .collect();
            if !makefile
                .lines()
                .any(|line| line.starts_with(&format!("{target}:")))
            {
                missing.push(format!("{}: make {target}", page.path));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
