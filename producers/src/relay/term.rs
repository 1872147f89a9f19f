//! A term as the active relay of a source, from the election on: the stream's end is read and compared with
//! the source, then the poll loop ([`crate::relay::poll_loop`]), and again.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use artstore_bus::bus_error::BusError;
use artstore_bus::streams::check_limits;
use artstore_runtime::crash;
use artstore_runtime::progress::Stage;
use artstore_runtime::pulse::kept_alive;
use artstore_runtime::restart::Restarts;
use artstore_runtime::retry::Retry;
use artstore_schemas::source::Source;
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use crate::backfill::differences::{self, Backfill};
use crate::relay::api_url::{self, ApiUrl};
use crate::relay::election::{self, Lease};
use crate::relay::poll::Poller;
use crate::relay::poll_loop::{LoopEnd, PollLoop, Until};
use crate::relay::publish::PublishMode;
use crate::relay::relay_error::RelayError;
use crate::relay::source_relay::{NO_CONNECTION, SourceRelay};

/// A command gives up when NATS did not store its messages so often, one time after another.
const MOST_REFUSED: u32 = 5;

/// A relay that has had no connection to NATS for so long leaves the lock to one that may have.
const HANDED_OVER: Duration = Duration::from_secs(10);

impl SourceRelay {
    /// Resolves when there has been no connection to NATS for so long that another relay is to have the
    /// lock.
    pub(crate) async fn handed_over(&self) -> RelayError {
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
    pub(crate) async fn work_while_held(
        &self,
        lease: &Lease,
        backfill: &mut Option<Backfill>,
        stop: &CancellationToken,
    ) -> Result<(), RelayError> {
        let mut restarts = Restarts::new(Duration::from_millis(100), Duration::from_secs(2));
        loop {
            let begun = Instant::now();
            let error = match Box::pin(self.work(lease, backfill, Until::Stopped, stop)).await {
                Err(RelayError::Bus(error)) if error.is_transient() => RelayError::Bus(error),
                ended => return ended,
            };
            lease.check()?;
            // The lock is held: it is still the active one.
            self.report(&error, begun.elapsed(), &mut restarts, Stage::Active);
            if let Some(backfill) = backfill {
                backfill.forget();
            }
            if !restarts.continues(stop).await {
                return Ok(());
            }
        }
    }

    /// One term as the active relay of its source. Ends without an error when it was asked to stop
    /// and knows what became of everything that it sent; with `Until::Backfilled` also once the backfill is
    /// complete.
    pub(crate) async fn work(
        &self,
        lease: &Lease,
        backfill: &mut Option<Backfill>,
        until: Until,
        stop: &CancellationToken,
    ) -> Result<(), RelayError> {
        let source = &self.options.source;
        let (mut connection, mode, mut nudges) = tokio::select! {
            prepared = self.prepare(lease) => prepared?,
            () = stop.cancelled() => return Ok(()),
        };
        let assumed_url = tokio::select! {
            url = self.assumed_url(&mut connection) => url?,
            () = stop.cancelled() => return Ok(()),
        };
        tracing::info!(%source, ?mode, "relay active");
        let mut suspect = None;
        // A server that refuses everything at once, because its disk is full, is not asked without
        // a pause.
        let mut retry = Retry::new(Duration::from_millis(20), Duration::from_secs(2));
        let mut published = self.progress.read().published;
        let mut refused = 0;
        loop {
            lease.check()?;
            let resume_state = if self.unsettled.load(Ordering::Relaxed) {
                // Not cut off by a stop: the answer shows what became of the last batch.
                self.reconcile(&mut connection).await?
            } else {
                tokio::select! {
                    resume_state = self.reconcile(&mut connection) => resume_state?,
                    () = stop.cancelled() => return Ok(()),
                }
            };
            if stop.is_cancelled() {
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
                until,
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
                    refused += 1;
                    if published > before {
                        retry.succeeded();
                        refused = 0;
                    }
                    let problem = self.progress.read().problem;
                    if until == Until::Backfilled
                        && refused > MOST_REFUSED
                        && let Some(problem) = problem
                    {
                        return Err(RelayError::NotStored(problem.text));
                    }
                    tokio::select! {
                        _ = retry.wait() => {}
                        () = stop.cancelled() => {}
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
        lease.check_direct(&mut connection).await?;
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
}
