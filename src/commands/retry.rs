//! Tries a part of a check again when one of its servers is unavailable, usually because it was restarted
//! in the middle. Nothing of a failed try is kept, so that nothing is found twice.

use std::time::{Duration, Instant};

use artstore_bus::bus_error::BusError;
use artstore_bus::connection::Bus;
use artstore_bus::stream_reader::ReadError;
use artstore_producers::relay::relay_error::RelayError;
use artstore_projectors::projector_error::WorkerError;
use artstore_runtime::retry::Retry;
use artstore_runtime::unavailable;
use async_nats::connection::State;
use async_nats::jetstream::consumer::StreamError;
use async_nats::jetstream::context::{GetStreamError, RequestError};
use async_nats::jetstream::stream::{ConsumerError, RawMessageError};

use crate::error_text::error_text;

/// A try that lasted for so long, longer than any single answer may take, had found its servers again: what
/// ends it then is new.
const WELL: Duration = Duration::from_secs(40);

/// A part is begun so often in all, where its servers are there for a while each time.
const MOST: u32 = 20;

/// How often it is checked whether NATS is still there.
const LOOK: Duration = Duration::from_millis(500);

/// How one part is tried.
pub(super) struct Again {
    /// Its name.
    pub(super) part: String,
    /// For how long a server may be unavailable.
    pub(super) patience: Duration,
    /// Whether nothing is said on standard error.
    pub(super) quiet: bool,
    /// What it reads NATS with; none where it does not, or connects itself.
    pub(super) bus: Option<Bus>,
}

impl Again {
    /// What a try gives that does not end with an unavailable server; or the last try's error, where a server
    /// was unavailable for longer than the patience.
    pub(super) async fn until<T>(
        &self,
        mut attempt: impl AsyncFnMut() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let mut retry = Retry::new(Duration::from_millis(200), Duration::from_secs(2));
        let mut gone: Option<Instant> = None;
        let mut ended_well = 0;
        loop {
            let begun = Instant::now();
            let ended = tokio::select! {
                ended = attempt() => ended,
                error = self.without_nats() => Err(error),
            };
            let error = match ended {
                Err(error) if is_unavailable(&error) => error,
                ended => return ended,
            };
            if begun.elapsed() >= WELL {
                ended_well += 1;
                gone = None;
                retry.succeeded();
            }
            if gone.is_none() && !self.quiet && !self.patience.is_zero() {
                let (part, why) = (&self.part, error_text(&error));
                eprintln!("{part}: a server is gone or was restarted, starting again: {why}");
            }
            let gone = *gone.get_or_insert_with(Instant::now);
            if gone.elapsed() >= self.patience || ended_well >= MOST {
                return Err(error);
            }
            retry.wait().await;
        }
    }

    /// Ends where NATS was not connected for longer than the patience: the client itself would wait for each
    /// answer, however many there are.
    async fn without_nats(&self) -> anyhow::Error {
        let Some(bus) = &self.bus else {
            return std::future::pending().await;
        };
        let mut connected = Instant::now();
        loop {
            tokio::time::sleep(LOOK).await;
            if bus.client.connection_state() == State::Connected {
                connected = Instant::now();
            } else if connected.elapsed() >= self.patience.max(LOOK) {
                let seconds = connected.elapsed().as_secs();
                let text = format!("the connection to NATS is lost, for {seconds} s now");
                return BusError::JetStream(text).into();
            }
        }
    }
}

/// Whether another try may succeed without anybody changing anything.
pub(super) fn is_unavailable(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let database = cause.downcast_ref::<sqlx::Error>();
        let bus = cause.downcast_ref::<BusError>();
        let relay = cause.downcast_ref::<RelayError>();
        let worker = cause.downcast_ref::<WorkerError>();
        database.is_some_and(unavailable::is_unavailable)
            || bus.is_some_and(BusError::is_transient)
            || relay.is_some_and(RelayError::is_unavailable)
            || worker.is_some_and(WorkerError::is_unavailable)
            // What NATS did not answer, or answered with an error of its own.
            || cause.is::<ReadError>()
            || cause.is::<RequestError>()
            || cause.is::<GetStreamError>()
            || cause.is::<ConsumerError>()
            || cause.is::<StreamError>()
            || cause.is::<RawMessageError>()
    })
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use anyhow::{Context as _, anyhow};

    use super::*;

    fn down() -> anyhow::Error {
        let cause = sqlx::Error::Io(ErrorKind::ConnectionReset.into());
        anyhow::Error::from(cause).context("the query database")
    }

    fn again(seconds: u64) -> Again {
        Again {
            part: "a part".to_owned(),
            patience: Duration::from_secs(seconds),
            quiet: true,
            bus: None,
        }
    }

    #[tokio::test]
    async fn a_part_is_tried_again_until_its_server_is_there() {
        let mut tries = 0;
        let found = again(60)
            .until(async || {
                tries += 1;
                if tries < 3 { Err(down()) } else { Ok("all") }
            })
            .await;
        assert_eq!(found.unwrap(), "all");
        assert_eq!(tries, 3);
    }

    #[tokio::test]
    async fn what_no_wait_repairs_and_what_takes_too_long_ends_it() {
        let mut tries = 0;
        let ended: anyhow::Result<()> = again(60)
            .until(async || {
                tries += 1;
                Err(anyhow!("a row is not readable")).context("the query database")
            })
            .await;
        assert_eq!((ended.is_err(), tries), (true, 1));
        for patience in [0, 1] {
            let mut tries = 0;
            let ended: anyhow::Result<()> = again(patience)
                .until(async || {
                    tries += 1;
                    Err(down())
                })
                .await;
            assert!(is_unavailable(&ended.unwrap_err()));
            assert_eq!(tries > 1, patience > 0, "{tries} tries");
        }
    }
}
