//! Becoming a source's only relay for as long as an operator's command takes. It asks the relays to
//! step aside (`crate::relay::control`) and takes their lock; where none runs, or one is halted, it just
//! takes the lock. Once the command ends, however it ends, the lock is free and a relay resumes.

use std::time::{Duration, Instant};

use artstore_bus::bus_error::BusError;
use artstore_bus::connection::Bus;
use artstore_runtime::pulse::{self, within};
use artstore_schemas::source::Source;
use async_nats::client::Request;
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;

use crate::relay::control::STEP_ASIDE;
use crate::relay::election::{self, Lease};
use crate::relay::relay_error::RelayError;

/// How often the relays are asked.
const ASKED_AGAIN: Duration = Duration::from_secs(2);

/// How often the lock is checked.
const LOOK: Duration = Duration::from_millis(50);

/// Takes the source's lock for a command, `name`, within `patience`. An error names who holds it.
pub async fn acquire(
    bus: &Bus,
    database: &PgConnectOptions,
    source: &Source,
    name: &str,
    patience: Duration,
) -> Result<Lease, RelayError> {
    election::refuse_pooler(database).await?;
    let mut connection = election::connect(database, name).await?;
    let mut lock = election::lock_of(source);
    let begun = Instant::now();
    let mut asked: Option<Instant> = None;
    loop {
        let look = Instant::now();
        let locked = lock.try_lock(&mut connection);
        if let Some(held) = within(pulse::ANSWER, locked).await? {
            return Ok(Lease::held(connection, lock, held, look));
        }
        if begun.elapsed() >= patience {
            let held = held(&mut connection, source, patience);
            return Err(within(pulse::ANSWER, held).await?);
        }
        if asked.is_none_or(|asked| asked.elapsed() >= ASKED_AGAIN) {
            asked = Some(Instant::now());
            ask(bus, source).await?;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Asks, and waits for an answer for a moment. Only the lock counts: there may be nobody to
/// answer. But a user who may not ask would wait for nothing.
async fn ask(bus: &Bus, source: &Source) -> Result<(), BusError> {
    let request = Request::new()
        .payload(STEP_ASIDE.into())
        .timeout(Some(ASKED_AGAIN));
    let subject = source.control_subject();
    let answer = bus.client.send_request(subject.clone(), request);
    let is_its = |refused: &str| refused == subject;
    if let Err(error) = bus.refusals.unless_refused(is_its, answer).await? {
        tracing::debug!(%error, "no relay answered that it stepped aside");
    }
    Ok(())
}

/// Who holds the lock, as far as this role may know.
async fn held(
    connection: &mut PgConnection,
    source: &Source,
    patience: Duration,
) -> Result<RelayError, RelayError> {
    let holder = election::holder(connection, source).await?;
    let (holder, is_relay) = match holder {
        None => ("a session that has just ended".to_owned(), false),
        Some(holder) => {
            let name = holder.application.as_ref();
            let is_relay = name.is_none_or(|name| name.starts_with("artstore relay"));
            (holder.to_string(), is_relay)
        }
    };
    Ok(RelayError::Held {
        source_name: source.to_string(),
        holder,
        seconds: patience.as_secs(),
        advice: if is_relay {
            "is that relay connected to the same NATS, with the right to subscribe to \
             artstore.control.>? If it hangs, stop it, and run this again"
        } else {
            "wait until that command has ended, and run this again"
        },
    })
}
