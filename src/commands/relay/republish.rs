//! `artstore relay republish`.

use artstore_runtime::count::counted;
use std::process::ExitCode;

use artstore_bus::connection::Bus;
use artstore_repair::operator_command::OperatorDecision;
use artstore_repair::republish::{self, RepublishPlan};
use artstore_schemas::source::Source;
use serde_json::{Value, json};

use super::choice::{Choice, SHOWN, ranges_json, rest, shown};
use crate::config::Config;

/// Runs the command.
pub async fn run(
    config: &Config,
    bus: &Bus,
    choice: &Choice,
    decision: Option<OperatorDecision>,
) -> anyhow::Result<ExitCode> {
    let options = choice.options(config)?;
    let mut plan = republish::examine(bus, &options).await?;
    let mut published = None;
    if let Some(decision) = decision.filter(|_| !plan.is_nothing()) {
        let done = republish::republish(bus, &options, &decision).await?;
        (plan, published) = (done.0, Some(done.1));
    }
    if choice.json {
        let report = report(&options.source, &plan, published);
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        show(&options.source, &plan, published);
    }
    Ok(ExitCode::from(u8::from(
        !plan.is_nothing() && published.is_none(),
    )))
}

fn show(source: &Source, plan: &RepublishPlan, published: Option<u64>) {
    let (scan, stream) = (&plan.scan, source.stream());
    if plan.is_nothing() {
        println!(
            "nothing to republish: stream {stream} is whole, and has every row of {source}. If a \
             projection has halted at it, its checkpoint is wrong: `artstore projection repair \
             query-cache`, `artstore audit accept-stream --stream {stream} --reason REASON`, or \
             `artstore projection rebuild element-registry`"
        );
        return;
    }
    println!("source {source}, stream {stream}\n");
    println!("damaged ranges: {}", scan.damaged_ranges.len());
    for place in scan.damaged_ranges.iter().take(SHOWN) {
        let where_ = match place.first == place.last {
            true => format!("message {}", place.first),
            false => format!("messages {} to {}", place.first, place.last),
        };
        println!("  {where_}: {}", place.problem);
        if let Some(id) = place.id {
            println!(
                "    event {id}, file {}",
                place.file.as_deref().unwrap_or("-")
            );
        }
    }
    rest(scan.damaged_ranges.len());
    println!();
    println!(
        "rows without a message that counts: {}",
        plan.rows.positions()
    );
    if !plan.listed.is_empty() {
        println!("  positions {}", shown(&plan.rows));
        println!("  {:>10}  {:36}  file", "position", "event");
        for row in plan.listed.iter().take(SHOWN) {
            let file = row.file.as_deref().unwrap_or("-");
            println!("  {:>10}  {}  {file}", row.position, row.id);
        }
        rest(plan.listed.len());
    }
    if !scan.damaged_ranges.is_empty() && !plan.pruned.is_empty() {
        println!(
            "pruned, without a message that counts: {}, at most: {}",
            counted(plan.pruned.positions(), "position"),
            shown(&plan.pruned)
        );
        println!(
            "  what they contained can't be published again (some are aborted positions): \
             rather restore the stream"
        );
    }
    println!(
        "files of which only damaged messages speak: {}",
        scan.unclear_files.len()
    );
    println!();
    match published {
        Some(count) => println!(
            "repaired: {} published behind the damage",
            counted(count, "message")
        ),
        None => println!(
            "Nothing was changed. Restore the stream undamaged; or, to record the damage and publish \
             these rows and files again:\n  artstore relay republish --source {source} --yes --reason \
             TEXT"
        ),
    }
}

fn report(source: &Source, plan: &RepublishPlan, published: Option<u64>) -> Value {
    json!({
        "source": source.to_string(),
        "stream": source.stream(),
        "damaged": !plan.is_nothing(),
        "published": published,
        "damaged_ranges": plan.scan.damaged_ranges,
        "rows": {
            "count": plan.rows.positions(),
            "positions": ranges_json(&plan.rows),
            "list": plan.listed,
        },
        "files": plan.scan.unclear_files,
        "pruned": {
            "count": plan.pruned.positions(),
            "positions": ranges_json(&plan.pruned),
        },
    })
}
