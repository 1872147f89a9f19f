//! Stepping aside for an operator's command. The command asks on the source's control subject, and every
//! relay of the source stops asking for the lock for a moment. The active one first finishes its batch and
//! releases the lock. [`crate::relay::lock_handover`] is the other side.

use std::time::Duration;

use artstore_bus::connection::Bus;
use artstore_bus::inbox::is_inbox;
use artstore_schemas::source::Source;
use async_nats::{Message, Subscriber};
use futures::StreamExt as _;
use tokio::time::{Instant, timeout};

use crate::relay::relay_error::RelayError;

/// What a command asks for.
pub(crate) const STEP_ASIDE: &str = "step aside";

/// How long a relay that stepped aside leaves the lock to the command.
pub(crate) const PAUSE: Duration = Duration::from_secs(3);

/// For so long after it stepped aside a relay heeds no request, so that many of them do not keep it from publishing.
/// A command that waits asks again.
const UNDISTURBED: Duration = Duration::from_secs(3);

/// How long the connection may take to accept the answer.
const ANSWER: Duration = Duration::from_secs(1);

/// A relay's subscription to its control subject.
pub(crate) struct Control {
    bus: Bus,
    requests: Subscriber,
    /// When the relay last continued after it had stepped aside.
    continued: Option<Instant>,
}

impl Control {
    pub(crate) async fn open(bus: &Bus, source: &Source) -> Result<Self, RelayError> {
        let requests = bus.subscribe(source.control_subject()).await?;
        Ok(Self {
            bus: bus.clone(),
            requests,
            continued: None,
        })
    }

    /// Waits for a request. Anything else on the subject is ignored.
    pub(crate) async fn request(&mut self) -> Message {
        loop {
            match self.requests.next().await {
                Some(message) if message.payload == STEP_ASIDE.as_bytes() => {
                    let undisturbed = |at: Instant| at.elapsed() < UNDISTURBED;
                    if !self.continued.is_some_and(undisturbed) {
                        return message;
                    }
                    tracing::debug!("a request to step aside, just after one");
                }
                Some(_) => tracing::debug!("a request that is not known"),
                // The client is closed: the relay ends for other reasons.
                None => std::future::pending().await,
            }
        }
    }

    /// The relay asks for the lock again.
    pub(crate) fn continues(&mut self) {
        self.continued = Some(Instant::now());
    }

    /// Reports that the lock is released. Only into an inbox: whoever asks names the subject of the
    /// answer, and could name one that only a relay may publish on.
    pub(crate) async fn answer(&self, request: Message) {
        let Some(reply) = request.reply.filter(|reply| is_inbox(reply)) else {
            return;
        };
        // The command looks at the lock anyway.
        let answered = self.bus.client.publish(reply, "stepped aside".into());
        if !matches!(timeout(ANSWER, answered).await, Ok(Ok(()))) {
            tracing::debug!("the command got no answer that the lock is free");
        }
    }
}
