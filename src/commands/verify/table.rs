//! The result for people: a line for each source, then what does not agree, then the verdict.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::verify::cache::{self, checkpoints};
use crate::verify::finding::{Finding, Kind};
use crate::verify::source::Report;

/// How many findings of a kind are listed.
const LISTED: usize = 20;

/// How many commands that mend one row each are listed.
const FEW: usize = 3;

/// The whole text.
pub(super) fn show(reports: &[Report], cache: Option<&cache::Report>) -> String {
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
    if let Some(cache) = cache {
        push(
            &mut text,
            format_args!(
                "\nquery cache: {} rows of {} files, {} searches and downloads; {} looked at one by \
                 one, {} in flight\n",
                cache.rows, cache.files, cache.events, cache.candidates, cache.in_flight
            ),
        );
    }
    for report in reports.iter().filter(|report| report.pruned > 0) {
        push(
            &mut text,
            format_args!(
                "\n{}: {} of the messages tell of operations that were pruned since\n",
                report.source, report.pruned
            ),
        );
    }
    for report in reports {
        findings(&mut text, &report.source, &report.findings, &report.counts);
    }
    let mut cache_counts: BTreeMap<Kind, u64> = BTreeMap::new();
    if let Some(cache) = cache {
        for finding in &cache.findings {
            *cache_counts.entry(finding.kind).or_default() += 1;
        }
        findings(&mut text, "query cache", &cache.findings, &cache_counts);
        if cache.truncated {
            text += "\nquery cache: so much differs that the rest was not looked at: mend these, \
                     then verify again\n";
        }
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
    let counts = reports.iter().flat_map(|r| r.counts.values());
    let all: u64 = counts.chain(cache_counts.values()).sum();
    let in_flight: i64 = reports.iter().map(|report| report.in_flight).sum();
    let truncated = cache.is_some_and(|cache| cache.truncated);
    let waiting = in_flight > 0 || cache.is_some_and(|cache| cache.in_flight > 0);
    match all {
        0 if truncated => {
            text += "\nMore has to be looked at than fits into one check: verify again.\n";
        }
        0 if waiting => text += "\nWhat could be judged agrees; the rest is in flight.\n",
        0 if cache.is_none() => text += "\nSources and streams agree.\n",
        0 => text += "\nSources, streams and query cache agree.\n",
        1 => text += "\n1 finding.\n",
        all => push(&mut text, format_args!("\n{all} findings.\n")),
    }
    text
}

fn findings(text: &mut String, of: &str, found: &[Finding], counts: &BTreeMap<Kind, u64>) {
    let mut kinds: BTreeMap<Kind, Vec<&Finding>> = BTreeMap::new();
    for finding in found {
        kinds.entry(finding.kind).or_default().push(finding);
    }
    for (kind, count) in counts {
        push(text, format_args!("\n{of}: {count} {kind}\n"));
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
        // One for each file would be a page of them.
        let many =
            mends.len() > FEW && mends.iter().all(|mend| mend.starts_with(checkpoints::MEND));
        if many {
            push(
                text,
                format_args!(
                    "  mend: artstore verify --json > report.json; {} --from report.json\n",
                    checkpoints::MEND
                ),
            );
            continue;
        }
        for mend in mends {
            push(text, format_args!("  mend: {mend}\n"));
        }
    }
}

fn line(finding: &Finding) -> String {
    let mut parts = Vec::new();
    parts.extend(finding.sequence.map(|s| format!("message {s}")));
    parts.extend(finding.position.map(|p| format!("position {p}")));
    let of_cache = matches!(
        finding.kind,
        Kind::RowMissing | Kind::RowExtra | Kind::RowDifferent
    );
    let what = if of_cache { "row" } else { "event" };
    parts.extend(finding.id.map(|id| format!("{what} {id}")));
    format!("{}: {}", parts.join(", "), finding.detail)
}

fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("a string takes everything");
}
