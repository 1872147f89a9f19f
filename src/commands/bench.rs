//! `artstore bench`: relay drain, live projection, latency and the audit log, each beside its raw limit in the
//! same run, in alternating rounds. Only the ratios matter: the times are those of this machine, now.

mod audit;
mod drain;
mod latency;
mod line;
mod projection;

use std::process::ExitCode;

use clap::Args;

use crate::system::System;
use artstore_stack::StackOptions;

/// How much is measured.
#[derive(Debug, Args)]
pub struct Bench {
    /// How many events a round has
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1_000..=1_000_000))]
    events: u32,
    /// How many rounds there are; the median is shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub async fn run(command: Bench) -> anyhow::Result<ExitCode> {
    let system = System::start(StackOptions::default(), 1).await?;
    drain::fill(&system, command.events).await?;
    let drained = drain::measure(&system, command.events, command.rounds).await?;
    let projected = projection::measure(&system, command.events, command.rounds).await?;
    // Before the latency's events are in the stream.
    let [written, verified] = audit::measure(&system, command.events, command.rounds).await?;
    let seen = latency::measure(&system, command.rounds).await?;
    let lines = [drained, projected, seen, written, verified];
    system.stop().await?;
    if command.json {
        println!("{}", serde_json::to_string(&lines)?);
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{:<17} {:>12} {:>12} {:>7}  raw limit",
        "", "ours", "raw", "ratio"
    );
    for line in lines {
        println!(
            "{:<17} {:>12} {:>12} {:>7.2}  {}",
            line.what,
            format!("{:.*} {}", line.digits(), line.ours, line.unit),
            format!("{:.*} {}", line.digits(), line.raw, line.unit),
            line.ratio,
            line.limit
        );
    }
    Ok(ExitCode::SUCCESS)
}
