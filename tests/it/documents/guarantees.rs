//! Each guarantee names a test that exists.

use std::path::Path;

use super::{Page, code, links};
use crate::documents::advice::files;
use crate::support::repository::text;

#[test]
fn each_guarantee_names_tests_that_exist() {
    let page = Page {
        path: "docs/guarantees.md".to_owned(),
        text: text("docs/guarantees.md"),
    };
    let lines: Vec<&str> = page.prose().collect();
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (number, claim) in lines.iter().enumerate() {
        if !claim.starts_with("- ") {
            continue;
        }
        count += 1;
        let tests = lines.get(number + 1).copied().unwrap_or_default();
        let mut sources = String::new();
        for target in links(tests) {
            sources += &sources_of(&page.folder().join(target));
        }
        if !sources.contains("#[test]") && !sources.contains("#[tokio::test]") {
            wrong.push(format!("{claim}: it names no test"));
        }
        let names = code(tests).filter(|name| name.contains('_') && !name.contains(' '));
        for name in names {
            if !sources.contains(&format!("fn {name}(")) {
                wrong.push(format!("{claim}: there is no test {name}"));
            }
        }
    }
    assert!(count > 70, "only {count} guarantees were found");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The text of a file, or of all files of a folder.
fn sources_of(path: &Path) -> String {
    let path = crate::support::repository::repository("").join(path);
    match path.is_dir() {
        true => files(&path, "rs")
            .iter()
            .map(|file| std::fs::read_to_string(file).unwrap())
            .collect(),
        false => std::fs::read_to_string(&path).unwrap_or_default(),
    }
}
