//! The start of a service. A wrong setting ends it; it waits for a server that is unavailable:
//! all of it for NATS, for a database only the source or the projection that needs it.

use std::time::Duration;

use anyhow::anyhow;
use artstore_bus::accounts::role::Role;
use artstore_bus::bus_error::BusError;
use artstore_bus::connection::{Bus, BusOptions, without_password};
use artstore_producers::relay::progress::RelayProgress;
use artstore_producers::relay::relay_error::RelayError;
use artstore_producers::relay::{self, RelayOptions};
use artstore_projectors::projector::Projector;
use artstore_projectors::projector_error::WorkerError;
use artstore_projectors::runtime::database::check_direct;
use artstore_projectors::runtime::{progress, workers};
use artstore_runtime::session::shown;
use artstore_schemas::source::Source;
use sqlx::postgres::PgConnectOptions;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::service::Service;
use crate::service::waiting::{Patience, Wait};

/// How long the others wait for the check of a source whose database does not answer: longer than
/// connecting may take.
const CHECK: Duration = Duration::from_secs(15);

/// Connects to NATS, and waits for it.
pub(super) async fn connect(
    options: &BusOptions,
    patience: Patience,
    service: &Service,
) -> anyhow::Result<Bus> {
    let error = match Bus::connect(options).await {
        Ok(bus) => return Ok(bus),
        Err(error) => error,
    };
    let wait = Wait {
        what: "NATS".to_owned(),
        server: without_password(&options.url),
        patience,
        is_unavailable: BusError::is_transient,
        show: &|why| service.waits(why),
    };
    Ok(wait.after(error, || Bus::connect(options)).await?)
}

/// Connects the relays: each with the key of its source, or all by one connection where there is one user for all.
pub(super) async fn connect_relays(
    config: &Config,
    relays: Vec<RelayOptions>,
    patience: Patience,
    service: &Service,
) -> anyhow::Result<Vec<(Bus, RelayOptions)>> {
    let mut shared: Option<Bus> = None;
    let mut connected = Vec::with_capacity(relays.len());
    for relay in relays {
        let role = Role::Relay(relay.source.clone());
        let options = config.bus(role, "artstore relay")?;
        let bus = match &shared {
            Some(bus) if !options.is_of_role()? => bus.clone(),
            Some(_) | None => connect(&options, patience, service).await?,
        };
        if !options.is_of_role()? {
            shared = Some(bus.clone());
        }
        connected.push((bus, relay));
    }
    Ok(connected)
}

/// Connects a projector, and for the audit log also whoever publishes its heads, where that is another user.
pub(super) async fn connect_projector(
    config: &Config,
    reader: &Role,
    patience: Patience,
    service: &Service,
) -> anyhow::Result<(Bus, Option<Bus>)> {
    let options = config.bus(reader.clone(), "artstore projector")?;
    let bus = connect(&options, patience, service).await?;
    let heads = config.bus(Role::AuditHeads, "artstore projector (heads)")?;
    let publisher = match *reader == Role::AuditLog && heads.is_of_role()? {
        true => Some(connect(&heads, patience, service).await?),
        false => None,
    };
    Ok((bus, publisher))
}

/// Checks all sources before the first one is relayed: a wrong setting of one keeps the others from
/// publishing. One whose server is unavailable leaves the others alone and is waited for by itself; so does
/// one that is halted, which shows why. Where all are halted, the first one's reason comes back.
pub(super) async fn check(
    relays: &[(Bus, RelayOptions)],
    patience: Patience,
) -> anyhow::Result<()> {
    let checks = relays.iter().map(async |(bus, options)| {
        let check = relay::check(bus, options);
        let checked = match patience.waits() {
            true => match tokio::time::timeout(CHECK, check).await {
                Ok(checked) => checked,
                Err(_) => return Ok(None),
            },
            false => check.await,
        };
        match checked {
            Ok(()) => Ok(None),
            Err(error) if error.is_of_one_source() => Ok(Some(failed(&options.source, &error))),
            Err(error) if error.is_unavailable() && patience.waits() => Ok(None),
            Err(error) => Err(failed(&options.source, &error)),
        }
    });
    let halted = futures::future::try_join_all(checks).await?;
    let all = halted.iter().all(Option::is_some);
    match halted.into_iter().flatten().next() {
        Some(error) if all => Err(error),
        _ => Ok(()),
    }
}

/// An error of a source's relay, with where the source is configured.
pub(super) fn failed(source: &Source, error: &RelayError) -> anyhow::Error {
    let variable = match source {
        Source::Element(_) => "ARTSTORE_ELEMENTS or STORAGE_DATABASE_URL",
        Source::Admin => "ADMIN_DATABASE_URL",
        Source::Query => "QUERY_DATABASE_URL",
    };
    anyhow!("source {source} ({variable}): {error}")
}

/// Relays a source until `stop` is set, and waits for its servers before it begins.
pub(super) async fn relay(
    bus: Bus,
    options: RelayOptions,
    progress: RelayProgress,
    patience: Patience,
    stop: CancellationToken,
) -> Result<(), RelayError> {
    let wait = Wait {
        what: format!("source {}", options.source),
        server: format!("database {}", shown(&options.database)),
        patience,
        is_unavailable: RelayError::is_unavailable,
        show: &|why| progress.waits(why),
    };
    loop {
        let run = relay::run(bus.clone(), options.clone(), progress.clone(), stop.clone());
        // Once it has begun, it ends only when it is asked to.
        let error = match run.await {
            Err(error) if !stop.is_cancelled() => error,
            ended => return ended,
        };
        let waited = tokio::select! {
            waited = wait.after(error, || relay::check(&bus, &options)) => waited,
            () = stop.cancelled() => return Ok(()),
        };
        match waited {
            // The relay meets it again, and shows it.
            Err(error) if error.is_of_one_source() => {}
            waited => waited?,
        }
    }
}

/// Where a projection reads and writes.
pub(super) struct ProjectorContext {
    pub(super) bus: Bus,
    pub(super) database: PgConnectOptions,
    pub(super) progress: progress::ProjectorProgress,
    pub(super) patience: Patience,
}

/// Runs a projection until `stop` is set, and waits for its database before it begins.
pub(super) async fn project<P: Projector>(
    projector: P,
    context: ProjectorContext,
    stop: CancellationToken,
) -> Result<(), WorkerError> {
    let ProjectorContext {
        bus,
        database,
        progress,
        patience,
    } = context;
    let wait = Wait {
        what: format!("projection {}", P::NAME),
        server: format!("database {}", shown(&database)),
        patience,
        is_unavailable: WorkerError::is_unavailable,
        show: &|why| progress.waits(why),
    };
    let checked = async {
        match check_direct::<P>(&database).await {
            Ok(()) => Ok(()),
            Err(error) => wait.after(error, || check_direct::<P>(&database)).await,
        }
    };
    tokio::select! {
        checked = checked => checked?,
        () = stop.cancelled() => return Ok(()),
    }
    workers::run_checked(projector, bus, database, progress.clone(), stop).await
}
