//! The result for people: a line for each source, then what does not agree, then the verdict.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::verify::finding::{Finding, Kind};
use crate::verify::source::Report;

/// How many findings of a kind are listed.
const LISTED: usize = 20;

/// The whole text.
pub(super) fn show(reports: &[Report]) -> String {
    let mut text = String::new();
    let head = [
        "SOURCE",
        "ROWS",
        "MESSAGES",
        "PROVEN UP TO",
        "IN FLIGHT",
        "FINDINGS",
    ];
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(reports.iter().map(|report| {
        [
            report.source.clone(),
            report.rows.to_string(),
            report.messages.to_string(),
            report.proven.to_string(),
            report.in_flight.to_string(),
            report.counts.values().sum::<u64>().to_string(),
        ]
    }));
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            lines
                .iter()
                .map(|line| line[column].len())
                .max()
                .unwrap_or(0)
        })
        .collect();
    for line in &lines {
        let mut shown = format!("{:<width$}", line[0], width = widths[0]);
        for (cell, width) in line.iter().zip(&widths).skip(1) {
            shown += &format!("  {cell:>width$}");
        }
        text += shown.trim_end();
        text.push('\n');
    }
    for report in reports {
        findings(&mut text, report);
    }
    for report in reports.iter().filter(|report| report.order_unchecked > 0) {
        push(
            &mut text,
            format_args!(
                "\n{}: of {} messages it could not be said whether they stand in their file's \
                 order: they came too long after the others\n",
                report.source, report.order_unchecked
            ),
        );
    }
    let all: u64 = reports.iter().flat_map(|r| r.counts.values()).sum();
    match all {
        0 => text += "\nAll agree.\n",
        1 => text += "\n1 finding.\n",
        all => push(&mut text, format_args!("\n{all} findings.\n")),
    }
    text
}

fn findings(text: &mut String, report: &Report) {
    let mut kinds: BTreeMap<Kind, Vec<&Finding>> = BTreeMap::new();
    for finding in &report.findings {
        kinds.entry(finding.kind).or_default().push(finding);
    }
    for (kind, count) in &report.counts {
        push(text, format_args!("\n{}: {count} {kind}\n", report.source));
        let listed = kinds.remove(kind).unwrap_or_default();
        for finding in listed.iter().take(LISTED) {
            push(text, format_args!("  {}\n", line(finding)));
        }
        let more = count.saturating_sub(listed.len().min(LISTED) as u64);
        if more > 0 {
            push(
                text,
                format_args!("  and {more} more (--json lists them)\n"),
            );
        }
        let mut mends: Vec<&str> = listed.iter().map(|f| f.mend.as_str()).collect();
        mends.sort_unstable();
        mends.dedup();
        for mend in mends {
            push(text, format_args!("  mend: {mend}\n"));
        }
    }
}

fn line(finding: &Finding) -> String {
    let mut parts = Vec::new();
    parts.extend(finding.sequence.map(|s| format!("message {s}")));
    parts.extend(finding.position.map(|p| format!("position {p}")));
    parts.extend(finding.id.map(|id| format!("event {id}")));
    format!("{}: {}", parts.join(", "), finding.detail)
}

fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("a string takes everything");
}
