//! Numbers of things in texts for people.

use std::fmt::Display;

/// So many things: `1 message`, `2 messages`.
pub fn counted(number: impl Display, thing: &str) -> String {
    let number = number.to_string();
    let s = by(&number, "", "s");
    format!("{number} {thing}{s}")
}

/// What is reported about one, or of more or none: `is` or `are`.
pub fn by<'a>(number: impl Display, one: &'a str, more: &'a str) -> &'a str {
    match number.to_string().as_str() {
        "1" => one,
        _ => more,
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    #[test]
    fn one_is_one() {
        assert_eq!(counted(0, "row"), "0 rows");
        assert_eq!(counted(1, "row"), "1 row");
        assert_eq!(counted("1,001", "row"), "1,001 rows");
        assert_eq!(by(1, "is", "are"), "is");
    }

    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => sources(&path, found),
                false if path.extension().is_some_and(|ending| ending == "rs") => found.push(path),
                false => {}
            }
        }
    }

    /// No text leaves it to the reader whether there is one.
    #[test]
    fn no_text_says_one_or_more_at_once() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut all = Vec::new();
        for entry in std::fs::read_dir(root).unwrap() {
            let part = entry.unwrap().path();
            if part.join("src").is_dir() || part.ends_with("src") {
                sources(&part, &mut all);
            }
        }
        assert!(all.len() > 200, "{} files", all.len());
        let both = concat!("(", "s)");
        for path in all {
            for (line, number) in std::fs::read_to_string(&path).unwrap().lines().zip(1..) {
                let found = line
                    .split(both)
                    .next()
                    .filter(|before| before.len() < line.len());
                let plural = found.is_some_and(|before| before.ends_with(char::is_alphabetic));
                assert!(!plural, "{}:{number}: {line}", path.display());
            }
        }
    }
}
