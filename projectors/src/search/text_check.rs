//! Whether a text can be looked for: the part of the check that search text and filters share.

use super::search_error::SearchError;

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
}
