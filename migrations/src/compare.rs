//! How the catalogue of an installation differs from version 1, and whether that matters. Pure:
//! from two catalogues ([`crate::catalogue`]) and the names that later steps use
//! ([`crate::later`]) to what is reported and repaired ([`crate::adopt`]).
//!
//! The rule: what is missing and can be added without touching a row is added; what somebody else
//! added stays; what only its owner can decide blocks. A repair makes no new rule for the services,
//! except for `not null`, which readers of the rows rely on.

use crate::catalogue::{Catalogue, Kind, Name};
use crate::column::{self, Column};
use crate::difference::{Difference, Unless};
use crate::later::Later;
use crate::repair::Statement;

/// Everything that differs, what blocks first.
pub(crate) fn compare(expected: &Catalogue, found: &Catalogue, later: &Later) -> Vec<Difference> {
    // Of a missing table, or a view in its place, nothing else is reported.
    let told = |name: &Name| {
        let table = Name {
            kind: Kind::Table,
            table: String::new(),
            name: name.table.clone(),
        };
        let is_table = found
            .get(&table)
            .is_some_and(|text| !text.starts_with("a "));
        !name.table.is_empty() && expected.contains_key(&table) && !is_table
    };
    let mut differences = Vec::new();
    for (name, text) in expected {
        if told(name) {
            continue;
        }
        differences.extend(match found.get(name) {
            Some(other) if other == text => None,
            Some(other) => Some(differs(name, text, other, expected)),
            None => missing(name, text, expected, later),
        });
    }
    for (name, text) in found {
        if !expected.contains_key(name) && !told(name) {
            differences.push(extra(name, text, later));
        }
    }
    differences.sort_by_key(|difference| difference.effect);
    differences
}

fn missing(name: &Name, text: &str, expected: &Catalogue, later: &Later) -> Option<Difference> {
    let what = format!("{name} is missing");
    match name.kind {
        Kind::Table => Some(Difference::blocks(
            what,
            "the other tables alone are no installation; create it as the product does",
        )),
        Kind::Column => Some(Difference::blocks(
            what,
            format!(
                "add it as version 1 has it: alter table public.{} add column {} {}",
                name.table,
                name.name,
                Column::of(text).definition()
            ),
        )),
        Kind::Enum => Some(Difference::blocks(
            what,
            format!("create type public.{} as enum ({text})", name.name),
        )),
        Kind::Constraint => Some(missing_constraint(what, name, text, later)),
        Kind::Index => Some(missing_index(what, name, text, later)),
        // Reported with the default that draws from it.
        Kind::Sequence if column::drawn_by(&name.name, expected).is_some() => None,
        Kind::Sequence | Kind::Trigger | Kind::Function => {
            Some(Difference::blocks(what, "version 1 has it; restore it"))
        }
    }
}

fn missing_constraint(what: String, name: &Name, text: &str, later: &Later) -> Difference {
    let table = &name.table;
    if text.starts_with("PRIMARY KEY") {
        return Difference::blocks(
            what,
            format!(
                "rows are found and written by it; alter table public.{table} add constraint {} {text}",
                name.name
            ),
        );
    }
    if !later.needs(&name.name) {
        return Difference::harmless(
            what,
            "nothing here relies on it, and it would be a new rule for the services; it is not added",
        );
    }
    if let Some(columns) = text.strip_prefix("UNIQUE ") {
        let index = format!(
            "create unique index concurrently {} on public.{table} {columns}",
            name.name
        );
        let mut difference = Difference::repaired(
            what,
            "a later step drops it by name, so it is added until then",
            vec![
                Statement::index(&name.name, index),
                Statement::short(format!(
                    "alter table public.{table} add constraint {0} unique using index {0}",
                    name.name
                )),
            ],
        );
        difference.unless = Some(Unless {
            sql: doubled(table, columns),
            why: format!("rows of {table} are double in {columns}; make them different"),
        });
        return difference;
    }
    Difference::repaired(
        what,
        "a later step drops it by name, so it is added until then, without looking at the rows",
        vec![Statement::short(format!(
            "alter table public.{table} add constraint {} {text} not valid",
            name.name
        ))],
    )
}

fn missing_index(what: String, name: &Name, text: &str, later: &Later) -> Difference {
    if later.drops(&name.name) && !later.needs(&name.name) {
        return Difference::harmless(what, "a later step removes it where it is there");
    }
    let plain = concurrently(text).replacen("unique ", "", 1);
    let unique = text.contains(" UNIQUE ");
    if !unique || later.needs(&name.name) {
        let why = if later.needs(&name.name) {
            "a later step drops it by name, so it is built until then, never as unique"
        } else {
            "it is built, without stopping writers"
        };
        return Difference::repaired(what, why, vec![Statement::index(&name.name, plain)]);
    }
    Difference::harmless(
        what,
        "nothing here relies on it, and it would be a new rule for the services; it is not added",
    )
}

fn differs(name: &Name, text: &str, other: &str, expected: &Catalogue) -> Difference {
    let what = format!("{name} is {other}");
    let should = format!("version 1 has {text}");
    match name.kind {
        Kind::Table => Difference::blocks(
            format!("table {} is {}", name.name, other.trim()),
            "it must be an ordinary, logged table without row security: rows could be lost or not be seen",
        ),
        Kind::Column => column::differs(name, &Column::of(text), &Column::of(other), expected),
        Kind::Constraint => {
            if other == format!("{text} NOT VALID") {
                Difference::harmless(what, "it is only not validated; it stays so")
            } else if text.starts_with("CHECK") {
                Difference::harmless(what, format!("{should}; it stays as it is"))
            } else {
                Difference::blocks(what, format!("{should}; rename yours, and add that one"))
            }
        }
        Kind::Index => match other.strip_prefix("INVALID ") {
            Some(_) => broken_index(name, text),
            None => Difference::harmless(what, format!("{should}; it stays as it is")),
        },
        Kind::Enum => {
            let labels: Vec<&str> = other.split(", ").collect();
            match text.split(", ").find(|label| !labels.contains(label)) {
                Some(label) => Difference::blocks(
                    format!("enum {} has no {label}", name.name),
                    format!("alter type public.{} add value '{label}'", name.name),
                ),
                None => Difference::harmless(what, format!("{should}; more values are no matter")),
            }
        }
        Kind::Sequence => Difference::harmless(what, format!("{should}; it stays as it is")),
        Kind::Trigger | Kind::Function => Difference::blocks(what, should),
    }
}

fn broken_index(name: &Name, text: &str) -> Difference {
    let mut difference = Difference::repaired(
        format!("{name} is not valid, its building was broken off"),
        "it is built again, without stopping writers",
        vec![Statement::index(&name.name, concurrently(text))],
    );
    if let Some((_, columns)) = text.split_once(" USING btree ")
        && text.contains(" UNIQUE ")
    {
        difference.unless = Some(Unless {
            sql: doubled(&name.table, columns),
            why: format!(
                "rows of {} are double in {columns}; make them different",
                name.table
            ),
        });
    }
    difference
}

/// The index's definition as a statement that stops no writer.
fn concurrently(definition: &str) -> String {
    definition
        .replacen("CREATE ", "create ", 1)
        .replacen("UNIQUE ", "unique ", 1)
        .replacen("INDEX ", "index concurrently ", 1)
}

fn extra(name: &Name, text: &str, later: &Later) -> Difference {
    let what = format!("{name} is not of version 1");
    let taken = match name.kind {
        Kind::Column => later.adds(&name.table, &name.name),
        Kind::Table
        | Kind::Constraint
        | Kind::Index
        | Kind::Trigger
        | Kind::Enum
        | Kind::Sequence
        | Kind::Function => later.makes(&name.name),
    };
    if taken {
        return Difference::blocks(
            what,
            "a later step makes one of this name; rename or drop it, if it is left from an \
             earlier migration",
        );
    }
    match name.kind {
        Kind::Column => {
            let column = Column::of(text);
            if column.required && column.default.is_empty() {
                Difference::blocks(
                    what,
                    format!(
                        "rows without it can't be written, and we know nothing of it; alter table \
                         public.{} alter column {} drop not null, or give it a default",
                        name.table, name.name
                    ),
                )
            } else {
                Difference::harmless(what, "it stays as it is")
            }
        }
        Kind::Trigger if name.table.ends_with("_wal") && fires_last(&name.name, text) => {
            Difference::blocks(
                what,
                "it would fire behind the trigger that numbers finished rows; rename it so that \
                 it comes before `zzz`",
            )
        }
        Kind::Trigger => Difference::harmless(what, "it stays, and fires beside ours"),
        Kind::Constraint => Difference::harmless(
            what,
            "it stays; rows that break it can't be written by us either",
        ),
        Kind::Index if text.contains(" UNIQUE ") => Difference::harmless(
            what,
            "it stays; rows that break it can't be written by us either",
        ),
        Kind::Index => Difference::harmless(what, "it stays, and costs what it costs"),
        Kind::Table | Kind::Enum | Kind::Sequence | Kind::Function => {
            Difference::harmless(what, "it stays as it is")
        }
    }
}

/// Triggers of a row fire in byte order of their names.
fn fires_last(name: &str, text: &str) -> bool {
    text.contains(" BEFORE ") && name.as_bytes() >= b"zzz_".as_slice()
}

fn doubled(table: &str, columns: &str) -> String {
    let list = columns.trim_start_matches('(').trim_end_matches(')');
    let there = list
        .split(", ")
        .map(|column| format!("{column} is not null"));
    format!(
        "select exists (select from public.{table} where {} group by {list} having count(*) > 1)",
        there.collect::<Vec<_>>().join(" and ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::difference::Effect;

    /// What is reported about an index that is missing, while the later steps are these.
    fn missing_index_with(later: &str) -> Difference {
        let index = Name {
            kind: Kind::Index,
            table: "t".to_owned(),
            name: "i".to_owned(),
        };
        let table = Name {
            kind: Kind::Table,
            table: String::new(),
            name: "t".to_owned(),
        };
        let definition = "CREATE UNIQUE INDEX i ON public.t USING btree (a)".to_owned();
        let found = Catalogue::from([(table, String::new())]);
        let mut expected = found.clone();
        expected.insert(index, definition);
        let mut differences = compare(&expected, &found, &Later::in_sql(later));
        assert_eq!(differences.len(), 1);
        differences.remove(0)
    }

    #[test]
    fn a_missing_index_is_built_only_where_something_relies_on_it_and_never_as_a_new_rule() {
        let by_name = missing_index_with("drop index public.i;");
        assert_eq!(by_name.effect, Effect::Repaired);
        let sql = by_name.repair[0].to_string();
        assert!(
            sql.contains("create index concurrently i ON public.t USING btree (a)"),
            "{sql}"
        );
        let tolerant = missing_index_with("drop index concurrently if exists public.i;");
        assert_eq!(tolerant.effect, Effect::Harmless);
        assert_eq!(missing_index_with("").effect, Effect::Harmless);
    }
}
