//! Backups of streams: the server's own snapshots, each in a file, and a manifest that describes them.
//! A folder is a whole backup once it has its manifest, which is written last. In the order in
//! which data flows:
//!
//! - [`take`]: from the bus into a folder
//! - [`frames`]: the frames of a snapshot
//! - [`archive`]: what is in them, and what must not be kept
//! - [`check`]: whether a folder is a whole backup; needs no server
//! - [`restore`]: restored to a bus, and whether everything came back
//! - [`limit`]: how far an element may be pruned whose stream is in a backup

pub mod archive;
pub mod check;
pub mod frames;
pub mod limit;
pub mod restore;
pub mod take;

use artstore_bus::connection::Bus;
use artstore_bus::message::Message;
use artstore_schemas::ranges::Ranges;
use artstore_schemas::source::Source;
use aws_lc_rs::digest::{SHA256, digest};
use chrono::{DateTime, Utc};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// The file that names the others. A folder without it is no backup.
pub const MANIFEST: &str = "manifest.json";

/// The format that the manifest names.
pub const FORM: &str = "artstore-bus-backup/v1";

/// The contents of [`MANIFEST`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// The format of the manifest.
    pub form: String,
    /// The program.
    pub made_by: String,
    /// The server.
    pub server_version: String,
    /// When it was begun.
    pub started_at: DateTime<Utc>,
    /// When the last file was whole.
    pub finished_at: DateTime<Utc>,
    /// The streams, in the order in which they were taken.
    pub streams: Vec<StreamBackup>,
}

/// A stream of a backup.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StreamBackup {
    /// Its name.
    pub stream: String,
    /// Whose events it holds; none: the signed audit heads.
    pub source: Option<String>,
    /// The file, in the manifest's folder.
    pub file: String,
    /// The file's size.
    pub bytes: u64,
    /// The file's digest, in hex.
    pub sha256: String,
    /// When it was taken.
    pub taken_at: DateTime<Utc>,
    /// When the stream was made, as the server reports.
    pub created: DateTime<Utc>,
    /// The first sequence.
    pub first_sequence: u64,
    /// The last sequence at the moment of the snapshot; 0: the stream was empty. The file holds
    /// everything up to it. It may hold messages that came while it was written.
    pub last_sequence: u64,
    /// What is there; none in an empty stream.
    pub last_message: Option<LastMessage>,
    /// The stream's settings, as the server sent them.
    pub config: Value,
    /// The stream's state, as the server sent it.
    pub state: Value,
}

/// What a message states, as far as it distinguishes that stream from another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastMessage {
    /// The event; none where the message is no event.
    pub event_id: Option<Uuid>,
    /// The source's high-water mark: the highest position in the stream.
    pub high_water_mark: Option<i64>,
    /// The positions below it that it does not contain, as the header `artstore-gaps` lists them.
    pub gaps: Option<String>,
    /// The database that the source had.
    pub identity: Option<String>,
    /// The digest of the body, in hex.
    pub body_sha256: String,
}

impl StreamBackup {
    /// Everything up to this position of the source is in it, or will never be published; 0 where that is
    /// not known.
    pub fn covers(&self) -> i64 {
        let covered = || {
            let last = self.last_message.as_ref()?;
            let gaps: Ranges = last.gaps.as_ref()?.parse().ok()?;
            let first = gaps.as_slice().first().map(|range| range.first - 1);
            let high_water_mark = last.high_water_mark?;
            Some(first.map_or(high_water_mark, |first| first.min(high_water_mark)))
        };
        covered().unwrap_or(0)
    }

    /// How many messages the stream had.
    pub fn messages(&self) -> u64 {
        self.state["messages"].as_u64().unwrap_or(0)
    }

    /// How many of its messages were removed by then, as by a limit. The file may hold some of them.
    pub fn removed(&self) -> u64 {
        self.last_sequence.saturating_sub(self.messages())
    }

    /// The stream that it is a mirror of.
    pub(crate) fn mirror_of(&self) -> Option<&str> {
        self.config["mirror"]["name"].as_str()
    }

    /// Whose events it holds.
    pub fn source(&self) -> Option<Source> {
        Source::of_stream(&self.stream)
    }
}

/// What is at a sequence of a stream; none where nothing is.
pub async fn message(
    bus: &Bus,
    stream: &str,
    sequence: u64,
) -> anyhow::Result<Option<LastMessage>> {
    let message = bus.message_at(stream, sequence).await?;
    Ok(message.as_ref().map(LastMessage::of))
}

impl LastMessage {
    fn of(message: &Message) -> Self {
        let envelope = message.envelope();
        let envelope = envelope.as_ref();
        Self {
            event_id: envelope.map(|envelope| envelope.id),
            high_water_mark: envelope.map(|envelope| envelope.high_water_mark),
            gaps: envelope.map(|envelope| envelope.gaps.to_string()),
            identity: envelope.map(|envelope| envelope.identity.clone()),
            body_sha256: HEXLOWER.encode(digest(&SHA256, &message.body).as_ref()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_covers_what_is_below_the_first_gap() {
        let covers = |high_water_mark, gaps: Option<&str>| {
            let backup = StreamBackup {
                stream: "ARTSTORE_WAL_elem".to_owned(),
                source: Some("elem".to_owned()),
                file: String::new(),
                bytes: 0,
                sha256: String::new(),
                taken_at: DateTime::UNIX_EPOCH,
                created: DateTime::UNIX_EPOCH,
                first_sequence: 1,
                last_sequence: 1,
                last_message: Some(LastMessage {
                    event_id: None,
                    high_water_mark,
                    gaps: gaps.map(str::to_owned),
                    identity: None,
                    body_sha256: String::new(),
                }),
                config: Value::Null,
                state: Value::Null,
            };
            backup.covers()
        };
        assert_eq!(covers(Some(70), Some("")), 70);
        assert_eq!(covers(Some(70), Some("40+3")), 39);
        assert_eq!(covers(Some(70), None), 0);
        assert_eq!(covers(None, None), 0);
    }
}
