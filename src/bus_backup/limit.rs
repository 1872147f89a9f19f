//! How far an element may be pruned so that a backup of its stream has everything that goes: for
//! `artstore wal prune --backed-up-in`.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use artstore_schemas::breaks::{self, Chain};
use artstore_schemas::bus::Bus;
use artstore_schemas::element::ElementName;
use artstore_schemas::source::Source;

use super::{check, message};

/// The position up to which a backup tells of an element. Its file must have the digest of the manifest,
/// and must have been taken of the very stream that is there now: made at the same time, with the same
/// message at the backup's end.
pub async fn backed_up(bus: &Bus, folder: &Path, element: &ElementName) -> anyhow::Result<i64> {
    let shown = folder.display();
    let source = Source::Element(element.clone());
    let stream = source.stream();
    let manifest = check::manifest(folder)?;
    let Some(backup) = manifest.streams.iter().find(|b| b.stream == stream) else {
        bail!(
            "the backup in {shown} does not have stream {stream}: nothing was removed; take one that has: \
             `artstore bus backup FOLDER`"
        );
    };
    check::stream(folder, backup, |_| {}).with_context(|| {
        format!("the backup in {shown} can't be relied on; nothing was removed")
    })?;
    let info = bus.stream_info(&stream).await?;
    let there = message(bus, &stream, backup.last_sequence).await?;
    ensure!(
        info.created == backup.created
            && info.state.last_sequence >= backup.last_sequence
            && there == backup.last_message,
        "the backup in {shown} is not one of stream {stream} as it is now: that was made at {}, the one of \
         the backup at {}, or another message stands at {}; nothing was removed: take a new backup",
        info.created,
        backup.created,
        backup.last_sequence
    );
    // Positions from a break on are those of other rows than the backup's.
    let breaks = breaks::read(bus, &source, Chain::Checked).await?;
    ensure!(
        breaks
            .epochs
            .0
            .iter()
            .all(|epoch| epoch.sequence <= backup.last_sequence),
        "a break of {element} was accepted since the backup in {shown} was taken; nothing was removed: take \
         a new backup"
    );
    Ok(backup.covers())
}
