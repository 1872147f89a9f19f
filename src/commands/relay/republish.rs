//! `artstore relay republish`.

use artstore_runtime::count::counted;
use std::process::ExitCode;

use artstore_bus::bus::Bus;
use artstore_repair::mend::Decision;
use artstore_repair::republish::{self, Lack};
use artstore_schemas::source::Source;
use serde_json::{Value, json};

use super::choice::{Choice, SHOWN, ranges_json, rest, shown};
use crate::config::Config;

/// Runs the command.
pub async fn run(
    config: &Config,
    bus: &Bus,
    choice: &Choice,
    decision: Option<Decision>,
) -> anyhow::Result<ExitCode> {
    let options = choice.options(config)?;
    let mut lack = republish::examine(bus, &options).await?;
    let mut published = None;
    if let Some(decision) = decision.filter(|_| !lack.is_nothing()) {
        let done = republish::republish(bus, &options, &decision).await?;
        (lack, published) = (done.0, Some(done.1));
    }
    if choice.json {
        let report = report(&options.source, &lack, published);
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        show(&options.source, &lack, published);
    }
    Ok(ExitCode::from(u8::from(
        !lack.is_nothing() && published.is_none(),
    )))
}

fn show(source: &Source, lack: &Lack, published: Option<u64>) {
    let (scan, stream) = (&lack.scan, source.stream());
    if lack.is_nothing() {
        println!("nothing to republish: stream {stream} is whole, and has every row of {source}");
        return;
    }
    println!("source {source}, stream {stream}\n");
    println!("damaged places: {}", scan.places.len());
    for place in scan.places.iter().take(SHOWN) {
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
    rest(scan.places.len());
    println!();
    println!(
        "rows without a message that counts: {}",
        lack.rows.positions()
    );
    if !lack.listed.is_empty() {
        println!("  positions {}", shown(&lack.rows));
        println!("  {:>10}  {:36}  file", "position", "event");
        for row in lack.listed.iter().take(SHOWN) {
            let file = row.file.as_deref().unwrap_or("-");
            println!("  {:>10}  {}  {file}", row.position, row.id);
        }
        rest(lack.listed.len());
    }
    if !scan.places.is_empty() && !lack.pruned.is_empty() {
        println!(
            "pruned, without a message that counts: {}, at most: {}",
            counted(lack.pruned.positions(), "position"),
            shown(&lack.pruned)
        );
        println!(
            "  what they told can't be published again (some are of transactions that were taken back): \
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
            "put right: {} published behind the damage",
            counted(count, "message")
        ),
        None => println!(
            "Nothing was changed. Restore the stream undamaged; or, to record the damage and publish \
             these rows and files again:\n  artstore relay republish --source {source} --yes --reason \
             TEXT"
        ),
    }
}

fn report(source: &Source, lack: &Lack, published: Option<u64>) -> Value {
    json!({
        "source": source.to_string(),
        "stream": source.stream(),
        "damaged": !lack.is_nothing(),
        "published": published,
        "places": lack.scan.places,
        "rows": {
            "count": lack.rows.positions(),
            "positions": ranges_json(&lack.rows),
            "list": lack.listed,
        },
        "files": lack.scan.unclear_files,
        "pruned": {
            "count": lack.pruned.positions(),
            "positions": ranges_json(&lack.pruned),
        },
    })
}
