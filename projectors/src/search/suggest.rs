//! What to try where nothing was found: names that are similar, and other ways to ask.

use std::fmt;

use sqlx::PgConnection;

use super::query::{Mode, Search};
use super::text_check::has_trigram;
use super::words::{folded, nfc};

/// The most names that are suggested.
const MOST_NAMES: i64 = 5;

/// Of a long text only so many characters are compared.
const COMPARED: usize = 100;

/// What else to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestions {
    /// Names of files that are similar to the text, the most similar first. The filters do not
    /// count here.
    pub similar: Vec<String>,
    /// Other ways to ask.
    pub hints: Vec<Hint>,
}

/// Another way to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// The text holds no word that is searched for.
    NoWords,
    /// Mode partial.
    Partial,
    /// Mode fulltext.
    Fulltext,
    /// Without filters.
    FewerFilters,
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoWords => {
                "the text holds no word to look for, only signs or words as common as \"the\""
            }
            Self::Partial => "mode partial also finds the text in the middle of words",
            Self::Fulltext => {
                "mode fulltext also finds other forms of the words, in any order, and tags"
            }
            Self::FewerFilters => "fewer filters: all that are given must hold",
        })
    }
}

impl Suggestions {
    /// For a text without a word to look for.
    pub(super) fn without_words() -> Self {
        Self {
            similar: Vec::new(),
            hints: vec![Hint::NoWords, Hint::Partial],
        }
    }
}

/// What to try in place of this search.
pub(super) async fn suggest(
    connection: &mut PgConnection,
    search: &Search,
) -> Result<Suggestions, sqlx::Error> {
    let mut suggestions = Suggestions {
        similar: Vec::new(),
        hints: Vec::new(),
    };
    if search.has_text() {
        suggestions.similar = similar(connection, &search.text).await?;
        let modes: &[Hint] = match search.mode {
            Mode::Exact => &[Hint::Partial, Hint::Fulltext],
            Mode::Partial => &[Hint::Fulltext],
            Mode::Fulltext => &[Hint::Partial],
        };
        let possible = |hint: &&Hint| **hint != Hint::Partial || has_trigram(&nfc(&search.text));
        suggestions.hints.extend(modes.iter().filter(possible));
    }
    if !search.filters.is_empty() {
        suggestions.hints.push(Hint::FewerFilters);
    }
    Ok(suggestions)
}

async fn similar(connection: &mut PgConnection, text: &str) -> Result<Vec<String>, sqlx::Error> {
    let text: String = nfc(text).chars().take(COMPARED).collect();
    let trigrams: bool =
        sqlx::query_scalar("select to_regprocedure('word_similarity(text, text)') is not null")
            .fetch_one(&mut *connection)
            .await?;
    if trigrams {
        by_trigrams(connection, &text).await
    } else {
        by_beginnings(connection, &text).await
    }
}

async fn by_trigrams(
    connection: &mut PgConnection,
    text: &str,
) -> Result<Vec<String>, sqlx::Error> {
    // For this transaction: a swapped or missing letter in a short word is more than the usual
    // threshold lets through.
    sqlx::query("select set_config('pg_trgm.word_similarity_threshold', '0.4', true)")
        .execute(&mut *connection)
        .await?;
    sqlx::query_scalar(
        "select filename::text from public.file_metadata_cache where $1 <% filename \
         group by filename order by word_similarity($1, filename) desc, filename limit $2",
    )
    .bind(text)
    .bind(MOST_NAMES)
    .persistent(false)
    .fetch_all(connection)
    .await
}

/// Without pg_trgm: names with words that begin as the words of the text do.
async fn by_beginnings(
    connection: &mut PgConnection,
    text: &str,
) -> Result<Vec<String>, sqlx::Error> {
    let beginnings: Vec<String> = folded(text)
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| word.chars().count() >= 3)
        .map(|word| {
            let kept = (word.chars().count() * 2 / 3).clamp(3, 6);
            let word = word.to_lowercase();
            let beginning: String = word.chars().take(kept).collect();
            format!("{beginning}:*A")
        })
        .collect();
    if beginnings.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_scalar(
        "select filename::text from public.file_metadata_cache, \
             to_tsquery('pg_catalog.simple'::regconfig, $1) as words \
         where search_vector @@ words \
         group by filename order by max(ts_rank(search_vector, words)) desc, filename limit $2",
    )
    // Letters and digits only, in the name (A): nothing that tsquery would take for an operator.
    .bind(beginnings.join(" | "))
    .bind(MOST_NAMES)
    .persistent(false)
    .fetch_all(connection)
    .await
}
