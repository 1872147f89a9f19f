//! Where the next page begins: after the last hit of the page before, by that hit's position in
//! the order. Files that arrive or go meanwhile shift nothing, and no hit comes twice.
//!
//! The client carries it as an opaque token, which is valid for its own question only.

use std::fmt;

use chrono::{DateTime, Utc};
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};

use super::hit::Hit;
use super::query::{Search, Sort};
use super::search_error::SearchError;

/// A position in the order of one question's hits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cursor {
    /// Digest of the question: a token of another one would give any page.
    question: u32,
    pub(super) key: Key,
    pub(super) id: String,
}

/// The value of the last hit by which the hits are ordered, before the id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Key {
    CreatedAt(DateTime<Utc>),
    UpdatedAt(DateTime<Utc>),
    FileSize(i64),
    Filename(String),
    /// The bits of the relevance: as text it could come back as another number. And the oldest
    /// hit that is ranked, where there are older ones.
    Relevance(u32, DateTime<Utc>, Option<Floor>),
    /// Among the hits that are older than those that are ranked.
    Older(DateTime<Utc>),
}

/// A position among the hits by time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Floor {
    pub(super) created_at: DateTime<Utc>,
    pub(super) id: String,
}

impl Cursor {
    /// The position after a hit. By relevance, `floor` is the oldest hit that is ranked.
    pub(super) fn behind(search: &Search, hit: &Hit, floor: Option<Floor>) -> Self {
        let is_older = |floor: &Floor| (hit.created_at, &hit.id) < (floor.created_at, &floor.id);
        Self {
            question: digest(search),
            key: match search.sort() {
                Sort::CreatedAt => Key::CreatedAt(hit.created_at),
                Sort::UpdatedAt => Key::UpdatedAt(hit.updated_at),
                Sort::FileSize => Key::FileSize(hit.file_size),
                Sort::Filename => Key::Filename(hit.filename.clone()),
                Sort::Relevance if floor.as_ref().is_some_and(is_older) => {
                    Key::Older(hit.created_at)
                }
                Sort::Relevance => Key::Relevance(
                    hit.relevance.unwrap_or(0.0).to_bits(),
                    hit.created_at,
                    floor,
                ),
            },
            id: hit.id.clone(),
        }
    }

    /// Reads a token. Refused where it is none, or of another question.
    pub(super) fn read(search: &Search, token: &str) -> Result<Self, SearchError> {
        let refuse = |reason: &str| {
            SearchError::Invalid(format!(
                "the token of the page before {reason}: take it as it was printed"
            ))
        };
        let cursor: Self = BASE64URL_NOPAD
            .decode(token.as_bytes())
            .ok()
            .and_then(|json| serde_json::from_slice(&json).ok())
            .ok_or_else(|| refuse("can't be read"))?;
        if cursor.question != digest(search) {
            return Err(refuse(
                "belongs to another search (another text, mode, filter, sort or order)",
            ));
        }
        let sort = match &cursor.key {
            Key::CreatedAt(_) => Sort::CreatedAt,
            Key::UpdatedAt(_) => Sort::UpdatedAt,
            Key::FileSize(_) => Sort::FileSize,
            Key::Filename(_) => Sort::Filename,
            Key::Relevance(..) | Key::Older(_) => Sort::Relevance,
        };
        let texts = match &cursor.key {
            Key::Filename(name) => [cursor.id.as_str(), name.as_str()],
            Key::Relevance(.., Some(floor)) => [cursor.id.as_str(), floor.id.as_str()],
            Key::Relevance(.., None)
            | Key::CreatedAt(_)
            | Key::UpdatedAt(_)
            | Key::FileSize(_)
            | Key::Older(_) => [cursor.id.as_str(), ""],
        };
        if sort != search.sort() || texts.iter().any(|text| text.contains('\0')) {
            return Err(refuse("was changed"));
        }
        Ok(cursor)
    }
}

impl Cursor {
    /// Where the hits begin that are older than those that are ranked, and follow this position.
    pub(super) fn floor(&self) -> Option<Floor> {
        match &self.key {
            Key::Relevance(.., floor) => floor.clone(),
            Key::Older(created_at) => Some(Floor {
                created_at: *created_at,
                id: self.id.clone(),
            }),
            Key::CreatedAt(_) | Key::UpdatedAt(_) | Key::FileSize(_) | Key::Filename(_) => None,
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = serde_json::to_vec(self).map_err(|_| fmt::Error)?;
        f.write_str(&BASE64URL_NOPAD.encode(&json))
    }
}

/// Of what decides the hits and their order; not of the page, whose size may change on the way.
fn digest(search: &Search) -> u32 {
    let question = serde_json::json!([
        search.text,
        search.mode.as_str(),
        search.filters,
        search.sort.as_str(),
        search.order().as_str(),
    ]);
    crc32fast::hash(question.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::query::Mode;

    #[test]
    fn a_token_fits_its_own_question_only() {
        let mut search = Search::new("report", Mode::Fulltext);
        let cursor = Cursor {
            question: digest(&search),
            key: Key::Relevance(0.3_f32.to_bits(), DateTime::UNIX_EPOCH, None),
            id: "x".to_owned(),
        };
        let token = cursor.to_string();
        assert_eq!(Cursor::read(&search, &token).expect("its own"), cursor);
        search.page.limit = 7;
        assert!(Cursor::read(&search, &token).is_ok());
        search.text = "reports".to_owned();
        let error = Cursor::read(&search, &token).expect_err("another text");
        assert!(error.to_string().contains("another search"), "{error}");
        for bad in ["", "x", "AAAA", "'; drop table x; --"] {
            assert!(Cursor::read(&search, bad).is_err(), "{bad:?}");
        }
    }
}
