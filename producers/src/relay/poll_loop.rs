//! The poll loop: poll, settle, publish, again, from one reading of the stream's end to the next. It holds
//! one poll's rows in memory and forgets them on any publish error.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use artstore_runtime::crash;
use artstore_runtime::progress::Problem;
use artstore_runtime::pulse::{self, kept_alive};
use artstore_schemas::envelope::Envelope;
use artstore_schemas::size::MAX_BATCH_BYTES;
use artstore_schemas::subject::subject;
use chrono::{DateTime, Utc};
use futures::StreamExt as _;
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::backfill::differences::{self, Backfill};
use crate::relay::api_url::ApiUrl;
use crate::relay::election::Lease;
use crate::relay::poll::{Poll, Poller};
use crate::relay::publish::{self, Outgoing, PublishFailure, PublishMode};
use crate::relay::relay_error::{Halt, RelayError};
use crate::relay::resume_state::ResumeState;
use crate::relay::source_relay::SourceRelay;
use crate::relay::translated::Translated;

/// The first wait after a poll that found nothing.
const SHORTEST_WAIT: Duration = Duration::from_millis(2);

/// What to do where NATS does not store.
const NOT_STORED: &str = "the rows wait in the source, and nothing is lost. Look at nats-server's log \
    and at its disk: free the disk, and restart nats-server where it goes on refusing";

/// The least size of a batch, in bytes, beside a message of its own.
const SMALLEST_BATCH: usize = 64 * 1024;

/// How the poll loop ended.
pub(crate) enum LoopEnd {
    /// It was asked to stop, and has nothing in flight.
    Stop,
    /// Only the stream knows what is stored.
    ReadAgain,
    /// The backfill is complete, and nothing else was asked for.
    Backfilled,
}

/// From one reading of the stream's end to the next.
pub(crate) struct PollLoop<'a> {
    pub(crate) relay: &'a SourceRelay,
    pub(crate) lease: &'a Lease,
    pub(crate) connection: &'a mut PgConnection,
    pub(crate) poller: Poller,
    pub(crate) resume_state: ResumeState,
    pub(crate) mode: PublishMode,
    /// The end of the stream at which the server last reported a duplicate.
    pub(crate) suspect: &'a mut Option<u64>,
    /// The backfill that is under way. It outlives the poll loop.
    pub(crate) backfill: &'a mut Option<Backfill>,
    /// Whether to end once it is complete.
    pub(crate) until: Until,
    /// What is reported about the element's API while its own table has nothing.
    pub(crate) assumed_url: &'a ApiUrl,
}

/// What is known after publishing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Published {
    /// What became of everything that was sent.
    Known,
    /// Only the stream knows; what is in memory must be forgotten.
    Unknown,
}

/// When a term ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// Only when it is asked to stop.
    Stopped,
    /// Also once the stream is backfilled.
    Backfilled,
}

/// What a step of the backfill did.
pub(super) enum BackfillStep {
    /// Nothing could be done.
    Nothing,
    /// There is more to do.
    More,
    /// The backfill is complete.
    Backfilled,
    /// Only the stream knows what is stored.
    ReadAgain,
}

impl PollLoop<'_> {
    /// Polls and publishes until it is asked to stop, or no longer knows what is stored.
    pub(crate) async fn run(
        &mut self,
        nudges: &mut async_nats::Subscriber,
        stop: &CancellationToken,
    ) -> Result<LoopEnd, RelayError> {
        let longest = self.relay.options.poll_interval.max(SHORTEST_WAIT);
        let mut wait = SHORTEST_WAIT;
        loop {
            self.lease.check()?;
            self.relay.check_limits()?;
            if self.relay.is_exchanged() {
                let source = &self.relay.options.source;
                tracing::warn!(%source, "the stream was recreated or lost its end: reading it again");
                return Ok(LoopEnd::ReadAgain);
            }
            let polled = Instant::now();
            let files = self.backfill.as_ref().and_then(Backfill::wanted);
            let mut poll = tokio::select! {
                poll = self.poller.poll(self.connection, &self.resume_state.seen_positions, files) => poll?,
                // It only reads: nothing is lost when it is cut off.
                () = stop.cancelled() => return Ok(LoopEnd::Stop),
            };
            crash::point("relay.polled");
            let api_url = poll.api_url.take();
            let api_url = api_url.unwrap_or_else(|| self.assumed_url.clone());
            self.relay.translator.reached_at(api_url);
            let chunk = poll.chunk.take();
            let pending = self.build_messages(poll, polled)?;
            crash::point("relay.built");
            let quiet = pending.messages.is_empty();
            // The chunk is of the same moment as these rows: it counts only behind all of them.
            let chunk = chunk.filter(|_| pending.complete);
            if self.publish_all(pending, stop).await? == Published::Unknown {
                return Ok(LoopEnd::ReadAgain);
            }
            if stop.is_cancelled() {
                return Ok(LoopEnd::Stop);
            }
            match self.backfill_step(chunk, stop).await? {
                BackfillStep::ReadAgain => return Ok(LoopEnd::ReadAgain),
                BackfillStep::Backfilled if self.until == Until::Backfilled => {
                    return Ok(LoopEnd::Backfilled);
                }
                BackfillStep::Backfilled | BackfillStep::More => continue,
                BackfillStep::Nothing => {}
            }
            if !quiet {
                wait = SHORTEST_WAIT;
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(longest),
                Some(_) = nudges.next() => wait = SHORTEST_WAIT,
                () = stop.cancelled() => return Ok(LoopEnd::Stop),
            }
        }
    }

    /// Publishes what a poll left, batch by batch; after a stop, none but the current batch.
    async fn publish_all(
        &mut self,
        pending: PendingMessages,
        stop: &CancellationToken,
    ) -> Result<Published, RelayError> {
        let published = self.publish_in_batches(pending.messages, stop).await?;
        if published == Published::Unknown {
            return Ok(published);
        }
        self.relay.progress.update(|state| {
            state.record(&self.resume_state);
            if pending.complete && !stop.is_cancelled() {
                state.backlog.caught_up = Some(pending.polled);
                state.backlog.oldest = None;
                state.problem = None;
            }
        });
        Ok(Published::Known)
    }

    pub(super) async fn publish_in_batches(
        &mut self,
        messages: Vec<Outgoing>,
        stop: &CancellationToken,
    ) -> Result<Published, RelayError> {
        let progress = &self.relay.progress;
        let mut heard = Instant::now();
        for batch in publish::batches(messages, self.relay.batch_bytes.load(Ordering::Relaxed)) {
            // Many batches, each of which takes less than a second: the source's server ends a session
            // that is silent for seconds.
            if heard.elapsed() >= pulse::EVERY {
                pulse::ask(self.connection).await?;
                heard = Instant::now();
            }
            if stop.is_cancelled() {
                return Ok(Published::Known);
            }
            let count = batch.len() as u64;
            let last = batch.last().and_then(|message| message.position);
            let before = self.resume_state.sequence;
            let bodies = self.backfill.as_ref().map(|_| differences::bodies(&batch));
            let span = tracing::info_span!(
                "batch",
                stream = self.relay.options.source.stream(),
                stream.sequence = self.resume_state.sequence + 1,
                events = count,
            );
            let published = self.publish(batch).instrument(span).await?;
            if published == Published::Unknown {
                return Ok(published);
            }
            if let (Some(backfill), Some(bodies)) = (&mut self.backfill, bodies) {
                backfill.published(before, &bodies);
            }
            progress.update(|state| {
                state.sequence = self.resume_state.sequence;
                state.position = last;
                state.published += count;
                state.stored = Some(Instant::now());
                state.waiting = None;
                state.backlog.rows = state.backlog.rows.saturating_sub(count);
                state.problem = None;
            });
            crash::point("relay.published");
        }
        Ok(Published::Known)
    }

    /// Settles what the poll proved aborted, then makes one message of each row, carrying the state
    /// after this message and no later one.
    fn build_messages(
        &mut self,
        poll: Poll,
        polled: Instant,
    ) -> Result<PendingMessages, RelayError> {
        let relay = self.relay;
        let rows = poll.rows.len();
        // A poll that was cut at its limit knows no more than how far the sequence is.
        let above = match poll.rows.last() {
            Some(last) if poll.complete != i64::MAX => {
                u64::try_from(poll.sequence_value - last.position).unwrap_or(0)
            }
            _ => 0,
        };
        let mut oldest: Option<DateTime<Utc>> = None;
        let source = &relay.options.source;
        self.resume_state
            .check_state(source, &poll.identity, poll.sequence_value)?;
        // A gap at or below it was pruned, or may have been: it must not count as aborted.
        self.resume_state
            .check_prune_mark(source, poll.prune_mark)?;
        let found: Vec<i64> = poll.rows.iter().map(|row| row.position).collect();
        let aborted =
            self.resume_state
                .seen_positions
                .settle(poll.xmin_horizon, poll.complete, &found);
        if aborted > 0 {
            tracing::debug!(source = %relay.options.source, aborted, "aborted positions settled");
        }
        let mut messages = Vec::with_capacity(poll.rows.len());
        let mut full = false;
        for row in poll.rows {
            if !self.resume_state.seen_positions.see(row.position) {
                full = true;
                break;
            }
            let event = relay.translator.translate(row);
            oldest = Some(oldest.map_or(event.time, |oldest| oldest.min(event.time)));
            self.resume_state
                .identity
                .get_or_insert_with(|| poll.identity.clone());
            messages.push(self.message(event));
        }
        if let Some(bound) = poll.bound {
            self.resume_state.seen_positions.bound(bound);
        }
        self.resume_state.identity.get_or_insert(poll.identity);
        let was_full = relay.progress.read().full;
        if full && was_full.is_none() {
            tracing::warn!(
                source = %relay.options.source,
                gaps = self.resume_state.seen_positions.gap_count(),
                "too many gaps: waiting for the transactions that hold them; \
                 `artstore status` names the oldest"
            );
        }
        relay.progress.update(|state| {
            state.full = full.then(|| was_full.unwrap_or_else(Instant::now));
            state.polled = Some(Instant::now());
            state.aborted += u64::try_from(aborted).unwrap_or(0);
            state.backlog.rows = rows as u64 + above;
            state.waiting = (rows > 0).then(|| state.waiting.unwrap_or_else(Instant::now));
            // Until everything was published once, the rows' own times are all there is.
            if state.backlog.caught_up.is_none() {
                state.backlog.oldest = oldest;
            }
        });
        Ok(PendingMessages {
            complete: above == 0 && poll.complete == i64::MAX && messages.len() == rows,
            messages,
            polled,
        })
    }

    /// The message after the last one, with the state as it is after it. There was a poll before, so
    /// the source's identity is known.
    pub(super) fn message(&mut self, event: Translated) -> Outgoing {
        let source = &self.relay.options.source;
        let subject = subject(source, event.key, &event.event_type);
        let envelope = Envelope {
            id: event.id,
            source: source.ce_source(),
            event_type: event.event_type,
            subject: event.subject,
            time: event.time,
            traceparent: event.traceparent,
            position: event.position,
            high_water_mark: self.resume_state.seen_positions.high_water_mark(),
            gaps: self.resume_state.seen_positions.gaps(),
            identity: self.resume_state.identity.clone().unwrap_or_default(),
            previous: self.resume_state.last_id,
            snapshot: event.snapshot,
            backfill_due: self.resume_state.backfill_due,
        };
        self.resume_state.last_id = Some(event.id);
        Outgoing {
            id: event.id,
            position: event.position,
            subject,
            headers: envelope.to_headers(),
            body: event.body,
        }
    }

    async fn publish(&mut self, batch: Vec<Outgoing>) -> Result<Published, RelayError> {
        self.lease.check()?;
        self.relay.check_limits()?;
        let expected = self.resume_state.sequence;
        let count = batch.len() as u64;
        let suspected = *self.suspect == Some(expected);
        // One by one, the server reports which message it knows already.
        let mode = if suspected {
            PublishMode::Pipelined
        } else {
            self.mode
        };
        let relay = self.relay;
        let source = &relay.options.source;
        // Whatever ends this before NATS has answered.
        relay.unsettled.store(true, Ordering::Relaxed);
        let published = publish::publish(&relay.bus, mode, batch, expected);
        match kept_alive(self.connection, published).await? {
            Ok(()) => {
                relay.unsettled.store(false, Ordering::Relaxed);
                let bytes = relay.batch_bytes.load(Ordering::Relaxed) * 2;
                let bytes = bytes.min(MAX_BATCH_BYTES);
                relay.batch_bytes.store(bytes, Ordering::Relaxed);
                self.resume_state.sequence += count;
                Ok(Published::Known)
            }
            Err(PublishFailure::Duplicate { id, position }) if suspected => Err(Halt::Duplicate {
                stream: source.stream(),
                id,
                position,
            }
            .into()),
            // A service waits for the right; a command that waits keeps the source's lock.
            Err(failure @ PublishFailure::NotPermitted(_)) if self.until == Until::Backfilled => {
                Err(RelayError::NotStored(failure.to_string()))
            }
            Err(failure) => {
                if matches!(failure, PublishFailure::Duplicate { .. }) {
                    *self.suspect = Some(expected);
                }
                let text = match failure.is_of_the_bus() {
                    true => format!("{failure}; {NOT_STORED}"),
                    false => failure.to_string(),
                };
                if failure.is_of_the_bus() {
                    // On a slow line a smaller one may get through before the connection counts as lost.
                    let bytes = relay.batch_bytes.load(Ordering::Relaxed) / 2;
                    let bytes = bytes.max(SMALLEST_BATCH);
                    relay.batch_bytes.store(bytes, Ordering::Relaxed);
                }
                let known = relay.progress.read().problem;
                if known.is_none_or(|known| known.text != text) {
                    tracing::warn!(%source, error = %failure, "reading the stream's end again");
                }
                relay.progress.update(|state| {
                    state.problem = Some(Problem {
                        text,
                        halted: false,
                    });
                });
                Ok(Published::Unknown)
            }
        }
    }
}

/// What a poll left to publish.
struct PendingMessages {
    messages: Vec<Outgoing>,
    /// When the poll began.
    polled: Instant,
    /// Whether everything that was finished by then is in `messages`.
    complete: bool,
}
