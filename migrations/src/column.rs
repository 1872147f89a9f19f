//! One column beside the same column of version 1: its type, whether it may be null, and its
//! default. From [`crate::catalogue`] for [`crate::difference`].

use crate::catalogue::{Catalogue, Kind, Name};
use crate::difference::{Difference, Unless};
use crate::repair::Statement;

/// A column's definition in its parts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Column<'a> {
    kind: &'a str,
    pub(crate) required: bool,
    pub(crate) default: &'a str,
}

impl<'a> Column<'a> {
    pub(crate) fn of(text: &'a str) -> Self {
        let mut parts = text.splitn(3, " | ");
        Self {
            kind: parts.next().unwrap_or_default(),
            required: parts.next() == Some("not null"),
            default: parts.next().unwrap_or_default().trim(),
        }
    }

    /// As a statement writes it.
    pub(crate) fn definition(&self) -> String {
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

/// What a column's difference means, by the part that matters most.
pub(crate) fn differs(
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

/// The column whose default draws from a sequence.
pub(crate) fn drawn_by<'a>(sequence: &str, expected: &'a Catalogue) -> Option<&'a Name> {
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
