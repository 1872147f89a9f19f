//! The check of a question, before the database sees it.

use super::cursor::Cursor;
use super::query::{FARTHEST_OFFSET, LONGEST_TEXT, MOST_HITS, Mode, Page, Search};
use super::search_error::SearchError;
use super::text_check::{check_text, has_trigram};
use super::words::nfc;

impl Search {
    /// Checks the question, and reads the token.
    pub fn check(&self) -> Result<Option<Cursor>, SearchError> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
