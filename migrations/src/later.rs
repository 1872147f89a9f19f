//! What the steps after version 1 create and drop, by name, read from their SQL: so that adoption
//! knows which names must be free and which objects must exist. Goes to [`crate::difference`].

use std::collections::{BTreeMap, BTreeSet};

use crate::module::Module;

/// The names in the SQL of all steps after version 1.
#[derive(Debug, Default)]
pub(crate) struct Later {
    /// Tables, indexes, sequences, types, functions, triggers and constraints that a step makes.
    /// They must not be there before, also where it says `if not exists`: that is for a step that
    /// is run again, and something else of that name would count as ours.
    made: BTreeSet<String>,
    /// Columns that a step adds, as (table, column).
    columns: BTreeSet<(String, String)>,
    /// Columns whose type a step changes, as (table, column): no view may use them.
    retyped: BTreeSet<(String, String)>,
    /// Indexes and constraints that a step drops; true where it doesn't mind if they are missing.
    dropped: BTreeMap<String, bool>,
}

impl Later {
    pub(crate) fn of(module: &Module) -> Self {
        let mut later = Self::default();
        for (step, script) in module.steps() {
            if step.version > 1 {
                later.read(&module.render(script.up));
            }
        }
        let own = module
            .tables()
            .into_iter()
            .chain(module.sequences_and_types());
        let first = super::catalogue::expected(module);
        later
            .made
            .extend(own.filter(|name| !first.keys().any(|known| known.name == *name)));
        later
    }

    /// Whether a step makes something of this name.
    pub(crate) fn makes(&self, name: &str) -> bool {
        self.made.contains(name)
    }

    /// Whether a step adds this column.
    pub(crate) fn adds(&self, table: &str, column: &str) -> bool {
        let column = (table.to_owned(), column.to_owned());
        self.columns.contains(&column)
    }

    /// Whether a step drops this and fails where it is missing.
    pub(crate) fn needs(&self, name: &str) -> bool {
        self.dropped.get(name) == Some(&false)
    }

    /// Whether a step drops this where it is there.
    pub(crate) fn drops(&self, name: &str) -> bool {
        self.dropped.contains_key(name)
    }

    /// The columns whose type a step changes, as tables and their columns.
    pub(crate) fn retyped(&self) -> (Vec<String>, Vec<String>) {
        self.retyped.iter().cloned().unzip()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.made.iter().cloned().collect()
    }

    #[cfg(test)]
    pub(crate) fn in_sql(sql: &str) -> Self {
        let mut later = Self::default();
        later.read(sql);
        later
    }

    fn read(&mut self, sql: &str) {
        let code: String = sql
            .lines()
            .map(|line| line.split("--").next().unwrap_or_default())
            .flat_map(|line| [line, "\n"])
            .collect();
        let words: Vec<&str> = code.split_whitespace().collect();
        let mut altered = String::new();
        for (at, word) in words.iter().enumerate() {
            let rest = &words[at + 1..];
            match *word {
                "create" => {
                    let (what, rest) = after(rest, &["or", "replace", "unique", "constraint"]);
                    let named = ["table", "index", "sequence", "function", "trigger", "type"];
                    if named.contains(&what) {
                        self.made.insert(name(rest).0);
                    }
                }
                "alter" => {
                    if let Some((&"table", rest)) = rest.split_first() {
                        altered = name(rest).0;
                    }
                    if let ["column", column, "type", ..] = rest {
                        let column = (altered.clone(), (*column).to_owned());
                        self.retyped.insert(column);
                    }
                }
                "add" => match rest.split_first() {
                    Some((&"column", rest)) => {
                        self.columns.insert((altered.clone(), name(rest).0));
                    }
                    Some((&"constraint", rest)) => {
                        self.made.insert(name(rest).0);
                    }
                    _ => {}
                },
                "drop" => {
                    if let Some((&("index" | "constraint"), rest)) = rest.split_first() {
                        let (name, tolerant) = name(rest);
                        if name.is_empty() {
                            // Made up by the step: it is there, then.
                            continue;
                        }
                        // Named twice, the stricter one counts.
                        let before = self.dropped.get(&name).copied().unwrap_or(true);
                        self.dropped.insert(name, tolerant && before);
                    }
                }
                _ => {}
            }
        }
    }
}

/// The first word that is none of these, and what follows it.
fn after<'a>(words: &'a [&'a str], skipped: &[&str]) -> (&'a str, &'a [&'a str]) {
    let at = words.iter().position(|word| !skipped.contains(word));
    at.map_or(("", &[]), |at| (words[at], &words[at + 1..]))
}

/// The name that comes next, without its schema and what is written behind it; and whether the
/// statement says `if exists`.
fn name(words: &[&str]) -> (String, bool) {
    let (word, _) = after(words, &["concurrently", "if", "not", "exists", "only"]);
    let tolerant = words
        .iter()
        .take_while(|other| **other != word)
        .any(|w| *w == "exists");
    let name = word.strip_prefix("public.").unwrap_or(word);
    let end = name.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    (name[..end.unwrap_or(name.len())].to_owned(), tolerant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_from_the_sql_of_the_steps() {
        let later = Later::in_sql(
            "-- create table public.comment (x int)\n\
             create table public.t (a int);\n\
             create unique index concurrently i on public.t (a);\n\
             create index if not exists j on public.t (a);\n\
             create or replace function public.f(x int) returns int as $$ $$;\n\
             alter table public.u\n  alter column a type text,\n  add column b int,\n\
               add column if not exists c int, add constraint k check (b > 0);\n\
             drop index public.gone; drop index concurrently if exists public.perhaps;\n\
             alter table only public.u drop constraint old, drop constraint if exists older;",
        );
        let made: Vec<&str> = later.made.iter().map(String::as_str).collect();
        assert_eq!(made, ["f", "i", "j", "k", "t"]);
        assert!(later.adds("u", "b") && later.adds("u", "c") && !later.adds("t", "b"));
        let (tables, columns) = later.retyped();
        assert_eq!((&*tables.join(" "), &*columns.join(" ")), ("u", "a"));
        assert!(later.needs("gone") && later.needs("old"));
        assert!(later.drops("perhaps") && !later.needs("perhaps") && !later.needs("older"));
    }

    #[test]
    fn the_steps_of_every_module_are_understood() {
        let storage = Module::Storage("e".parse().expect("a valid name"));
        let later = Later::of(&storage);
        assert!(later.makes("zzz_e_wal_position") && later.makes("e_wal_position_seq"));
        assert!(later.adds("e_wal", "position"));
        let query = Later::of(&Module::Query);
        assert!(query.makes("projection_checkpoints"));
        let id = ("search_history".to_owned(), "id".to_owned());
        assert!(query.retyped.contains(&id));
        assert!(Later::of(&Module::Admin).makes("event_outbox"));
    }
}
