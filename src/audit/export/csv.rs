//! A table for people: RFC 4180, with a header line.
//!
//! A spreadsheet takes a cell that begins like a formula for one. Such a cell, and one that begins
//! with an apostrophe, gets an apostrophe in front; removing it restores the value.

use artstore_projectors::audit_log::store::Stored;
use serde_json::Value;

use super::super::select::checked;
use artstore_verification::audit::shown::Verdict;

/// The columns, in their order.
pub const COLUMNS: [&str; 26] = [
    "id",
    "created_at",
    "event_type",
    "severity",
    "success",
    "action",
    "actor_type",
    "actor_id",
    "actor_name",
    "actor_role",
    "resource_type",
    "resource_id",
    "ip_address",
    "user_agent",
    "request_id",
    "session_id",
    "error_message",
    "data",
    "event_id",
    "stream",
    "sequence",
    "mapping",
    "format",
    "kid",
    "hmac_signature",
    "not_as_signed",
];

/// The names.
pub fn header() -> Vec<u8> {
    record(COLUMNS.iter().map(|name| (*name).to_owned()))
}

/// A row; null and the empty text are both an empty cell.
pub fn line(stored: &Stored, verdict: &Verdict) -> Vec<u8> {
    let object = checked(stored, verdict);
    record(COLUMNS.iter().map(|name| match &object[name] {
        Value::Null => String::new(),
        Value::String(text) => harmless(text),
        other => harmless(&other.to_string()),
    }))
}

fn record(cells: impl Iterator<Item = String>) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    let written = writer.write_record(cells);
    written.expect("a line in memory takes what is written");
    writer.into_inner().expect("nothing is left to be flushed")
}

/// Text that no spreadsheet takes for a formula; the wide forms are those of East Asian keyboards.
fn harmless(text: &str) -> String {
    let formula = text.starts_with([
        '=', '+', '-', '@', '\t', '\r', '\n', '\'', '＝', '＋', '－', '＠',
    ]);
    if formula {
        format!("'{text}")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_cell_is_a_formula_and_none_is_lost(text in "[=+@\\-'\t\r\n\",a＝]{0,6}") {
            let cell = harmless(&text);
            prop_assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝']));
            let back = cell.strip_prefix('\'').unwrap_or(&cell);
            prop_assert_eq!(back, &text);
            let line = record([cell.clone(), String::new()].into_iter());
            let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(line.as_slice());
            let read: Vec<String> = reader.records().next().expect("a line").expect("CSV")
                .iter().map(str::to_owned).collect();
            prop_assert_eq!(read, [cell, String::new()]);
        }
    }
}
