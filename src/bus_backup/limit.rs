//! How far an element may be pruned so that a backup of its stream contains everything that is removed: for
//! `artstore wal prune --backed-up-in`.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use artstore_bus::breaks::{self, Chain};
use artstore_bus::connection::Bus;
use artstore_schemas::element::ElementName;
use artstore_schemas::source::Source;

use super::{check, message};

/// What a backup has of an element.
#[derive(Debug, Clone, Copy)]
pub struct BackedUp {
    /// The last sequence in it.
    pub last_sequence: u64,
    /// As its last message states it ([`super::StreamBackup::covers`]).
    covers: i64,
}

impl BackedUp {
    /// The position up to which the backup has everything. `lowest_newer`: the lowest position among the
    /// stream's messages after the backup's end. What a stream had lost by then and got again since is
    /// there, and the message at the backup's end knows nothing of that.
    pub fn up_to(self, lowest_newer: Option<i64>) -> i64 {
        lowest_newer.map_or(self.covers, |lowest| self.covers.min(lowest - 1))
    }
}

/// What a backup has of an element. Its file must have the digest of the manifest, and must have been
/// taken of the very stream that exists now: created at the same time, with the same message at the
/// backup's end. `is_stopped` is asked while the file is read.
pub async fn backed_up(
    bus: &Bus,
    folder: &Path,
    element: &ElementName,
    is_stopped: impl Fn() -> bool,
) -> anyhow::Result<BackedUp> {
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
    let go_on = |_| match is_stopped() {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    };
    check::stream(folder, backup, go_on).with_context(|| {
        format!("the backup in {shown} can't be relied on; nothing was removed")
    })?;
    let info = bus.stream_info(&stream).await?;
    let there = message(bus, &stream, backup.last_sequence).await?;
    ensure!(
        info.created == backup.created
            && info.state.last_sequence >= backup.last_sequence
            && there == backup.last_message,
        "the backup in {shown} is not one of stream {stream} as it is now: that was made at {}, the one of \
         the backup at {}, or another message is at {}; nothing was removed: take a new backup",
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
    Ok(BackedUp {
        last_sequence: backup.last_sequence,
        covers: backup.covers(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_published_again_behind_the_backup_is_not_in_it() {
        let backup = BackedUp {
            last_sequence: 4_900,
            covers: 5_000,
        };
        assert_eq!(backup.up_to(None), 5_000);
        assert_eq!(backup.up_to(Some(5_001)), 5_000);
        assert_eq!(backup.up_to(Some(100)), 99);
    }
}
