//! `artstore verify`: whether everything agrees, and if not, exactly what differs. It reads, and
//! changes nothing. Exit code 0: all agrees; 1: something differs, or could not be checked.

mod audit_log;
mod idle;
mod one_source;
pub(super) mod progress;
mod result;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use artstore_bus::accounts::role::Role;
use artstore_bus::bus_error::BusError;
use artstore_bus::connection::Bus;
use artstore_runtime::connection;
use artstore_runtime::crash;
use artstore_runtime::pulse::Pulse;
use artstore_schemas::element::ElementName;
use artstore_schemas::source::Source;
use clap::Args;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};

use self::idle::Idle;
use self::progress::CacheDisplay;
use self::result::Checked;
use super::retry::Again;
use crate::audit_keys::AuditSettings;
use crate::config::{Config, ConfigError};
use crate::names;
use crate::signals::stop_signal;
use crate::status::database::not_connected;
use artstore_verification::cache;
use artstore_verification::resume::ResumeFile;
use tokio_util::sync::CancellationToken;

/// How long a check may take to keep where it is when it is asked to stop.
const SETTLED: Duration = Duration::from_secs(5);

/// The session that shows whether a database's server answers.
const PULSE: &str = "artstore verify (pulse)";

/// What to check, and how.
#[derive(Debug, Args)]
pub struct Verify {
    /// Only these sources: an element's name, admin, query, or their streams
    #[arg(long, value_parser = names::source)]
    source: Vec<Source>,
    /// Keep the state of the check in this file now and then, and continue from it where it exists;
    /// it is removed when all is checked
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// How many seconds the relay may take for what was finished before the check, without any of
    /// it coming; and for how long a server that a part needs may be unavailable before that part is given up
    #[arg(
        long,
        env = "ARTSTORE_VERIFY_WAIT_SECONDS",
        value_name = "SECONDS",
        default_value_t = 60
    )]
    wait: u64,
    /// Print JSON: up to 100,000 findings of each source, and how many there are
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    audit: AuditSettings,
}

/// Runs the command.
pub async fn run(config: &Config, command: Verify) -> anyhow::Result<ExitCode> {
    let sources = config.sources(&command.source)?;
    // What is given must be readable before anything takes long.
    let keys = &command.audit;
    if keys.audit_verifier_keys_path.is_some() || keys.audit_signing_key_path.is_some() {
        keys.trusted()?;
    }
    if keys.is_given() {
        keys.ring()?;
    }
    let file = command.resume.as_deref().map(ResumeFile::open);
    let file = file.transpose()?;
    let stop = stop_signal()?;
    let (json, mut checked) = (command.json, Checked::default());
    if let Err(error) = check(config, command, &sources, file, stop, &mut checked).await {
        if is_usage(&error) {
            return Err(error);
        }
        // Not an error of the command: what was checked by then is shown.
        checked.problem("NATS", &error);
    }
    if json {
        println!("{}", checked.json());
    } else {
        checked.print_rest();
    }
    Ok(ExitCode::from(u8::from(!checked.is_clean())))
}

/// Works until the database's server stops answering, where there is a database.
async fn answered<T>(
    database: Option<&PgConnectOptions>,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    match database {
        Some(database) => {
            Pulse::of(database.clone(), PULSE)
                .while_answered(work)
                .await
        }
        None => work.await,
    }
}

/// Checks part after part. What fails is a problem of that part, and the others are checked all the
/// same; an error says that none could be.
async fn check(
    config: &Config,
    command: Verify,
    sources: &[(Source, PgConnectOptions)],
    file: Option<ResumeFile>,
    stop: CancellationToken,
    checked: &mut Checked,
) -> anyhow::Result<()> {
    let (patience, quiet) = (Duration::from_secs(command.wait), command.json);
    let again = |part: &str, bus: Option<&Bus>| Again {
        part: part.to_owned(),
        patience,
        quiet,
        bus: bus.cloned(),
    };
    let options = config.bus(Role::Reader, "artstore verify")?;
    let connect = again("NATS", None);
    let bus = tokio::select! {
        bus = connect.until(async || Ok(Bus::connect(&options).await?)) => bus?.patient(),
        () = stop.cancelled() => bail!("stopped before the end: nothing was checked"),
    };
    let (query, admin) = (config.query_database()?, config.admin_database()?);
    let names: Vec<Source> = sources.iter().map(|(source, _)| source.clone()).collect();
    let idle = Idle::look(&bus, &names, query.as_ref(), admin.as_ref()).await;
    checked.notes.clone_from(&idle.notes);
    if !quiet {
        print!("{}", table::notes(&checked.notes));
    }
    let mut check = Check {
        file,
        command,
        bus,
        stop: stop.clone(),
        idle,
    };
    for (source, database) in sources {
        let part = format!("source {source}");
        let again = again(&part, Some(&check.bus));
        let pulse = Pulse::of(database.clone(), PULSE);
        let report =
            again.until(async || pulse.while_answered(check.source(source, database)).await);
        // It ends by itself and keeps where it is; but not while its server is away.
        let late = stop.clone();
        let late = async move {
            late.cancelled().await;
            tokio::time::sleep(SETTLED).await;
        };
        let report = tokio::select! {
            report = report => report,
            () = late => Ok(None),
        };
        match report {
            Ok(Some(report)) => {
                checked.reports.push(report);
                crash::point("verify.checked");
            }
            Ok(None) => {
                checked.stopped(&part, check.stopped());
                return Ok(());
            }
            Err(error) if is_usage(&error) => return Err(error),
            Err(error) => checked.problem(&part, &error),
        }
    }
    let of_cache = again("query cache", Some(&check.bus));
    tokio::select! {
        cache = of_cache.until(async || answered(query.as_ref(), check.cache(query.as_ref(), sources)).await) => match cache {
            Ok(cache) => checked.cache = cache,
            Err(error) if is_usage(&error) => return Err(error),
            Err(error) => checked.problem("query cache", &error),
        },
        () = stop.cancelled() => {
            checked.stopped("query cache", check.stopped());
            return Ok(());
        }
    }
    // Whatever becomes of the audit log's check, this is known.
    if !quiet {
        print!("{}", table::show(&checked.reports, checked.cache.as_ref()));
        checked.shown = true;
    }
    let of_audit = again("audit log", Some(&check.bus));
    tokio::select! {
        audit = of_audit.until(async || answered(admin.as_ref(), check.audit(config, admin.as_ref(), sources)).await) => match audit {
            Ok(audit) => checked.audit = Some(audit),
            Err(error) if is_usage(&error) => return Err(error),
            Err(error) => checked.problem("audit log", &error),
        },
        () = stop.cancelled() => {
            checked.stopped("audit log", check.stopped());
            return Ok(());
        }
    }
    // What could not be checked is checked from where this ended.
    if let Some(file) = check.file.filter(|_| checked.problems.is_empty()) {
        file.finish()?;
    }
    Ok(())
}

/// Whether it is about settings, so that nothing was checked.
fn is_usage(error: &anyhow::Error) -> bool {
    let bus = error.downcast_ref::<BusError>();
    error.is::<ConfigError>() || bus.is_some_and(BusError::is_configuration)
}

/// A check under way.
struct Check {
    command: Verify,
    bus: Bus,
    stop: CancellationToken,
    file: Option<ResumeFile>,
    idle: Idle,
}

impl Check {
    /// The read model against the elements among these sources, and against the query module's
    /// stream where that is among them. None: its database is not configured, or nothing in it
    /// comes from these sources.
    async fn cache(
        &self,
        query: Option<&PgConnectOptions>,
        sources: &[(Source, PgConnectOptions)],
    ) -> anyhow::Result<Option<cache::Report>> {
        let elements: Vec<(ElementName, PgConnectOptions)> = sources
            .iter()
            .filter_map(|(source, database)| match source {
                Source::Element(name) => Some((name.clone(), database.clone())),
                Source::Admin | Source::Query => None,
            })
            .collect();
        let history = sources.iter().any(|(source, _)| *source == Source::Query);
        let Some(query) = query else {
            return Ok(None);
        };
        if elements.is_empty() && !history {
            return Ok(None);
        }
        let scope = cache::Scope {
            bus: &self.bus,
            query,
            elements: &elements,
            history,
            unpublished: &self.idle.relays,
            unapplied: &self.idle.cache,
            patience: Duration::from_secs(self.command.wait),
        };
        let mut progress = CacheDisplay::new(self.command.json);
        let report = cache::verify(&scope, &mut |now| {
            progress.show(now);
            crash::point("verify.compared");
        })
        .await;
        progress.finish();
        report.map(Some)
    }

    fn stopped(&self) -> String {
        match &self.command.resume {
            Some(path) => format!(
                "stopped before the end: `artstore verify --resume {}` continues from here",
                path.display()
            ),
            None => "stopped before the end: nothing is known of what was not checked \
                     (with --resume FILE, a later run continues)"
                .to_owned(),
        }
    }
}

async fn connect(database: &PgConnectOptions) -> anyhow::Result<PgConnection> {
    let options = database
        .clone()
        .application_name("artstore verify")
        .log_statements(tracing::log::LevelFilter::Trace)
        .log_slow_statements(tracing::log::LevelFilter::Off, Duration::ZERO);
    let connected = connection::open_read_only(&options).await;
    connected.map_err(|error| not_connected(database, "its URL and the server", error))
}
