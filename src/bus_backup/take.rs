//! Taking a backup. The streams are taken one after the other while they are in use: first the signed
//! audit heads, then the sources, so that no head covers messages that the backup does not have.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use artstore_bus::connection::Bus;
use artstore_bus::snapshot::{self, Begun, SnapshotError};
use artstore_bus::stream_name::AUDIT_HEADS;
use artstore_runtime::crash;
use artstore_runtime::files;
use artstore_schemas::source::Source;
use aws_lc_rs::digest::{Context as Digest, SHA256};
use chrono::Utc;
use data_encoding::HEXLOWER;

use super::archive::Archive;
use super::{FORM, MANIFEST, Manifest, StreamBackup, message};
use crate::config::ConfigError;

/// How long a snapshot that somebody else has begun, or a process that was killed, is waited for.
const IN_PROGRESS: Duration = Duration::from_secs(60);

/// The file in a folder into which a backup is being written: of two backups, one makes it.
const MARKER: &str = "unfinished";

/// Makes the folder. One with something in it is refused: a backup overwrites nothing.
pub fn open_folder(folder: &Path) -> anyhow::Result<Unfinished> {
    let shown = folder.display();
    let is_new = !folder.exists();
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("{shown} can't be made"))?;
    if is_new {
        files::sync_folder(folder)?;
    }
    refuse_contents(folder, None)?;
    let marker = folder.join(MARKER);
    new_file(&marker).with_context(|| {
        format!(
            "{} can't be made: perhaps another backup is being written there",
            marker.display()
        )
    })?;
    let unfinished = Unfinished {
        folder: folder.to_owned(),
        files: vec![marker],
    };
    // Another backup may have come to its end in between.
    refuse_contents(folder, Some(MARKER))?;
    Ok(unfinished)
}

fn refuse_contents(folder: &Path, ours: Option<&str>) -> anyhow::Result<()> {
    let shown = folder.display();
    let entries = std::fs::read_dir(folder)
        .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
        .with_context(|| format!("{shown} can't be read"))?;
    if entries
        .iter()
        .all(|entry| ours.is_some_and(|ours| entry.file_name() == ours))
    {
        return Ok(());
    }
    let there = match folder.join(MANIFEST).exists() {
        true => "a backup",
        false => {
            "something, and no whole backup: perhaps one that was cut off, or is being written"
        }
    };
    Err(ConfigError(format!(
        "{shown} holds {there}; a backup overwrites nothing: name a new folder, one for each backup"
    ))
    .into())
}

/// The folder of a backup that is not whole yet, and its files: removed again unless it is completed.
#[derive(Debug)]
pub struct Unfinished {
    folder: PathBuf,
    /// The marker first, which goes last.
    files: Vec<PathBuf>,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        for path in self.files.iter().rev() {
            if let Err(error) = std::fs::remove_file(path)
                && error.kind() != ErrorKind::NotFound
            {
                tracing::error!(path = %path.display(), %error, "an unfinished backup can't be removed");
            }
        }
    }
}

/// How far a stream is.
#[derive(Debug, Clone, Copy)]
pub struct BackupProgress<'a> {
    /// The stream.
    pub stream: &'a str,
    /// Its messages.
    pub messages: u64,
    /// Bytes in the file.
    pub bytes: u64,
}

/// Takes these streams into a folder that [`open_folder`] has opened. The folder is a whole backup when
/// this has returned, and not before.
pub async fn take(
    bus: &Bus,
    streams: &[String],
    mut unfinished: Unfinished,
    mut progress: impl FnMut(BackupProgress<'_>),
) -> anyhow::Result<Manifest> {
    let started_at = Utc::now();
    let mut taken = Vec::new();
    for stream in ordered(streams) {
        taken.push(stream_into(bus, stream, &mut unfinished, &mut progress).await?);
        crash::point("bus.backup.stream");
    }
    let manifest = Manifest {
        form: FORM.to_owned(),
        made_by: concat!("artstore ", env!("CARGO_PKG_VERSION")).to_owned(),
        server_version: bus.client.server_info().version,
        started_at,
        finished_at: Utc::now(),
        streams: taken,
    };
    crash::point("bus.backup.written");
    let path = unfinished.folder.join(MANIFEST);
    let text = format!("{:#}\n", serde_json::to_value(&manifest)?);
    // The names of the files are durable before the manifest lists them.
    files::sync_folder(&path)?;
    unfinished.files.push(path.clone());
    files::replace(&path, text.as_bytes())?;
    // All but the marker stays.
    unfinished.files.truncate(1);
    Ok(manifest)
}

/// Heads first.
fn ordered(streams: &[String]) -> impl Iterator<Item = &String> {
    let heads = streams.iter().filter(|stream| *stream == AUDIT_HEADS);
    let sources = streams.iter().filter(|stream| *stream != AUDIT_HEADS);
    heads.chain(sources)
}

async fn stream_into(
    bus: &Bus,
    stream: &str,
    unfinished: &mut Unfinished,
    progress: &mut impl FnMut(BackupProgress<'_>),
) -> anyhow::Result<StreamBackup> {
    let before = bus.stream_info(stream).await?;
    let file = format!("{stream}.snapshot");
    let folder = &unfinished.folder;
    let (path, part) = (folder.join(&file), folder.join(format!("{file}.part")));
    unfinished.files.extend([path.clone(), part.clone()]);
    let started = Instant::now();
    let (begun, written) = loop {
        match copy(bus, stream, &part, progress).await {
            Err(error)
                if started.elapsed() < IN_PROGRESS
                    && error
                        .downcast_ref::<SnapshotError>()
                        .is_some_and(SnapshotError::is_in_progress) =>
            {
                std::fs::remove_file(&part)
                    .with_context(|| format!("{} can't be removed", part.display()))?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            done => break done?,
        }
    };
    let number = |name: &str| {
        begun.state[name].as_u64().with_context(|| {
            format!(
                "stream {stream}: the server does not say {name} of its snapshot: it may be newer than \
                 this program"
            )
        })
    };
    let (first_sequence, last_sequence) = (number("first_seq")?, number("last_seq")?);
    number("messages")?;
    let last_message = message(bus, stream, last_sequence).await?;
    let after = bus.stream_info(stream).await?;
    if after.created != before.created || last_message.is_none() && last_sequence > 0 {
        bail!(
            "stream {stream} was recreated while it was copied, or its last message was removed: \
             nothing was kept; `artstore verify` shows whether it is whole"
        );
    }
    std::fs::rename(&part, &path)
        .with_context(|| format!("{} can't be renamed", part.display()))?;
    Ok(StreamBackup {
        stream: stream.to_owned(),
        source: Source::of_stream(stream).map(|source| source.to_string()),
        file,
        bytes: written.bytes,
        sha256: written.sha256,
        taken_at: Utc::now(),
        created: before.created,
        first_sequence,
        last_sequence,
        last_message,
        config: begun.config,
        state: begun.state,
    })
}

struct Written {
    bytes: u64,
    sha256: String,
}

/// One snapshot into one file, which is on disk when this returns.
async fn copy(
    bus: &Bus,
    stream: &str,
    part: &Path,
    progress: &mut impl FnMut(BackupProgress<'_>),
) -> anyhow::Result<(Begun, Written)> {
    let failed = || format!("{} can't be written", part.display());
    let mut file = BufWriter::new(new_file(part).with_context(failed)?);
    let (mut digest, mut bytes, mut archive) = (Digest::new(&SHA256), 0, Archive::default());
    let copying = snapshot::take(bus, stream, |begun, chunk| {
        let kept = archive.take(chunk, |kept| {
            digest.update(kept);
            bytes += kept.len() as u64;
            file.write_all(kept).with_context(failed)
        });
        kept.with_context(|| format!("stream {stream}"))?;
        crash::point("bus.backup.chunk");
        let messages = begun.state["messages"].as_u64().unwrap_or(0);
        progress(BackupProgress {
            stream,
            messages,
            bytes,
        });
        anyhow::Ok(())
    });
    let begun = copying.await?;
    archive
        .finish()
        .with_context(|| format!("stream {stream}"))?;
    let file = file.into_inner().map_err(|error| error.into_error());
    file.and_then(|file| file.sync_all()).with_context(failed)?;
    let sha256 = HEXLOWER.encode(digest.finish().as_ref());
    Ok((begun, Written { bytes, sha256 }))
}

/// Nobody else may read it, and none is written over.
fn new_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}
