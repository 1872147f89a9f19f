//! The relay of one source: what its sessions share, and whether its stream is still the one that it knows.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use artstore_bus::bus_error::BusError;
use artstore_bus::connection::Bus;
use artstore_bus::streams::check_limits;
use artstore_schemas::size::MAX_BATCH_BYTES;
use sqlx::PgConnection;

use crate::relay::election;
use crate::relay::options::RelayOptions;
use crate::relay::progress::RelayProgress;
use crate::relay::relay_error::RelayError;
use crate::relay::source::SourceTable;
use crate::relay::source_check;
use crate::relay::translate::Translator;

/// How often the stream's settings are checked.
const WATCH: Duration = Duration::from_secs(1);

/// What is wrong while there is no connection.
pub(crate) const NO_CONNECTION: &str = "no connection to NATS; it is tried again all the time: check the NATS \
    server, the network, NATS_URL and NATS_CREDENTIALS";

/// The relay of one source.
pub(crate) struct SourceRelay {
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
    pub(crate) table: SourceTable,
}

impl SourceRelay {
    pub(crate) fn new(bus: Bus, options: RelayOptions, progress: RelayProgress) -> Self {
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

    pub(crate) async fn connect(&self) -> Result<PgConnection, RelayError> {
        let name = format!("artstore relay {}", self.options.source);
        let mut connection = election::connect(&self.options.database, &name).await?;
        source_check::check(&mut connection, &self.table).await?;
        Ok(connection)
    }

    /// Checks again and again whether somebody gives the stream a limit, recreates it, or restores it
    /// without its end: a relay that has nothing to publish would not notice. It does not end.
    pub(crate) async fn watch_stream(&self) {
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

    pub(crate) fn limited(&self) -> MutexGuard<'_, Option<BusError>> {
        self.limited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
