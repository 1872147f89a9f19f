//! `artstore version`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

/// How it is shown.
#[derive(Debug, Args)]
pub struct Version {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(command: &Version) -> anyhow::Result<ExitCode> {
    let version = env!("CARGO_PKG_VERSION");
    match command.json {
        true => println!("{}", json!({"version": version})),
        false => println!("artstore {version}"),
    }
    Ok(ExitCode::SUCCESS)
}
