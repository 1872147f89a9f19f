//! Commands that texts name, checked with the program's own parser: every error text, every line of
//! `status` and `verify`, and every page. A command that the parser refuses is no advice.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use artstore::commands::definition::definition;
use clap::Command;

/// Literals that name a session, an actor or a file, and no command.
const NAMES: &[&str] = &[
    "artstore {command}",
    "artstore {path}",
    "artstore {projection} {source}",
    "artstore {version}",
    "artstore accept-source {}",
    "artstore audit",
    "artstore audit verify (pulse)",
    "artstore element backfill (progress)",
    "artstore parked",
    "artstore projector",
    "artstore projector (check)",
    "artstore projection rebuild (pulse)",
    "artstore projector (pulse)",
    "artstore projector (lag)",
    "artstore rebuild {}",
    "artstore rebuild {} (live)",
    "artstore relay",
    "artstore relay (check)",
    "artstore relay (election)",
    "artstore relay {}",
    "artstore republish {}",
    "artstore smoke test.txt",
    "artstore verify (pulse)",
    "artstore verify {}",
    "artstore wal",
];

/// Sessions and actors are called as the command is; that names it, and advises nothing.
const NAMING: &[&str] = &[
    "bus(",
    "bus(Role::Reader, ",
    "bus(Role::Operator, ",
    "bus(role, ",
    "bus(Role::AuditHeads, ",
    "bus(reader.clone(), ",
    "application_name(",
    "named(",
    "Some(",
    "name = ",
    "self.query, ",
];

const ID: &str = "0191d3a5-7c1e-7b5e-9f00-000000000001";
const PROJECTIONS: &[&str] = &["query-cache", "audit-log", "element-registry"];
const SOURCES: &[&str] = &["storage_elem_01", "admin", "query"];

/// What stands for a value, and values that must all be taken there.
const PLACEHOLDERS: &[(&str, &[&str])] = &[
    ("{projection}", PROJECTIONS),
    ("PROJECTION", PROJECTIONS),
    ("{source}", SOURCES),
    ("{source_name}", SOURCES),
    ("{element}", &["storage_elem_01"]),
    (
        "{stream}",
        &[
            "ARTSTORE_WAL_storage_elem_01",
            "ARTSTORE_ADMIN",
            "ARTSTORE_QUERY",
        ],
    ),
    (
        "STREAM",
        &[
            "ARTSTORE_WAL_storage_elem_01",
            "ARTSTORE_ADMIN",
            "ARTSTORE_QUERY",
        ],
    ),
    ("{module}", &["admin", "query", "storage"]),
    ("{id}", &[ID]),
    ("ID", &[ID]),
    ("SEQUENCE", &["4711"]),
    ("{sequence}", &["4711"]),
    ("N", &["2"]),
    ("TIME", &["2026-01-31T12:00:00Z"]),
    ("SIZE", &["10M"]),
    ("TEXT", &["why"]),
    ("DIR", &["/tmp/some"]),
    ("FOLDER", &["/tmp/some"]),
    ("FILE", &["/tmp/some"]),
    ("REPORT.json", &["/tmp/report.json"]),
    ("report.json", &["/tmp/report.json"]),
    ("DURATION", &["90d"]),
    ("{last}", &["storage_elem_01:4711"]),
    (
        "{name_of}",
        &["artstore_snapshot_query_cache_20260131_120000"],
    ),
    ("SCHEMA", &["artstore_snapshot_query_cache_20260131_120000"]),
];

/// A name of something that the option or command before it says.
const NAMED_BY_WHAT_IS_BEFORE: &[(&str, &[&str])] = &[
    ("--source", SOURCES),
    ("--element", &["storage_elem_01"]),
    ("backfill", &["storage_elem_01"]),
    ("--stream", SOURCES),
    ("--projection", PROJECTIONS),
    ("rebuild", PROJECTIONS),
    ("rollback", &["query-cache", "element-registry"]),
    ("resume", PROJECTIONS),
    ("pause", PROJECTIONS),
    ("repair", &["query-cache"]),
    ("--resume", &["/tmp/some"]),
    ("--role", &["somebody"]),
    ("remove", &["query-cache", "element-registry"]),
    ("set-url", &["storage_elem_01"]),
];

/// Advice that is known to be refused, and why it may still be.
const OPEN: &[(&str, &[&str])] = &[
    // Only the query cache can be repaired; the states of the other two need commands of their own.
    ("projection repair", &["audit-log", "element-registry"]),
];

#[test]
fn every_command_that_a_text_names_is_taken_by_the_parser() {
    let all = definition();
    let mut refused = Vec::new();
    let mut count = 0;
    for (place, text) in texts() {
        for command in commands_in(&text, place.is_page) {
            count += 1;
            for words in filled(&command) {
                if let Err(why) = taken(&all, &words, place.is_page)
                    && !is_open(&words)
                {
                    refused.push(format!("{}: `{}`: {why}", place.shown, words.join(" ")));
                }
            }
        }
    }
    assert!(count > 250, "only {count} commands were found");
    assert!(refused.is_empty(), "{:#?}", refused);
}

#[test]
fn no_text_sends_its_reader_to_itself() {
    for (place, text) in texts() {
        let text = text.to_lowercase();
        assert!(!text.contains("do what it says"), "{}: {text}", place.shown);
    }
}

fn is_open(words: &[String]) -> bool {
    OPEN.iter().any(|(command, values)| {
        words[1..].join(" ").starts_with(command)
            && values
                .iter()
                .any(|value| words.iter().any(|word| word == value))
    })
}

struct Place {
    shown: String,
    is_page: bool,
}

/// Every literal of the sources, and every page.
fn texts() -> Vec<(Place, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts = Vec::new();
    let crates = std::fs::read_dir(root).unwrap();
    let crates = crates.map(|entry| entry.unwrap().path().join("src"));
    let crates = crates.chain([root.join("src")]);
    for sources in crates.filter(|sources| sources.is_dir()) {
        for file in files(&sources, "rs") {
            let text = std::fs::read_to_string(&file).unwrap();
            let shown = file.strip_prefix(root).unwrap().display().to_string();
            if shown.ends_with("tests.rs") || shown.contains("/tests/") {
                continue;
            }
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
            for (line, before, literal) in literals(code) {
                let naming = NAMING
                    .iter()
                    .any(|name| before.trim_end_matches("format!(").ends_with(name));
                let is_name = naming && literal.starts_with("artstore ");
                if is_name || NAMES.contains(&literal.as_str()) {
                    continue;
                }
                let shown = format!("{shown}:{line}");
                texts.push((
                    Place {
                        shown,
                        is_page: false,
                    },
                    literal,
                ));
            }
        }
    }
    let mut pages = files(&root.join("docs"), "md");
    pages.extend(["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(|page| root.join(page)));
    for page in pages {
        let shown = page.strip_prefix(root).unwrap().display().to_string();
        let text = std::fs::read_to_string(&page).unwrap();
        texts.push((
            Place {
                shown,
                is_page: true,
            },
            text,
        ));
    }
    texts
}

pub fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|is| is == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// String literals with their lines and what stands before them, comments left out.
pub fn literals(code: &str) -> Vec<(usize, String, String)> {
    let characters: Vec<char> = code.chars().collect();
    let starts = |at: usize, text: &str| {
        text.chars()
            .enumerate()
            .all(|(n, c)| characters.get(at + n) == Some(&c))
    };
    let (mut found, mut at, mut line) = (Vec::new(), 0, 1);
    while at < characters.len() {
        match characters[at] {
            '\n' => (at, line) = (at + 1, line + 1),
            '/' if starts(at, "//") => {
                while at < characters.len() && characters[at] != '\n' {
                    at += 1;
                }
            }
            // A character, and no lifetime.
            '\'' if characters.get(at + 1) == Some(&'\\') => {
                at += 3;
                while characters[at] != '\'' {
                    at += 1;
                }
                at += 1;
            }
            '\'' if characters.get(at + 2) == Some(&'\'') => at += 3,
            'r' if starts(at, "r\"") || starts(at, "r#\"") => {
                let end = if starts(at, "r#") { "\"#" } else { "\"" };
                at += 1 + end.len();
                while !starts(at, end) {
                    line += usize::from(characters[at] == '\n');
                    at += 1;
                }
                at += end.len();
            }
            '"' => {
                let before: String = characters[at.saturating_sub(40)..at].iter().collect();
                let (begun, mut text) = (line, String::new());
                at += 1;
                while characters[at] != '"' {
                    line += usize::from(characters[at] == '\n');
                    match (characters[at], characters.get(at + 1)) {
                        ('\\', Some('\n')) => {
                            (at, line) = (at + 2, line + 1);
                            while characters[at].is_whitespace() {
                                line += usize::from(characters[at] == '\n');
                                at += 1;
                            }
                        }
                        ('\\', Some(escaped)) => {
                            text.push(if *escaped == 'n' { '\n' } else { *escaped });
                            at += 2;
                        }
                        (character, _) => {
                            text.push(character);
                            at += 1;
                        }
                    }
                }
                at += 1;
                found.push((
                    begun,
                    before.trim_end().to_owned() + if before.ends_with(' ') { " " } else { "" },
                    text,
                ));
            }
            _ => at += 1,
        }
    }
    found
}

/// Commands in a text: those between backticks, and those that a line ends with.
fn commands_in(text: &str, is_page: bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
            continue;
        }
        for (at, _) in line.match_indices("artstore ") {
            let before = line[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || "/.-_".contains(c)) {
                continue;
            }
            let rest = &line[at..];
            let quoted = before == Some('`');
            let command = match (quoted, is_page) {
                (true, _) => rest.split('`').next().unwrap(),
                // In pages, prose speaks of it; code is a command a line.
                (false, true) if !is_code => continue,
                (false, true) => rest.split("  ").next().unwrap(),
                (false, false) => rest.split([';', ')', '\'']).next().unwrap(),
            };
            let command = command.split(['>', '|', ';']).next().unwrap_or(command);
            let command = match is_page {
                // An alternative in one word has no blank before its bar.
                true => rest_with_alternatives(rest, command),
                false => command.to_owned(),
            };
            let second = command.split_whitespace().nth(1).unwrap_or_default();
            if second.is_empty()
                || second.starts_with(['…', '—'])
                || ["COMMAND", "{command}"].contains(&second)
            {
                continue;
            }
            found.push(command.trim().trim_end_matches(['.', ',', ':']).to_owned());
        }
    }
    found
}

/// `--for relay|projector` goes on behind the bar.
fn rest_with_alternatives(rest: &str, command: &str) -> String {
    let more = &rest[command.len()..];
    match more.strip_prefix('|') {
        Some(more) if !more.starts_with(' ') && !command.ends_with(' ') => {
            let word: String = more
                .chars()
                .take_while(|c| !c.is_whitespace() && *c != '`')
                .collect();
            format!("{command}|{word}")
        }
        _ => command.to_owned(),
    }
}

/// The words of a command, once for each value that its placeholders can have.
fn filled(command: &str) -> Vec<Vec<String>> {
    let mut all: Vec<Vec<String>> = vec![Vec::new()];
    for word in shell_words(command) {
        let word = word.trim_matches(['[', ']', '…', ',']).to_owned();
        if word.is_empty() {
            continue;
        }
        let mut next = Vec::new();
        for words in all {
            let parks = words.get(1).is_some_and(|command| command == "parked");
            for value in values(&word, words.last().map(String::as_str)) {
                // The audit log parks nothing.
                if parks && value == "audit-log" {
                    continue;
                }
                let mut more = words.clone();
                more.push(value);
                next.push(more);
            }
        }
        all = next;
    }
    all
}

fn values(word: &str, before: Option<&str>) -> Vec<String> {
    if let Some((one, other)) = word.split_once('|') {
        return [values(one, before), values(other, before)].concat();
    }
    let own = |list: &[&str]| list.iter().map(|value| (*value).to_owned()).collect();
    if let Some((_, known)) = PLACEHOLDERS.iter().find(|(name, _)| *name == word) {
        return own(known);
    }
    if ["{}", "%s", "{name}", "NAME"].contains(&word) {
        let known: BTreeMap<_, _> = NAMED_BY_WHAT_IS_BEFORE.iter().copied().collect();
        let known = before.and_then(|before| known.get(before));
        return own(known.unwrap_or_else(|| panic!("what is {word:?} behind {before:?}?")));
    }
    if let Some((stream, place)) = word.split_once('=')
        && stream == "STREAM"
    {
        let place = values(place.trim_end_matches(",…"), None);
        return place
            .iter()
            .map(|place| format!("ARTSTORE_ADMIN={place}"))
            .collect();
    }
    // What a format adds behind a command, as options.
    vec![word.replace("{}", "")]
        .into_iter()
        .filter(|word| !word.is_empty())
        .collect()
}

/// Words as a shell takes them, without its comment.
fn shell_words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for character in command.chars() {
        match (quote, character) {
            (None, '\'' | '"') => quote = Some(character),
            (Some(open), close) if open == close => quote = None,
            (None, '#') if word.is_empty() => break,
            (None, blank) if blank.is_whitespace() => words.push(std::mem::take(&mut word)),
            (_, character) => word.push(character),
        }
    }
    words.push(word);
    words.into_iter().filter(|word| !word.is_empty()).collect()
}

/// Whether it parses. A page may also speak of a command by its name alone.
fn taken(all: &Command, words: &[String], is_page: bool) -> Result<(), String> {
    let mut at = all;
    let named = words[1..]
        .iter()
        .all(|word| match at.find_subcommand(word) {
            Some(below) => {
                at = below;
                true
            }
            None => false,
        });
    if is_page && named {
        return Ok(());
    }
    let parsed = all.clone().try_get_matches_from(words);
    match parsed {
        Err(error) if error.use_stderr() => Err(error
            .to_string()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned()),
        _ => Ok(()),
    }
}

#[test]
fn commands_are_found_in_texts_as_people_read_them() {
    let found = |text: &str| commands_in(text, false);
    assert_eq!(
        found("run `artstore bus init`; then"),
        ["artstore bus init"]
    );
    assert_eq!(
        found("to go on: artstore parked retry"),
        ["artstore parked retry"]
    );
    assert_eq!(
        found("it (artstore wal pending) is"),
        ["artstore wal pending"]
    );
    assert!(found("/run/artstore x, application artstore-relay y").is_empty());
    let all = definition();
    let wrong = ["artstore", "projection", "repair", "audit-log"].map(str::to_owned);
    let right = ["artstore", "projection", "repair", "query-cache"].map(str::to_owned);
    assert!(taken(&all, &right, false).is_ok());
    let repair_is_open = OPEN
        .iter()
        .any(|(command, _)| *command == "projection repair");
    assert!(taken(&all, &wrong, false).is_ok() || repair_is_open);
    assert_eq!(
        filled("artstore wal resolve ID… --as rolled-back # why")[0][3..],
        [ID, "--as", "rolled-back"]
    );
}
