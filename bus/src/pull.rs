//! The client's side of a pull consumer: it asks the server for messages and receives what comes into its
//! inbox. An inbox is a subject like any other, and whoever sees the request can publish to it. So a status
//! without a message (a request has ended, the consumer is removed, a heartbeat) is only a hint: the server
//! is then asked for the truth, at most every [`CHECKS`].

use std::time::Duration;

use async_nats::jetstream::message::Message;
use async_nats::{StatusCode, Subscriber};
use chrono::{DateTime, Utc};
use futures::{FutureExt as _, StreamExt as _};
use serde_json::json;
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, sleep_until, timeout};

use crate::bus_error::BusError;
use crate::connection::Bus;
use crate::refusals::Watch;

/// The server is asked after hints at most so often.
const CHECKS: Duration = Duration::from_millis(500);

/// How long its answer may take.
const LOOK: Duration = Duration::from_secs(2);

/// The most of what is no message that is heard in one turn.
const MOST_HINTS: usize = 1_000;

/// That the server has removed the consumer.
const DELETED: &str = "Consumer Deleted";

/// The most messages of one request; far below what a subscription holds.
const MESSAGES: usize = 2_000;

/// The most bytes of one request.
const BYTES: usize = 8 * 1024 * 1024;

/// The server reports this often that it has nothing; two missing reports are taken for a hint.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// A request lives on the server for two heartbeats, the least that it takes, and this. One that did not
/// reach the server shows within that time, also where messages still come.
const EXPIRES: Duration = Duration::from_secs(1);

/// Where the messages of a consumer come.
pub(crate) struct Inbox {
    bus: Bus,
    stream: String,
    consumer: String,
    /// When the consumer was made.
    created: DateTime<Utc>,
    /// The subject of requests.
    requests: String,
    /// The subject of what comes.
    subject: String,
    arrivals: Subscriber,
    refusals: Watch,
    /// What the requests may still bring, by our own count of messages. Too little only means that the next
    /// request comes early; too much is found out by a hint.
    left: (usize, usize),
    /// When something came last, or the server reported that all is well.
    heard: Instant,
    /// Why the server is to be asked.
    hint: Option<String>,
    checked: Option<Instant>,
    /// Whether a hint was false.
    warned: bool,
}

impl Inbox {
    pub(crate) async fn open(
        bus: &Bus,
        stream: &str,
        consumer: &str,
        created: DateTime<Utc>,
    ) -> Result<Self, BusError> {
        let subject = bus.client.new_inbox();
        let arrivals = bus.subscribe(subject.clone()).await?;
        Ok(Self {
            bus: bus.clone(),
            stream: stream.to_owned(),
            consumer: consumer.to_owned(),
            created,
            requests: format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"),
            subject,
            arrivals,
            refusals: bus.refusals.watch(),
            left: (0, 0),
            heard: Instant::now(),
            hint: None,
            checked: None,
            warned: false,
        })
    }

    /// The next message, whoever sent it. An error: nothing more comes. May be dropped at any time.
    pub(crate) async fn next(&mut self) -> Result<Message, String> {
        loop {
            // Ahead of what has come: the next messages are on their way while these are worked on.
            if self.left.0 <= MESSAGES / 2 || self.left.1 <= BYTES / 2 {
                self.request().await?;
            }
            if let Some(message) = self.arrived()? {
                return Ok(message);
            }
            let now = Instant::now();
            let silent = self.heard + HEARTBEAT * 2;
            if self.hint.is_none() && now >= silent {
                self.hint = Some("no heartbeat comes".to_owned());
            }
            let check = self.checked.map_or(now, |checked| checked + CHECKS);
            if let Some(hint) = self.hint.clone().filter(|_| now >= check) {
                self.check(&hint).await?;
                continue;
            }
            let until = match self.hint {
                Some(_) => check,
                None => silent,
            };
            let requests = &self.requests;
            tokio::select! {
                biased;
                came = self.arrivals.next() => {
                    if let Some(message) = self.hear(came)? {
                        return Ok(message);
                    }
                }
                change = self.refusals.change(|refused| refused == requests) => match change {
                    Err(refusal) => return Err(refusal.to_string()),
                    Ok(()) => self.hint = Some("the connection was lost".to_owned()),
                },
                () = sleep_until(until) => {}
            }
        }
    }

    /// What has come already; none where nothing has.
    pub(crate) fn now(&mut self) -> Option<Result<Message, String>> {
        self.arrived().transpose()
    }

    /// A message of the consumer's own has come.
    pub(crate) fn count(&mut self, message: &Message) {
        let (messages, bytes) = &mut self.left;
        *messages = messages.saturating_sub(1);
        *bytes = bytes.saturating_sub(message.length);
    }

    fn arrived(&mut self) -> Result<Option<Message>, String> {
        for _ in 0..MOST_HINTS {
            // Under the runtime's budget for one turn, 128 messages would look like all there are.
            let Some(came) = unconstrained(self.arrivals.next()).now_or_never() else {
                break;
            };
            if let Some(message) = self.hear(came)? {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// None for what is no message.
    fn hear(&mut self, came: Option<async_nats::Message>) -> Result<Option<Message>, String> {
        let message = came.ok_or("the connection is closed")?;
        self.heard = Instant::now();
        // What a stream holds has a subject to acknowledge it on, whatever else is written on it.
        if message.reply.is_some() || message.status.is_none() {
            let context = self.bus.jetstream.clone();
            return Ok(Some(Message { message, context }));
        }
        let description = message.description.as_deref().unwrap_or_default();
        let is_hint = message.status != Some(StatusCode::IDLE_HEARTBEAT);
        if is_hint && (self.hint.is_none() || description == DELETED) {
            let status = message.status.map(|status| status.to_string());
            self.hint = Some(format!("{} {description}", status.unwrap_or_default()));
        }
        Ok(None)
    }

    async fn request(&mut self) -> Result<(), String> {
        let request = json!({
            "batch": MESSAGES,
            "max_bytes": BYTES,
            "expires": nanoseconds(HEARTBEAT * 2 + EXPIRES),
            "idle_heartbeat": nanoseconds(HEARTBEAT),
        });
        let (subject, reply) = (self.requests.clone(), self.subject.clone());
        let client = &self.bus.client;
        let sent = client.publish_with_reply(subject, reply, request.to_string().into());
        sent.await.map_err(|error| error.to_string())?;
        self.left = (
            (self.left.0 + MESSAGES).min(MESSAGES * 2),
            (self.left.1 + BYTES).min(BYTES * 2),
        );
        Ok(())
    }

    /// Asks the server what became of the consumer and its requests. Where there are fewer than two of
    /// them, the next one is due.
    async fn check(&mut self, hint: &str) -> Result<(), String> {
        self.checked = Some(Instant::now());
        let asked = self.bus.consumer_info(&self.stream, &self.consumer);
        let info = match timeout(LOOK, asked).await {
            Ok(Ok(Some(info))) if info.created == self.created => info,
            Ok(Ok(_)) => return Err(format!("its consumer is gone ({hint})")),
            Ok(Err(error)) => return Err(format!("{hint}, and then: {error}")),
            Err(_) => return Err(format!("{hint}, and the server does not answer")),
        };
        if hint.contains(DELETED) && !std::mem::replace(&mut self.warned, true) {
            tracing::warn!(
                stream = self.stream,
                consumer = self.consumer,
                "somebody said that this consumer is removed, which it is not: it is read on; look at \
                 who may publish to inboxes (NATS permissions)"
            );
        }
        self.hint = None;
        self.heard = Instant::now();
        if info.num_waiting < 2 {
            self.left = (0, 0);
        }
        Ok(())
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
