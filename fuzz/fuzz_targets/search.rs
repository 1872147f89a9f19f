//! Questions and the tokens of their pages: a question that is taken is small, its terms are in it, and a token that is
//! taken is that of its question.

#![no_main]

use artstore_fuzz::{parts, text};
use artstore_projectors::search::query::{LONGEST_TEXT, MOST_HITS, Mode, Search, Sort};
use artstore_projectors::search::words;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [mode, sort, question, filename, tags, token] = parts(data);
    let mut search = Search::new(text(question), text(mode).parse().unwrap_or(Mode::Fulltext));
    search.sort = text(sort).parse().unwrap_or(Sort::Relevance);
    search.filters.filename = Some(text(filename)).filter(|name| !name.is_empty());
    search.filters.tags = text(tags).lines().map(str::to_owned).collect();
    search.page.after = Some(text(token)).filter(|token| !token.is_empty());
    match search.check() {
        Ok(cursor) => {
            assert!(search.text.chars().count() <= LONGEST_TEXT && search.page.limit <= MOST_HITS);
            if let Some(cursor) = cursor {
                search.page.after = Some(cursor.to_string());
                assert_eq!(search.check().expect("its own token"), Some(cursor));
            }
        }
        // It shows the text at most once.
        Err(error) => assert!(error.to_string().len() < 12 * data.len() + 1_000),
    }
    let terms = words::read(&search.text);
    assert!(terms.iter().all(|terms| !terms.is_empty()));
    assert!(
        terms
            .iter()
            .flatten()
            .all(|term| search.text.contains(&term.text))
    );
    let normal = words::nfc(&search.text);
    assert_eq!(words::nfc(&normal), normal);
});
