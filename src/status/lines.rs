//! Lines and tables no wider than the terminal. Where a row is too wide, its name gets a line of
//! its own.

use artstore_runtime::count::counted;
use unicode_width::UnicodeWidthStr as _;

use crate::terminal;

const GAP: usize = 2;

/// What a line is, for those who see colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Title,
    Good,
    Bad,
}

pub(super) struct Line {
    pub(super) text: String,
    pub(super) tone: Tone,
}

pub(super) struct Table {
    pub(super) title: String,
    /// Titles of the cells; true: numbers, which stand at the right.
    pub(super) heads: Vec<(&'static str, bool)>,
    pub(super) rows: Vec<Row>,
}

pub(super) struct Row {
    pub(super) name: String,
    pub(super) cells: Vec<String>,
    pub(super) notes: Vec<String>,
    pub(super) bad: bool,
}

impl Line {
    pub(super) fn new(text: String, tone: Tone) -> Self {
        Self { text, tone }
    }

    pub(super) fn empty() -> Self {
        Self::new(String::new(), Tone::Plain)
    }

    pub(super) fn write(&self, text: &mut String, width: usize, colour: bool) {
        // What other processes reported may move the cursor.
        let shown = terminal::shown(self.text.trim_end());
        let shown = if shown.width() > width {
            terminal::cut(&shown, width)
        } else {
            shown
        };
        let code = match self.tone {
            Tone::Plain => None,
            Tone::Title => Some("1"),
            Tone::Good => Some("32"),
            Tone::Bad => Some("31"),
        };
        match code.filter(|_| colour && !shown.is_empty()) {
            Some(code) => text.push_str(&format!("\x1b[{code}m{shown}\x1b[0m\n")),
            None => {
                text.push_str(&shown);
                text.push('\n');
            }
        }
    }
}

impl Table {
    /// Only the rows with something wrong; the others are counted.
    pub(super) fn only_bad(mut self) -> Self {
        let all = self.rows.len();
        self.rows.retain(|row| row.bad);
        let well = all - self.rows.len();
        if well > 0 {
            let count = format!("{} more that are well", grouped(well as u64));
            self.rows.push(Row {
                name: match self.rows.is_empty() {
                    true => format!("all {} are well", grouped(well as u64)),
                    false => count,
                },
                cells: vec![String::new(); self.heads.len()],
                notes: Vec::new(),
                bad: false,
            });
        }
        self
    }

    /// One line a row. A name that leaves no room for the cells gets a line of its own.
    pub(super) fn lines(&self, width: usize) -> Vec<Line> {
        let mut widths: Vec<usize> = self.heads.iter().map(|(head, _)| head.width()).collect();
        for row in &self.rows {
            for (widest, cell) in widths.iter_mut().zip(&row.cells) {
                *widest = (*widest).max(cell.width());
            }
        }
        let cells: usize = widths.iter().map(|width| width + GAP).sum();
        let room = width.saturating_sub(cells);
        let names = self.rows.iter().map(|row| &row.name).chain([&self.title]);
        let names = names.map(|name| name.width()).filter(|name| *name <= room);
        let first = names.max().unwrap_or(0).max(4.min(room));
        let mut lines = Vec::new();
        let heads: Vec<String> = self
            .heads
            .iter()
            .map(|(head, _)| (*head).to_owned())
            .collect();
        self.line(&mut lines, &self.title, &heads, first, &widths, Tone::Title);
        for row in &self.rows {
            let tone = if row.bad { Tone::Bad } else { Tone::Plain };
            self.line(&mut lines, &row.name, &row.cells, first, &widths, tone);
            for note in &row.notes {
                lines.extend(wrapped(&format!("    {note}"), 6, width, tone));
            }
        }
        lines
    }

    fn line(
        &self,
        lines: &mut Vec<Line>,
        name: &str,
        cells: &[String],
        first: usize,
        widths: &[usize],
        tone: Tone,
    ) {
        let mut text = if name.width() > first {
            lines.push(Line::new(name.to_owned(), tone));
            " ".repeat(first)
        } else {
            format!("{name}{}", " ".repeat(first - name.width()))
        };
        for ((cell, width), (_, right)) in cells.iter().zip(widths).zip(&self.heads) {
            let space = " ".repeat(width.saturating_sub(cell.width()));
            text.push_str(&" ".repeat(GAP));
            if *right {
                text.push_str(&space);
                text.push_str(cell);
            } else {
                text.push_str(cell);
                text.push_str(&space);
            }
        }
        lines.push(Line::new(text, tone));
    }
}

/// Cut into lines at spaces; lines after the first are indented.
pub(super) fn wrapped(text: &str, indent: usize, width: usize, tone: Tone) -> Vec<Line> {
    let start = text.len() - text.trim_start().len();
    let mut line = " ".repeat(start);
    let mut lines = Vec::new();
    let mut empty = true;
    for word in text.split_whitespace() {
        if !empty && line.width() + 1 + word.width() > width {
            lines.push(Line::new(line, tone));
            line = " ".repeat(indent);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    lines.push(Line::new(line, tone));
    lines
}

/// A time span in one unit, rounded down.
pub fn age(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    let whole = |unit: f64| (seconds / unit) as u64;
    match seconds {
        s if s < 120.0 => format!("{} s", whole(1.0)),
        s if s < 7_200.0 => format!("{} min", whole(60.0)),
        s if s < 172_800.0 => format!("{} h", whole(3_600.0)),
        _ => format!("{} d", grouped(whole(86_400.0))),
    }
}

/// So many events.
pub fn events(number: u64) -> String {
    counted(grouped(number), "event")
}

/// With commas.
pub(crate) fn grouped(number: impl TryInto<i64>) -> String {
    terminal::grouped(number.try_into().unwrap_or(i64::MAX))
}
