//! A relay's life: session after session until it is asked to stop. Elected ([`crate::relay::standby`]), the
//! stream's end read and compared with the source, the poll loop ([`crate::relay::term`]), and again. It holds
//! nothing that the stream does not hold; whatever goes wrong, it forgets what it knew and reads the stream's
//! end.
//!
//! ```text
//! elected → stream's end read and compared with the source → poll → messages → published ┐
//!    ↑                         ↑                              ↑                          │
//!    └── lock or source lost ──┴── any publish error ─────────┴──────────────────────────┘
//! ```

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use artstore_bus::connection::Bus;
use artstore_runtime::crash;
use artstore_runtime::progress::{Problem, Stage};
use artstore_runtime::restart::Restarts;
use async_nats::Message;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::relay::control::{Control, PAUSE};
use crate::relay::options::RelayOptions;
use crate::relay::progress::RelayProgress;
use crate::relay::relay_error::RelayError;
use crate::relay::source_relay::SourceRelay;

/// How long a relay may take to settle what is in flight when it is asked to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// Checks everything that can be wrong with a source before it is relayed. Nothing is changed.
pub async fn check(bus: &Bus, options: &RelayOptions) -> Result<(), RelayError> {
    let relay = SourceRelay::new(bus.clone(), options.clone(), RelayProgress::default());
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
    stop: CancellationToken,
) -> Result<(), RelayError> {
    let span = tracing::error_span!("relay", source = %options.source);
    let relay = SourceRelay::new(bus, options, progress.clone());
    let running = Box::pin(relay.run(stop.clone())).instrument(span);
    let ended = tokio::select! {
        ended = running => ended,
        () = overdue(&stop) => Err(RelayError::NotDrained(format!(
            "an answer of NATS or of the source's database did not come within {} s",
            DRAIN.as_secs()
        ))),
    };
    progress.update(|state| state.stage = Stage::Stopping);
    ended
}

async fn overdue(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(DRAIN).await;
}

impl SourceRelay {
    async fn run(&self, stop: CancellationToken) -> Result<(), RelayError> {
        let notes = tokio::select! {
            checked = self.checked() => match checked {
                Ok(notes) => notes,
                // The first session meets it again, and shows it.
                Err(error) if error.is_of_one_source() => Vec::new(),
                Err(error) => return Err(error),
            },
            () = stop.cancelled() => return Ok(()),
        };
        for note in notes {
            tracing::warn!(source = %self.options.source, "the source's database: {note}");
        }
        let mut control = Control::open(&self.bus, &self.options.source).await?;
        let mut restarts = Restarts::new(Duration::from_millis(100), Duration::from_secs(2));
        let mut halted_at = None;
        loop {
            let begun = Instant::now();
            let (ended, asked) = self.session_or_request(&mut control, &stop).await;
            let stopping = stop.is_cancelled();
            let error = match (ended, asked) {
                (Ok(()), Some(request)) if !stopping => {
                    self.step_aside(&mut control, request, &stop).await;
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
                    _ = restarts.continues(&stop) => {}
                    // No lock is held here.
                    request = control.request() => {
                        self.step_aside(&mut control, request, &stop).await;
                    }
                }
                halted_at = halted.then_some(error);
            }
            if stop.is_cancelled() {
                return self.settled(halted_at);
            }
        }
    }

    /// A session that also ends where a command asks for the lock; with that request.
    async fn session_or_request(
        &self,
        control: &mut Control,
        stop: &CancellationToken,
    ) -> (Result<(), RelayError>, Option<Message>) {
        let ending = stop.child_token();
        let mut session = Box::pin(self.session(&ending));
        let asked = tokio::select! {
            ended = &mut session => return (ended, None),
            () = stop.cancelled() => None,
            request = control.request() => Some(request),
        };
        ending.cancel();
        (session.await, asked)
    }

    /// The lock is released: a command has a moment to take it.
    async fn step_aside(&self, control: &mut Control, request: Message, stop: &CancellationToken) {
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
            () = stop.cancelled() => {}
        }
        control.continues();
    }

    /// Logs and shows why a session ended, which lived for so long.
    pub(crate) fn report(
        &self,
        error: &RelayError,
        lived: Duration,
        restarts: &mut Restarts,
        stage: Stage,
    ) {
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

    /// From the election to an error, or to an orderly end.
    async fn session(&self, stop: &CancellationToken) -> Result<(), RelayError> {
        let lease = tokio::select! {
            lease = self.elect() => lease?,
            () = stop.cancelled() => return Ok(()),
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
}
