//! A question's text: its words and phrases, and the normal form in which letters are compared.
//! `super::sql` makes a statement of them. The database splits words
//! (`artstore_search_query`), by the same functions that split names for the index.

use unicode_normalization::UnicodeNormalization as _;

/// A word, or several in quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// It must not be there.
    pub negated: bool,
    /// As it stands in the question.
    pub text: String,
}

/// Reads a text as PostgreSQL's websearch_to_tsquery does: terms side by side must all be there, `or` between
/// them means either side, which binds less, `-` in front means not, quotes hold a phrase. No text is an
/// error. The outer list's items are alternatives.
pub fn read(text: &str) -> Vec<Vec<Term>> {
    let mut alternatives: Vec<Vec<Term>> = vec![Vec::new()];
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let negated = first == '-';
        let behind = rest.trim_start_matches('-');
        if negated && behind.chars().next().is_none_or(char::is_whitespace) {
            rest = behind.trim_start();
            continue;
        }
        let (term, quoted, after) = match behind.strip_prefix('"') {
            // A quote that is not closed holds all that follows.
            Some(phrase) => {
                let (phrase, after) = phrase.split_once('"').unwrap_or((phrase, ""));
                (phrase, true, after)
            }
            None => {
                let end = behind.find(|c: char| c.is_whitespace() || c == '"');
                let (word, after) = behind.split_at(end.unwrap_or(behind.len()));
                (word, false, after)
            }
        };
        rest = after.trim_start();
        let begun = alternatives.last().is_some_and(|terms| !terms.is_empty());
        let is_or = !quoted && !negated && term.eq_ignore_ascii_case("or");
        if is_or && begun && !rest.is_empty() {
            alternatives.push(Vec::new());
        } else if let Some(terms) = alternatives.last_mut() {
            terms.push(Term {
                negated,
                text: term.to_owned(),
            });
        }
    }
    alternatives.retain(|terms| !terms.is_empty());
    alternatives
}

/// Composed letters where there are any: `й` is one character, however it was typed.
pub fn nfc(text: &str) -> String {
    text.nfc().collect()
}

/// That, with ligatures, wide digits and the like as plain ones, and `ё` as `е`: words are compared so.
pub fn folded(text: &str) -> String {
    let plain = |c| match c {
        'ё' => 'е',
        'Ё' => 'Е',
        c => c,
    };
    text.nfkc().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let term = |term: &Term| format!("{}[{}]", if term.negated { "!" } else { "" }, term.text);
        let terms = |terms: &Vec<Term>| terms.iter().map(term).collect::<Vec<_>>().join(" ");
        let alternatives = read(text);
        alternatives
            .iter()
            .map(terms)
            .collect::<Vec<_>>()
            .join(" | ")
    }

    #[test]
    fn a_text_is_words_phrases_alternatives_and_what_must_not_be_there() {
        for (text, expected) in [
            ("", ""),
            ("  ", ""),
            ("report", "[report]"),
            (" annual  report.pdf ", "[annual] [report.pdf]"),
            ("\"annual report\" 2026", "[annual report] [2026]"),
            (
                "report -draft -\"first version\"",
                "[report] ![draft] ![first version]",
            ),
            ("a or b c OR d", "[a] | [b] [c] | [d]"),
            ("or a or", "[or] [a] [or]"),
            ("a \"or\" b", "[a] [or] [b]"),
            ("a-b", "[a-b]"),
            ("a - b --c", "[a] [b] ![c]"),
            ("say\"it\"now", "[say] [it] [now]"),
            ("\"open", "[open]"),
            ("\"\"", "[]"),
            ("-", ""),
        ] {
            assert_eq!(shown(text), expected, "{text:?}");
        }
    }

    #[test]
    fn letters_have_one_form() {
        assert_eq!(nfc("и\u{306}е\u{308}"), "йё");
        assert_eq!(folded("ﬁle １２ Ёж е\u{308}"), "file 12 Еж е");
    }
}
