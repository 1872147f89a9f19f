//! What is asked: text and mode, filters, order, page. Checked by `check` before the database sees it.

use std::fmt;
use std::str::FromStr;

use super::filters::Filters;
use super::search_error::SearchError;

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
