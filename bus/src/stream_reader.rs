//! The one reader of streams: it delivers the messages of a [`Selection`], in order, and no others. Each
//! wait has a deadline. What a hole, an early end or a foreign message in the stream means, its caller
//! decides.
//!
//! An inbox is a subject like any other: whoever may create consumers can have another stream's
//! messages delivered to it. The subject to acknowledge a message on names the stream and the
//! consumer that it comes from, and the server writes it. A delivery of another consumer is dropped
//! with a warning: it must neither be taken for ours nor stop a reader.
//!
//! A consumer that somebody pauses, removes or changes may keep sending heartbeats and deliver
//! nothing. Where nothing comes while the stream holds more, the consumer is recreated.

use std::fmt;
use std::time::Duration;

use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use async_nats::jetstream::message;
use chrono::{DateTime, Utc};
use tokio::time::{Instant, timeout, timeout_at};

use crate::bus_error::BusError;
use crate::connection::Bus;
use crate::message::Message;
use crate::pull::Inbox;
use crate::selection::Selection;

/// After so long without a message the stream is asked whether it contains more.
const QUIET: Duration = Duration::from_secs(3);

/// A process that did not run for so long was frozen, or had no processor.
const STOOD_STILL: Duration = Duration::from_millis(500);

/// What came meanwhile is read in less.
const MOMENT: Duration = Duration::from_secs(1);

/// While recreating the consumer does not help, the stream is asked less and less often, up to this.
const LONGEST_QUIET: Duration = Duration::from_secs(30);

/// How long asking the stream, and recreating the consumer, may take. Sessions with a database wait meanwhile.
const ASKED: Duration = Duration::from_secs(2);

/// How often a reader that needs the next message recreates a lost consumer before it gives up.
const ATTEMPTS: u32 = 5;

/// The most messages of others that are dropped in one turn.
const MOST_FOREIGN: usize = 1_000;

/// What is left to be read up to an end.
#[derive(Debug, Clone, Copy)]
struct Left {
    to: u64,
    /// How many messages there are at most; 0 at the end.
    messages: u64,
}

impl Left {
    /// Counts a message. False: it is behind the end.
    fn take(&mut self, sequence: u64) -> bool {
        self.messages = match sequence >= self.to {
            true => 0,
            false => self.messages.saturating_sub(1),
        };
        sequence <= self.to
    }
}

/// Why nothing more is read. A reader that can't be opened has failed as any request has ([`BusError`]).
#[derive(Debug, Clone, thiserror::Error)]
#[error("stream {stream}: {reason}")]
pub struct ReadError {
    /// The stream.
    pub stream: String,
    /// What happened.
    pub reason: String,
}

impl From<ReadError> for BusError {
    fn from(error: ReadError) -> Self {
        Self::JetStream(error.to_string())
    }
}

/// Reads one stream, by a consumer of its own.
pub struct StreamReader {
    bus: Bus,
    stream: String,
    config: pull::Config,
    consumer: String,
    /// When the consumer was made.
    created: DateTime<Utc>,
    /// How many messages there were for it then.
    pending: u64,
    /// What is left to be read; none where there is no end.
    left: Option<Left>,
    inbox: Inbox,
    /// How many of its deliveries came. The consumer counts them, too: both have to agree.
    delivered: u64,
    /// The last sequence of the stream that came.
    last: u64,
    /// When a message came last, or the stream was asked whether it holds more.
    quiet_since: Instant,
    quiet: Duration,
    /// When the last call stopped waiting, or should have.
    waited: Instant,
    /// Up to here the stream contains nothing that this consumer would deliver.
    nothing_up_to: u64,
    /// Whether messages of others came.
    warned: bool,
    /// How often the consumer was lost since the last message.
    lost: u32,
    /// Why the consumer was recreated, until it is asked for.
    recreated: Option<String>,
}

impl StreamReader {
    /// Begins to read.
    pub async fn open(bus: &Bus, stream: &str, selection: Selection) -> Result<Self, BusError> {
        let to = selection.to;
        let mut reader = Self::open_with(bus, stream, selection.config()).await?;
        let messages = reader.pending;
        reader.left = to.map(|to| Left { to, messages });
        Ok(reader)
    }

    async fn open_with(bus: &Bus, stream: &str, config: pull::Config) -> Result<Self, BusError> {
        let consumer = bus.create_consumer(stream, config.clone()).await?;
        let info = consumer.cached_info().clone();
        let inbox = Inbox::open(bus, stream, &info.name, info.created).await?;
        Ok(Self {
            bus: bus.clone(),
            stream: stream.to_owned(),
            config,
            consumer: info.name,
            created: info.created,
            pending: info.num_pending,
            left: None,
            inbox,
            delivered: 0,
            last: 0,
            quiet_since: Instant::now(),
            quiet: QUIET,
            waited: Instant::now(),
            nothing_up_to: 0,
            warned: false,
            lost: 0,
            recreated: None,
        })
    }

    /// The next message, waiting up to this long; none where nothing came, and at the end. After an error
    /// nothing more comes.
    pub async fn next_within(&mut self, patience: Duration) -> Result<Option<Message>, ReadError> {
        let until = Instant::now() + patience;
        self.after_standstill();
        loop {
            let look = self.quiet_since + self.quiet;
            self.waited = until.min(look);
            if let Ok(next) = timeout_at(self.waited, self.next()).await {
                self.waited = Instant::now();
                return next;
            }
            self.after_standstill();
            if Instant::now() >= self.quiet_since + self.quiet {
                self.ask_stream().await?;
            } else if Instant::now() >= until {
                return Ok(None);
            }
        }
    }

    /// A process that was stopped, or had no processor, has not read what came meanwhile: the stream is
    /// asked a moment later.
    fn after_standstill(&mut self) {
        if self.waited.elapsed() >= STOOD_STILL {
            self.waited = Instant::now();
            self.quiet_since = self.quiet_since.max(self.waited + MOMENT - self.quiet);
        }
    }

    /// As [`Self::next_within`], but a consumer that is lost is recreated some times before that is
    /// an error: for readers that would have to begin again from the start.
    pub async fn next_persistently(
        &mut self,
        patience: Duration,
    ) -> Result<Option<Message>, ReadError> {
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let ended = match self.next_within(left).await {
                Ok(next) => return Ok(next),
                Err(ended) => ended,
            };
            self.lost += 1;
            if self.lost > ATTEMPTS {
                return Err(ended);
            }
            tracing::debug!(%ended, "the consumer is recreated");
            tokio::time::sleep(Duration::from_millis(100) * self.lost).await;
            let fresh = self.reopened().await.map_err(|error| self.ended(&error))?;
            self.replace(fresh);
        }
    }

    /// As [`Self::next_persistently`], where there is a message or the end: that neither comes is an error.
    pub async fn next_or_end(&mut self, patience: Duration) -> Result<Option<Message>, ReadError> {
        let next = self.next_persistently(patience).await?;
        if next.is_none() && !self.is_at_end() {
            let seconds = patience.as_secs();
            return Err(self.ended(&format!("no message came for {seconds} s")));
        }
        Ok(next)
    }

    /// A message that has arrived already; none where none has.
    pub fn now(&mut self) -> Option<Result<Message, ReadError>> {
        for _ in 0..MOST_FOREIGN {
            if self.is_at_end() {
                break;
            }
            let next = self.inbox.now()?;
            if let Some(delivery) = self.accept(next) {
                return Some(delivery);
            }
        }
        None
    }

    /// Why the consumer was recreated since this was asked last; none where it was not.
    pub fn take_recreated(&mut self) -> Option<String> {
        self.recreated.take()
    }

    /// Removes the consumer; the server does that by itself later.
    pub async fn close(self) {
        let Self {
            bus,
            stream,
            consumer,
            inbox,
            ..
        } = self;
        drop(inbox);
        remove(&bus, &stream, &consumer).await;
    }

    fn is_at_end(&self) -> bool {
        self.left.is_some_and(|left| left.messages == 0)
    }

    /// None at the end.
    async fn next(&mut self) -> Result<Option<Message>, ReadError> {
        while !self.is_at_end() {
            let next = self.inbox.next().await;
            if let Some(delivery) = self.accept(next) {
                return delivery.map(Some);
            }
        }
        Ok(None)
    }

    /// Whether what came is a message of ours: none where another consumer delivers it, or it is behind the end.
    fn accept(
        &mut self,
        next: Result<message::Message, String>,
    ) -> Option<Result<Message, ReadError>> {
        let message = match next {
            Ok(message) => message,
            Err(reason) => return Some(Err(self.ended(&reason))),
        };
        let ours = match message.info() {
            Ok(info) if info.stream == self.stream && info.consumer == self.consumer => {
                Some((info.stream_sequence, info.published, info.consumer_sequence))
            }
            Ok(_) | Err(_) => None,
        };
        let Some((sequence, published, count)) = ours else {
            self.drop_foreign(&message);
            return None;
        };
        self.inbox.count(&message);
        self.delivered += 1;
        if count != self.delivered {
            return Some(Err(self.ended(&"messages were lost on the way")));
        }
        self.last = sequence;
        self.quiet_since = Instant::now();
        self.quiet = QUIET;
        self.lost = 0;
        if let Some(left) = &mut self.left
            && !left.take(sequence)
        {
            return None;
        }
        let (message, _) = message.split();
        Some(Ok(Message::delivered(sequence, published, message)))
    }

    fn drop_foreign(&mut self, message: &message::Message) {
        if std::mem::replace(&mut self.warned, true) {
            return;
        }
        let by = message.info().ok();
        tracing::warn!(
            stream = self.stream,
            consumer = self.consumer,
            subject = %message.subject,
            by_stream = by.as_ref().map(|info| info.stream),
            by_consumer = by.as_ref().map(|info| info.consumer),
            "messages that this consumer did not deliver came into its inbox and are dropped: \
             somebody makes consumers that deliver there; look at who may make consumers \
             (NATS permissions)"
        );
    }

    /// Nothing came for a while. Where the stream holds more, the consumer is recreated.
    async fn ask_stream(&mut self) -> Result<(), ReadError> {
        let looked = timeout(ASKED, self.recreate_if_stalled()).await;
        self.quiet_since = Instant::now();
        match looked {
            Ok(Ok(None)) | Err(_) => Ok(()),
            Ok(Ok(Some(reason))) => Err(self.ended(&reason)),
            // Missed heartbeats mean that the bus can't be reached.
            Ok(Err(error)) if error.is_transient() => {
                tracing::debug!(stream = self.stream, %error, "the stream was not asked");
                Ok(())
            }
            Ok(Err(error)) => Err(self.ended(&error)),
        }
    }

    /// Recreates the consumer where the stream has more for it. A reason where nothing more can be read.
    async fn recreate_if_stalled(&mut self) -> Result<Option<&'static str>, BusError> {
        let info = self.bus.stream_info(&self.stream).await?;
        let end = info.state.last_sequence;
        if end <= self.last.max(self.nothing_up_to) {
            return Ok(None);
        }
        if info.created > self.created {
            return Ok(Some("it was recreated while it was read"));
        }
        let fresh = self.reopened().await?;
        if fresh.pending == 0 {
            self.nothing_up_to = end;
            fresh.close().await;
            return Ok(None);
        }
        let silent = self.quiet_since.elapsed().as_secs();
        let (stream, consumer) = (self.stream.clone(), self.consumer.clone());
        let quiet = (self.quiet * 2).min(LONGEST_QUIET);
        self.replace(fresh);
        self.quiet = quiet;
        let state = state(&self.bus, &stream, &consumer).await;
        let reason = format!(
            "consumer {consumer} of stream {stream} delivered nothing for {silent} s, though the \
             stream holds more ({state}); it was recreated"
        );
        tracing::warn!(stream, "{reason}");
        self.recreated = Some(reason);
        remove(&self.bus, &stream, &consumer).await;
        Ok(None)
    }

    /// A reader with a new consumer, which continues after the last message.
    async fn reopened(&self) -> Result<Self, BusError> {
        let mut config = self.config.clone();
        if self.last > 0 {
            config.deliver_policy = DeliverPolicy::ByStartSequence {
                start_sequence: self.last + 1,
            };
        }
        Self::open_with(&self.bus, &self.stream, config).await
    }

    /// Exchanges consumer and inbox; what was read stays known.
    fn replace(&mut self, fresh: Self) {
        let Self {
            last, lost, left, ..
        } = *self;
        let (warned, recreated) = (self.warned, self.recreated.take());
        *self = fresh;
        (self.last, self.lost, self.left) = (last, lost, left);
        (self.warned, self.recreated) = (warned, recreated);
    }

    fn ended(&self, reason: &dyn fmt::Display) -> ReadError {
        ReadError {
            stream: self.stream.clone(),
            reason: reason.to_string(),
        }
    }
}

/// What became of a consumer, for people.
async fn state(bus: &Bus, stream: &str, consumer: &str) -> &'static str {
    match bus.consumer_info(stream, consumer).await {
        Ok(Some(found)) if found.paused => "somebody has paused it",
        Ok(Some(_)) => "somebody may have changed it",
        Ok(None) | Err(_) => "somebody may have removed it",
    }
}

async fn remove(bus: &Bus, stream: &str, consumer: &str) {
    if let Err(error) = bus.delete_consumer(stream, consumer).await {
        tracing::debug!(stream, %error, "the server removes the consumer by itself");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_ends_at_its_last_sequence_or_after_what_was_there() {
        // The end, what was there when it began, what came, and what of it is read before the end.
        let cases: [(u64, u64, &[u64], &[u64]); 6] = [
            (5, 5, &[1, 2, 3, 4, 5], &[1, 2, 3, 4, 5]),
            (5, 9, &[4, 5, 6], &[4, 5]),
            // Neither a hole at the end nor one before it is waited for.
            (5, 9, &[3, 6, 7], &[3]),
            (5, 2, &[1, 3, 6], &[1, 3]),
            (5, 0, &[6], &[]),
            (u64::MAX, 2, &[7, 9, 10], &[7, 9]),
        ];
        for (to, messages, came, expected) in cases {
            let mut left = Left { to, messages };
            let mut read = Vec::new();
            for sequence in came {
                if left.messages == 0 {
                    break;
                }
                read.extend(left.take(*sequence).then_some(*sequence));
            }
            assert_eq!((&*read, left.messages), (expected, 0), "{to} {messages}");
        }
    }
}
