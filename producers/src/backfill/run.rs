//! A backfill for a command, which holds the source's lock: a relay's term that ends once the stream is
//! backfilled.

use std::time::Duration;

use artstore_bus::connection::Bus;
use artstore_runtime::retry::Retry;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::backfill::differences::{Backfill, BackfillCounts};
use crate::relay::election::Lease;
use crate::relay::options::RelayOptions;
use crate::relay::poll_loop::Until;
use crate::relay::progress::RelayProgress;
use crate::relay::relay_error::RelayError;
use crate::relay::source_relay::SourceRelay;

/// A command gives up after so many failures in a row without progress.
const MOST_FAILURES: u32 = 5;

/// Backfills an element's stream from its `_files`, as the relay that holds `lease`: live changes
/// are published meanwhile, as by any relay. Every file is compared with its last known state in the
/// stream, and each difference is published as a snapshot; a second run publishes nothing. Ends with
/// `source.backfilled`, if there was anything to publish, or if the stream was marked as due for one.
/// The lock is released at the end. None: `stop` came first; what was compared by then is published.
///
/// `files_per_pass`: how many files are held in memory at a time, usually
/// [`FILES_PER_PASS`](crate::backfill::differences::FILES_PER_PASS). An error leaves the stream as any
/// relay would: a later run continues.
pub async fn run(
    bus: Bus,
    options: RelayOptions,
    lease: Lease,
    files_per_pass: u64,
    progress: RelayProgress,
    stop: CancellationToken,
) -> Result<Option<BackfillCounts>, RelayError> {
    let span = tracing::error_span!("backfill", source = %options.source);
    let source = options.source.clone();
    let relay = SourceRelay::new(bus, options, progress.clone());
    let mut backfill = Some(Backfill::new(files_per_pass));
    let worked = async {
        tokio::select! {
            worked = relay.work_until_backfilled(&lease, &mut backfill, &stop) => worked,
            error = lease.lost() => Err(error),
        }
    };
    let worked = worked.instrument(span).await;
    lease.release(&source).await?;
    worked?;
    let done = progress.read().backfill;
    Ok(done.filter(|_| backfill.is_none()))
}

impl SourceRelay {
    /// Retries after transient errors, as long as the lock is held and it makes progress.
    async fn work_until_backfilled(
        &self,
        lease: &Lease,
        backfill: &mut Option<Backfill>,
        stop: &CancellationToken,
    ) -> Result<(), RelayError> {
        let mut retry = Retry::new(Duration::from_millis(100), Duration::from_secs(2));
        let mut failures = 0;
        let mut before = self.progress.read();
        loop {
            let error = match Box::pin(self.work(lease, backfill, Until::Backfilled, stop)).await {
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
                () = stop.cancelled() => return Ok(()),
            }
        }
    }
}
