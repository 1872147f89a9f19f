//! `artstore verify`: whether everything agrees, and if not, exactly what does not. It reads, and
//! changes nothing. Exit code 0: all agrees; 1: it does not, or could not be checked.

pub(super) mod progress;
mod table;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use artstore_schemas::bus::{AUDIT_HEADS, Bus, BusError};
use artstore_schemas::crash;
use artstore_schemas::element::ElementName;
use artstore_schemas::source::Source;
use artstore_sessions::restart::stopped;
use clap::Args;
use serde_json::json;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};
use tokio::sync::watch;

use self::progress::{CacheProgress, Progress};
use super::stop_signal;
use crate::audit;
use crate::audit::report::Outcome;
use crate::audit_keys::AuditSettings;
use crate::config::Config;
use crate::names;
use crate::status::database::not_connected;
use crate::verify::cache;
use crate::verify::pass::{NewDecision, State};
use crate::verify::resume::{About, ResumeFile};
use crate::verify::source::{self, Ended, Report};

/// The state is kept at most so often, and takes at most a twentieth of the time.
const KEEP: Duration = Duration::from_secs(2);

/// How often a check begins anew because a break of its source was accepted meanwhile.
const ATTEMPTS: usize = 3;

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
    /// it coming
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
    let stop = stop_signal()?;
    let bus = Bus::connect(&config.bus("artstore verify"))
        .await?
        .patient();
    let mut check = Check {
        file: command
            .resume
            .as_deref()
            .map(ResumeFile::open)
            .transpose()?,
        command,
        bus,
        stop,
    };
    let mut reports = Vec::new();
    for (source, database) in &sources {
        let checked = check.source(source, database).await;
        let report = checked.with_context(|| format!("source {source}"))?;
        let Some(report) = report else {
            eprintln!("artstore: {}", check.stopped());
            return Ok(ExitCode::FAILURE);
        };
        reports.push(report);
    }
    let mut stop = check.stop.clone();
    let cache = tokio::select! {
        checked = check.cache(config, &sources) => checked?,
        () = stopped(&mut stop) => {
            eprintln!("artstore: {}", check.stopped());
            return Ok(ExitCode::FAILURE);
        }
    };
    let cache_is_clean = cache
        .as_ref()
        .is_none_or(|cache| cache.findings.is_empty() && !cache.truncated);
    // Whatever becomes of the audit log's check, this is known.
    if !check.command.json {
        print!("{}", table::show(&reports, cache.as_ref()));
    }
    let audit = tokio::select! {
        checked = check.audit(config, &sources) => checked?,
        () = stopped(&mut stop) => {
            eprintln!("artstore: {}", check.stopped());
            return Ok(ExitCode::FAILURE);
        }
    };
    let audit_is_clean = match &audit {
        Audit::Checked(outcome) => outcome.findings().next().is_none(),
        Audit::Nothing(_) | Audit::NotChecked(_) => true,
    };
    let agree = cache_is_clean && reports.iter().all(Report::is_clean);
    let clean = agree && audit_is_clean;
    if check.command.json {
        let (audit, reason) = match &audit {
            Audit::Checked(outcome) => (Some(outcome.json()), None),
            Audit::Nothing(reason) | Audit::NotChecked(reason) => (None, Some(reason)),
        };
        println!(
            "{}",
            json!({
                "agree": clean, "sources": reports, "cache": cache, "audit": audit,
                "audit_not_checked": reason,
            })
        );
    } else {
        match &audit {
            Audit::Checked(outcome) => print!("\nAudit log\n{}", outcome.text()),
            Audit::Nothing(_) => {}
            Audit::NotChecked(reason) => println!("\nAudit log: NOT CHECKED: {reason}."),
        }
    }
    if let Some(file) = check.file {
        file.finish()?;
    }
    Ok(ExitCode::from(u8::from(!clean)))
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
}

impl Check {
    /// The read model against the elements among these sources, and against the query module's
    /// stream where that is among them. None: its database is not configured, or nothing in it
    /// comes from these sources.
    async fn cache(
        &self,
        config: &Config,
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
        let Some(query) = config.query_database()? else {
            return Ok(None);
        };
        if elements.is_empty() && !history {
            return Ok(None);
        }
        let scope = cache::Scope {
            bus: &self.bus,
            query: &query,
            elements: &elements,
            history,
            patience: Duration::from_secs(self.command.wait),
        };
        let mut progress = CacheProgress::new(self.command.json);
        let report = cache::verify(&scope, &mut |now| progress.show(now)).await;
        progress.finish();
        report.map(Some).context("the query cache")
    }

    /// The audit log of these sources, each row against its signature, its head and its message. One
    /// that was emptied is checked like any other: its heads say what is missing.
    async fn audit(
        &self,
        config: &Config,
        sources: &[(Source, PgConnectOptions)],
    ) -> anyhow::Result<Audit> {
        let Some(database) = &config.admin_database_url else {
            return Ok(Audit::NotChecked("ADMIN_DATABASE_URL is not set"));
        };
        let database = match config.admin_database()? {
            Some(options) => options,
            None => anyhow::bail!("ADMIN_DATABASE_URL: {} characters", database.len()),
        };
        let mut connection = connect(&database).await?;
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
            audit::wait_for(&mut connection, &self.bus, &sources, wait).await?;
        }
        let done = AtomicU64::new(0);
        let check = audit::log::Check {
            database: &database,
            bus: Some(&self.bus),
            ring: ring.as_ref(),
            trusted: &trusted,
            range: None,
            archives: None,
            done: &done,
        };
        let checked = check.all(&mut connection, &sources, true).await;
        checked.map(Audit::Checked).context("the audit log")
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
        let mut connection = connect(database).await?;
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
        let wait = Duration::from_secs(self.command.wait);
        let mut progress = Progress::new(source, state.links.last, self.command.json);
        let pass = source::begin(&self.bus, source, state).await?;
        let (file, stop) = (&mut self.file, &self.stop);
        let mut failed = None;
        // The first time at once: a file that can't be written is not found out after hours.
        let mut keep_at = Instant::now();
        let ended = source::run(connection, &self.bus, pass, wait, |pass, fixed| {
            progress.show(pass, fixed);
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
        .options([("default_transaction_read_only", "on")])
        .log_statements(tracing::log::LevelFilter::Trace)
        .log_slow_statements(tracing::log::LevelFilter::Off, Duration::ZERO);
    let connected = options.connect().await;
    connected.map_err(|error| not_connected(database, "its URL and the server", error))
}
