//! The relay's loop: poll, settle, publish, again. It holds nothing that the stream does not hold;
//! whatever goes wrong, it forgets what it knew and reads the stream's end.
//!
//! ```text
//! elected → stream's end read and compared with the source → poll → messages → published ┐
//!    ↑                         ↑                              ↑                          │
//!    └── lock or source lost ──┴── any publish error ─────────┴──────────────────────────┘
//! ```

use std::time::Duration;

use artstore_schemas::bus::{Bus, BusError};
use artstore_schemas::crash;
use artstore_schemas::envelope::Envelope;
use artstore_schemas::retry::Retry;
use artstore_schemas::size::{MAX_BATCH_BYTES, MAX_BATCH_MESSAGES};
use artstore_schemas::source::Source;
use artstore_schemas::subject::subject;
use futures::StreamExt as _;
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::watch;

use crate::election::{self, Lease};
use crate::publish::{self, Outgoing, PublishFailure, PublishMode};
use crate::relay_error::{Halt, RelayError};
use crate::source::{Poll, Poller, SourceTable, snapshot};
use crate::source_check;
use crate::tail::{self, Tail};
use crate::translate::{Translated, Translator};

/// The first wait after a poll that found nothing.
const SHORTEST_WAIT: Duration = Duration::from_millis(2);

/// How one source is relayed.
#[derive(Debug, Clone)]
pub struct RelayOptions {
    /// The source.
    pub source: Source,
    /// Its database: a direct connection to the primary.
    pub database: PgConnectOptions,
    /// Where the element's API is reached, as events carry it.
    pub api_url: Option<String>,
    /// How messages are published.
    pub mode: PublishMode,
    /// The longest wait between two polls of a quiet source; below the five seconds after which the
    /// server takes a silent relay for a frozen one.
    pub poll_interval: Duration,
}

/// Everything that can be known to be wrong with a source before it is relayed. Nothing is changed.
pub async fn check(bus: &Bus, options: &RelayOptions) -> Result<(), RelayError> {
    Relay::new(bus.clone(), options.clone()).preflight().await
}

/// Relays one source until `stop` says so. An error at the start comes back at once, with nothing
/// published; later ones are logged and tried again, since a person or a restart may mend them.
/// Returns the error that it stood at when it was stopped.
pub async fn run(
    bus: Bus,
    options: RelayOptions,
    mut stop: watch::Receiver<bool>,
) -> Result<(), RelayError> {
    let relay = Relay::new(bus, options);
    relay.preflight().await?;
    let mut retry = Retry::new(Duration::from_millis(100), Duration::from_secs(5));
    let mut told = String::new();
    loop {
        let ended = tokio::select! {
            ended = relay.session(stop.clone()) => ended,
            () = stopped(&mut stop) => return Ok(()),
        };
        let Err(error) = ended else { return Ok(()) };
        let text = error.to_string();
        // Said once: a thing that a person has to mend stays the same for hours.
        if text != told {
            let source = relay.options.source.to_string();
            if error.needs_a_person() {
                tracing::error!(source, error = text, "the relay has halted");
            } else {
                tracing::warn!(source, error = text, "the relay starts again");
            }
            told = text;
        }
        tokio::select! {
            _ = retry.wait() => {}
            () = stopped(&mut stop) => {
                return if error.needs_a_person() { Err(error) } else { Ok(()) };
            }
        }
    }
}

/// Resolves when the process is asked to stop.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The sender lives as long as the process: when it is gone, stopping is right as well.
    if stop.wait_for(|stop| *stop).await.is_err() {
        tracing::debug!("nobody is left to ask for a stop");
    }
}

struct Relay {
    bus: Bus,
    options: RelayOptions,
    translator: Translator,
    table: SourceTable,
}

enum Round {
    Stop,
    ReadAgain,
}

impl Relay {
    fn new(bus: Bus, options: RelayOptions) -> Self {
        Self {
            translator: Translator::new(options.source.clone(), options.api_url.clone()),
            table: SourceTable::of(&options.source),
            bus,
            options,
        }
    }

    /// Everything that can be known to be wrong before the election.
    async fn preflight(&self) -> Result<(), RelayError> {
        election::refuse_pooler(&self.options.database).await?;
        let mut connection = self.connect().await?;
        let tail = tail::read(&self.bus, &self.options.source).await?;
        self.compare(&tail, &mut connection).await
    }

    async fn connect(&self) -> Result<PgConnection, RelayError> {
        let name = format!("artstore relay {}", self.options.source);
        let mut connection = election::connect(&self.options.database, &name).await?;
        source_check::check(&mut connection, &self.table).await?;
        Ok(connection)
    }

    /// One life as the only relay of its source.
    async fn session(&self, mut stop: watch::Receiver<bool>) -> Result<(), RelayError> {
        let source = &self.options.source;
        let lease = Lease::acquire(&self.options.database, source, || {
            tracing::info!(%source, "standing by: another relay is active");
        })
        .await?;
        crash::point("relay.elected");
        let mut connection = self.connect().await?;
        lease.check_direct(&mut connection, source).await?;
        let info = self.bus.stream_info(&source.stream()).await?;
        let mode = self.options.mode.on(info.config.num_replicas);
        let mut nudges = self
            .bus
            .client
            .subscribe(source.nudge_subject())
            .await
            .map_err(|e| BusError::JetStream(e.to_string()))?;
        tracing::info!(%source, ?mode, "relay active");
        let mut suspect = None;
        loop {
            lease.check()?;
            let tail = tail::read(&self.bus, source).await?;
            self.compare(&tail, &mut connection).await?;
            crash::point("relay.reconciled");
            let mut run = Run {
                relay: self,
                lease: &lease,
                connection: &mut connection,
                poller: Poller::new(source),
                tail,
                mode,
                suspect: &mut suspect,
            };
            match run.go(&mut nudges, &mut stop).await? {
                Round::Stop => return Ok(()),
                Round::ReadAgain => {}
            }
        }
    }

    /// Whether the source is the one that the stream was written from, and still has it all.
    async fn compare(&self, tail: &Tail, connection: &mut PgConnection) -> Result<(), RelayError> {
        let seen = snapshot(connection, &self.table.sequence).await?;
        self.check_state(tail, &seen.identity, seen.sequence_value)?;
        tail::compare(&self.bus, &self.options.source, tail, connection).await
    }

    fn check_state(&self, tail: &Tail, identity: &str, sequence: i64) -> Result<(), RelayError> {
        let stream = || self.options.source.stream();
        if let Some(in_stream) = tail.identity.as_ref().filter(|i| *i != identity) {
            return Err(Halt::OtherIdentity {
                stream: stream(),
                in_stream: in_stream.clone(),
                here: identity.to_owned(),
            }
            .into());
        }
        if sequence < tail.gaps.high() {
            return Err(Halt::SequenceBehind {
                stream: stream(),
                high: tail.gaps.high(),
                sequence,
            }
            .into());
        }
        Ok(())
    }
}

/// From one reading of the stream's end to the next.
struct Run<'a> {
    relay: &'a Relay,
    lease: &'a Lease,
    connection: &'a mut PgConnection,
    poller: Poller,
    tail: Tail,
    mode: PublishMode,
    /// The end of the stream at which the server last spoke of a duplicate.
    suspect: &'a mut Option<u64>,
}

impl Run<'_> {
    async fn go(
        &mut self,
        nudges: &mut async_nats::Subscriber,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Round, RelayError> {
        let longest = self.relay.options.poll_interval.max(SHORTEST_WAIT);
        let mut wait = SHORTEST_WAIT;
        loop {
            self.lease.check()?;
            let poll = self.poller.poll(self.connection, &self.tail.gaps).await?;
            crash::point("relay.polled");
            let messages = self.take(poll)?;
            crash::point("relay.built");
            if messages.is_empty() {
                tokio::select! {
                    () = tokio::time::sleep(wait) => wait = (wait * 2).min(longest),
                    Some(_) = nudges.next() => wait = SHORTEST_WAIT,
                    () = stopped(stop) => return Ok(Round::Stop),
                }
                continue;
            }
            wait = SHORTEST_WAIT;
            for batch in batches(messages) {
                if !self.publish(batch).await? {
                    return Ok(Round::ReadAgain);
                }
                crash::point("relay.published");
            }
            if *stop.borrow() {
                return Ok(Round::Stop);
            }
        }
    }

    /// Settles what the poll proved void, then makes one message of each row, carrying the state
    /// after this message and no later one.
    fn take(&mut self, poll: Poll) -> Result<Vec<Outgoing>, RelayError> {
        let relay = self.relay;
        relay.check_state(&self.tail, &poll.identity, poll.sequence_value)?;
        let found: Vec<i64> = poll.rows.iter().map(|row| row.position).collect();
        let void = self.tail.gaps.settle(poll.horizon, poll.complete, &found);
        if void > 0 {
            tracing::debug!(source = %relay.options.source, void, "numbers of aborted transactions");
        }
        let mut messages = Vec::with_capacity(poll.rows.len());
        for row in poll.rows {
            if !self.tail.gaps.see(row.position) {
                tracing::warn!(
                    source = %relay.options.source,
                    holes = self.tail.gaps.holes(),
                    "too many numbers are missing: waiting for the transactions that hold them"
                );
                break;
            }
            let message = self.message(relay.translator.translate(row), &poll.identity);
            messages.push(message);
        }
        if let Some(bound) = poll.bound {
            self.tail.gaps.bound(bound);
        }
        self.tail.identity.get_or_insert(poll.identity);
        Ok(messages)
    }

    fn message(&mut self, event: Translated, identity: &str) -> Outgoing {
        let source = &self.relay.options.source;
        let subject = subject(source, event.key, &event.event_type);
        let envelope = Envelope {
            id: event.id,
            source: source.ce_source(),
            event_type: event.event_type,
            subject: event.subject,
            time: event.time,
            traceparent: event.traceparent,
            position: Some(event.position),
            high: self.tail.gaps.high(),
            missing: self.tail.gaps.missing(),
            identity: identity.to_owned(),
            previous: self.tail.last_id,
        };
        self.tail.last_id = Some(event.id);
        Outgoing {
            id: event.id,
            position: event.position,
            subject,
            headers: envelope.to_headers(),
            body: event.body,
        }
    }

    /// True: stored. False: only the stream knows; what is in memory must be forgotten.
    async fn publish(&mut self, batch: Vec<Outgoing>) -> Result<bool, RelayError> {
        self.lease.check()?;
        let expected = self.tail.sequence;
        let count = batch.len() as u64;
        let suspected = *self.suspect == Some(expected);
        // One by one, the server says which message it knows already.
        let mode = if suspected {
            PublishMode::Pipelined
        } else {
            self.mode
        };
        let source = &self.relay.options.source;
        match publish::publish(&self.relay.bus, mode, batch, expected).await {
            Ok(()) => {
                self.tail.sequence += count;
                Ok(true)
            }
            Err(PublishFailure::Duplicate { id, position }) if suspected => Err(Halt::Duplicate {
                stream: source.stream(),
                id,
                position,
            }
            .into()),
            Err(failure) => {
                if matches!(failure, PublishFailure::Duplicate { .. }) {
                    *self.suspect = Some(expected);
                }
                tracing::warn!(%source, error = %failure, "reading the stream's end again");
                Ok(false)
            }
        }
    }
}

/// Cuts messages into batches that the server takes as one.
fn batches(messages: Vec<Outgoing>) -> Vec<Vec<Outgoing>> {
    let mut batches: Vec<Vec<Outgoing>> = Vec::new();
    let mut bytes = 0;
    for message in messages {
        let size = message.size();
        match batches.last_mut() {
            Some(batch) if batch.len() < MAX_BATCH_MESSAGES && bytes + size <= MAX_BATCH_BYTES => {
                batch.push(message);
                bytes += size;
            }
            _ => {
                batches.push(vec![message]);
                bytes = size;
            }
        }
    }
    batches
}
