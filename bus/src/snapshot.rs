//! JetStream's own snapshots of a stream, taken and restored chunk by chunk. The client library has
//! no call for them. A snapshot is requested on `$JS.API.STREAM.SNAPSHOT.<stream>` and comes to a subject
//! of ours, each chunk acknowledged on the subject that it names. It is restored through the subject
//! that `$JS.API.STREAM.RESTORE.<stream>` answers with, each chunk as a request. The content of a snapshot
//! is the server's; only a backup reads it.

use std::time::Duration;

use async_nats::client::{RequestError, RequestErrorKind};
use async_nats::{Request, Subscriber};
use bytes::Bytes;
use futures::StreamExt as _;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::bus_error::BusError;
use crate::connection::Bus;
use crate::stream_name::backup_prefix;

/// How large a chunk is, in either direction.
pub const CHUNK_BYTES: usize = 128 * 1024;

/// How long the server may take for an answer or a chunk.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long the server may take to make a stream of what it was given: it reads all of it.
const MAKING: Duration = Duration::from_secs(3_600);

/// JetStream's code of a stream that can't be restored because its name is taken.
const NAME_TAKEN: u64 = 10_130;

/// JetStream's code of a stream that it does not have.
const NO_STREAM: u64 = 10_059;

/// Why a snapshot was not taken, or not given back.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The bus can't be used, or does not permit it.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// JetStream refused.
    #[error("stream {stream}: the server refuses {what}: {reason}")]
    Refused {
        /// The stream.
        stream: String,
        /// What was asked for.
        what: &'static str,
        /// What the server reports.
        reason: String,
        /// JetStream's code of it, 0 where there is none.
        code: u64,
    },
    /// Nothing came for too long.
    #[error(
        "stream {stream}: the server was silent for {} s at {what}: see whether it is overloaded or \
         has no leader for this stream, then try again",
        within.as_secs()
    )]
    Silent {
        /// The stream.
        stream: String,
        /// What was waited for.
        what: &'static str,
        /// How long.
        within: Duration,
    },
    /// The connection was lost on the way.
    #[error("stream {stream}: the connection to NATS was lost at {what}: try again")]
    Lost {
        /// The stream.
        stream: String,
        /// What it was at.
        what: &'static str,
    },
    /// The server gave up on the way.
    #[error("stream {stream}: the server gave up at {what}: {reason}; try again")]
    GivenUp {
        /// The stream.
        stream: String,
        /// What it was at.
        what: &'static str,
        /// Its content.
        reason: String,
    },
}

impl SnapshotError {
    /// Whether somebody else's snapshot of the stream is on its way, perhaps of a process that was killed:
    /// the server notices that after some seconds.
    pub fn is_in_progress(&self) -> bool {
        matches!(self, Self::Refused { reason, .. } if reason.contains("snapshot in progress"))
    }

    /// Whether the connection was lost: what the server did with what it has by then is not known.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost { .. })
    }

    /// Whether the server reports that there is a stream of this name.
    pub fn is_name_taken(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == NAME_TAKEN)
    }
}

/// What the server reports about a snapshot before its first chunk.
#[derive(Debug, Clone)]
pub struct Begun {
    /// The stream's settings.
    pub config: Value,
    /// What the stream held at that moment. The chunks hold that, and may hold some later messages.
    pub state: Value,
}

/// Takes a stream's snapshot, without its consumers: each chunk in order, none left out. A chunk is
/// acknowledged when `chunk` has returned, so no more than the server's window of a few MiB is in memory.
pub async fn take<E: From<SnapshotError>>(
    bus: &Bus,
    stream: &str,
    mut chunk: impl FnMut(&Begun, &[u8]) -> Result<(), E>,
) -> Result<Begun, E> {
    // No inbox: the server sends the chunks from the account that has the stream, which exports this subject.
    let subject = format!("{}.{}", backup_prefix(stream), Uuid::new_v4().simple());
    let failed = |error: &dyn std::fmt::Display| {
        SnapshotError::Bus(BusError::JetStream(format!("stream {stream}: {error}")))
    };
    let mut chunks = bus
        .client
        .subscribe(subject.clone())
        .await
        .map_err(|error| failed(&error))?;
    let body = json!({
        "deliver_subject": subject, "no_consumers": true, "chunk_size": CHUNK_BYTES,
    });
    let what = "a snapshot";
    let answer = ask(bus, "STREAM.SNAPSHOT", stream, what, &body).await?;
    let begun = Begun {
        config: answer["config"].clone(),
        state: answer["state"].clone(),
    };
    let acks = format!("$JS.SNAPSHOT.ACK.{stream}.");
    let copying = copy(bus, stream, &mut chunks, |bytes| chunk(&begun, bytes));
    let copying = bus
        .refusals
        .unless_refused(|subject| subject.starts_with(&acks), copying);
    let copied = bus.link.unless_lost(copying).await;
    let copied = copied.map_err(|_| lost(stream, what))?;
    copied.map_err(|refusal| SnapshotError::Bus(refusal.into()))??;
    Ok(begun)
}

/// What the server reports about a stream; none where it has none.
pub async fn info(bus: &Bus, stream: &str) -> Result<Option<Value>, SnapshotError> {
    match ask(bus, "STREAM.INFO", stream, "its state", &json!({})).await {
        Err(SnapshotError::Refused { code, .. }) if code == NO_STREAM => Ok(None),
        info => info.map(Some),
    }
}

async fn copy<E: From<SnapshotError>>(
    bus: &Bus,
    stream: &str,
    chunks: &mut Subscriber,
    mut chunk: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let what = "a snapshot";
    let given_up = |reason: String| SnapshotError::GivenUp {
        stream: stream.to_owned(),
        what,
        reason,
    };
    let mut number = 0;
    loop {
        let message = tokio::time::timeout(PATIENCE, chunks.next())
            .await
            .map_err(|_| silent(stream, what, PATIENCE))?
            .ok_or_else(|| given_up("the connection was closed".to_owned()))?;
        if message.payload.is_empty() {
            // The end, and how it came to it: 204 is a good one.
            return match message.status {
                Some(status) if status.as_u16() != 204 => {
                    let said = message.description.unwrap_or_default();
                    Err(given_up(format!("{} {said}", status.as_u16())).into())
                }
                Some(_) | None => Ok(()),
            };
        }
        number += 1;
        if let Some(reply) = &message.reply
            && numbered(reply).is_some_and(|said| said != number)
        {
            return Err(given_up(format!("chunk {number} did not come")).into());
        }
        chunk(&message.payload)?;
        if let Some(reply) = message.reply {
            let sent = bus.client.publish(reply, Bytes::new()).await;
            sent.map_err(|error| given_up(error.to_string()))?;
        }
    }
}

/// The number of a chunk, as the subject for its acknowledgement ends with it.
fn numbered(reply: &str) -> Option<u64> {
    reply.rsplit('.').next()?.parse().ok()
}

/// A stream that is being restored.
#[derive(Debug)]
pub struct Restoring<'a> {
    bus: &'a Bus,
    stream: &'a str,
    deliver: String,
}

const RESTORING: &str = "a restore";

impl<'a> Restoring<'a> {
    /// Asks for it. The server refuses a name that is taken. It waits five seconds for each chunk, and then
    /// takes back what it has.
    pub async fn begin(
        bus: &'a Bus,
        stream: &'a str,
        config: &Value,
        state: &Value,
    ) -> Result<Self, SnapshotError> {
        let body = json!({"config": config, "state": state});
        let answer = ask(bus, "STREAM.RESTORE", stream, RESTORING, &body).await?;
        let deliver = answer["deliver_subject"].as_str().unwrap_or_default();
        Ok(Self {
            bus,
            stream,
            deliver: deliver.to_owned(),
        })
    }

    /// Gives the next chunk, and waits until the server has it.
    pub async fn chunk(&self, bytes: Bytes) -> Result<(), SnapshotError> {
        let answer = self.send(bytes, PATIENCE).await?;
        match answer.is_empty() {
            true => Ok(()),
            false => parsed(self.stream, RESTORING, &answer).map(drop),
        }
    }

    /// There are no more: the server makes the stream. What it reports about it.
    pub async fn end(self) -> Result<Value, SnapshotError> {
        let answer = self.send(Bytes::new(), MAKING).await?;
        parsed(self.stream, RESTORING, &answer)
    }

    async fn send(&self, bytes: Bytes, within: Duration) -> Result<Bytes, SnapshotError> {
        // It would wait for another connection, on which the server does not expect it.
        if self.bus.link.lost_for().is_some() {
            return Err(lost(self.stream, RESTORING));
        }
        let request = Request::new().payload(bytes).timeout(Some(within));
        let call = self.bus.client.send_request(self.deliver.clone(), request);
        let is_its = |subject: &str| subject == self.deliver;
        let call = self.bus.refusals.unless_refused(is_its, call);
        let answer = self.bus.link.unless_lost(call).await;
        let answer = answer.map_err(|_| lost(self.stream, RESTORING))?;
        match answer.map_err(BusError::from)? {
            Ok(answer) => Ok(answer.payload),
            Err(error) => Err(unanswered(self.stream, RESTORING, within, &error)),
        }
    }
}

/// A request of JetStream's API about a stream.
async fn ask(
    bus: &Bus,
    subject: &str,
    stream: &str,
    what: &'static str,
    body: &Value,
) -> Result<Value, SnapshotError> {
    let request = Request::new()
        .payload(body.to_string().into())
        .timeout(Some(PATIENCE));
    let call = bus
        .client
        .send_request(format!("$JS.API.{subject}.{stream}"), request);
    match bus.permitted(subject, stream, call).await? {
        Ok(answer) => parsed(stream, what, &answer.payload),
        Err(error) => Err(unanswered(stream, what, PATIENCE, &error)),
    }
}

fn parsed(stream: &str, what: &'static str, answer: &[u8]) -> Result<Value, SnapshotError> {
    let refused = |reason: String, code| SnapshotError::Refused {
        stream: stream.to_owned(),
        what,
        reason,
        code,
    };
    let answer: Value = serde_json::from_slice(answer)
        .map_err(|error| refused(format!("an answer that is no JSON ({error})"), 0))?;
    match answer.get("error") {
        None => Ok(answer),
        Some(error) => Err(refused(
            error["description"].as_str().unwrap_or("?").to_owned(),
            error["err_code"].as_u64().unwrap_or(0),
        )),
    }
}

fn unanswered(
    stream: &str,
    what: &'static str,
    within: Duration,
    error: &RequestError,
) -> SnapshotError {
    let given_up = |reason: String| SnapshotError::GivenUp {
        stream: stream.to_owned(),
        what,
        reason,
    };
    match error.kind() {
        RequestErrorKind::TimedOut => silent(stream, what, within),
        RequestErrorKind::NoResponders => given_up("it does not listen any more".to_owned()),
        _ => given_up(error.to_string()),
    }
}

fn lost(stream: &str, what: &'static str) -> SnapshotError {
    SnapshotError::Lost {
        stream: stream.to_owned(),
        what,
    }
}

fn silent(stream: &str, what: &'static str, within: Duration) -> SnapshotError {
    SnapshotError::Silent {
        stream: stream.to_owned(),
        what,
        within,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_an_error_is_a_refusal() {
        let taken =
            br#"{"type":"x","error":{"code":400,"err_code":10130,"description":"name taken"}}"#;
        let error = parsed("S", RESTORING, taken).expect_err("an error");
        assert!(error.is_name_taken(), "{error}");
        assert!(!error.is_in_progress());
        let busy =
            br#"{"error":{"code":500,"err_code":10064,"description":"snapshot in progress"}}"#;
        let error = parsed("S", "a snapshot", busy).expect_err("an error");
        assert!(error.is_in_progress() && !error.is_name_taken(), "{error}");
        assert!(parsed("S", RESTORING, b"").is_err());
        assert_eq!(numbered("$JS.SNAPSHOT.ACK.S.abc.131072.17"), Some(17));
    }
}
