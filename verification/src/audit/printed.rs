//! Texts that others wrote, as they may be printed: an event's text must not move the cursor of the
//! terminal that shows it, nor look like another line.

/// A text without line ends, controls of the terminal and marks that turn its direction.
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if moves(c) { '\u{b7}' } else { c })
        .collect()
}

/// The same of the first 200 characters.
pub fn one_line(text: &str) -> String {
    let first: String = text.chars().take(200).collect();
    plain(&first)
}

fn moves(c: char) -> bool {
    let turns =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_printed_moves_the_cursor() {
        let shown = plain("a\u{1b}[2J\r\nb\u{9b}1m\u{202e}c\u{7f} имя\u{2028}d");
        assert_eq!(shown, "a·[2J··b·1m·c· имя·d");
        assert_eq!(one_line(&"x\n".repeat(200)).chars().count(), 200);
    }
}
