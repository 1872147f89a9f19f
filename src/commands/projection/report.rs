//! The differences that a comparison found, for people.

use std::fmt::Write as _;

use artstore_projectors::rebuild::compare::{Change, Comparison, Difference};
use artstore_projectors::rebuild::swap::Swapped;
use serde_json::{Value, json};

/// So many differences are shown; JSON has more.
const SHOWN: usize = 20;

/// Longer values are cut.
const LONGEST: usize = 60;

/// The comparison, table by table, and the first differences.
pub(super) fn text(comparison: &Comparison) -> String {
    let mut text = format!(
        "{:<24}{:>12}{:>9}{:>9}{:>9}{:>12}\n",
        "TABLE", "LIVE ROWS", "ADDED", "REMOVED", "CHANGED", "PRODUCT'S"
    );
    let mut left_out = Vec::new();
    for table in &comparison.tables {
        let _ = writeln!(
            text,
            "{:<24}{:>12}{:>9}{:>9}{:>9}{:>12}",
            table.table, table.rows, table.added, table.removed, table.changed, table.product_rows
        );
        left_out.extend(
            table
                .left_out
                .iter()
                .map(|column| format!("{}.{column}", table.table)),
        );
    }
    if !left_out.is_empty() {
        let _ = writeln!(
            text,
            "Not compared, as these can't be equal: {}",
            left_out.join(", ")
        );
    }
    if comparison.tables.iter().any(|table| table.product_rows > 0) {
        text.push_str("Rows of the product's own services (no event) stay as they are.\n");
    }
    if comparison.is_equal() {
        return text;
    }
    text.push('\n');
    for difference in comparison.differences.iter().take(SHOWN) {
        text += &one(difference);
    }
    let more = comparison.count().saturating_sub(SHOWN as u64);
    if more > 0 {
        let _ = writeln!(text, "and {more} more (--json shows up to 10000)");
    }
    let parked = comparison.parked();
    if parked > 0 {
        let _ = writeln!(
            text,
            "{parked} of these are explained by parked events: see artstore parked list"
        );
    }
    text
}

fn one(difference: &Difference) -> String {
    let change = match (difference.change, difference.deleted) {
        (Change::Added, _) => "added: the live table does not have it",
        (Change::Removed, true) => "removed: its last event deletes it",
        (Change::Removed, false) => "removed: no event is about it",
        (Change::Changed, _) => "changed",
    };
    let parked = match difference.parked {
        true => " (explained by parked events)",
        false => "",
    };
    let mut text = format!(
        "{} {}: {change}{parked}\n",
        difference.table, difference.key
    );
    for (field, (live, rebuilt)) in &difference.fields {
        let _ = writeln!(text, "    {field}: {} -> {}", short(live), short(rebuilt));
    }
    let event = &difference.event;
    let place = match (&event.stream, event.sequence) {
        (Some(stream), Some(sequence)) => format!("{stream} {sequence}"),
        _ => String::new(),
    };
    let id = event
        .id
        .map_or_else(String::new, |id| format!("event {id}"));
    let said = [place, id];
    let said: Vec<&str> = said
        .iter()
        .map(String::as_str)
        .filter(|s| !s.is_empty())
        .collect();
    if !said.is_empty() {
        let _ = writeln!(text, "    last touched by {}", said.join(", "));
    }
    text
}

fn short(value: &Value) -> String {
    let text = match value {
        Value::Null => "NULL".to_owned(),
        Value::String(text) => format!("{text:?}"),
        other => other.to_string(),
    };
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Up to where each stream was applied.
pub(super) fn streams(swapped: &Swapped) -> Value {
    let streams = swapped.streams.iter();
    streams
        .map(|(stream, sequence)| (stream.clone(), json!(sequence)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}
