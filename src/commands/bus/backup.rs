//! `artstore bus backup`: the streams into a new folder; and `artstore bus check-backup`.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use artstore_bus::accounts::role::Role;
use artstore_bus::connection::Bus;
use artstore_bus::stream_name::AUDIT_HEADS;
use artstore_projectors::runtime::workers;
use artstore_runtime::count::counted;
use artstore_schemas::source::Source;
use clap::Args;
use serde_json::json;

use super::progress::Bar;
use crate::bus_backup::{MANIFEST, Manifest, StreamBackup, check, take};
use crate::config::{Config, ConfigError};
use crate::names;
use crate::signals::stop_signal;
use crate::status::lines::grouped;

/// What is backed up, and where to.
#[derive(Debug, Args)]
pub struct Backup {
    /// A folder for this backup, a new one or an empty one: a backup overwrites nothing, so each gets a
    /// folder of its own. It is whole once it has its manifest.json
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Only the streams of these sources: an element's name, admin, query, or their streams; without
    /// it, all that are configured or found, and the one of signed audit heads
    #[arg(long, value_name = "SOURCE", value_parser = names::source)]
    source: Vec<Source>,
    /// Print JSON: the manifest
    #[arg(long)]
    json: bool,
}

/// What is checked.
#[derive(Debug, Args)]
pub struct CheckBackup {
    /// The folder of a backup
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Print JSON: the manifest
    #[arg(long)]
    json: bool,
}

/// Takes a backup.
pub(super) async fn run(config: &Config, command: &Backup) -> anyhow::Result<ExitCode> {
    let bus = Bus::connect(&config.bus(Role::Operator, "artstore bus backup")?)
        .await?
        .patient();
    let streams = streams(config, &bus, &command.source).await?;
    let folder = take::open_folder(&command.folder)?;
    let stop = stop_signal()?;
    let mut bar = Bar::new(command.json);
    let taking = take::take(&bus, &streams, folder, |now| {
        bar.bytes(now.stream, now.bytes);
    });
    let manifest = tokio::select! {
        taken = taking => taken?,
        () = stop.cancelled() => bail!("interrupted: the backup is removed again"),
    };
    bar.finish();
    manifest.streams.iter().for_each(warn_of_removed);
    if command.json {
        println!("{}", serde_json::to_string_pretty(&manifest)?);
    } else {
        show(&manifest);
        println!("{}", command.folder.join(MANIFEST).display());
    }
    Ok(ExitCode::SUCCESS)
}

/// The streams to be taken. Of what is configured none may be missing: a stream that was lost must not
/// be lost in the backup as well.
async fn streams(config: &Config, bus: &Bus, only: &[Source]) -> anyhow::Result<Vec<String>> {
    let found = workers::list(bus).await?;
    if let Some(missing) = only.iter().find(|source| !found.contains(source)) {
        let found = names::listed(&found).unwrap_or_else(|| "none".to_owned());
        return Err(ConfigError(format!(
            "--source {missing}: the bus has no such stream; it has those of: {found}"
        ))
        .into());
    }
    if !only.is_empty() {
        let mut only = only.to_vec();
        only.sort();
        only.dedup();
        return Ok(only.iter().map(Source::stream).collect());
    }
    let elements = config.elements()?.into_iter();
    let mut sources: Vec<Source> = elements
        .map(|(element, _)| Source::Element(element))
        .chain([Source::Admin, Source::Query])
        .collect();
    if !config.element_is_asked {
        sources.extend(found);
    }
    sources.sort();
    sources.dedup();
    let mut streams: Vec<String> = sources.iter().map(Source::stream).collect();
    streams.push(AUDIT_HEADS.to_owned());
    for stream in &streams {
        bus.stream_info(stream).await.with_context(|| {
            format!(
                "stream {stream} would be missing in the backup; nothing was written. For those that are \
                 there, name them with --source"
            )
        })?;
    }
    Ok(streams)
}

fn warn_of_removed(backup: &StreamBackup) {
    if backup.removed() > 0 {
        eprintln!(
            "artstore: warning: {} had lost {} before this backup, as by a limit; a restore may bring \
             some of them back. `artstore verify` shows what is missing",
            backup.stream,
            counted(backup.removed(), "message")
        );
    }
}

fn show(manifest: &Manifest) {
    for backup in &manifest.streams {
        println!("{}", backup.stream);
        if let Some(of) = backup.mirror_of() {
            println!("  a mirror  of {of}, and restored as one");
        }
        let last = backup.last_message.as_ref();
        println!(
            "  messages  up to {}, at {}",
            grouped(i64::try_from(backup.last_sequence).unwrap_or(i64::MAX)),
            backup.taken_at.format("%F %T UTC")
        );
        if let Some(high_water_mark) = last.and_then(|last| last.high_water_mark) {
            println!(
                "  positions up to {}, without a gap up to {}",
                grouped(high_water_mark),
                grouped(backup.covers())
            );
        }
        println!(
            "  file      {}, {}",
            backup.file,
            counted(backup.bytes, "byte")
        );
        println!("  sha-256   {}", backup.sha256);
    }
}

/// Checks a backup.
pub(super) fn check(command: &CheckBackup) -> anyhow::Result<ExitCode> {
    let manifest = checked(&command.folder, |_| true, command.json)?;
    if command.json {
        println!("{}", serde_json::to_string_pretty(&json!(manifest))?);
    } else {
        show(&manifest);
        println!(
            "{}, each as its manifest says and whole; made at {} by {}",
            counted(manifest.streams.len(), "stream"),
            manifest.finished_at.format("%F %T UTC"),
            manifest.made_by
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// The manifest of a backup whose files are whole, those of these streams.
pub(super) fn checked(
    folder: &Path,
    wanted: impl Fn(&StreamBackup) -> bool,
    quiet: bool,
) -> anyhow::Result<Manifest> {
    let manifest = check::manifest(folder)?;
    let mut bar = Bar::new(quiet);
    for backup in manifest.streams.iter().filter(|backup| wanted(backup)) {
        check::stream(folder, backup, |bytes| {
            bar.part("check", &backup.stream, bytes, backup.bytes);
            ControlFlow::Continue(())
        })?;
    }
    bar.finish();
    Ok(manifest)
}
