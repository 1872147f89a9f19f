//! `artstore bus restore`: streams that were lost, from a backup.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use artstore_bus::accounts::role::Role;
use artstore_bus::connection::Bus;
use artstore_bus::stream_name::AUDIT_HEADS;
use artstore_runtime::count::{by, counted};
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
    let bus = Bus::connect(&config.bus(Role::Operator, "artstore bus restore")?)
        .await?
        .patient();
    let existing = restore::existing(&bus, &wanted).await?;
    if let Some(first) = existing.first() {
        bail!("{}", refusal(command, &wanted, first, &existing));
    }
    let mut report = Vec::new();
    let mut clean = true;
    for (number, backup) in wanted.iter().enumerate() {
        let mut bar = Bar::new(command.json);
        let replicas = command.replicas.map(usize::from);
        let mut is_made = false;
        let sender = sender(config, &bus, &backup.stream).await?;
        let restoring = restore::restore(
            &bus,
            &sender,
            &command.folder,
            backup,
            replicas,
            |stage, at| {
                is_made |= stage == Stage::Read;
                let (what, of) = match stage {
                    Stage::Send => ("send", backup.bytes),
                    Stage::Make => ("the server makes", backup.bytes),
                    Stage::Read => ("read", backup.last_sequence),
                };
                bar.part(what, &backup.stream, at, of);
            },
        );
        let restored = restoring
            .await
            .map_err(|error| ended(command, &wanted, number, is_made, &error))?;
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

/// The connection that may send a stream's chunks: with a key of its own where there is one.
async fn sender(config: &Config, bus: &Bus, stream: &str) -> anyhow::Result<Bus> {
    let Some(role) = Role::restoring(stream) else {
        return Ok(bus.clone());
    };
    let options = config.bus(role, "artstore bus restore (chunks)")?;
    match options.is_of_role()? {
        true => Ok(Bus::connect(&options).await?.patient()),
        false => Ok(bus.clone()),
    }
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
    let refusal = restore::not_replaced(&names, &first.stream);
    format!("{refusal}{}", for_missing(command, missing))
}

/// The command for streams that are missing; nothing where none is.
fn for_missing<'a>(
    command: &Restore,
    missing: impl IntoIterator<Item = &'a StreamBackup>,
) -> String {
    let streams: String = missing
        .into_iter()
        .map(|backup| format!(" --stream {}", backup.stream))
        .collect();
    if streams.is_empty() {
        return streams;
    }
    let folder = command.folder.display();
    let replicas = match command.replicas {
        Some(replicas) => format!(" --replicas {replicas}"),
        None => String::new(),
    };
    format!(" To restore what is missing: artstore bus restore {folder}{streams}{replicas}")
}

/// How far it came before an error with the stream of this number, and what to do.
fn ended(
    command: &Restore,
    wanted: &[StreamBackup],
    number: usize,
    is_made: bool,
    error: &anyhow::Error,
) -> anyhow::Error {
    let before = match names::listed(wanted[..number].iter().map(|backup| &backup.stream)) {
        Some(before) => format!("restored: {before}; "),
        None => String::new(),
    };
    let stream = &wanted[number].stream;
    let (what, missing) = match is_made {
        true => (
            "was made, but could not be checked or is not whole",
            &wanted[number + 1..],
        ),
        false => ("was not restored", &wanted[number..]),
    };
    let advice = for_missing(command, missing);
    anyhow!("{before}stream {stream} {what}: {error:#}.{advice}")
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
            "  {} came while the backup was taken",
            counted(restored.beyond, "message")
        );
    }
    if restored.returned > 0 {
        println!(
            "  {} came back that the stream had lost before the backup, as by a limit",
            counted(restored.returned, "message")
        );
    }
    if !restored.is_same {
        println!(
            "  the server says another time at which it was made: projectors halt, and say what to do"
        );
    }
    if let (Some(flaw), Some(source)) = (&restored.first_flaw, backup.source()) {
        println!(
            "  it has {} that {} not as it should be, which the backup had already: {flaw}; all of \
             them: {}",
            counted(restored.flaws, "place"),
            by(restored.flaws, "is", "are"),
            restore::verify(&source)
        );
    }
}

fn as_json(backup: &StreamBackup, restored: &Restored) -> Value {
    json!({
        "stream": backup.stream,
        "last_sequence": restored.last_sequence,
        "beyond": restored.beyond,
        "returned": restored.returned,
        "created_kept": restored.is_same,
        "flaws": restored.flaws,
        "first_flaw": restored.first_flaw,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_before_all_is_restored_says_what_is_there_and_what_is_missing() {
        let wanted: Vec<StreamBackup> = ["A", "B", "C"]
            .iter()
            .map(|stream| {
                let backup = json!({
                    "stream": stream, "source": null, "file": stream, "bytes": 0, "sha256": "",
                    "taken_at": "2026-11-29T00:00:00Z", "created": "2026-11-29T00:00:00Z",
                    "first_sequence": 0, "last_sequence": 0, "last_message": null,
                    "config": {"name": stream}, "state": {},
                });
                serde_json::from_value(backup).expect("a stream of a backup")
            })
            .collect();
        let command = Restore {
            folder: PathBuf::from("/b"),
            stream: Vec::new(),
            replicas: Some(1),
            json: false,
        };
        let said = |number, is_made| {
            ended(&command, &wanted, number, is_made, &anyhow!("why")).to_string()
        };
        assert_eq!(
            said(1, true),
            "restored: A; stream B was made, but could not be checked or is not whole: why. To restore \
             what is missing: artstore bus restore /b --stream C --replicas 1"
        );
        assert_eq!(
            said(0, false),
            "stream A was not restored: why. To restore what is missing: artstore bus restore /b \
             --stream A --stream B --stream C --replicas 1"
        );
        assert!(
            said(2, true).ends_with("is not whole: why."),
            "no other is missing"
        );
    }
}
