//! `artstore bus init`: the streams of all configured sources, and the one of signed audit heads.

use std::process::ExitCode;

use artstore_schemas::bus::{Bus, StreamChange, StreamName};
use artstore_schemas::source::Source;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::config::Config;

/// What to do with the bus.
#[derive(Debug, Subcommand)]
pub enum BusCommand {
    /// Make the streams; calling it again changes nothing, and nothing that would lose data is done
    Init(Init),
}

/// How the streams are made.
#[derive(Debug, Args)]
pub struct Init {
    /// How many servers keep each message
    #[arg(long, env = "ARTSTORE_REPLICAS", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=5))]
    replicas: u8,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub async fn run(config: &Config, command: BusCommand) -> anyhow::Result<ExitCode> {
    let BusCommand::Init(init) = command;
    let streams: Vec<StreamName> = config
        .named_elements()?
        .into_iter()
        .map(Source::Element)
        .chain([Source::Admin, Source::Query])
        .map(|source| StreamName::of(&source))
        .chain([StreamName::audit_heads()])
        .collect();
    let bus = Bus::connect(&config.bus("artstore bus init")).await?;
    bus.check_streams(&streams, init.replicas.into()).await?;
    let mut report = Vec::new();
    for stream in &streams {
        let change = bus.ensure(stream, init.replicas.into()).await?;
        let change = match change {
            StreamChange::Created => "created",
            StreamChange::Updated => "updated",
            StreamChange::Unchanged => "unchanged",
        };
        if init.json {
            report.push(json!({"stream": stream.as_str(), "change": change}));
        } else {
            println!("{:<48} {change}", stream.as_str());
        }
    }
    if init.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    Ok(ExitCode::SUCCESS)
}
