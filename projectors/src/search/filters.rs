//! The conditions that files must meet, besides the text. All that are set must hold.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::search_error::SearchError;
use super::text_check::{check_text, has_trigram};
use super::words::nfc;

/// The longest name that a filter takes, in characters: an element's files have at most 500.
const LONGEST_NAME: usize = 500;
const MOST_TAGS: usize = 50;
const LONGEST_TAG: usize = 50;

/// Filters. As JSON they are what the record of a search keeps: only those that are set.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Filters {
    /// Part of the file's name, whatever the case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filename: Option<String>,
    /// What comes after a dot at the end of the name, whatever the case: `pdf` or `.pdf`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extension: Option<String>,
    /// At least one of these tags, with the same case.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The user name of who created it, with the same case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// At least so many bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_size: Option<i64>,
    /// At most so many bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_size: Option<i64>,
    /// Not created before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_from: Option<DateTime<Utc>>,
    /// Not created after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_to: Option<DateTime<Utc>>,
    /// The element that it lives on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_element: Option<String>,
}

impl Filters {
    /// Whether none is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The extension without its dot.
    pub(super) fn bare_extension(&self) -> Option<&str> {
        let extension = self.extension.as_deref()?;
        Some(extension.strip_prefix('.').unwrap_or(extension))
    }

    pub(super) fn check(&self) -> Result<(), SearchError> {
        let refuse = |text: String| Err(SearchError::Invalid(text));
        let names = [
            ("the file name", &self.filename),
            ("the extension", &self.extension),
            ("the user name", &self.username),
            ("the element", &self.storage_element),
        ];
        for (what, name) in names {
            if let Some(name) = name {
                check_text(what, name, LONGEST_NAME)?;
            }
        }
        if let Some(name) = self
            .filename
            .as_ref()
            .filter(|name| !has_trigram(&nfc(name)))
        {
            return refuse(format!(
                "file name {name:?} is too short to be looked for in the middle of words: give at \
                 least three letters or digits in a row"
            ));
        }
        if let Some(extension) = self.bare_extension()
            && !extension.contains(char::is_alphanumeric)
        {
            return refuse(format!(
                "extension {extension:?} has no letter and no digit: expected one like pdf"
            ));
        }
        if self.tags.len() > MOST_TAGS {
            let tags = self.tags.len();
            return refuse(format!("{tags} tags: at most {MOST_TAGS} are looked for"));
        }
        for tag in &self.tags {
            check_text("a tag", tag, LONGEST_TAG)?;
        }
        let sizes = [self.min_size, self.max_size];
        if sizes.iter().flatten().any(|size| *size < 0) {
            return refuse("a size below 0: no file has that".to_owned());
        }
        Ok(())
    }
}
