//! `artstore bus restore`: streams that were lost, from a backup.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use artstore_schemas::bus::{AUDIT_HEADS, Bus};
use clap::Args;
use serde_json::{Value, json};

use super::backup::checked;
use super::progress::Bar;
use crate::bus_backup::restore::{self, Restored, Stage};
use crate::bus_backup::{Manifest, StreamBackup};
use crate::config::{Config, ConfigError};
use crate::names;

/// What is restored, and where from.
#[derive(Debug, Args)]
pub struct Restore {
    /// The folder of a backup; it is checked first
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Only these streams, by their names or their sources'; without it, all of the backup. One that
    /// exists is refused, and then nothing is restored
    #[arg(long, value_name = "STREAM", value_parser = stream)]
    stream: Vec<String>,
    /// How many servers keep each message, in place of the number in the backup
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=5))]
    replicas: Option<u8>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn stream(name: &str) -> Result<String, artstore_schemas::element::InvalidElementName> {
    match name {
        AUDIT_HEADS => Ok(name.to_owned()),
        name => names::stream(name),
    }
}

/// Runs the command.
pub(super) async fn run(config: &Config, command: &Restore) -> anyhow::Result<ExitCode> {
    let is_wanted = |backup: &StreamBackup| {
        command.stream.is_empty() || command.stream.contains(&backup.stream)
    };
    let manifest = checked(&command.folder, is_wanted, command.json)?;
    refuse_unknown(command, &manifest)?;
    let wanted: Vec<StreamBackup> = manifest.streams.into_iter().filter(is_wanted).collect();
    let bus = Bus::connect(&config.bus("artstore bus restore"))
        .await?
        .patient();
    let existing = restore::existing(&bus, &wanted).await?;
    if let Some(first) = existing.first() {
        bail!("{}", refusal(command, &wanted, first, &existing));
    }
    let mut report = Vec::new();
    let mut clean = true;
    for backup in &wanted {
        let mut bar = Bar::new(command.json);
        let replicas = command.replicas.map(usize::from);
        let restoring = restore::restore(&bus, &command.folder, backup, replicas, |stage, at| {
            let (what, of) = match stage {
                Stage::Send => ("send", backup.bytes),
                Stage::Make => ("the server makes", backup.bytes),
                Stage::Read => ("read", backup.last_sequence),
            };
            bar.part(what, &backup.stream, at, of);
        });
        let restored = restoring.await.with_context(|| {
            let before = wanted.iter().take_while(|b| b.stream != backup.stream);
            match names::listed(before.map(|backup| &backup.stream)) {
                None => "the first stream was not restored".to_owned(),
                Some(done) => format!("restored is {done}, and no other stream"),
            }
        })?;
        bar.finish();
        clean &= restored.flaws == 0;
        if command.json {
            report.push(as_json(backup, &restored));
        } else {
            show(backup, &restored);
        }
    }
    if command.json {
        let report = json!({"taken_at": manifest.started_at, "streams": report});
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("What comes next: start relays and projectors, then `artstore status`");
    }
    Ok(ExitCode::from(u8::from(!clean)))
}

fn refuse_unknown(command: &Restore, manifest: &Manifest) -> Result<(), ConfigError> {
    let known = |stream: &&String| manifest.streams.iter().any(|b| b.stream == **stream);
    let Some(unknown) = command.stream.iter().find(|stream| !known(stream)) else {
        return Ok(());
    };
    let has = names::listed(manifest.streams.iter().map(|b| &b.stream));
    Err(ConfigError(format!(
        "--stream {unknown}: the backup does not have it; it has: {}",
        has.unwrap_or_else(|| "none".to_owned())
    )))
}

/// Why nothing is restored, and what to do.
fn refusal(
    command: &Restore,
    wanted: &[StreamBackup],
    first: &StreamBackup,
    existing: &[&StreamBackup],
) -> String {
    let is_there = |backup: &&StreamBackup| existing.iter().any(|b| b.stream == backup.stream);
    let missing: Vec<&StreamBackup> = wanted.iter().filter(|b| !is_there(b)).collect();
    let names = names::listed(existing.iter().map(|backup| &backup.stream)).unwrap_or_default();
    let others = match missing.is_empty() {
        true => String::new(),
        false => {
            let folder = command.folder.display();
            let streams: String = missing
                .iter()
                .map(|backup| format!(" --stream {}", backup.stream))
                .collect();
            format!(" To restore what is missing: artstore bus restore {folder}{streams}")
        }
    };
    format!(
        "on the bus there is already {names}: nothing was restored, because a restore replaces nothing. \
         `artstore verify` shows whether it is whole. Where it is not worth keeping, stop relays and \
         projectors, and remove it with a tool of the server (nats stream rm {}), then try again.{others}",
        first.stream
    )
}

fn show(backup: &StreamBackup, restored: &Restored) {
    let stream = &backup.stream;
    println!(
        "{stream}: restored up to message {}, as it was at {}",
        restored.last_sequence,
        backup.taken_at.format("%F %T UTC")
    );
    if restored.beyond > 0 {
        println!(
            "  {} messages came while the backup was taken",
            restored.beyond
        );
    }
    if !restored.is_same {
        println!(
            "  the server says another time at which it was made: projectors halt, and say what to do"
        );
    }
    if let (Some(flaw), Some(source)) = (&restored.first_flaw, backup.source()) {
        println!(
            "  it has {} places that are not as they should be, which were there before the backup: \
             {flaw}; all of them: {}",
            restored.flaws,
            restore::verify(&source)
        );
    }
}

fn as_json(backup: &StreamBackup, restored: &Restored) -> Value {
    json!({
        "stream": backup.stream,
        "last_sequence": restored.last_sequence,
        "beyond": restored.beyond,
        "created_kept": restored.is_same,
        "flaws": restored.flaws,
        "first_flaw": restored.first_flaw,
    })
}
