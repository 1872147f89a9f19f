//! A relay's life: elected, the stream's end read and compared with the source, the poll loop
//! ([`crate::relay::poll_loop`]), and again. It holds nothing that the stream does not hold; whatever goes
//! wrong, it forgets what it knew and reads the stream's end.
//!
//! ```text
//! elected → stream's end read and compared with the source → poll → messages → published ┐
//!    ↑                         ↑                              ↑                          │
//!    └── lock or source lost ──┴── any publish error ─────────┴──────────────────────────┘
//! ```

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use artstore_bus::bus_error::BusError;
use artstore_bus::connection::Bus;
use artstore_bus::streams::check_limits;
use artstore_runtime::crash;
use artstore_runtime::progress::{Problem, Stage};
use artstore_runtime::pulse::{self, kept_alive, within};
use artstore_runtime::restart::{Restarts, stopped};
use artstore_runtime::retry::Retry;
use artstore_runtime::server::{Holds, Server};
use artstore_schemas::size::MAX_BATCH_BYTES;
use artstore_schemas::source::Source;
use async_nats::Message;
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::watch;
use tracing::Instrument as _;

use crate::backfill::differences::{self, Backfill, BackfillCounts};
use crate::relay::api_url::{self, ApiUrl};
use crate::relay::control::{Control, PAUSE};
use crate::relay::election::{self, Lease};
use crate::relay::poll::Poller;
use crate::relay::poll_loop::{LoopEnd, PollLoop};
use crate::relay::progress::{RelayProgress, RelayState};
use crate::relay::prune_mark;
use crate::relay::publish::PublishMode;
use crate::relay::relay_error::RelayError;
use crate::relay::resume_state::{self, ResumeState};
use crate::relay::rows;
use crate::relay::source::{SourceTable, snapshot};
use crate::relay::source_check;
use crate::relay::translate::Translator;

/// How long a relay may take to settle what is in flight when it is asked to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// How long the check before the first session may take.
const PREFLIGHT: Duration = Duration::from_secs(60);

/// A relay that has had no connection to NATS for so long leaves the lock to one that may have.
const HANDED_OVER: Duration = Duration::from_secs(10);

/// How often the stream's settings are checked.
const WATCH: Duration = Duration::from_secs(1);

/// How often a standby relay checks whether the active one makes progress.
const LOOK: Duration = Duration::from_secs(2);

/// How long the stream's end may take to be read for that.
const LOOK_PATIENCE: Duration = Duration::from_secs(2);

/// What is wrong while there is no connection.
const NO_CONNECTION: &str = "no connection to NATS; it is tried again all the time: check the NATS \
    server, the network, NATS_URL and NATS_CREDENTIALS";

/// A command gives up after so many failures in a row without progress.
const MOST_FAILURES: u32 = 5;

/// How one source is relayed.
#[derive(Debug, Clone)]
pub struct RelayOptions {
    /// The source.
    pub source: Source,
    /// Its database: a direct connection to the primary.
    pub database: PgConnectOptions,
    /// Where the element's API is reached, as events carry it for as long as the element's own table
    /// ([`api_url`]) does not contain it.
    pub api_url: Option<String>,
    /// How messages are published.
    pub mode: PublishMode,
    /// The longest wait between two polls of a quiet source; below the five seconds after which the
    /// server takes a silent relay for a frozen one.
    pub poll_interval: Duration,
}

/// Checks everything that can be wrong with a source before it is relayed. Nothing is changed.
pub async fn check(bus: &Bus, options: &RelayOptions) -> Result<(), RelayError> {
    let relay = Relay::new(bus.clone(), options.clone(), RelayProgress::default());
    relay.checked().await?;
    Ok(())
}

/// Relays one source until `stop` is set. A wrong setting at the start comes back at once, with
/// nothing published; a halt of this source alone ([`RelayError::is_of_one_source`]) and later errors
/// are logged and tried again, since a person or a restart may repair them.
///
/// When it is asked to stop, it finishes the batch that is being published, reads its
/// acknowledgement, and releases its lock. It ends within some ten seconds, whatever hangs, with an
/// error where something was left unsettled; otherwise with its last error.
pub async fn run(
    bus: Bus,
    options: RelayOptions,
    progress: RelayProgress,
    mut stop: watch::Receiver<bool>,
) -> Result<(), RelayError> {
    let span = tracing::error_span!("relay", source = %options.source);
    let relay = Relay::new(bus, options, progress.clone());
    let running = Box::pin(relay.run(stop.clone())).instrument(span);
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

/// Backfills an element's stream from its `_files`, as the relay that holds `lease`: live changes
/// are published meanwhile, as by any relay. Every file is compared with its last known state in the
/// stream, and each difference is published as a snapshot; a second run publishes nothing. Ends with
/// `source.backfilled`, if there was anything to publish, or if the stream was marked as due for one.
/// The lock is released at the end. None: `stop` came first; what was compared by then is published.
///
/// `files_per_pass`: how many files are held in memory at a time, usually
/// [`differences::FILES_PER_PASS`]. An error leaves the stream as any relay would: a later run continues.
pub async fn backfill(
    bus: Bus,
    options: RelayOptions,
    lease: Lease,
    files_per_pass: u64,
    progress: RelayProgress,
    mut stop: watch::Receiver<bool>,
) -> Result<Option<BackfillCounts>, RelayError> {
    let span = tracing::error_span!("backfill", source = %options.source);
    let source = options.source.clone();
    let relay = Relay::new(bus, options, progress.clone());
    let mut backfill = Some(Backfill::new(files_per_pass));
    let worked = async {
        tokio::select! {
            worked = relay.work_until_backfilled(&lease, &mut backfill, &mut stop) => worked,
            error = lease.lost() => Err(error),
        }
    };
    let worked = worked.instrument(span).await;
    lease.release(&source).await?;
    worked?;
    let done = progress.read().backfill;
    Ok(done.filter(|_| backfill.is_none()))
}

pub(crate) struct Relay {
    pub(crate) bus: Bus,
    pub(crate) options: RelayOptions,
    pub(crate) translator: Translator,
    pub(crate) progress: RelayProgress,
    /// A batch was sent, and it is unknown whether it was stored: the stream was not read since.
    pub(crate) unsettled: AtomicBool,
    /// The most bytes of a batch: fewer after the connection was lost with one on its way.
    pub(crate) batch_bytes: AtomicUsize,
    /// Whether the stream is not the one that the relay knows: recreated, or without its end.
    exchanged: AtomicBool,
    /// The stream was given a limit at which it removes messages.
    limited: Mutex<Option<BusError>>,
    table: SourceTable,
}

impl Relay {
    fn new(bus: Bus, options: RelayOptions, progress: RelayProgress) -> Self {
        Self {
            progress,
            unsettled: AtomicBool::new(false),
            batch_bytes: AtomicUsize::new(MAX_BATCH_BYTES),
            exchanged: AtomicBool::new(false),
            translator: Translator::new(options.source.clone()),
            limited: Mutex::default(),
            table: SourceTable::of(&options.source),
            bus,
            options,
        }
    }

    async fn run(&self, mut stop: watch::Receiver<bool>) -> Result<(), RelayError> {
        let notes = tokio::select! {
            checked = self.checked() => match checked {
                Ok(notes) => notes,
                // The first session meets it again, and shows it.
                Err(error) if error.is_of_one_source() => Vec::new(),
                Err(error) => return Err(error),
            },
            () = stopped(&mut stop) => return Ok(()),
        };
        for note in notes {
            tracing::warn!(source = %self.options.source, "the source's database: {note}");
        }
        let mut control = Control::open(&self.bus, &self.options.source).await?;
        let mut restarts = Restarts::new(Duration::from_millis(100), Duration::from_secs(2));
        let mut halted_at = None;
        loop {
            let begun = Instant::now();
            let (ended, asked) = self.session_or_request(&mut control, &mut stop).await;
            let stopping = *stop.borrow();
            let error = match (ended, asked) {
                (Ok(()), Some(request)) if !stopping => {
                    self.step_aside(&control, request, &mut stop).await;
                    None
                }
                (Ok(()), _) => return self.settled(halted_at),
                (Err(error @ RelayError::NotDrained(_)), _) if stopping => return Err(error),
                (Err(error), _) => Some(error),
            };
            if let Some(error) = error {
                let halted = error.needs_a_person();
                self.report(&error, begun.elapsed(), &mut restarts, Stage::Starting);
                tokio::select! {
                    _ = restarts.goes_on(&mut stop) => {}
                    // No lock is held here.
                    request = control.request() => {
                        self.step_aside(&control, request, &mut stop).await;
                    }
                }
                halted_at = halted.then_some(error);
            }
            if *stop.borrow() {
                return self.settled(halted_at);
            }
        }
    }

    /// A session that also ends where a command asks for the lock; with that request.
    async fn session_or_request(
        &self,
        control: &mut Control,
        stop: &mut watch::Receiver<bool>,
    ) -> (Result<(), RelayError>, Option<Message>) {
        let (end, mut ending) = watch::channel(false);
        let mut session = Box::pin(self.session(&mut ending));
        let asked = tokio::select! {
            ended = &mut session => return (ended, None),
            () = stopped(stop) => None,
            request = control.request() => Some(request),
        };
        end.send_replace(true);
        (session.await, asked)
    }

    /// The lock is released: a command has a moment to take it.
    async fn step_aside(
        &self,
        control: &Control,
        request: Message,
        stop: &mut watch::Receiver<bool>,
    ) {
        let source = self.options.source.to_string();
        tracing::info!(source, "stepped aside: a command asked for the lock");
        self.progress.update(|state| {
            state.stage = Stage::Standby;
            state.other_holder_seen = Some(Instant::now());
            state.backlog.caught_up = None;
        });
        control.answer(request).await;
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = stopped(stop) => {}
        }
    }

    /// Logs and shows why a session ended, which lived for so long.
    fn report(&self, error: &RelayError, lived: Duration, restarts: &mut Restarts, stage: Stage) {
        let text = error.to_string();
        let halted = error.needs_a_person();
        if restarts.is_news(lived, &text) {
            let source = self.options.source.to_string();
            if halted {
                tracing::error!(source, error = text, "the relay has halted");
            } else {
                tracing::warn!(source, error = text, "the relay starts again");
            }
        }
        self.progress.update(|state| {
            state.stage = stage;
            state.retries += 1;
            state.problem = Some(Problem { text, halted });
        });
    }

    /// What a stop ends with: the halt that the relay is still in, or an error where nobody knows
    /// what became of the last batch.
    fn settled(&self, halted_at: Option<RelayError>) -> Result<(), RelayError> {
        let problem = self.progress.read().problem;
        if let Some(error) = halted_at.filter(|_| problem.is_some_and(|p| p.halted)) {
            return Err(error);
        }
        if self.unsettled.load(Ordering::Relaxed) {
            return Err(RelayError::NotDrained(
                "NATS did not say what became of the last batch".to_owned(),
            ));
        }
        Ok(())
    }

    /// As [`Self::preflight`], but ends within a minute.
    async fn checked(&self) -> Result<Vec<String>, RelayError> {
        let checked = tokio::time::timeout(PREFLIGHT, Box::pin(self.preflight())).await;
        checked.unwrap_or_else(|_| {
            let text = format!("it or NATS did not answer within {} s", PREFLIGHT.as_secs());
            let late = std::io::Error::new(std::io::ErrorKind::TimedOut, text);
            Err(sqlx::Error::from(late).into())
        })
    }

    /// Checks everything that can be wrong before the election; and what works, but not as people
    /// expect.
    async fn preflight(&self) -> Result<Vec<String>, RelayError> {
        election::refuse_pooler(&self.options.database).await?;
        let mut connection = self.connect().await?;
        let notes = Server::read(&mut connection).await?.notes(Holds::Source);
        let prune_mark = prune_mark::read(&mut connection, &self.table).await?;
        api_url::stored(&mut connection, &self.table).await?;
        let resume_state = resume_state::read(&self.bus, &self.options.source).await?;
        self.compare(&resume_state, prune_mark, &mut connection)
            .await?;
        Ok(notes)
    }

    async fn connect(&self) -> Result<PgConnection, RelayError> {
        let name = format!("artstore relay {}", self.options.source);
        let mut connection = election::connect(&self.options.database, &name).await?;
        source_check::check(&mut connection, &self.table).await?;
        Ok(connection)
    }

    /// From the election to an error, or to an orderly end.
    async fn session(&self, stop: &mut watch::Receiver<bool>) -> Result<(), RelayError> {
        let lease = tokio::select! {
            lease = self.elect() => lease?,
            () = stopped(stop) => return Ok(()),
        };
        crash::point("relay.elected");
        let mut backfill = None;
        tokio::select! {
            worked = self.work_while_held(&lease, &mut backfill, stop) => worked?,
            () = self.watch_stream() => {}
            // Its other sessions have the same server: they end with it.
            error = lease.lost() => return Err(error),
            error = self.handed_over() => return Err(error),
        }
        lease.release(&self.options.source).await?;
        let published = self.progress.read().published;
        tracing::info!(source = %self.options.source, published, "stopped: nothing is in flight");
        Ok(())
    }

    async fn elect(&self) -> Result<Lease, RelayError> {
        let Self {
            options, progress, ..
        } = self;
        let source = &options.source;
        let mut connection =
            election::connect(&options.database, "artstore relay (election)").await?;
        let mut logged = false;
        let mut waiting = Waiting::of(&progress.read());
        let lease = loop {
            // Another relay may have a connection.
            if self.bus.lost_for().is_some() {
                self.waits_for_nats(&mut connection).await?;
                continue;
            }
            let asked = Instant::now();
            let locked = election::try_lock(&mut connection, source);
            if within(pulse::ANSWER, locked).await? {
                break Lease::held(connection, asked);
            }
            if !std::mem::replace(&mut logged, true) {
                let holder = election::holder(&mut connection, source);
                let holder = within(pulse::ANSWER, holder).await?;
                let holder = holder.map_or_else(String::new, |holder| holder.to_string());
                tracing::info!(%source, holder, "standby: another relay is active");
            }
            let waiting = waiting.look(self, &mut connection).await?;
            progress.update(|state| {
                state.stage = Stage::Standby;
                state.other_holder_seen = Some(Instant::now());
                state.waiting = waiting;
                state.backlog.caught_up = None;
                state.problem = None;
            });
            tokio::time::sleep(election::HEARTBEAT / 2).await;
        };
        progress.update(|state| {
            state.stage = Stage::Active;
            state.active_since = Some(Instant::now());
        });
        Ok(lease)
    }

    /// A moment without a connection to NATS.
    async fn waits_for_nats(&self, connection: &mut PgConnection) -> Result<(), RelayError> {
        pulse::ask(connection).await?;
        self.progress.update(|state| {
            state.stage = Stage::Starting;
            state.problem = Some(Problem {
                text: NO_CONNECTION.to_owned(),
                halted: false,
            });
        });
        tokio::time::sleep(election::HEARTBEAT / 2).await;
        Ok(())
    }

    /// Resolves when there has been no connection to NATS for so long that another relay is to have the
    /// lock.
    async fn handed_over(&self) -> RelayError {
        loop {
            tokio::time::sleep(election::HEARTBEAT).await;
            if self.bus.lost_for().is_some_and(|lost| lost >= HANDED_OVER) {
                return BusError::JetStream(NO_CONNECTION.to_owned()).into();
            }
        }
    }

    /// Works for as long as the lock is held. What NATS does not do is tried again without releasing the
    /// lock, because another relay would do no better. A relay without a connection leaves the lock to
    /// others.
    async fn work_while_held(
        &self,
        lease: &Lease,
        backfill: &mut Option<Backfill>,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), RelayError> {
        let mut restarts = Restarts::new(Duration::from_millis(100), Duration::from_secs(2));
        loop {
            let begun = Instant::now();
            let error = match Box::pin(self.work(lease, backfill, false, stop)).await {
                Err(RelayError::Bus(error)) if error.is_transient() => RelayError::Bus(error),
                ended => return ended,
            };
            lease.check()?;
            // The lock is held: it is still the active one.
            self.report(&error, begun.elapsed(), &mut restarts, Stage::Active);
            if let Some(backfill) = backfill {
                backfill.forget();
            }
            if !restarts.goes_on(stop).await {
                return Ok(());
            }
        }
    }

    /// One term as the active relay of its source. Ends without an error when it was asked to stop
    /// and knows what became of everything that it sent; `until_backfilled`: also once the stream is
    /// backfilled, when `backfill` is none.
    async fn work(
        &self,
        lease: &Lease,
        backfill: &mut Option<Backfill>,
        until_backfilled: bool,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), RelayError> {
        let source = &self.options.source;
        let (mut connection, mode, mut nudges) = tokio::select! {
            prepared = self.prepare(lease) => prepared?,
            () = stopped(stop) => return Ok(()),
        };
        let assumed_url = tokio::select! {
            url = self.assumed_url(&mut connection) => url?,
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
            let resume_state = if self.unsettled.load(Ordering::Relaxed) {
                // Not cut off by a stop: the answer shows what became of the last batch.
                self.reconcile(&mut connection).await?
            } else {
                tokio::select! {
                    resume_state = self.reconcile(&mut connection) => resume_state?,
                    () = stopped(stop) => return Ok(()),
                }
            };
            if *stop.borrow() {
                return Ok(());
            }
            crash::point("relay.reconciled");
            if resume_state.backfill_due && backfill.is_none() {
                tracing::info!(%source, "backfill due: comparing the stream with its element");
                *backfill = Some(Backfill::new(differences::FILES_PER_PASS));
            }
            let mut poll_loop = PollLoop {
                relay: self,
                lease,
                connection: &mut connection,
                poller: Poller::new(source),
                resume_state,
                mode,
                suspect: &mut suspect,
                backfill,
                until_backfilled,
                assumed_url: &assumed_url,
            };
            match Box::pin(poll_loop.run(&mut nudges, stop)).await? {
                LoopEnd::Stop | LoopEnd::Backfilled => return Ok(()),
                LoopEnd::ReadAgain => {
                    if let Some(backfill) = backfill {
                        backfill.forget();
                    }
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

    /// Retries after transient errors, as long as the lock is held and it makes progress.
    async fn work_until_backfilled(
        &self,
        lease: &Lease,
        backfill: &mut Option<Backfill>,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), RelayError> {
        let mut retry = Retry::new(Duration::from_millis(100), Duration::from_secs(2));
        let mut failures = 0;
        let mut before = self.progress.read();
        loop {
            let error = match Box::pin(self.work(lease, backfill, true, stop)).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let now = self.progress.read();
            if (now.published, now.backfill) > (before.published, before.backfill) {
                failures = 0;
                retry.succeeded();
            }
            before = now;
            failures += 1;
            if error.needs_a_person() || failures > MOST_FAILURES || lease.check().is_err() {
                return Err(error);
            }
            let source = self.options.source.to_string();
            tracing::warn!(source, %error, "tried again");
            if let Some(backfill) = backfill {
                backfill.forget();
            }
            tokio::select! {
                _ = retry.wait() => {}
                () = stopped(stop) => return Ok(()),
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
        let stream = source.stream();
        let info = self.bus.stream_info(&stream);
        let info = kept_alive(&mut connection, info).await??;
        check_limits(&info.config)?;
        *self.limited() = None;
        let mode = self.options.mode.on(info.config.num_replicas);
        let nudges = self.bus.subscribe(source.nudge_subject());
        let nudges = kept_alive(&mut connection, nudges).await??;
        Ok((connection, mode, nudges))
    }

    /// What events state about the element's API while its own table has nothing.
    async fn assumed_url(&self, connection: &mut PgConnection) -> Result<ApiUrl, RelayError> {
        let stored = api_url::stored(connection, &self.table).await?;
        let assumed = api_url::assumed(&self.bus, &self.options);
        let assumed = kept_alive(connection, assumed).await??;
        let (Source::Element(element), Some(set)) = (&self.options.source, &self.options.api_url)
        else {
            return Ok(assumed);
        };
        match stored.map(|stored| stored.url) {
            None => {
                tracing::info!(%element, url = set, "ARTSTORE_ELEMENT_API_URLS is published: the \
                element's own table says no API URL. Store it, so that every command says the same: \
                artstore element set-url {element} {set}")
            }
            Some(stored) if stored.as_ref() != Some(set) => tracing::warn!(%element,
                published = stored.as_deref().unwrap_or("none"), set,
                "ARTSTORE_ELEMENT_API_URLS says another API URL than the element's own table, which is \
                published; to change it: artstore element set-url {element} {set}"),
            Some(_) => {}
        }
        Ok(assumed)
    }

    /// Checks again and again whether somebody gives the stream a limit, makes it again, or restores it
    /// without its end: a relay that has nothing to publish would not notice. It does not end.
    async fn watch_stream(&self) {
        let stream = self.options.source.stream();
        let mut made = None;
        loop {
            tokio::time::sleep(WATCH).await;
            // Before the stream: it only grows.
            let published = self.progress.read().sequence;
            let info = self.bus.stream_info(&stream).await;
            // A bus that does not answer is noticed where something is published.
            if let Ok(info) = info {
                *self.limited() = check_limits(&info.config).err();
                let made_again = made
                    .replace(info.created)
                    .is_some_and(|made| made != info.created);
                if made_again || info.state.last_sequence < published {
                    self.exchanged.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    /// Whether the stream's end has to be read again. True once.
    pub(crate) fn is_exchanged(&self) -> bool {
        self.exchanged.swap(false, Ordering::Relaxed)
    }

    /// Refuses to publish into a stream that removes messages at some limit: each message might
    /// remove another one.
    pub(crate) fn check_limits(&self) -> Result<(), RelayError> {
        match self.limited().take() {
            Some(limited) => Err(limited.into()),
            None => Ok(()),
        }
    }

    fn limited(&self) -> MutexGuard<'_, Option<BusError>> {
        self.limited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the stream's end and compares it with the source.
    async fn reconcile(&self, connection: &mut PgConnection) -> Result<ResumeState, RelayError> {
        let prune_mark = prune_mark::read(connection, &self.table).await?;
        let resume_state = resume_state::read(&self.bus, &self.options.source);
        let resume_state = kept_alive(connection, resume_state).await??;
        self.unsettled.store(false, Ordering::Relaxed);
        self.compare(&resume_state, prune_mark, connection).await?;
        self.progress.update(|state| {
            state.sequence = resume_state.sequence;
            state.position = resume_state.position;
            state.record(&resume_state);
        });
        Ok(resume_state)
    }

    /// Whether the source is the one that the stream was written from, and still has it all; and
    /// whether the stream has what was pruned from the source. `prune_mark`: read before the stream.
    async fn compare(
        &self,
        resume_state: &ResumeState,
        prune_mark: i64,
        connection: &mut PgConnection,
    ) -> Result<(), RelayError> {
        let source = &self.options.source;
        // First the stream by itself: what its last message states is trusted afterwards.
        let recent = resume_state::recent(&self.bus, source, resume_state);
        let recent = kept_alive(connection, recent).await??;
        let seen = snapshot(connection, &self.table.sequence).await?;
        resume_state.check_state(source, &seen.identity, seen.sequence_value)?;
        resume_state.check_prune_mark(source, prune_mark)?;
        resume_state::compare(source, recent, connection).await
    }
}

/// What a standby relay knows of the one that has the lock: whether rows wait that nobody
/// publishes. Any session can hold the lock, and be no relay.
struct Waiting {
    looked: Option<Instant>,
    /// The stream's end.
    end: u64,
    /// Since when it has not moved while rows wait.
    since: Option<Instant>,
}

impl Waiting {
    /// What a relay knows that had the lock until now.
    fn of(state: &RelayState) -> Self {
        Self {
            looked: None,
            end: state.sequence,
            since: state.waiting,
        }
    }

    /// Since when rows have been waiting with nothing published. Where NATS does not answer, what is
    /// known stays.
    async fn look(
        &mut self,
        relay: &Relay,
        connection: &mut PgConnection,
    ) -> Result<Option<Instant>, RelayError> {
        if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
            self.looked = Some(Instant::now());
            let read = resume_state::read(&relay.bus, &relay.options.source);
            let read = tokio::time::timeout(LOOK_PATIENCE, read);
            if let Ok(Ok(resume_state)) = kept_alive(connection, read).await? {
                let high_water_mark = resume_state.seen_positions.high_water_mark();
                let wait = rows::any_above(connection, &relay.table, high_water_mark);
                let wait = within(pulse::ANSWER, wait).await?;
                let known = self.since.filter(|_| self.end == resume_state.sequence);
                self.end = resume_state.sequence;
                self.since = wait.then(|| known.unwrap_or_else(Instant::now));
            }
        }
        Ok(self.since)
    }
}
