//! The name of a storage element: its table prefix, its stream's suffix, its subject token.
//!
//! It comes from configuration and goes into table names, stream names and subjects, so it is
//! checked once, here, and everything else takes the checked type.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// At most this many characters, so that the longest index name of an element
/// (`ix_<prefix>_files_created_by_username`) fits PostgreSQL's 63 bytes.
pub const MAX_LENGTH: usize = 34;

/// A checked element name: `[a-z][a-z0-9_]*`, at most 34 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ElementName(String);

/// Why a text is not an element name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "element name {name:?} is not valid: it must start with a-z, go on with a-z, 0-9 or _, \
     and have at most {MAX_LENGTH} characters"
)]
pub struct InvalidElementName {
    name: String,
}

impl ElementName {
    /// The name as it is in table names, stream names and subjects.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ElementName {
    type Err = InvalidElementName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let starts = name.starts_with(|c: char| c.is_ascii_lowercase());
        let goes_on = name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if starts && goes_on && name.len() <= MAX_LENGTH {
            Ok(Self(name.to_owned()))
        } else {
            Err(InvalidElementName {
                name: name.to_owned(),
            })
        }
    }
}

impl TryFrom<String> for ElementName {
    type Error = InvalidElementName;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        name.parse()
    }
}

impl From<ElementName> for String {
    fn from(name: ElementName) -> Self {
        name.0
    }
}

impl fmt::Display for ElementName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_the_products_prefix_and_refuses_what_sql_or_nats_would_read_differently() {
        assert!("storage_elem_01".parse::<ElementName>().is_ok());
        assert!("a".repeat(34).parse::<ElementName>().is_ok());
        for bad in [
            "",
            "1a",
            "_a",
            "A",
            "a-b",
            "a.b",
            "a b",
            "a\"b",
            "a*",
            "é",
            &"a".repeat(35),
        ] {
            assert!(bad.parse::<ElementName>().is_err(), "{bad:?}");
        }
    }
}
