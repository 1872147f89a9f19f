//! What a terminal shows: its width, texts that do nothing to it, and numbers for people.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

const USUAL_WIDTH: usize = 80;

/// The terminal's width in columns; 80 where there is none.
pub(crate) fn width() -> usize {
    terminal_size::terminal_size_of(std::io::stdout())
        .map_or(USUAL_WIDTH, |(width, _)| usize::from(width.0).max(60))
}

/// A text that does nothing to the terminal: signs that move the cursor, colour, or turn the
/// direction of writing are shown as what they are.
pub(crate) fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        let turns = matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        if character.is_control() || turns {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Cut in the middle: of a name, beginning and extension identify it best.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(1);
    let (front, back) = (room.div_ceil(2), room / 2);
    let front = taken(text.chars(), front);
    let mut back: Vec<char> = taken(text.chars().rev(), back).chars().collect();
    back.reverse();
    format!("{front}…{}", back.into_iter().collect::<String>())
}

fn taken(characters: impl Iterator<Item = char>, width: usize) -> String {
    let mut used = 0;
    characters
        .take_while(|character| {
            used += character.width().unwrap_or(0);
            used <= width
        })
        .collect()
}

/// Bytes in binary units.
pub(crate) fn human(bytes: i64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be printed as 1024.0.
    while size >= 1023.95 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    let decimals = usize::from(size < 99.95);
    format!("{size:.decimals$} {}", UNITS[unit])
}

/// A number with a comma between thousands.
pub(crate) fn grouped(number: i64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_in_the_middle_and_do_nothing_to_the_terminal() {
        assert_eq!(cut("annual_report_2026.pdf", 11), "annua…6.pdf");
        assert_eq!(cut("отчёт_годовой.pdf", 9), "отчё….pdf");
        // Each of these is two columns wide.
        assert_eq!(cut("日本語日本語", 7), "日…語");
        assert_eq!(
            shown("a\u{1b}[31mb\nc\u{202e}"),
            "a\\u{1b}[31mb\\u{a}c\\u{202e}"
        );
    }

    #[test]
    fn sizes_and_numbers_are_for_people() {
        let sizes = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (150 * 1024, "150 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (i64::MAX, "8192 PiB"),
        ];
        for (bytes, text) in sizes {
            assert_eq!(human(bytes), text);
        }
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(123), "123");
    }
}
