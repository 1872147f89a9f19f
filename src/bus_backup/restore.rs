//! Restores the streams of a backup to a bus that has lost them. Nothing is replaced: a stream that
//! exists is refused before the first one is touched. What was restored is then compared with the manifest
//! and read from its beginning to its end, as `artstore verify` reads it.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use artstore_bus::bus_error::BusError;
use artstore_bus::connection::Bus;
use artstore_bus::snapshot::{self, CHUNK_BYTES, Restoring};
use artstore_runtime::count::counted;
use artstore_runtime::crash;
use artstore_schemas::source::Source;
use async_nats::jetstream::stream::Info;
use bytes::Bytes;
use serde_json::Value;

use super::{StreamBackup, message};
use artstore_verification::accepted::Accepted;
use artstore_verification::links::Links;
use artstore_verification::reader::Reader;

/// How long a restore that a killed process has begun is waited for: the server gives it up after five
/// seconds without a chunk.
const UNFINISHED: Duration = Duration::from_secs(30);

/// How many messages are taken at once.
const BATCH: usize = 1_000;

/// What a stream is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its file is sent.
    Send,
    /// The server makes the stream.
    Make,
    /// It is there: it is compared, and its messages are read.
    Read,
}

/// A stream that came back.
#[derive(Debug)]
pub struct Restored {
    /// The last sequence.
    pub last_sequence: u64,
    /// How many messages the file held that came after the moment of the snapshot.
    pub beyond: u64,
    /// How many messages came back that had been removed from the stream before the backup, as by a
    /// limit: the server marks them in the index, which a backup leaves out.
    pub returned: u64,
    /// Whether the server kept the time at which the stream was made: readers know it by that.
    pub is_same: bool,
    /// How many sequences are not as a relay writes them, and the first of them; those were in the
    /// backup already.
    pub flaws: u64,
    /// The first of them, in words.
    pub first_flaw: Option<String>,
}

/// Those of the streams that exist.
pub async fn existing<'a>(
    bus: &Bus,
    streams: &'a [StreamBackup],
) -> anyhow::Result<Vec<&'a StreamBackup>> {
    let mut found = Vec::new();
    for backup in streams {
        match bus.stream_info(&backup.stream).await {
            Ok(_) => found.push(backup),
            Err(BusError::NoStream(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// Restores a stream from a file that was checked, and reads it. `sender`: a connection that may send its chunks.
/// `replicas`: in place of the manifest's.
pub async fn restore(
    bus: &Bus,
    sender: &Bus,
    folder: &Path,
    backup: &StreamBackup,
    replicas: Option<usize>,
    mut progress: impl FnMut(Stage, u64),
) -> anyhow::Result<Restored> {
    let mut config = backup.config.clone();
    if let Some(replicas) = replicas {
        config["num_replicas"] = replicas.into();
    }
    let restoring = begin(sender, backup, &config).await?;
    let path = folder.join(&backup.file);
    let failed = || format!("{} can't be read", path.display());
    let mut file = File::open(&path).with_context(failed)?;
    let mut sent = 0;
    loop {
        let mut chunk = vec![0; CHUNK_BYTES];
        let read = file.read(&mut chunk).with_context(failed)?;
        if read == 0 {
            break;
        }
        chunk.truncate(read);
        restoring.chunk(Bytes::from(chunk)).await?;
        crash::point("bus.restore.chunk");
        sent += read as u64;
        progress(Stage::Send, sent);
    }
    progress(Stage::Make, sent);
    let made = match restoring.end().await {
        Err(error) if error.is_lost() => made_meanwhile(bus, &backup.stream).await?,
        made => made?,
    };
    crash::point("bus.restore.made");
    progress(Stage::Read, 0);
    let info = compare(bus, backup, &config, &made["config"]).await?;
    read(bus, backup, &info, progress).await
}

/// A killed restore of a cluster keeps the name for some seconds.
async fn begin<'a>(
    bus: &'a Bus,
    backup: &'a StreamBackup,
    config: &Value,
) -> anyhow::Result<Restoring<'a>> {
    let started = Instant::now();
    loop {
        match Restoring::begin(bus, &backup.stream, config, &backup.state).await {
            Err(error) if error.is_name_taken() && started.elapsed() < UNFINISHED => {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Err(error) if error.is_name_taken() => {
                let stream = &backup.stream;
                if bus.stream_info(stream).await.is_ok() {
                    bail!("{}", not_replaced(stream, stream));
                }
                return Err(error).with_context(|| {
                    format!(
                        "stream {stream}: a restore that was cut off holds its name, and the server does \
                         not take that back: remove what is left with a tool of the server (nats stream \
                         rm {stream}), then try again"
                    )
                });
            }
            begun => return Ok(begun?),
        }
    }
}

/// Why nothing is restored where there are these streams, the first of which is `first`.
pub(crate) fn not_replaced(names: &str, first: &str) -> String {
    format!(
        "on the bus there is already {names}: nothing was restored, because a restore replaces nothing. \
         `artstore verify` shows whether it is whole. Where it is not worth keeping, stop relays and \
         projectors, and remove it with a tool of the server (nats stream rm {first}), then try again."
    )
}

/// The stream of a file that was sent whole before the connection was lost.
async fn made_meanwhile(bus: &Bus, stream: &str) -> anyhow::Result<Value> {
    let started = Instant::now();
    loop {
        match snapshot::info(bus, stream).await {
            Ok(Some(info)) => return Ok(info),
            Ok(None) | Err(_) if started.elapsed() < UNFINISHED => {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Ok(None) => bail!(
                "stream {stream}: the connection to NATS was lost when the file had been sent, and the \
                 server has made no stream of it: try again; where it was made later, that is refused \
                 and says so"
            ),
            Err(error) => {
                return Err(error).with_context(|| {
                    format!(
                        "stream {stream}: the connection to NATS was lost when the file had been sent; \
                         whether the server has made the stream is not known"
                    )
                });
            }
        }
    }
}

/// Whether sequences, settings and the last event are those of the manifest.
async fn compare(
    bus: &Bus,
    backup: &StreamBackup,
    wanted: &Value,
    made: &Value,
) -> anyhow::Result<Info> {
    let stream = &backup.stream;
    let info = bus.stream_info(stream).await?;
    let state = &info.state;
    ensure!(
        state.last_sequence >= backup.last_sequence
            && (backup.last_sequence == 0 || state.first_sequence <= backup.first_sequence),
        "stream {stream} came back with the messages {} to {}, the backup had {} to {}: {NOT_WHOLE}",
        state.first_sequence,
        state.last_sequence,
        backup.first_sequence,
        backup.last_sequence
    );
    let there = message(bus, stream, backup.last_sequence).await?;
    ensure!(
        there == backup.last_message,
        "stream {stream} came back with another message {} than the manifest says: {NOT_WHOLE}",
        backup.last_sequence
    );
    if let Some((name, wanted, found)) = other_setting(wanted, made) {
        bail!("stream {stream} came back with {name} {found}, which must be {wanted}: {NOT_WHOLE}");
    }
    Ok(info)
}

const NOT_WHOLE: &str = "remove it before anybody reads it, and take another backup";

/// The first setting that differs. What the server reports about itself in the metadata is none.
fn other_setting(wanted: &Value, found: &Value) -> Option<(String, Value, Value)> {
    let wanted = wanted.as_object()?;
    wanted.iter().find_map(|(name, wanted)| {
        let found = &found[name];
        (name != "metadata" && found != wanted)
            .then(|| (name.clone(), wanted.clone(), found.clone()))
    })
}

/// Reads all messages.
async fn read(
    bus: &Bus,
    backup: &StreamBackup,
    info: &Info,
    mut progress: impl FnMut(Stage, u64),
) -> anyhow::Result<Restored> {
    let stream = &backup.stream;
    let last_sequence = info.state.last_sequence;
    let beyond = last_sequence - backup.last_sequence;
    let (held, had) = (
        info.state.messages.saturating_sub(beyond),
        backup.messages(),
    );
    ensure!(
        held >= had,
        "stream {stream} came back with {} up to message {}, the backup had {had}: {NOT_WHOLE}",
        counted(held, "message"),
        backup.last_sequence
    );
    let mut restored = Restored {
        last_sequence,
        beyond,
        returned: held - had,
        is_same: info.created == backup.created,
        flaws: 0,
        first_flaw: None,
    };
    let Some(source) = backup.source() else {
        return Ok(restored);
    };
    let mut flaw = |text: String| {
        restored.flaws += 1;
        restored.first_flaw.get_or_insert(text);
    };
    let accepted = Accepted::read(bus, &source).await?;
    let mut links = Links::default();
    let mut reader = Reader::new(bus, &source, 0);
    while links.last < last_sequence {
        let batch = reader.batch(BATCH, Duration::from_secs(5)).await?;
        if batch.is_empty() && reader.nothing_left().await? {
            break;
        }
        for message in &batch {
            let seen = links.see(&source, &accepted, message);
            for found in seen.flaws {
                flaw(format!("message {}: {}", found.sequences.0, found.detail));
            }
        }
        progress(Stage::Read, links.last);
    }
    for found in links.end(&accepted, last_sequence) {
        flaw(format!("message {}: {}", found.sequences.0, found.detail));
    }
    Ok(restored)
}

/// The command that shows what is wrong with a source's stream.
pub fn verify(source: &Source) -> String {
    format!("`artstore verify --source {source}`")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_setting_that_came_back_as_another_one_is_named() {
        let wanted = json!({"name": "S", "num_replicas": 3, "metadata": {"a": "b"}});
        let found = json!({"name": "S", "num_replicas": 3, "metadata": {}});
        assert_eq!(other_setting(&wanted, &found), None);
        let found = json!({"name": "S", "num_replicas": 1});
        let other = other_setting(&wanted, &found).expect("one is another");
        assert_eq!(other, ("num_replicas".to_owned(), json!(3), json!(1)));
    }
}
