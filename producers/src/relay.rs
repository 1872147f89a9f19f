//! A relay's life: elected, the stream's end read and compared with the source, rounds of
//! [`crate::round`], and again. It holds nothing that the stream does not hold; whatever goes wrong,
//! it forgets what it knew and reads the stream's end.
//!
//! ```text
//! elected → stream's end read and compared with the source → poll → messages → published ┐
//!    ↑                         ↑                              ↑                          │
//!    └── lock or source lost ──┴── any publish error ─────────┴──────────────────────────┘
//! ```

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use artstore_schemas::bus::{Bus, BusError};
use artstore_schemas::crash;
use artstore_schemas::retry::Retry;
use artstore_schemas::source::Source;
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::watch;
use tracing::Instrument as _;

use crate::election::{self, Lease};
use crate::progress::{Problem, Progress, Stage};
use crate::publish::PublishMode;
use crate::relay_error::{Halt, RelayError};
use crate::round::{End, Round};
use crate::source::{Poller, SourceTable, snapshot};
use crate::source_check;
use crate::tail::{self, Tail};
use crate::translate::Translator;

/// How long a relay may take to settle what is in flight when it is asked to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// A session that lived for so long was well: what ends it is new, and the next try comes soon.
const WELL: Duration = Duration::from_secs(60);

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
    let relay = Relay::new(bus.clone(), options.clone(), Progress::default());
    relay.preflight().await
}

/// Relays one source until `stop` says so. An error at the start comes back at once, with nothing
/// published; later ones are logged and tried again, since a person or a restart may mend them.
///
/// When it is asked to stop, it finishes the batch that is being published, reads its
/// acknowledgement, and lets its lock go. It ends within some ten seconds, whatever hangs, with an
/// error where something was left unsettled; otherwise with the error that it stood at.
pub async fn run(
    bus: Bus,
    options: RelayOptions,
    progress: Progress,
    mut stop: watch::Receiver<bool>,
) -> Result<(), RelayError> {
    let span = tracing::info_span!("relay", source = %options.source);
    let relay = Relay::new(bus, options, progress.clone());
    let running = relay.run(stop.clone()).instrument(span);
    let ended = tokio::select! {
        ended = running => ended,
        () = overdue(&mut stop) => Err(RelayError::NotDrained(format!(
            "an answer of NATS or of the source's database did not come within {} s",
            DRAIN.as_secs()
        ))),
    };
    progress.update(|state| state.stage = Stage::Stopping);
    ended
}

async fn overdue(stop: &mut watch::Receiver<bool>) {
    stopped(stop).await;
    tokio::time::sleep(DRAIN).await;
}

/// Resolves when the process is asked to stop.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The sender lives as long as the process: when it is gone, stopping is right as well.
    if stop.wait_for(|stop| *stop).await.is_err() {
        tracing::debug!("nobody is left to ask for a stop");
    }
}

pub(crate) struct Relay {
    pub(crate) bus: Bus,
    pub(crate) options: RelayOptions,
    pub(crate) translator: Translator,
    pub(crate) progress: Progress,
    /// A batch was sent whose fate is not known: the stream was not read since.
    unsettled: AtomicBool,
    table: SourceTable,
}

impl Relay {
    fn new(bus: Bus, options: RelayOptions, progress: Progress) -> Self {
        Self {
            progress,
            unsettled: AtomicBool::new(false),
            translator: Translator::new(options.source.clone(), options.api_url.clone()),
            table: SourceTable::of(&options.source),
            bus,
            options,
        }
    }

    async fn run(&self, mut stop: watch::Receiver<bool>) -> Result<(), RelayError> {
        tokio::select! {
            checked = self.preflight() => checked?,
            () = stopped(&mut stop) => return Ok(()),
        }
        let mut retry = Retry::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut told = String::new();
        let mut stood_at = None;
        loop {
            let begun = Instant::now();
            let error = match self.session(&mut stop).await {
                Ok(()) => return self.settled(stood_at),
                Err(error @ RelayError::NotDrained(_)) => return Err(error),
                Err(error) => error,
            };
            if begun.elapsed() >= WELL {
                retry.succeeded();
                told.clear();
            }
            let text = error.to_string();
            let halted = error.needs_a_person();
            // Said once: a thing that a person has to mend stays the same for hours.
            if text != told {
                let source = self.options.source.to_string();
                if halted {
                    tracing::error!(source, error = text, "the relay has halted");
                } else {
                    tracing::warn!(source, error = text, "the relay starts again");
                }
                told.clone_from(&text);
            }
            self.progress.update(|state| {
                state.stage = Stage::Starting;
                state.retries += 1;
                state.problem = Some(Problem { text, halted });
            });
            tokio::select! {
                _ = retry.wait() => {}
                () = stopped(&mut stop) => {}
            }
            stood_at = halted.then_some(error);
            if *stop.borrow() {
                return self.settled(stood_at);
            }
        }
    }

    /// What a stop ends with: the halt that the relay still stands at, or an error where nobody knows
    /// what became of the last batch.
    fn settled(&self, stood_at: Option<RelayError>) -> Result<(), RelayError> {
        let problem = self.progress.read().problem;
        if let Some(error) = stood_at.filter(|_| problem.is_some_and(|p| p.halted)) {
            return Err(error);
        }
        if self.unsettled.load(Ordering::Relaxed) {
            return Err(RelayError::NotDrained(
                "NATS did not say what became of the last batch".to_owned(),
            ));
        }
        Ok(())
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

    /// From the election to an error, or to the end in order.
    async fn session(&self, stop: &mut watch::Receiver<bool>) -> Result<(), RelayError> {
        let lease = tokio::select! {
            lease = self.elect() => lease?,
            () = stopped(stop) => return Ok(()),
        };
        crash::point("relay.elected");
        self.work(&lease, stop).await?;
        lease.release(&self.options.source).await?;
        let published = self.progress.read().published;
        tracing::info!(source = %self.options.source, published, "stopped: nothing is in flight");
        Ok(())
    }

    async fn elect(&self) -> Result<Lease, RelayError> {
        let source = &self.options.source;
        let mut told = false;
        let lease = Lease::acquire(&self.options.database, source, || {
            if !std::mem::replace(&mut told, true) {
                tracing::info!(%source, "standing by: another relay is active");
            }
            self.progress.update(|state| {
                state.stage = Stage::StandingBy;
                state.stood_by = Some(Instant::now());
                state.backlog.caught_up = None;
                state.problem = None;
            });
        })
        .await?;
        self.progress.update(|state| {
            state.stage = Stage::Active;
            state.active_since = Some(Instant::now());
        });
        Ok(lease)
    }

    /// One life as the only relay of its source. Ends without an error when it was asked to stop
    /// and knows what became of everything that it sent.
    async fn work(
        &self,
        lease: &Lease,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), RelayError> {
        let source = &self.options.source;
        let (mut connection, mode, mut nudges) = tokio::select! {
            prepared = self.prepare(lease) => prepared?,
            () = stopped(stop) => return Ok(()),
        };
        tracing::info!(%source, ?mode, "relay active");
        let mut suspect = None;
        // A server that refuses everything at once, because its disk is full, is not asked without
        // a pause.
        let mut retry = Retry::new(Duration::from_millis(20), Duration::from_secs(2));
        let mut published = self.progress.read().published;
        loop {
            lease.check()?;
            let tail = if self.unsettled.load(Ordering::Relaxed) {
                // Not cut off by a stop: it says what became of the last batch.
                self.reconcile(&mut connection).await?
            } else {
                tokio::select! {
                    tail = self.reconcile(&mut connection) => tail?,
                    () = stopped(stop) => return Ok(()),
                }
            };
            if *stop.borrow() {
                return Ok(());
            }
            crash::point("relay.reconciled");
            let mut round = Round {
                relay: self,
                lease,
                connection: &mut connection,
                poller: Poller::new(source),
                tail,
                mode,
                suspect: &mut suspect,
            };
            match round.go(&mut nudges, stop).await? {
                End::Stop => return Ok(()),
                End::ReadAgain => {
                    self.progress.update(|state| state.retries += 1);
                    self.unsettled.store(true, Ordering::Relaxed);
                    let before = std::mem::replace(&mut published, self.progress.read().published);
                    if published > before {
                        retry.succeeded();
                    }
                    tokio::select! {
                        _ = retry.wait() => {}
                        () = stopped(stop) => {}
                    }
                }
            }
        }
    }

    async fn prepare(
        &self,
        lease: &Lease,
    ) -> Result<(PgConnection, PublishMode, async_nats::Subscriber), RelayError> {
        let source = &self.options.source;
        let mut connection = self.connect().await?;
        lease.check_direct(&mut connection, source).await?;
        let info = self.bus.stream_info(&source.stream()).await?;
        let mode = self.options.mode.on(info.config.num_replicas);
        let nudges = self
            .bus
            .client
            .subscribe(source.nudge_subject())
            .await
            .map_err(|e| BusError::JetStream(e.to_string()))?;
        Ok((connection, mode, nudges))
    }

    /// Reads the stream's end and compares it with the source.
    async fn reconcile(&self, connection: &mut PgConnection) -> Result<Tail, RelayError> {
        let tail = tail::read(&self.bus, &self.options.source).await?;
        self.unsettled.store(false, Ordering::Relaxed);
        self.compare(&tail, connection).await?;
        self.progress.update(|state| {
            state.sequence = tail.sequence;
            state.position = tail.position;
            state.saw(&tail);
        });
        Ok(tail)
    }

    /// Whether the source is the one that the stream was written from, and still has it all.
    async fn compare(&self, tail: &Tail, connection: &mut PgConnection) -> Result<(), RelayError> {
        let seen = snapshot(connection, &self.table.sequence).await?;
        self.check_state(tail, &seen.identity, seen.sequence_value)?;
        tail::compare(&self.bus, &self.options.source, tail, connection).await
    }

    pub(crate) fn check_state(
        &self,
        tail: &Tail,
        identity: &str,
        sequence: i64,
    ) -> Result<(), RelayError> {
        let stream = || self.options.source.stream();
        if let Some(in_stream) = tail.identity.as_ref().filter(|i| *i != identity) {
            return Err(Halt::OtherIdentity {
                source_name: self.options.source.to_string(),
                stream: stream(),
                in_stream: in_stream.clone(),
                here: identity.to_owned(),
            }
            .into());
        }
        if sequence < tail.gaps.high() {
            return Err(Halt::SequenceBehind {
                source_name: self.options.source.to_string(),
                stream: stream(),
                high: tail.gaps.high(),
                sequence,
            }
            .into());
        }
        Ok(())
    }
}
