//! `artstore bench`: relay drain, live projection, latency and the audit log, each beside its raw limit in the
//! same run, in alternating rounds. Ratios are what counts: the times are this machine's, now.

mod audit;
mod drain;
mod latency;
mod projection;

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

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

/// One measurement beside its limit.
#[derive(Debug, Serialize)]
struct Line {
    what: &'static str,
    unit: &'static str,
    ours: f64,
    raw: f64,
    /// Ours as a part of the limit for rates, as a multiple of it for times.
    ratio: f64,
    limit: &'static str,
}

impl Line {
    /// The median of each side's rounds.
    fn of(
        what: &'static str,
        unit: &'static str,
        limit: &'static str,
        rounds: Vec<(f64, f64)>,
    ) -> Self {
        let (ours, raw): (Vec<f64>, Vec<f64>) = rounds.into_iter().unzip();
        let (ours, raw) = (median(ours), median(raw));
        Self {
            what,
            unit,
            ours,
            raw,
            ratio: ours / raw,
            limit,
        }
    }
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

impl Line {
    fn digits(&self) -> usize {
        usize::from(self.unit == "ms")
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
