//! How the catalogue of an installation differs from version 1, and whether that matters. Pure:
//! from two catalogues ([`crate::catalogue`]) and the names that later steps use
//! ([`crate::later`]) to what is said and repaired ([`crate::adopt`]).
//!
//! The rule: what is missing and can be added without touching a row is added; what somebody else
//! added stays; what only its owner can decide blocks. A repair makes no new rule for the services,
//! but for `not null`: what reads the rows relies on that.

use std::fmt;

use crate::catalogue::{Catalogue, Kind, Name};
use crate::later::Later;
use crate::repair::Statement;

/// Whether a difference matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// The tables can't be adopted before somebody changed this.
    Blocks,
    /// Adoption makes it as version 1 has it.
    Repaired,
    /// It stays as it is.
    Harmless,
}

impl Effect {
    /// The word that people read.
    pub fn word(self) -> &'static str {
        match self {
            Self::Blocks => "blocks",
            Self::Repaired => "repair",
            Self::Harmless => "harmless",
        }
    }
}

/// One thing that is not as version 1 makes it.
#[derive(Debug, Clone)]
pub struct Difference {
    /// What it is: "index users.ix_users_email is missing".
    pub what: String,
    /// Whether that matters.
    pub effect: Effect,
    /// Why, and what is done about it or is to be done.
    pub why: String,
    /// What repairs it, in this order.
    pub(crate) repair: Vec<Statement>,
    /// A repair that the rows may not allow.
    pub(crate) unless: Option<Unless>,
}

/// A question to the rows: where the answer is yes, the difference blocks.
#[derive(Debug, Clone)]
pub(crate) struct Unless {
    pub(crate) sql: String,
    pub(crate) why: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

impl Difference {
    pub(crate) fn blocks(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(what, Effect::Blocks, why, Vec::new())
    }

    fn harmless(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(what, Effect::Harmless, why, Vec::new())
    }

    fn repaired(what: impl Into<String>, why: impl Into<String>, repair: Vec<Statement>) -> Self {
        Self::new(what, Effect::Repaired, why, repair)
    }

    fn new(
        what: impl Into<String>,
        effect: Effect,
        why: impl Into<String>,
        repair: Vec<Statement>,
    ) -> Self {
        Self {
            what: what.into(),
            effect,
            why: why.into(),
            repair,
            unless: None,
        }
    }
}

/// Everything that differs, what blocks first.
pub(crate) fn compare(expected: &Catalogue, found: &Catalogue, later: &Later) -> Vec<Difference> {
    // Of a missing table, or a view in its place, nothing else is said.
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
        // Told with the default that draws from it.
        Kind::Sequence if drawn_by(&name.name, expected).is_some() => None,
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
        Kind::Column => column_differs(name, &Column::of(text), &Column::of(other), expected),
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

/// A column's definition in its parts.
#[derive(Debug, PartialEq, Eq)]
struct Column<'a> {
    kind: &'a str,
    required: bool,
    default: &'a str,
}

impl<'a> Column<'a> {
    fn of(text: &'a str) -> Self {
        let mut parts = text.splitn(3, " | ");
        Self {
            kind: parts.next().unwrap_or_default(),
            required: parts.next() == Some("not null"),
            default: parts.next().unwrap_or_default().trim(),
        }
    }

    fn definition(&self) -> String {
        let required = if self.required { " not null" } else { "" };
        match self.default {
            "" => format!("{}{required}", self.kind),
            default => format!("{}{required} default {default}", self.kind),
        }
    }

    /// A default that is more than a value: it draws numbers, or makes the column another kind.
    fn is_special(&self) -> bool {
        self.default.contains("nextval(")
            || self.default == "identity"
            || self.default.starts_with("generated as")
    }
}

fn column_differs(
    name: &Name,
    expected: &Column<'_>,
    found: &Column<'_>,
    catalogue: &Catalogue,
) -> Difference {
    let (table, column) = (&name.table, &name.name);
    if expected.kind != found.kind && !is_wider(expected.kind, found.kind) {
        return Difference::blocks(
            format!("{name} is {}", found.kind),
            format!("version 1 has {}; change its type", expected.kind),
        );
    }
    if !expected.required && found.required {
        return Difference::blocks(
            format!("{name} is not null"),
            format!(
                "rows without it can't be written; alter table public.{table} alter column \
                 {column} drop not null"
            ),
        );
    }
    if expected.default != found.default && (expected.is_special() || found.is_special()) {
        return match (found.default, drawn_from(expected.default)) {
            ("", Some(sequence)) if !expected.required || found.required => {
                serial(name, expected, sequence, catalogue)
            }
            _ => Difference::blocks(
                format!("{name} has the default {:?}", found.default),
                format!("version 1 has {:?}; change it", expected.default),
            ),
        };
    }
    if expected.required && !found.required {
        return required(name, expected, found);
    }
    if !expected.default.is_empty() && found.default.is_empty() {
        return Difference::repaired(
            format!("{name} has no default"),
            format!("it gets {}", expected.default),
            vec![set_default(name, expected)],
        );
    }
    if expected.kind != found.kind {
        return Difference::harmless(
            format!("{name} is {}", found.kind),
            format!("version 1 has {}, which is narrower", expected.kind),
        );
    }
    let found = match found.default {
        "" => "no default".to_owned(),
        default => format!("the default {default}"),
    };
    Difference::harmless(format!("{name} has {found}"), "it stays as it is")
}

fn set_default(name: &Name, expected: &Column<'_>) -> Statement {
    Statement::short(format!(
        "alter table public.{} alter column {} set default {}",
        name.table, name.name, expected.default
    ))
}

/// The services wrote no null until now, and could not read one either.
fn required(name: &Name, expected: &Column<'_>, found: &Column<'_>) -> Difference {
    let (table, column) = (&name.table, &name.name);
    let check = format!("artstore_{column}_is_there");
    let mut repair = vec![
        Statement::short(format!(
            "alter table public.{table} drop constraint if exists {check}, \
             add constraint {check} check ({column} is not null) not valid"
        )),
        Statement::long(format!(
            "alter table public.{table} validate constraint {check}"
        )),
        // The validated check spares looking at the rows again under the strong lock.
        Statement::short(format!(
            "alter table public.{table} alter column {column} set not null, \
             drop constraint {check}"
        )),
    ];
    if !expected.default.is_empty() && found.default.is_empty() {
        repair.insert(0, set_default(name, expected));
    }
    let mut difference = Difference::repaired(
        format!("{name} may be null"),
        "no row is; it becomes `not null` as in version 1, and what reads it relies on that",
        repair,
    );
    difference.unless = Some(Unless {
        sql: format!("select exists (select from public.{table} where {column} is null)"),
        why: "there are rows where it is null, which nothing can read; fill them".to_owned(),
    });
    difference
}

/// Tables that the services made without migrations lack the number generator of `_config.id`.
fn serial(name: &Name, expected: &Column<'_>, sequence: &str, catalogue: &Catalogue) -> Difference {
    let (table, column) = (&name.table, &name.name);
    let described = Name {
        kind: Kind::Sequence,
        table: String::new(),
        name: sequence.to_owned(),
    };
    let kind = catalogue
        .get(&described)
        .and_then(|text| text.split(' ').next())
        .unwrap_or("integer");
    Difference::repaired(
        format!("{name} has no default"),
        format!("it draws from the sequence {sequence} again, above the ids that are there"),
        vec![Statement::short(format!(
            "lock table public.{table} in access exclusive mode;\n\
             create sequence if not exists public.{sequence} as {kind};\n\
             alter sequence public.{sequence} owned by public.{table}.{column};\n\
             select setval('public.{sequence}'::regclass, max({column}), true) \
             from public.{table} having max({column}) > \
             (select case when is_called then last_value else 0 end from public.{sequence});\n\
             alter table public.{table} alter column {column} set default {}",
            expected.default
        ))],
    )
}

/// The sequence of `nextval('public.NAME'::regclass)`.
fn drawn_from(default: &str) -> Option<&str> {
    let rest = default.strip_prefix("nextval('public.")?;
    rest.split_once('\'').map(|(name, _)| name)
}

fn drawn_by<'a>(sequence: &str, expected: &'a Catalogue) -> Option<&'a Name> {
    expected.iter().find_map(|(name, text)| {
        let drawn =
            name.kind == Kind::Column && drawn_from(Column::of(text).default) == Some(sequence);
        drawn.then_some(name)
    })
}

/// Whether every value of one type fits the other, which later steps then find as it is.
fn is_wider(expected: &str, found: &str) -> bool {
    match (length(expected), length(found)) {
        (Some(_), None) => found == "text" || found == "character varying",
        (Some(expected), Some(found)) => found >= expected,
        (None, _) => expected == "integer" && found == "bigint",
    }
}

fn length(kind: &str) -> Option<u32> {
    let number = kind.strip_prefix("character varying(")?.strip_suffix(')')?;
    number.parse().ok()
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
