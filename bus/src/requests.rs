//! Requests to JetStream, except for creating streams ([`crate::streams`]): messages, consumers, the list of
//! streams. All requests go through here, so that one that the connection's user has no permission for is
//! named at once ([`crate::refusals`]) and does not look like a server that does not answer.

use std::fmt::Display;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::{self, Consumer, pull};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{
    ConsumerErrorKind, RawMessageError, RawMessageErrorKind, Stream,
};
use bytes::Bytes;
use futures::TryStreamExt as _;
use serde_json::Value;

use crate::bus_error::BusError;
use crate::connection::{Bus, SEND};
use crate::message::Message;

/// What the server reports about the connection's user.
const USER_INFO: &str = "$SYS.REQ.USER.INFO";

// The place where they are allowed: a refusal is named here.
#[allow(clippy::disallowed_methods)]
impl Bus {
    /// The message at a sequence, as the stream's leader has it; none where there is none, as at 0.
    pub async fn message_at(
        &self,
        stream: &str,
        sequence: u64,
    ) -> Result<Option<Message>, BusError> {
        if sequence == 0 {
            return Ok(None);
        }
        let handle = self.handle(stream).await?;
        self.found(stream, handle.get_raw_message(sequence)).await
    }

    /// The first message of a subject from a sequence on; none where there is none.
    pub async fn first_message(
        &self,
        stream: &str,
        subject: &str,
        from: u64,
    ) -> Result<Option<Message>, BusError> {
        let handle = self.handle(stream).await?;
        let call = handle.get_first_raw_message_by_subject(subject, from);
        self.found(stream, call).await
    }

    /// The last message of a subject; none where there is none.
    pub async fn last_message(
        &self,
        stream: &str,
        subject: &str,
    ) -> Result<Option<Message>, BusError> {
        let handle = self.handle(stream).await?;
        let call = handle.get_last_raw_message_by_subject(subject);
        self.found(stream, call).await
    }

    /// Makes a consumer.
    pub async fn create_consumer(
        &self,
        stream: &str,
        config: pull::Config,
    ) -> Result<Consumer<pull::Config>, BusError> {
        let call = self.jetstream.create_consumer_on_stream(config, stream);
        let made = self.permitted("CONSUMER.CREATE", stream, call).await?;
        made.map_err(|error| failed(stream, &format!("its consumer: {error}")))
    }

    /// What the server knows of a consumer; none where it is not there.
    pub async fn consumer_info(
        &self,
        stream: &str,
        consumer: &str,
    ) -> Result<Option<consumer::Info>, BusError> {
        let jetstream = &self.jetstream;
        let call = jetstream.get_consumer_from_stream::<pull::Config, _, _>(consumer, stream);
        match self.permitted("CONSUMER.INFO", stream, call).await? {
            Ok(found) => Ok(Some(found.cached_info().clone())),
            Err(error) => match error.kind() {
                ConsumerErrorKind::JetStream(e)
                    if e.error_code() == ErrorCode::CONSUMER_NOT_FOUND =>
                {
                    Ok(None)
                }
                _ => Err(failed(stream, &format!("its consumer: {error}"))),
            },
        }
    }

    /// Removes a consumer.
    pub async fn delete_consumer(&self, stream: &str, consumer: &str) -> Result<(), BusError> {
        let call = self.jetstream.delete_consumer_from_stream(consumer, stream);
        let deleted = self.permitted("CONSUMER.DELETE", stream, call).await?;
        deleted.map_err(|error| failed(stream, &format!("its consumer: {error}")))?;
        Ok(())
    }

    /// The streams that this user may read: those that its rights name, whether they are there or not, else all of
    /// the account.
    pub async fn readable_streams(&self) -> Result<Vec<String>, BusError> {
        let named = self.named_in_rights().await?;
        match named.is_empty() {
            true => self.stream_names_of_account().await,
            false => Ok(named),
        }
    }

    /// Those that are there.
    pub async fn stream_names(&self) -> Result<Vec<String>, BusError> {
        let named = self.named_in_rights().await?;
        if named.is_empty() {
            return self.stream_names_of_account().await;
        }
        let look = named
            .into_iter()
            .map(async |stream| match self.stream_info(&stream).await {
                Ok(_) => Ok(Some(stream)),
                Err(BusError::NoStream(_)) => Ok(None),
                Err(error) => Err(error),
            });
        let there = futures::future::try_join_all(look).await?;
        Ok(there.into_iter().flatten().collect())
    }

    /// The streams that the server's configuration names among what this user may ask. An account that has no
    /// stream itself can't be asked for a list.
    async fn named_in_rights(&self) -> Result<Vec<String>, BusError> {
        let call = self.client.request(USER_INFO, Bytes::new());
        let is_its = |refused: &str| refused == USER_INFO;
        let asked = self
            .refusals
            .unless_refused(is_its, Box::pin(call.into_future()));
        match self.link.unless_lost(asked).await? {
            Ok(Ok(answer)) => Ok(streams_in_rights(&answer.payload)),
            // A user who may not ask that, or a server that does not know it.
            Ok(Err(_)) | Err(_) => Ok(Vec::new()),
        }
    }

    async fn stream_names_of_account(&self) -> Result<Vec<String>, BusError> {
        let call = self.jetstream.stream_names().try_collect();
        let names = self.asked("STREAM.NAMES", call).await?;
        names.map_err(|error| BusError::JetStream(format!("the list of streams: {error}")))
    }

    /// Whether JetStream answers for this account.
    pub async fn check_account(&self) -> Result<(), BusError> {
        let account = self.asked("INFO", self.jetstream.query_account()).await?;
        account.map_err(|error| BusError::JetStream(error.to_string()))?;
        Ok(())
    }

    /// Waits for a call of JetStream's API on a stream, or until the server refuses it. `what`: the
    /// subject's middle, such as `CONSUMER.CREATE`.
    pub(crate) async fn permitted<T>(
        &self,
        what: &str,
        stream: &str,
        call: impl IntoFuture<Output = T>,
    ) -> Result<T, BusError> {
        self.asked(&format!("{what}.{stream}"), call).await
    }

    async fn asked<T>(&self, what: &str, call: impl IntoFuture<Output = T>) -> Result<T, BusError> {
        let subject = format!("$JS.API.{what}");
        let is_its = |refused: &str| {
            let behind = refused.strip_prefix(&subject);
            behind.is_some_and(|behind| behind.is_empty() || behind.starts_with('.'))
        };
        let permitted = self
            .refusals
            .unless_refused(is_its, Box::pin(call.into_future()));
        // The client's own patience begins when the connection has taken the request.
        let patience = self.patience + SEND;
        match tokio::time::timeout(patience, self.link.unless_lost(permitted)).await {
            Ok(answered) => Ok(answered??),
            Err(_) => Err(BusError::JetStream(format!(
                "{what}: no answer within {} s",
                patience.as_secs()
            ))),
        }
    }

    async fn handle(&self, stream: &str) -> Result<Stream<()>, BusError> {
        let handle = self.jetstream.get_stream_no_info(stream).await;
        handle.map_err(|error| failed(stream, &error))
    }

    async fn found(
        &self,
        stream: &str,
        call: impl Future<Output = Result<StreamMessage, RawMessageError>>,
    ) -> Result<Option<Message>, BusError> {
        match self.permitted("STREAM.MSG.GET", stream, call).await? {
            Ok(message) => Ok(Some(message.into())),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(failed(stream, &error)),
        }
    }
}

/// The streams whose state a user may ask for by name, as the server's answer about this user has them.
fn streams_in_rights(answer: &[u8]) -> Vec<String> {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let allowed = &answer["data"]["permissions"]["publish"]["allow"];
    let subjects = allowed.as_array().into_iter().flatten();
    let subjects = subjects.filter_map(Value::as_str);
    let streams = subjects.filter_map(|subject| subject.strip_prefix("$JS.API.STREAM.INFO."));
    let literal = streams.filter(|stream| !stream.contains(['*', '>']));
    literal.map(str::to_owned).collect()
}

fn failed(stream: &str, error: &dyn Display) -> BusError {
    BusError::JetStream(format!("stream {stream}: {error}"))
}
