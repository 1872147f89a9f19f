//! The result for people: what does not continue by itself, a line for each source, then the differences,
//! then the verdict, and the one command to continue with.

use artstore_runtime::count::{by, counted};
use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::idle::Note;
use crate::status::lines::age;
use artstore_verification::cache::{self, checkpoints};
use artstore_verification::finding::{Finding, Kind};
use artstore_verification::source::Report;

/// How many findings of a kind are listed.
const LISTED: usize = 20;

/// How many commands of one kind are listed.
const FEW: usize = 3;

/// What is repaired first: each is right only when those before it were done.
const ORDER: [&str; 8] = [
    "wal number",
    "relay accept-source",
    "relay republish",
    "run relay",
    "element backfill",
    "run projector",
    "projection repair",
    "parked",
];

/// Who does not continue: what waits for them is not waited for.
pub(super) fn notes(notes: &[Note]) -> String {
    let mut text = String::new();
    for note in notes {
        push(
            &mut text,
            format_args!("{}: {} ({})\n", note.about, note.what, note.command),
        );
    }
    if !notes.is_empty() {
        text.push('\n');
    }
    text
}

/// The one command to continue with; none where nothing has to be done.
pub(super) fn next(reports: &[Report], cache: Option<&cache::Report>) -> Option<String> {
    let of_cache = cache.iter().flat_map(|cache| &cache.findings);
    let of_sources = reports.iter().flat_map(|report| &report.findings);
    let commands = of_sources
        .chain(of_cache)
        .map(|finding| finding.repair.as_str());
    let rank = |command: &&str| {
        let words = command.strip_prefix("artstore ").unwrap_or(command);
        let known = ORDER.iter().position(|first| words.starts_with(first));
        known.unwrap_or(ORDER.len())
    };
    if let Some(first) = commands
        .clone()
        .filter(|c| c.starts_with("artstore "))
        .min_by_key(rank)
    {
        let of_kind = |command: &&str| rank(command) == rank(&first);
        let of_kind: Vec<&str> = commands.filter(of_kind).collect();
        return grouped(of_kind, 1).into_iter().next();
    }
    let left_behind = |(_, pending): &(_, &cache::PendingFiles)| pending.left_behind > 0;
    let mut pending = cache.iter().flat_map(|cache| &cache.pending);
    pending
        .any(|found| left_behind(&found))
        .then(|| "artstore wal pending".to_owned())
}

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
                "\nquery cache: {} of {}, {} of searches and downloads; {} looked at one by \
                 one, {} in flight\n",
                counted(cache.rows, "row"),
                counted(cache.files, "file"),
                counted(cache.events, "event"),
                cache.candidates,
                cache.in_flight
            ),
        );
        for (element, pending) in &cache.pending {
            let (files, are) = match pending.files {
                1 => ("1 file differs".to_owned(), "an operation that is"),
                files => (format!("{files} files differ"), "operations that are"),
            };
            push(
                &mut text,
                format_args!(
                    "{element}: {files} because of {are} pending, the oldest for {}: \
                     artstore wal pending\n",
                    age(pending.oldest_seconds as f64)
                ),
            );
        }
    }
    for report in reports.iter().filter(|report| report.pruned > 0) {
        push(
            &mut text,
            format_args!(
                "\n{}: {} of operations that were pruned since\n",
                report.source,
                counted(report.pruned, "message")
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
            text += "\nquery cache: so much differs that the rest was not looked at: repair these, \
                     then verify again\n";
        }
    }
    for report in reports.iter().filter(|report| report.order_unchecked > 0) {
        push(
            &mut text,
            format_args!(
                "\n{}: {} came so long after the others that it could not be said whether the order \
                 of their files is right\n",
                report.source,
                counted(report.order_unchecked, "message")
            ),
        );
    }
    let counts = reports.iter().flat_map(|r| r.counts.values());
    let all: u64 = counts.chain(cache_counts.values()).sum();
    let in_flight: i64 = reports.iter().map(|report| report.in_flight).sum();
    let truncated = cache.is_some_and(|cache| cache.truncated);
    let waiting = in_flight > 0 || cache.is_some_and(|cache| cache.in_flight > 0);
    let pending = || cache.iter().flat_map(|cache| cache.pending.values());
    let files: u64 = pending().map(|pending| pending.files).sum();
    let left_behind: u64 = pending().map(|pending| pending.left_behind).sum();
    match all {
        0 if truncated => {
            text += "\nMore has to be looked at than fits into one check: verify again.\n";
        }
        0 if left_behind > 0 => push(
            &mut text,
            format_args!(
                "\nNOT ALL AGREES: {left_behind} of {} with pending operations {} for one that was \
                 left behind.\n",
                counted(files, "file"),
                by(left_behind, "waits", "wait")
            ),
        ),
        0 if files > 0 => push(
            &mut text,
            format_args!(
                "\nWhat could be judged agrees; files with pending operations: {files}; the rest is \
                 in flight.\n"
            ),
        ),
        0 if waiting => text += "\nWhat could be judged agrees; the rest is in flight.\n",
        0 if cache.is_none() => text += "\nSources and streams agree.\n",
        0 => text += "\nSources, streams and query cache agree.\n",
        all => push(&mut text, format_args!("\n{}.\n", counted(all, "finding"))),
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
        for repair in grouped(listed.iter().map(|f| f.repair.as_str()).collect(), FEW) {
            push(text, format_args!("  repair: {repair}\n"));
        }
    }
}

/// Each command once, and at most `few` of them; of many that differ only in a file, the one that does
/// the same for all.
fn grouped(mut commands: Vec<&str>, few: usize) -> Vec<String> {
    commands.sort_unstable();
    commands.dedup();
    let of_files = |command: &&str| command.starts_with(checkpoints::REPAIR);
    let many = commands.iter().copied().filter(of_files).count() > few;
    let mut lines: Vec<String> = commands
        .iter()
        .filter(|command| !(many && of_files(command)))
        .map(|command| (*command).to_owned())
        .collect();
    if lines.len() > few {
        let more = lines.len() - few;
        lines.truncate(few);
        lines[few - 1] += &format!(" (and {more} more, which --json lists)");
    }
    if many {
        lines.push(format!(
            "artstore verify --json > report.json; {} --from report.json",
            checkpoints::REPAIR
        ));
    }
    lines
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
