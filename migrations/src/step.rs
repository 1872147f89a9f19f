//! One step of a module: its number, its name and its SQL, from the files that are embedded here.
//! [`crate::runner`] runs it.

use std::fmt;

use artstore_schemas::element::ElementName;

/// The placeholder for the element's name in the storage module's SQL.
const PREFIX: &str = "{prefix}";

/// One step that was done, up or down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Its number: the version of the module once it is applied.
    pub version: u32,
    /// What it is about, in a word.
    pub name: &'static str,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04} {}", self.version, self.name)
    }
}

/// Which way a step is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Applied.
    Up,
    /// Taken back.
    Down,
}

impl Direction {
    /// "up" or "down".
    pub fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// A step and its SQL, as it is in the file: with the placeholder, so that its checksum is
/// the same for every element.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) name: &'static str,
    pub(crate) up: &'static str,
    pub(crate) down: &'static str,
}

impl Script {
    /// The text for one way.
    pub(crate) fn sql(&self, direction: Direction) -> &'static str {
        match direction {
            Direction::Up => self.up,
            Direction::Down => self.down,
        }
    }
}

macro_rules! script {
    ($name:literal, $file:literal) => {
        Script {
            name: $name,
            up: include_str!(concat!("../", $file, ".up.sql")),
            down: include_str!(concat!("../", $file, ".down.sql")),
        }
    };
}

pub(crate) static ADMIN: &[Script] = &[
    script!("initial", "admin/0001_initial"),
    script!("outbox", "outbox/outbox"),
    script!("audit_rows_kept", "admin/0003_audit_rows_kept"),
    script!("one_index_each", "admin/0004_one_index_each"),
    script!("keys_out_of_reach", "admin/0005_keys_out_of_reach"),
    script!("audit_evidence", "admin/0006_audit_evidence"),
    script!("parking", "projections/parking"),
    script!("registry", "admin/0008_registry"),
    script!("discarded", "projections/discarded"),
    script!("reserved", "outbox/reserved"),
    script!("readable_texts", "admin/0011_readable_texts"),
    script!("relay_lock", "outbox/relay_lock"),
    script!("projection_locks", "projections/locks"),
    script!("database_role", "outbox/database_role"),
];

pub(crate) static QUERY: &[Script] = &[
    script!("initial", "query/0001_initial"),
    script!("cache_widened", "query/0002_cache_widened"),
    script!("search_vector", "query/0003_search_vector"),
    script!("bigint_ids", "query/0004_bigint_ids"),
    script!("outbox", "outbox/outbox"),
    script!("projection", "query/0006_projection"),
    script!("canonical_ids", "query/0007_canonical_ids"),
    script!("search_mode", "query/0008_search_mode"),
    script!("one_index_each", "query/0009_one_index_each"),
    script!("trigram", "query/0010_trigram"),
    script!("parking", "projections/parking"),
    script!("discarded", "projections/discarded"),
    script!("product_rows", "query/0013_product_rows"),
    script!("long_texts", "query/0014_long_texts"),
    script!("search_words", "query/0015_search_words"),
    script!("reserved", "outbox/reserved"),
    script!("relay_lock", "outbox/relay_lock"),
    script!("projection_locks", "projections/locks"),
    script!("database_role", "outbox/database_role"),
];

pub(crate) static STORAGE: &[Script] = &[
    script!("initial", "storage/0001_initial"),
    script!("position", "storage/0002_position"),
    script!("search_vector", "storage/0003_search_vector"),
    script!("totals_and_checks", "storage/0004_totals_and_checks"),
    script!("one_index_each", "storage/0005_one_index_each"),
    script!("wal_pruned", "storage/0006_wal_pruned"),
    script!("api", "storage/0007_api"),
    script!("search_words", "storage/0008_search_words"),
    script!("finished_unchanged", "storage/0009_finished_unchanged"),
    script!("readable_texts", "storage/0010_readable_texts"),
    script!("relay_lock", "storage/0011_relay_lock"),
    script!("database_role", "storage/0012_database_role"),
];

/// The text with the element's name in place of the placeholder. The name is checked
/// (`[a-z][a-z0-9_]*`), so it can neither end an identifier nor a literal; the longest name that
/// is made from it fits PostgreSQL's 63 bytes.
pub(crate) fn for_element(sql: &str, element: &ElementName) -> String {
    sql.replace(PREFIX, element.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_name_leaves_no_placeholder_and_only_storage_has_one() {
        let element: ElementName = "a".parse().expect("a valid name");
        for script in STORAGE {
            for sql in [script.up, script.down] {
                assert!(sql.contains(PREFIX), "{}", script.name);
                assert!(
                    !for_element(sql, &element).contains(PREFIX),
                    "{}",
                    script.name
                );
            }
        }
        for script in ADMIN.iter().chain(QUERY) {
            assert!(
                !script.up.contains(PREFIX) && !script.down.contains(PREFIX),
                "{}",
                script.name
            );
        }
    }

    /// PostgreSQL cuts longer names without an error, and two of them could become one.
    #[test]
    fn every_name_of_an_element_with_the_longest_prefix_fits() {
        let element: ElementName = "a".repeat(34).parse().expect("a valid name");
        for script in STORAGE {
            let sql = for_element(script.up, &element) + &for_element(script.down, &element);
            for word in sql.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
                assert!(word.len() <= 63, "{word}");
            }
        }
    }
}
