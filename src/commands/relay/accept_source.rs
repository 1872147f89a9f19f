//! `artstore relay accept-source`.

use artstore_runtime::count::counted;
use std::process::ExitCode;

use artstore_bus::connection::Bus;
use artstore_repair::accept::{self, Accepted, Break};
use artstore_repair::operator_command::OperatorDecision;
use artstore_schemas::source::Source;
use clap::Args;
use serde_json::{Value, json};

use super::choice::{Choice, SHOWN, ranges_json, rest, shown};
use crate::config::Config;
use crate::signals::stop_signal;

/// Which source, and whether.
#[derive(Debug, Args)]
pub struct AcceptSource {
    #[command(flatten)]
    pub(super) choice: Choice,
    /// Accept also a database that holds not one row of the stream
    #[arg(long, requires = "yes")]
    nothing_agrees: bool,
}

/// Runs the command.
pub async fn run(
    config: &Config,
    bus: &Bus,
    command: &AcceptSource,
    decision: Option<OperatorDecision>,
) -> anyhow::Result<ExitCode> {
    let choice = &command.choice;
    let options = choice.options(config)?;
    let mut found = accept::examine(bus, &options).await?;
    let mut record = None;
    if let Some(decision) = decision.filter(|_| found.is_break()) {
        let (accept, stop) = (command.nothing_agrees, stop_signal()?);
        (found, record) = accept::accept(bus, &options, &decision, accept, stop).await?;
    }
    if choice.json {
        let report = report(&options.source, &found, record);
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        show(&options.source, &found, record);
    }
    Ok(ExitCode::from(u8::from(
        found.is_break() && record.is_none(),
    )))
}

fn show(source: &Source, found: &Break, record: Option<Accepted>) {
    let scan = &found.scan;
    let stream = source.stream();
    if !found.is_break() {
        println!("nothing to accept: {source} holds every row that stream {stream} contains");
        damaged(source, found);
        return;
    }
    println!("source {source}, stream {stream}\n");
    if let (true, Some(old)) = (found.other_identity(), &scan.resume_state.identity) {
        println!("written from      {old}");
        println!("this database     {}", scan.identity);
    }
    println!("agree up to       position {}", found.high_water_mark);
    if found.behind_prune_mark {
        println!(
            "pruned up to      position {}: the stream does not have all of it, and nobody else has",
            found.prune_mark
        );
    }
    println!("position sequence {}", found.sequence_value);
    println!();
    println!(
        "in the stream, not in the source: {}",
        counted(scan.lost_count, "message")
    );
    if scan.lost_count > 0 {
        println!("  positions {}", shown(&scan.lost_positions));
        println!("  files     {}", scan.lost_files.len());
        println!(
            "  {:>10} {:>10}  {:36}  file",
            "message", "position", "event"
        );
        for lost in scan.lost.iter().take(SHOWN) {
            let file = lost.file.as_deref().unwrap_or("-");
            println!(
                "  {:>10} {:>10}  {}  {file}",
                lost.sequence, lost.position, lost.id
            );
        }
        rest(scan.lost.len());
    }
    println!();
    println!(
        "in the source, not in the stream: {}",
        counted(found.new_positions.positions(), "row")
    );
    if !found.new_rows.is_empty() {
        println!("  positions {}", shown(&found.new_positions));
        println!("  {:>10}  {:36}  file", "position", "event");
        for row in found.new_rows.iter().take(SHOWN) {
            let file = row.file.as_deref().unwrap_or("-");
            println!("  {:>10}  {}  {file}", row.position, row.id);
        }
        rest(found.new_rows.len());
    }
    println!();
    match record {
        Some(Accepted {
            sequence,
            backfilled,
        }) => {
            println!("accepted: message {sequence} begins a new epoch");
            match (backfilled, source) {
                (Some(backfilled), _) => println!(
                    "files: {} compared, {} published as they are now, {} as deleted",
                    backfilled.compared, backfilled.created, backfilled.deleted
                ),
                (None, Source::Element(_)) if !scan.damaged_ranges.is_empty() => {
                    println!("the relay compares the files when the damage is recorded")
                }
                (None, Source::Element(_)) => {
                    println!("stopped before all files were compared: the relay continues it")
                }
                (None, Source::Admin | Source::Query) => {
                    println!("the relay publishes the rows above and continues");
                }
            }
        }
        None => {
            if found.nothing_agrees() {
                println!("Not one message has its row here: is it the right database?");
            }
            println!(
                "Nothing was changed. To continue from this source, with the loss of what only the stream \
                 has:\n  artstore relay accept-source --source {source} --yes --reason TEXT{}",
                match found.nothing_agrees() {
                    true => " --nothing-agrees",
                    false => "",
                }
            );
        }
    }
    damaged(source, found);
}

/// Damage of the stream itself is another command's.
fn damaged(source: &Source, found: &Break) {
    if let Some(place) = found.scan.damaged_ranges.first() {
        println!(
            "\nThe stream is damaged as well, in {}, the first at message {}: {}. Next:\n  \
             artstore relay republish --source {source}",
            counted(found.scan.damaged_ranges.len(), "place"),
            place.first,
            place.problem
        );
    }
}

fn report(source: &Source, found: &Break, record: Option<Accepted>) -> Value {
    let scan = &found.scan;
    json!({
        "source": source.to_string(),
        "stream": source.stream(),
        "break": found.is_break(),
        "accepted": record.map(|accepted| accepted.sequence),
        "files": record.and_then(|accepted| accepted.backfilled).map(|backfilled| json!({
            "compared": backfilled.compared,
            "created": backfilled.created,
            "deleted": backfilled.deleted,
            "unchanged": backfilled.unchanged,
        })),
        "identity": {"stream": scan.resume_state.identity, "source": scan.identity},
        "sequence": found.sequence_value,
        "damaged": !scan.damaged_ranges.is_empty(),
        "pruned_up_to": found.prune_mark,
        "lacks_pruned": found.behind_prune_mark,
        "high_water_mark": found.high_water_mark,
        "gaps": ranges_json(&found.gaps),
        "lost": {
            "messages": scan.lost_count,
            "positions": ranges_json(&scan.lost_positions),
            "files": scan.lost_files,
            "list": scan.lost,
        },
        "new": {
            "rows": found.new_positions.positions(),
            "positions": ranges_json(&found.new_positions),
            "list": found.new_rows,
        },
    })
}
