//! `artstore run relay` and `artstore run projector`: the parts of the system as services. `start` waits
//! for their servers.

mod start;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use artstore_bus::accounts::role::Role;
use artstore_producers::relay::RelayOptions;
use artstore_producers::relay::progress::RelayProgress;
use artstore_projectors::audit_log::AuditLog;
use artstore_projectors::element_registry::ElementRegistry;
use artstore_projectors::query_cache::QueryCache;
use artstore_projectors::runtime::progress;
use artstore_schemas::source::Source;
use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, Subcommand};
use sqlx::postgres::PgConnectOptions;
use tokio::task::JoinSet;
use tracing::Instrument as _;

use crate::audit_keys::AuditSettings;
use crate::config::{Config, ConfigError, RelaySettings, ServiceSettings};
use crate::names;
use crate::service::waiting::Patience;
use crate::service::{Limits, Projection, ProjectorRole, RelayRole, Service, ShownRelay, answer};
use crate::signals::stop_signal;
use artstore_verification::continuous::Continuous;
use artstore_verification::proven::Proven;
use tokio_util::sync::CancellationToken;

/// The longest that stopping may take. The parts end by themselves before, and know better why
/// something did not.
const STOPPING: Duration = Duration::from_secs(15);

/// Which part.
#[derive(Debug, Subcommand)]
pub enum Run {
    /// Publish finished rows of all configured sources: elements, admin, query
    Relay(RelayCommand),
    /// Build the query cache and the audit log from the streams
    Projector(ProjectorCommand),
}

/// Which sources, and how.
#[derive(Debug, Args)]
pub struct RelayCommand {
    /// Only these sources: an element's name, admin, query, or their streams
    #[arg(long, value_parser = names::source)]
    source: Vec<Source>,
    #[command(flatten)]
    settings: RelaySettings,
    /// Check each source against its stream as long as the relay runs, a quarter of the time at most: the
    /// metrics artstore_proven_position and artstore_findings, and an event verification.finding in the
    /// admin module's outbox
    #[arg(
        long,
        env = "ARTSTORE_VERIFY",
        action = ArgAction::Set,
        default_value_t = true,
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        value_name = "true|false",
        value_parser = BoolishValueParser::new()
    )]
    verify: bool,
    #[command(flatten)]
    service: ServiceSettings,
}

/// How.
#[derive(Debug, Args)]
pub struct ProjectorCommand {
    /// Only these projections; without it the query cache where QUERY_DATABASE_URL is set, and the
    /// audit log where SECURITY_AUDIT_HMAC_SECRET is set. May be given often
    #[arg(long, value_enum)]
    projection: Vec<Projection>,
    #[command(flatten)]
    service: ServiceSettings,
    #[command(flatten)]
    audit: AuditSettings,
}

/// Runs the command.
pub async fn run(config: &Config, command: Run) -> anyhow::Result<ExitCode> {
    let stop = stop_signal()?;
    let part = async {
        match command {
            Run::Relay(command) => run_relay(config, &command, stop.clone()).await,
            Run::Projector(command) => run_projector(config, &command, stop.clone()).await,
        }
    };
    tokio::select! {
        ended = part => ended?,
        () = overdue(stop.clone()) => bail!(
            "stopped before everything was settled: something did not end within {} s; nothing is \
             lost: the next start continues from what stream and database say",
            STOPPING.as_secs()
        ),
    }
    Ok(ExitCode::SUCCESS)
}

async fn overdue(stop: CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(STOPPING).await;
}

/// What comes before there is anything to settle; none where a stop came first.
async fn unless_stopped<T>(
    stop: &CancellationToken,
    start: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<Option<T>> {
    let stop = stop.clone();
    tokio::select! {
        started = start => started.map(Some),
        () = stop.cancelled() => Ok(None),
    }
}

fn limits(settings: &ServiceSettings) -> Limits {
    Limits {
        events: settings.ready_lag_events,
        seconds: settings.ready_lag_seconds,
    }
}

async fn run_relay(
    config: &Config,
    command: &RelayCommand,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let relays = relays(config, command)?;
    let service = Service::start("relay", &command.service, stop.clone()).await?;
    let patience = Patience::of(command.service.wait);
    let begun = async {
        let relays = start::connect_relays(config, relays, patience, &service).await?;
        start::check(&relays, patience).await?;
        Ok(relays)
    };
    let Some(relays) = unless_stopped(&stop, begun).await? else {
        return Ok(());
    };
    let mut shown = Vec::new();
    let mut proving = Vec::new();
    let mut running = JoinSet::new();
    for (bus, options) in relays {
        let (stop, progress) = (stop.clone(), RelayProgress::default());
        let source = options.source.clone();
        shown.push(ShownRelay {
            bus: bus.clone(),
            source: source.clone(),
            progress: progress.clone(),
        });
        if command.verify {
            proving.push(Continuous {
                bus: bus.clone(),
                source: source.clone(),
                database: options.database.clone(),
                admin: match config.has_admin_url() {
                    true => config.admin_database()?,
                    false => None,
                },
                relay: progress.clone(),
                proven: Proven::default(),
            });
        }
        let what = format!("the relay of {source}");
        let relay = running.spawn(async move {
            let ended = start::relay(bus, options, progress, patience, stop).await;
            (source, ended)
        });
        service.watch(what, relay);
    }
    let proofs: Vec<(Source, Proven)> = proving
        .iter()
        .map(|check: &Continuous| (check.source.clone(), check.proven.clone()))
        .collect();
    let proven = move |source: &Source| {
        let (_, proven) = proofs.iter().find(|(of, _)| of == source)?;
        answer::Proven::of(&proven.read())
    };
    let answering = answer::for_relays(shown.clone(), proven);
    let answering = tokio::spawn(answering);
    service.watch("answering `artstore status`", answering.abort_handle());
    let interval = command.settings.poll_interval();
    let mut role = RelayRole::new(shown, interval, limits(&command.service));
    let mut checking = JoinSet::new();
    for continuous in proving {
        role = role.proving(&continuous.source, continuous.proven.clone());
        let what = format!("the check of {}", continuous.source);
        let span = tracing::error_span!("check", source = %continuous.source);
        let check = checking.spawn(continuous.run(stop.clone()).instrument(span));
        service.watch(what, check);
    }
    let role = Arc::new(role);
    let measuring = tokio::spawn(Arc::clone(&role).measure());
    service.watch("measuring", measuring.abort_handle());
    service.show(role);
    // A source with a wrong setting ends the command: nothing half-configured continues quietly.
    let mut result = Ok(());
    while let Some(ended) = running.join_next().await {
        let (source, ended) = ended?;
        result = result.and(ended.map_err(|error| start::failed(&source, &error)));
        // Once stopping, the others may still have something to settle.
        if !stop.is_cancelled() {
            break;
        }
    }
    // It only reads: nothing is lost when it is cut off.
    checking.shutdown().await;
    result
}

/// A projector with what it needs.
enum Chosen {
    QueryCache,
    AuditLog(AuditLog),
    ElementRegistry,
}

impl Chosen {
    fn projection(&self) -> Projection {
        match self {
            Self::QueryCache => Projection::QueryCache,
            Self::AuditLog(_) => Projection::AuditLog,
            Self::ElementRegistry => Projection::ElementRegistry,
        }
    }
}

/// The projections that run here, with their databases.
fn projections(
    config: &Config,
    command: &ProjectorCommand,
) -> Result<Vec<(Chosen, PgConnectOptions)>, ConfigError> {
    let chosen = |projection| command.projection.contains(&projection);
    let by_settings = command.projection.is_empty();
    let query = config.query_database()?;
    let audit = chosen(Projection::AuditLog) || by_settings && command.audit.is_given();
    let mut projections = Vec::new();
    if chosen(Projection::QueryCache) || by_settings && (query.is_some() || !audit) {
        let database = query.ok_or_else(|| {
            ConfigError(
                "the projector needs QUERY_DATABASE_URL (or DATABASE_HOST and others)".into(),
            )
        })?;
        projections.push((Chosen::QueryCache, database));
    }
    if audit {
        let database = config.admin_database()?.ok_or_else(|| {
            ConfigError("the audit log needs ADMIN_DATABASE_URL (or DB_HOST and others)".into())
        })?;
        let audit_log = AuditLog::new(command.audit.keys()?);
        projections.push((Chosen::AuditLog(audit_log), database));
    }
    if chosen(Projection::ElementRegistry) {
        let database = config.admin_database()?.ok_or_else(|| {
            ConfigError(
                "the element registry needs ADMIN_DATABASE_URL (or DB_HOST and others)".into(),
            )
        })?;
        projections.push((Chosen::ElementRegistry, database));
    }
    Ok(projections)
}

async fn run_projector(
    config: &Config,
    command: &ProjectorCommand,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let projections = projections(config, command)?;
    let service = Service::start("projector", &command.service, stop.clone()).await?;
    let patience = Patience::of(command.service.wait);
    let is_audit_log = |(chosen, _): &(Chosen, _)| matches!(chosen, Chosen::AuditLog(_));
    let reader = match projections.iter().any(is_audit_log) {
        true => Role::AuditLog,
        false => Role::Projector,
    };
    let begun = start::connect_projector(config, &reader, patience, &service);
    let Some((bus, publisher)) = unless_stopped(&stop, begun).await? else {
        return Ok(());
    };
    let mut role = ProjectorRole::new(limits(&command.service));
    let mut running = JoinSet::new();
    for (chosen, database) in projections {
        let projection = chosen.projection();
        let progress = progress::ProjectorProgress::default();
        role = role.showing(projection, database.clone(), progress.clone());
        let (name, version) = (projection.name(), projection.version());
        let answering = answer::for_projector(bus.clone(), name, version, progress.clone());
        let answering = tokio::spawn(answering);
        service.watch(
            format!("answering `artstore status` for {name}"),
            answering.abort_handle(),
        );
        let (bus, stop) = (bus.clone(), stop.clone());
        let at = start::ProjectorContext {
            bus,
            database,
            progress,
            patience,
        };
        let workers = match chosen {
            Chosen::QueryCache => running.spawn(start::project(QueryCache, at, stop)),
            Chosen::AuditLog(audit_log) => {
                let audit_log = match &publisher {
                    Some(publisher) => audit_log.publishing_on(publisher.clone()),
                    None => audit_log,
                };
                running.spawn(start::project(audit_log, at, stop))
            }
            Chosen::ElementRegistry => running.spawn(start::project(ElementRegistry, at, stop)),
        };
        service.watch(format!("the projector of {name}"), workers);
    }
    let role = Arc::new(role);
    let measuring = tokio::spawn(Arc::clone(&role).measure(bus));
    service.watch("measuring", measuring.abort_handle());
    service.show(role);
    let mut result = Ok(());
    while let Some(ended) = running.join_next().await {
        result = result.and(ended?);
        // Once stopping, the others may still have something to commit.
        if !stop.is_cancelled() {
            break;
        }
    }
    Ok(result?)
}

fn relays(config: &Config, command: &RelayCommand) -> Result<Vec<RelayOptions>, ConfigError> {
    let sources = config.sources(&command.source)?;
    sources
        .into_iter()
        .map(|(source, database)| {
            let api_url = match &source {
                Source::Element(name) => config.api_url(name)?,
                Source::Admin | Source::Query => None,
            };
            Ok(RelayOptions {
                source,
                database,
                api_url,
                mode: command.settings.mode(),
                poll_interval: command.settings.poll_interval(),
            })
        })
        .collect()
}
