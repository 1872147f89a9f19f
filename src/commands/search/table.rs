//! Hits for people: one line each, no wider than the terminal; 80 columns where there is no terminal.

use artstore_projectors::search::SearchResult;
use artstore_projectors::search::hit::Hit;
use artstore_projectors::search::query::Search;
use artstore_runtime::count::counted;
use unicode_width::UnicodeWidthStr as _;

use crate::terminal::{cut, grouped, human, shown};

const GAP: usize = 2;

/// The whole answer.
pub fn show(asked: &Search, found: &SearchResult, width: usize) -> String {
    let mut text = String::new();
    if !found.hits.is_empty() {
        text.push_str(&table(&found.hits, width));
        text.push('\n');
    }
    text.push_str(&summary(asked, found));
    text.push('\n');
    if let Some(next) = &found.next {
        text.push_str("next page: the same with --after ");
        text.push_str(next);
        text.push('\n');
    }
    if let Some(suggestions) = &found.suggestions {
        if !suggestions.similar.is_empty() {
            text.push_str("\nsimilar names:\n");
        }
        for name in &suggestions.similar {
            text.push_str("  ");
            text.push_str(&cut(&shown(name), width - 2));
            text.push('\n');
        }
        if !suggestions.hints.is_empty() {
            text.push_str("\nother ways to ask:\n");
        }
        for hint in &suggestions.hints {
            text.push_str(&format!("  {hint}\n"));
        }
    }
    text
}

fn summary(asked: &Search, found: &SearchResult) -> String {
    let took = found.took.as_millis();
    let hits = match (found.total, found.total_exact) {
        (0, _) => "no file found".to_owned(),
        (total, true) => counted(grouped(total), "file"),
        (total, false) => format!("more than {}", counted(grouped(total), "file")),
    };
    let shown = found.hits.len() as i64;
    let page = if shown == found.total && found.total_exact {
        String::new()
    } else if asked.page.after.is_some() {
        format!(", {} more shown", grouped(shown))
    } else if shown > 0 {
        let first = i64::from(asked.page.offset) + 1;
        format!(
            ", {} to {} shown",
            grouped(first),
            grouped(first + shown - 1)
        )
    } else if found.total > 0 {
        format!(", none behind {}", grouped(asked.page.offset.into()))
    } else {
        String::new()
    };
    format!("{hits}{page} ({took} ms)")
}

struct Column {
    title: &'static str,
    /// Not cut below this.
    least: usize,
    right: bool,
    cells: Vec<String>,
}

fn table(hits: &[Hit], width: usize) -> String {
    let column = |title, least, right, cell: &dyn Fn(&Hit) -> String| Column {
        title,
        least,
        right,
        cells: hits.iter().map(|hit| shown(&cell(hit))).collect(),
    };
    let mut columns = vec![
        column("name", 24, false, &|hit| hit.filename.clone()),
        column("size", 8, true, &|hit| human(hit.file_size)),
        column("created", 10, false, &|hit| {
            hit.created_at.format("%Y-%m-%d").to_string()
        }),
        column("user", 6, false, &|hit| hit.username.clone()),
        column("element", 10, false, &|hit| hit.storage_element_id.clone()),
        column("tags", 6, false, &|hit| {
            hit.tags.as_deref().unwrap_or_default().join(" ")
        }),
    ];
    columns.retain(|column| column.cells.iter().any(|cell| !cell.is_empty()));
    let widths = widths(&columns, width);
    let mut text = String::new();
    line(&mut text, &columns, &widths, |column| {
        column.title.to_uppercase()
    });
    for row in 0..hits.len() {
        line(&mut text, &columns, &widths, |column| {
            column.cells[row].clone()
        });
    }
    text
}

/// As wide as the cells; where that is too much, the widest column gives way first.
fn widths(columns: &[Column], width: usize) -> Vec<usize> {
    let mut widths: Vec<usize> = columns
        .iter()
        .map(|column| {
            let cells = column.cells.iter().map(|cell| cell.width());
            cells.max().unwrap_or(0).max(column.title.len())
        })
        .collect();
    let gaps = GAP * columns.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > width {
        let widest = (0..columns.len())
            .filter(|index| widths[*index] > columns[*index].least)
            .max_by_key(|index| widths[*index]);
        let Some(widest) = widest else { break };
        widths[widest] -= 1;
    }
    widths
}

fn line(text: &mut String, columns: &[Column], widths: &[usize], cell: impl Fn(&Column) -> String) {
    let mut line = String::new();
    for (column, width) in columns.iter().zip(widths) {
        if !line.is_empty() {
            line.push_str(&" ".repeat(GAP));
        }
        let cell = cut(&cell(column), *width);
        let space = " ".repeat(width.saturating_sub(cell.width()));
        if column.right {
            line.push_str(&space);
            line.push_str(&cell);
        } else {
            line.push_str(&cell);
            line.push_str(&space);
        }
    }
    text.push_str(line.trim_end());
    text.push('\n');
}
