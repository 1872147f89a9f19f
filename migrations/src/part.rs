//! The parts of a step: its rendered text, from [`crate::step`], cut at lines that begin with
//! `-- part:`. A text without such a line is one transaction. [`crate::runner`] runs them in order.
//!
//! Every part can be run again: a crash between two parts leaves the step unfinished, and then the
//! next `up` runs all its parts up, or the next `down` all its parts down, from the first one.

use std::fmt;

const MARKER: &str = "-- part: ";

/// How a part is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// All statements in one transaction, tried again while somebody holds the tables.
    Transaction,
    /// Each statement by itself, outside a transaction: it waits for others without holding them
    /// up. With an extension's name, only where the extension is there.
    Concurrently(Option<String>),
    /// One update, run for a few thousand keys at a time; each time is a transaction.
    Batched(Keys),
    /// A query for rows that forbid the step: they have to go first.
    Refuse(Reason),
    /// A query for rows that the step would lose: refused unless that is accepted.
    Loses(Reason),
}

/// What a batched part goes through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keys {
    /// The table with its schema.
    pub(crate) table: String,
    /// Its key.
    pub(crate) column: String,
    /// The key's type: keys travel as text.
    pub(crate) kind: String,
}

/// What is wrong with the rows that a query finds, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reason {
    pub(crate) problem: String,
    pub(crate) remedy: String,
}

/// One part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) kind: Kind,
    pub(crate) sql: String,
}

impl Kind {
    /// Whether it only looks.
    pub(crate) fn is_check(&self) -> bool {
        match self {
            Self::Refuse(_) | Self::Loses(_) => true,
            Self::Transaction | Self::Concurrently(_) | Self::Batched(_) => false,
        }
    }

    /// From what comes after the marker.
    fn read(header: &str) -> Option<Self> {
        let (word, rest) = header.split_once(", ").unwrap_or((header, ""));
        let reason = || {
            let (problem, remedy) = rest.split_once("; ")?;
            Some(Reason {
                problem: problem.to_owned(),
                remedy: remedy.to_owned(),
            })
        };
        match word {
            "transaction" if rest.is_empty() => Some(Self::Transaction),
            "concurrently" if rest.is_empty() => Some(Self::Concurrently(None)),
            "concurrently" => {
                let extension = rest.strip_prefix("with extension ")?;
                Some(Self::Concurrently(Some(extension.to_owned())))
            }
            "batched" => {
                let (table, key) = rest.split_once(" by ")?;
                let (column, kind) = key.split_once(' ')?;
                Some(Self::Batched(Keys {
                    table: table.to_owned(),
                    column: column.to_owned(),
                    kind: kind.to_owned(),
                }))
            }
            "refuse" => reason().map(Self::Refuse),
            "loses" => reason().map(Self::Loses),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transaction => f.write_str("one transaction"),
            Self::Concurrently(None) => f.write_str("outside a transaction"),
            Self::Concurrently(Some(extension)) => {
                write!(
                    f,
                    "outside a transaction, where extension {extension} is there"
                )
            }
            Self::Batched(keys) => write!(
                f,
                "for $1 = a few thousand {} of {} at a time, each a transaction",
                keys.column, keys.table
            ),
            Self::Refuse(reason) => write!(f, "refuses if any: {}", reason.problem),
            Self::Loses(reason) => write!(
                f,
                "refuses if any, unless loss is accepted: {}",
                reason.problem
            ),
        }
    }
}

/// Cuts a step's text into its parts. The text before the first marker is a remark on the step.
pub(crate) fn cut(sql: &str) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for line in sql.lines() {
        if let Some(header) = line.strip_prefix(MARKER) {
            let kind = Kind::read(header).expect("the embedded steps have known parts: tested");
            let sql = String::new();
            parts.push(Part { kind, sql });
        } else if let Some(part) = parts.last_mut() {
            part.sql.push_str(line);
            part.sql.push('\n');
        }
    }
    if parts.is_empty() {
        let sql = sql.to_owned();
        let kind = Kind::Transaction;
        return vec![Part { kind, sql }];
    }
    for part in &mut parts {
        part.sql = part.sql.trim().to_owned();
    }
    parts
}

impl Part {
    /// The text as it is sent: without remarks in characters that the database's encoding may not have.
    pub(crate) fn sent(&self) -> String {
        let is_remark = |line: &str| line.trim_start().starts_with("--");
        let lines = self.sql.lines();
        let sent: Vec<&str> = lines.filter(|l| l.is_ascii() || !is_remark(l)).collect();
        sent.join("\n")
    }

    /// The statements of a part that runs outside a transaction. None has a `;` inside.
    pub(crate) fn statements(&self) -> Vec<String> {
        let code: Vec<&str> = self
            .sql
            .lines()
            .filter(|line| !line.trim_start().starts_with("--"))
            .collect();
        code.join("\n")
            .split(';')
            .map(|statement| statement.trim().to_owned())
            .filter(|statement| !statement.is_empty())
            .collect()
    }
}

/// The index that a statement builds, as it is there.
pub(crate) fn built_index(statement: &str) -> Option<&str> {
    let mut words = statement.split_whitespace();
    if words.next()? != "create" {
        return None;
    }
    let mut word = words.next()?;
    if word == "unique" {
        word = words.next()?;
    }
    if word != "index" || words.next()? != "concurrently" {
        return None;
    }
    words.next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::{ADMIN, QUERY, STORAGE};

    #[test]
    fn every_embedded_step_is_cut_into_parts_that_can_be_run() {
        for script in ADMIN.iter().chain(QUERY).chain(STORAGE) {
            for sql in [script.up, script.down] {
                let parts = cut(sql);
                assert!(parts.iter().any(|part| !part.kind.is_check()));
                let work = parts.iter().skip_while(|part| part.kind.is_check());
                for part in work {
                    assert!(part.sent().is_ascii(), "{}", script.name);
                    assert!(
                        !part.kind.is_check(),
                        "{}: a check behind a change",
                        script.name
                    );
                    assert!(!part.sql.is_empty(), "{}", script.name);
                    if matches!(part.kind, Kind::Concurrently(_)) {
                        for statement in part.statements() {
                            assert!(
                                built_index(&statement).is_some()
                                    || statement.starts_with("drop index concurrently if exists "),
                                "{statement}"
                            );
                        }
                    } else if part.kind == Kind::Transaction {
                        assert!(!part.sql.contains("concurrently "), "{}", part.sql);
                    }
                }
            }
        }
    }

    #[test]
    fn a_text_without_markers_is_one_transaction() {
        let parts = cut("-- why\nselect 1;\n");
        assert_eq!(parts.len(), 1);
        assert_eq!(parts[0].kind, Kind::Transaction);
        assert_eq!(parts[0].sql, "-- why\nselect 1;\n");
    }

    #[test]
    fn markers_say_how_a_part_is_run() {
        let parts = cut(
            "-- a remark\n-- part: refuse, too long; shorten them\nselect 'x'\n\
             -- part: concurrently, with extension pg_trgm\n-- why; really\n\
             create unique index concurrently i on public.t (a);\ndrop index concurrently if exists public.j;\n\
             -- part: batched, public.t by id uuid\nupdate public.t set a = null where id = any($1::text[]::uuid[]);\n",
        );
        let reason = Reason {
            problem: "too long".to_owned(),
            remedy: "shorten them".to_owned(),
        };
        assert_eq!(parts[0].kind, Kind::Refuse(reason));
        assert_eq!(
            parts[1].kind,
            Kind::Concurrently(Some("pg_trgm".to_owned()))
        );
        let statements = parts[1].statements();
        assert_eq!(statements.len(), 2);
        assert_eq!(built_index(&statements[0]), Some("i"));
        assert_eq!(built_index(&statements[1]), None);
        let keys = Keys {
            table: "public.t".to_owned(),
            column: "id".to_owned(),
            kind: "uuid".to_owned(),
        };
        assert_eq!(parts[2].kind, Kind::Batched(keys));
    }
}
