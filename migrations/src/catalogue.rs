//! A module's tables as lines that can be compared, and as version 1 creates them: from the
//! embedded `0001_initial.catalogue` of each module (generated and kept current by
//! `tests/it/adoption/catalogues.rs`). A database's own are read in [`crate::existing`].

use std::collections::BTreeMap;
use std::fmt;

use crate::module::Module;

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Enum,
    Table,
    Column,
    Constraint,
    Index,
    Trigger,
    Sequence,
    /// Read only where a later step makes one of that name.
    Function,
}

const KINDS: [(Kind, &str); 8] = [
    (Kind::Enum, "enum"),
    (Kind::Table, "table"),
    (Kind::Column, "column"),
    (Kind::Constraint, "constraint"),
    (Kind::Index, "index"),
    (Kind::Trigger, "trigger"),
    (Kind::Sequence, "sequence"),
    (Kind::Function, "function"),
];

/// Which thing a line describes. The table is empty for what belongs to none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) kind: Kind,
    pub(crate) table: String,
    pub(crate) name: String,
}

/// Things and their definitions, in PostgreSQL's own words with every name qualified. A column's
/// is `type | null or not null | default`.
pub(crate) type Catalogue = BTreeMap<Name, String>;

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = KINDS
            .iter()
            .find_map(|(kind, word)| (*kind == self.kind).then_some(*word))
            .expect("every kind has its word");
        match self.table.as_str() {
            "" => write!(f, "{word} {}", self.name),
            table => write!(f, "{word} {table}.{}", self.name),
        }
    }
}

/// What version 1 makes.
pub(crate) fn expected(module: &Module) -> Catalogue {
    let text = match module {
        Module::Admin => include_str!("../admin/0001_initial.catalogue"),
        Module::Query => include_str!("../query/0001_initial.catalogue"),
        Module::Storage(_) => include_str!("../storage/0001_initial.catalogue"),
    };
    module.render(text).lines().map(parse).collect()
}

pub(crate) fn kind(word: &str) -> Kind {
    KINDS
        .iter()
        .find_map(|(kind, known)| (*known == word).then_some(*kind))
        .expect("the query and the files have these words only")
}

/// A line of an embedded file. Names there have neither spaces nor dots.
fn parse(line: &str) -> (Name, String) {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let (path, text) = rest.split_once(' ').unwrap_or((rest, ""));
    let (table, name) = path.split_once('.').unwrap_or(("", path));
    let name = Name {
        kind: kind(word),
        table: table.to_owned(),
        name: name.to_owned(),
    };
    (name, text.to_owned())
}
