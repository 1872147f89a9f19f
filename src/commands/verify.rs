//! `artstore verify`: whether everything agrees, and if not, exactly what differs. It reads, and
//! changes nothing. Exit code 0: all agrees; 1: something differs, or could not be checked.

mod idle;
pub(super) mod progress;
mod table;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use artstore_bus::bus_error::BusError;
use artstore_bus::connection::Bus;
use artstore_bus::stream_name::AUDIT_HEADS;
use artstore_producers::relay::source::SourceTable;
use artstore_producers::relay::source_check;
use artstore_runtime::connection;
use artstore_runtime::crash;
use artstore_runtime::pulse::Pulse;
use artstore_runtime::restart::stopped;
use artstore_schemas::element::ElementName;
use artstore_schemas::source::Source;
use clap::Args;
use serde::Serialize;
use serde_json::json;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};
use tokio::sync::watch;

use self::idle::{Idle, Note};
use self::progress::{CacheDisplay, VerifyDisplay};
use super::retry::Again;
use crate::audit_keys::AuditSettings;
use crate::config::{Config, ConfigError};
use crate::error_text::error_text;
use crate::names;
use crate::signals::stop_signal;
use crate::status::database::not_connected;
use artstore_verification::audit;
use artstore_verification::audit::report::Outcome;
use artstore_verification::cache;
use artstore_verification::pass::{NewDecision, State};
use artstore_verification::resume::{About, ResumeFile};
use artstore_verification::source::{self, Ended, Report};

/// The state is kept at most so often, and takes at most a twentieth of the time.
const KEEP: Duration = Duration::from_secs(2);

/// How often a check begins anew because a break of its source was accepted meanwhile.
const ATTEMPTS: usize = 3;

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
    /// Keep the state of the check in this file now and then, and go on from it where it exists;
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
    mut stop: watch::Receiver<bool>,
    checked: &mut Checked,
) -> anyhow::Result<()> {
    let (patience, quiet) = (Duration::from_secs(command.wait), command.json);
    let again = |part: &str, bus: Option<&Bus>| Again {
        part: part.to_owned(),
        patience,
        quiet,
        bus: bus.cloned(),
    };
    let options = config.bus("artstore verify");
    let connect = again("NATS", None);
    let bus = tokio::select! {
        bus = connect.until(async || Ok(Bus::connect(&options).await?)) => bus?.patient(),
        () = stopped(&mut stop) => bail!("stopped before the end: nothing was checked"),
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
        let mut late = stop.clone();
        let late = async move {
            stopped(&mut late).await;
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
                checked.stopped(&part, &check);
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
        () = stopped(&mut stop) => {
            checked.stopped("query cache", &check);
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
        () = stopped(&mut stop) => {
            checked.stopped("audit log", &check);
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

/// All that is known, in the order in which it was checked.
#[derive(Default)]
struct Checked {
    notes: Vec<Note>,
    reports: Vec<Report>,
    cache: Option<cache::Report>,
    audit: Option<Audit>,
    problems: Vec<Problem>,
    /// Whether sources and cache were printed already.
    shown: bool,
}

/// A part that could not be checked, or not to its end.
#[derive(Debug, Serialize)]
struct Problem {
    part: String,
    error: String,
}

impl Checked {
    fn problem(&mut self, part: &str, error: &anyhow::Error) {
        self.problems.push(Problem {
            part: part.to_owned(),
            error: error_text(error),
        });
    }

    fn stopped(&mut self, part: &str, check: &Check) {
        self.problems.push(Problem {
            part: part.to_owned(),
            error: check.stopped(),
        });
    }

    fn is_clean(&self) -> bool {
        let audit_is_clean = match &self.audit {
            Some(Audit::Checked(outcome)) => outcome.findings().next().is_none(),
            Some(Audit::Nothing(_) | Audit::NotChecked(_)) | None => true,
        };
        self.problems.is_empty()
            && audit_is_clean
            && self.reports.iter().all(Report::is_clean)
            && self.cache.as_ref().is_none_or(cache::Report::is_clean)
    }

    /// One whole object, whatever could not be checked.
    fn json(&self) -> serde_json::Value {
        let (audit, reason) = match &self.audit {
            Some(Audit::Checked(outcome)) => (Some(outcome.json()), None),
            Some(Audit::Nothing(reason) | Audit::NotChecked(reason)) => (None, Some(*reason)),
            None => (None, Some("the check did not come to it")),
        };
        json!({
            "agree": self.is_clean(), "notes": self.notes, "sources": self.reports,
            "cache": self.cache, "audit": audit, "audit_not_checked": reason,
            "problems": self.problems,
        })
    }

    /// What was not printed on the way, and the command to continue with.
    fn print_rest(&self) {
        let known = !self.reports.is_empty() || self.cache.is_some();
        if known && !self.shown {
            print!("{}", table::show(&self.reports, self.cache.as_ref()));
        }
        match &self.audit {
            Some(Audit::Checked(outcome)) => print!("\nAudit log\n{}", outcome.text()),
            Some(Audit::NotChecked(reason)) => println!("\nAudit log: NOT CHECKED: {reason}."),
            Some(Audit::Nothing(_)) | None => {}
        }
        for problem in &self.problems {
            eprintln!("artstore: {}: NOT CHECKED: {}", problem.part, problem.error);
        }
        if let Some(next) = table::next(&self.reports, self.cache.as_ref()) {
            println!("Next: {next}");
        }
    }
}

/// What is known of the audit log.
enum Audit {
    Checked(Outcome),
    /// There is none: neither rows nor heads.
    Nothing(&'static str),
    /// Why nothing is said of one that is there, or may be.
    NotChecked(&'static str),
}

struct Check {
    command: Verify,
    bus: Bus,
    stop: watch::Receiver<bool>,
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

    /// The audit log of these sources, each row against its signature, its head and its message. One
    /// that was emptied is checked like any other: its heads say what is missing.
    async fn audit(
        &self,
        config: &Config,
        admin: Option<&PgConnectOptions>,
        sources: &[(Source, PgConnectOptions)],
    ) -> anyhow::Result<Audit> {
        // The parts of the URL alone (DB_*) may be those of another module.
        let Some(database) = admin.filter(|_| config.admin_database_url.is_some()) else {
            return Ok(Audit::NotChecked("ADMIN_DATABASE_URL is not set"));
        };
        let mut connection = connect(database).await?;
        let there: bool =
            sqlx::query_scalar("select to_regclass('public.audit_trees') is not null")
                .fetch_one(&mut connection)
                .await?;
        if !there {
            let reason = "the admin module's database has no tables for it";
            return Ok(match self.heads_on_the_bus().await? {
                true => Audit::NotChecked(reason),
                false => Audit::Nothing(reason),
            });
        }
        let written: bool = sqlx::query_scalar("select exists (select from public.audit_trees)")
            .fetch_one(&mut connection)
            .await?;
        if !written && !traces(&mut connection).await? && !self.heads_on_the_bus().await? {
            return Ok(Audit::Nothing("nothing was ever written to it"));
        }
        let keys = &self.command.audit;
        if keys.audit_verifier_keys_path.is_none() && keys.audit_signing_key_path.is_none() {
            return Ok(Audit::NotChecked(
                "SECURITY_AUDIT_VERIFIER_KEYS_PATH is not set",
            ));
        }
        let trusted = keys.trusted()?;
        let ring = match self.command.audit.is_given() {
            true => Some(self.command.audit.ring()?),
            false => None,
        };
        let sources: Vec<Source> = sources.iter().map(|(source, _)| source.clone()).collect();
        let wait = Duration::from_secs(self.command.wait);
        // An emptied log does not grow any more: nothing is waited for.
        if written {
            let awaited = sources.iter().filter(|source| {
                !self.idle.relays.contains(source) && !self.idle.audit_log.contains(source)
            });
            let awaited: Vec<Source> = awaited.cloned().collect();
            audit::wait_for(&mut connection, &self.bus, &awaited, wait).await?;
        }
        let done = AtomicU64::new(0);
        let check = audit::log::Check {
            database,
            bus: Some(&self.bus),
            ring: ring.as_ref(),
            trusted: &trusted,
            range: None,
            archives: None,
            done: &done,
        };
        let checked = check.all(&mut connection, &sources, true).await;
        checked.map(Audit::Checked)
    }

    /// Whether a head of any log was ever published.
    async fn heads_on_the_bus(&self) -> anyhow::Result<bool> {
        match self.bus.stream_info(AUDIT_HEADS).await {
            Ok(info) => Ok(info.state.messages > 0),
            Err(BusError::NoStream(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// None: it was stopped.
    async fn source(
        &mut self,
        source: &Source,
        database: &PgConnectOptions,
    ) -> anyhow::Result<Option<Report>> {
        if *self.stop.borrow() {
            return Ok(None);
        }
        let mut connection = connect(database).await?;
        source_check::shows_all(&mut connection, &SourceTable::of(source)).await?;
        let about = About::read(&mut connection, &self.bus, source).await?;
        let mut state = match &self.file {
            Some(file) => file.state(&self.bus, source, &about).await?,
            None => State::default(),
        };
        for _ in 1..ATTEMPTS {
            match self.pass(source, &mut connection, &about, state).await {
                Err(error) if error.is::<NewDecision>() => state = State::default(),
                ended => return ended,
            }
        }
        self.pass(source, &mut connection, &about, state).await
    }

    async fn pass(
        &mut self,
        source: &Source,
        connection: &mut PgConnection,
        about: &About,
        state: State,
    ) -> anyhow::Result<Option<Report>> {
        let wait = match self.idle.relays.contains(source) {
            true => Duration::ZERO,
            false => Duration::from_secs(self.command.wait),
        };
        let mut progress = VerifyDisplay::new(source, state.links.last, self.command.json);
        let pass = source::begin(&self.bus, source, state).await?;
        let (file, stop) = (&mut self.file, &self.stop);
        let mut failed = None;
        // The first time at once: a file that can't be written is not found out after hours.
        let mut keep_at = Instant::now();
        let ended = source::run(connection, &self.bus, pass, wait, |pass, fixed| {
            progress.show(pass, fixed);
            crash::point("verify.read");
            if *stop.borrow() {
                return ControlFlow::Break(());
            }
            if let Some(file) = file.as_mut().filter(|_| Instant::now() >= keep_at) {
                let begun = Instant::now();
                if let Err(error) = file.save(about, pass) {
                    failed = Some(error);
                    return ControlFlow::Break(());
                }
                crash::point("verify.kept");
                keep_at = Instant::now() + KEEP.max(begun.elapsed() * 20);
            }
            ControlFlow::Continue(())
        })
        .await;
        progress.finish();
        if let Some(error) = failed {
            return Err(error.context("--resume"));
        }
        match ended? {
            Ended::Done(report) => Ok(Some(*report)),
            Ended::Stopped(pass) => {
                if let Some(file) = &mut self.file {
                    file.save(about, &pass).context("--resume")?;
                }
                Ok(None)
            }
        }
    }

    fn stopped(&self) -> String {
        match &self.command.resume {
            Some(path) => format!(
                "stopped before the end: `artstore verify --resume {}` goes on from here",
                path.display()
            ),
            None => "stopped before the end: nothing is said of what was not checked \
                     (with --resume FILE, a later run goes on)"
                .to_owned(),
        }
    }
}

/// Whether the database shows that there was a log, where its ends are gone.
async fn traces(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select exists (select from public.audit_heads) \
             or exists (select from public.audit_logs where stream is not null)",
    )
    .fetch_one(connection)
    .await
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
