//! What is asked: text and mode, filters, order, page. Checked before the database sees it.

use std::fmt;
use std::str::FromStr;

use super::cursor::Cursor;
use super::filters::Filters;
use super::search_error::SearchError;
use super::words::nfc;

/// The longest text, in characters. It is stored with the record of the search.
pub const LONGEST_TEXT: usize = 1_000;

/// The most hits of a page.
pub const MOST_HITS: u32 = 1_000;

/// The farthest offset. PostgreSQL reads all that it skips: beyond, pages go by token.
pub const FARTHEST_OFFSET: u32 = 100_000;

/// A question.
#[derive(Debug, Clone)]
pub struct Search {
    /// What to look for; empty where the filters say it all.
    pub text: String,
    /// How the text is searched for.
    pub mode: Mode,
    /// What the files must be like besides.
    pub filters: Filters,
    /// By what the hits are ordered.
    pub sort: Sort,
    /// Which end first; none for the one that is usual for `sort`.
    pub order: Option<Order>,
    /// Which part of the hits.
    pub page: Page,
}

/// How the text is searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It is the file's name, with the same case.
    Exact,
    /// It is part of the file's name or description, whatever the case. No wildcards.
    Partial,
    /// Its words are in name, description or tags, in any form of English or Russian.
    Fulltext,
}

/// By what the hits are ordered. The id decides between equals, so every order is total.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// When the file came to its element.
    CreatedAt,
    /// When it last changed.
    UpdatedAt,
    /// Its size.
    FileSize,
    /// Its name, as the database's collation orders.
    Filename,
    /// How well it fits the text, among the newest [`super::RANKED`] hits; equals by `CreatedAt`,
    /// and older hits behind them. Without text, by `CreatedAt`.
    Relevance,
}

/// Which end first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The lowest.
    Ascending,
    /// The highest.
    Descending,
}

/// Which part of the hits.
#[derive(Debug, Clone)]
pub struct Page {
    /// At most so many, 1 to [`MOST_HITS`].
    pub limit: u32,
    /// How many are skipped. A file that arrives meanwhile shifts what follows.
    pub offset: u32,
    /// The token of the page before this one. Files that arrive meanwhile shift nothing.
    pub after: Option<String>,
}

impl Default for Page {
    fn default() -> Self {
        Self {
            limit: 50,
            offset: 0,
            after: None,
        }
    }
}

impl Search {
    /// Files by their text alone, the best first.
    pub fn new(text: impl Into<String>, mode: Mode) -> Self {
        Self {
            text: text.into(),
            mode,
            filters: Filters::default(),
            sort: Sort::Relevance,
            order: None,
            page: Page::default(),
        }
    }

    /// The order that is used.
    pub fn order(&self) -> Order {
        self.order.unwrap_or(match self.sort {
            Sort::Filename => Order::Ascending,
            Sort::CreatedAt | Sort::UpdatedAt | Sort::FileSize | Sort::Relevance => {
                Order::Descending
            }
        })
    }

    /// The sort that is used: all hits of an exact search, or of one without text, fit equally.
    pub(super) fn sort(&self) -> Sort {
        match (self.sort, self.mode) {
            (Sort::Relevance, Mode::Exact) => Sort::CreatedAt,
            (Sort::Relevance, Mode::Partial | Mode::Fulltext) if !self.has_text() => {
                Sort::CreatedAt
            }
            (sort, _) => sort,
        }
    }

    pub(super) fn has_text(&self) -> bool {
        !self.text.trim().is_empty()
    }

    /// Checks the question, and reads the token.
    pub(super) fn check(&self) -> Result<Option<Cursor>, SearchError> {
        let refuse = |text: String| Err(SearchError::Invalid(text));
        check_text("the search text", &self.text, LONGEST_TEXT)?;
        self.filters.check()?;
        if !self.has_text() && self.filters.is_empty() {
            return refuse("nothing to look for: give a text or a filter".to_owned());
        }
        if self.has_text() && self.mode == Mode::Partial && !has_trigram(&nfc(&self.text)) {
            return refuse(format!(
                "{:?} is too short to be looked for in the middle of words: give at least three \
                 letters or digits in a row, or look for whole words (mode fulltext)",
                self.text
            ));
        }
        let Page {
            limit,
            offset,
            after,
        } = &self.page;
        if !(1..=MOST_HITS).contains(limit) {
            return refuse(format!("limit {limit}: a page has 1 to {MOST_HITS} hits"));
        }
        if *offset > FARTHEST_OFFSET {
            return refuse(format!(
                "offset {offset}: at most {FARTHEST_OFFSET} hits are skipped; go on by the token \
                 of the page before"
            ));
        }
        match after {
            None => Ok(None),
            Some(_) if *offset > 0 => {
                refuse("a page begins at an offset or behind a token, not both".to_owned())
            }
            Some(token) => Cursor::read(self, token).map(Some),
        }
    }
}

/// Refuses what PostgreSQL can't store and what is no name or text any more.
pub(super) fn check_text(what: &str, text: &str, longest: usize) -> Result<(), SearchError> {
    if text.contains('\0') {
        return Err(SearchError::Invalid(format!(
            "{what} holds a NUL character, which no file name or description can hold"
        )));
    }
    let characters = text.chars().count();
    if characters > longest {
        return Err(SearchError::Invalid(format!(
            "{what} has {characters} characters; at most {longest} are looked for"
        )));
    }
    Ok(())
}

/// Whether the trigram index can find a text in the middle of others. It holds three characters
/// in a row of each word, which it takes to begin with two spaces and to end with one.
pub(super) fn has_trigram(text: &str) -> bool {
    let characters: Vec<char> = text.chars().collect();
    characters
        .split_inclusive(|c| !c.is_alphanumeric())
        .enumerate()
        .any(|(index, word)| {
            let begins = index > 0;
            let ends = word.last().is_some_and(|c| !c.is_alphanumeric());
            let length = word.len() - usize::from(ends);
            length > 0 && length + 2 * usize::from(begins) + usize::from(ends) >= 3
        })
}

macro_rules! names {
    ($type:ident, $what:literal, $($variant:ident = $name:literal),+) => {
        impl $type {
            /// All names, as they are written and read.
            pub const NAMES: &'static [&'static str] = &[$($name),+];

            /// The name.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $type {
            type Err = SearchError;

            fn from_str(name: &str) -> Result<Self, Self::Err> {
                match name {
                    $($name => Ok(Self::$variant),)+
                    _ => Err(SearchError::Invalid(format!(
                        "{name:?} is no {}: expected one of {}",
                        $what,
                        Self::NAMES.join(", ")
                    ))),
                }
            }
        }
    };
}

names!(
    Mode,
    "mode",
    Exact = "exact",
    Partial = "partial",
    Fulltext = "fulltext"
);
names!(
    Sort,
    "order of hits",
    CreatedAt = "created_at",
    UpdatedAt = "updated_at",
    FileSize = "file_size",
    Filename = "filename",
    Relevance = "relevance"
);
names!(Order, "direction", Ascending = "asc", Descending = "desc");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_by_three_letters_or_by_the_edge_of_a_word() {
        for found in ["abc", "отч", "v2.1", "a_b", ".p", "xy ", "#a"] {
            assert!(has_trigram(found), "{found:?}");
        }
        for short in ["", "a", "ab", "__", "%", "№", " ", "a.", "a_", "--"] {
            assert!(!has_trigram(short), "{short:?}");
        }
    }

    #[test]
    fn what_cannot_be_asked_is_refused_by_what_is_wrong() {
        let asked = |change: &dyn Fn(&mut Search)| {
            let mut search = Search::new("report", Mode::Partial);
            change(&mut search);
            search
                .check()
                .map(|_| ())
                .map_err(|error| error.to_string())
        };
        assert_eq!(asked(&|_| {}), Ok(()));
        let refused = |change: &dyn Fn(&mut Search), expected: &str| {
            let text = asked(change).expect_err(expected);
            assert!(text.contains(expected), "{text}");
        };
        refused(&|s| s.text = " ".into(), "nothing to look for");
        refused(&|s| s.text = "re\0port".into(), "NUL");
        refused(&|s| s.text = "x".repeat(1 << 20), "1048576 characters");
        refused(&|s| s.text = "ab".into(), "too short");
        refused(&|s| s.filters.filename = Some("ж".into()), "too short");
        refused(&|s| s.filters.tags = vec!["t".into(); 51], "51 tags");
        refused(&|s| s.filters.tags = vec!["t".repeat(51)], "a tag");
        refused(&|s| s.filters.extension = Some(".".into()), "extension");
        refused(&|s| s.page.limit = 0, "limit 0");
        refused(&|s| s.page.limit = 1_001, "limit 1001");
        refused(&|s| s.page.after = Some("x".into()), "token");
    }
}
