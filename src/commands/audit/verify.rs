//! `artstore audit verify`.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use artstore_bus::accounts::role::Role;
use artstore_bus::connection::Bus;
use artstore_projectors::audit_log::chain::Keyring;
use artstore_projectors::audit_log::note::VerifierKey;
use artstore_projectors::audit_log::published;
use artstore_projectors::runtime::workers;
use artstore_runtime::pulse::Pulse;
use artstore_schemas::source::Source;
use clap::Args;
use indicatif::ProgressBar;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};

use super::database::{database, reached};
use crate::audit_keys::AuditSettings;
use crate::commands::bar;
use crate::commands::retry::{Again, is_unavailable};
use crate::config::{Config, ConfigError};
use crate::error_text::error_text;
use crate::names;
use artstore_verification::audit::finding::{Finding, Kind, Layer};
use artstore_verification::audit::log::Check;
use artstore_verification::audit::report::Outcome;
use artstore_verification::audit::table_definition;

/// How often a line of progress is written where there is no terminal.
const EVERY: Duration = Duration::from_secs(10);

/// For how many seconds a server may be unavailable, where nothing else is said.
const WAIT: u64 = 60;

/// What is checked.
#[derive(Debug, Args)]
pub struct Verify {
    /// Only the logs of these streams: ARTSTORE_ADMIN, or an element's name, admin or query
    #[arg(long, value_parser = names::stream)]
    stream: Vec<String>,
    /// Only rows from this one on; needs one --stream
    #[arg(long, requires = "stream")]
    from: Option<u64>,
    /// Only rows up to this one; needs one --stream
    #[arg(long, requires = "stream")]
    to: Option<u64>,
    /// Derive every row again from its message on the bus, and compare
    #[arg(long)]
    against_stream: bool,
    /// Do without NATS: heads are taken from the database alone, which its owner can change
    #[arg(long, conflicts_with = "against_stream")]
    no_bus: bool,
    /// A folder of archives: check those that the log says there are
    #[arg(long, value_name = "FOLDER")]
    archives: Option<PathBuf>,
    /// For how many seconds a server may be unavailable before the check is given up; where one is back
    /// sooner, the check starts again
    #[arg(
        long,
        env = "ARTSTORE_VERIFY_WAIT_SECONDS",
        value_name = "SECONDS",
        default_value_t = WAIT
    )]
    wait: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    audit: AuditSettings,
}

impl Verify {
    /// Every row of every log, derived again and compared.
    pub fn against_stream(audit: AuditSettings, json: bool) -> Self {
        Self {
            stream: Vec::new(),
            from: None,
            to: None,
            against_stream: true,
            no_bus: false,
            archives: None,
            wait: WAIT,
            json,
            audit,
        }
    }
}

/// Runs the command.
pub async fn run(config: &Config, command: &Verify) -> anyhow::Result<ExitCode> {
    let database = database(config)?;
    let trusted = command.audit.trusted()?;
    let ring = match command.audit.is_given() {
        true => Some(command.audit.ring()?),
        false => {
            eprintln!(
                "artstore: the chain is not checked: SECURITY_AUDIT_HMAC_SECRET is not set; tree and \
                 heads are"
            );
            None
        }
    };
    let again = |part: &str, bus: Option<&Bus>| Again {
        part: part.to_owned(),
        patience: Duration::from_secs(command.wait),
        quiet: command.json,
        bus: bus.cloned(),
    };
    let bus = match command.no_bus {
        true => None,
        false => {
            let options = config.bus(Role::Reader, "artstore audit verify")?;
            let connect = again("NATS", None);
            let bus = connect.until(async || Ok(Bus::connect(&options).await?));
            Some(bus.await?.patient())
        }
    };
    let with = With {
        database: &database,
        bus: bus.as_ref(),
        ring: ring.as_ref(),
        trusted: &trusted,
    };
    let look = again("the audit log", bus.as_ref());
    let pulse = Pulse::of(database.clone(), "artstore audit verify (pulse)");
    let result = look.until(async || pulse.while_answered(with.all(command)).await);
    let result = result.await?;
    if command.json {
        println!("{:#}", result.json());
    } else {
        print!("{}", result.text());
    }
    Ok(match result.findings().next() {
        None => ExitCode::SUCCESS,
        Some(_) => ExitCode::FAILURE,
    })
}

/// What the rows are checked with.
struct With<'a> {
    database: &'a PgConnectOptions,
    bus: Option<&'a Bus>,
    ring: Option<&'a Keyring>,
    trusted: &'a [VerifierKey],
}

impl With<'_> {
    /// Checks the tables' form, then the rows.
    async fn all(&self, command: &Verify) -> anyhow::Result<Outcome> {
        let mut connection = reached(self.database).await?;
        // Before a table is read: what is in its place may be anything.
        let form = table_definition::check(&mut connection).await?;
        let mut result = match self.rows(&mut connection, command).await {
            Ok(result) => result,
            // Such tables may not be readable: that is reported, and why.
            Err(error) if !form.is_empty() && !is_unavailable(&error) => Outcome {
                form: vec![unread(&error)],
                ..Outcome::default()
            },
            Err(error) => return Err(error),
        };
        result.form.extend(form);
        // It only read: nothing is lost.
        drop(connection.close().await);
        Ok(result)
    }

    /// Checks the rows that are asked for, and shows how far that has come.
    async fn rows(
        &self,
        connection: &mut PgConnection,
        command: &Verify,
    ) -> anyhow::Result<Outcome> {
        let sources = sources(connection, self.bus, &command.stream).await?;
        let range = range(connection, self.bus, command, &sources).await?;
        let done = Arc::new(AtomicU64::new(0));
        let total = total(connection, &sources).await?;
        let progress = tokio::spawn(show_progress(Arc::clone(&done), total, command.json));
        let check = Check {
            database: self.database,
            bus: self.bus,
            ring: self.ring,
            trusted: self.trusted,
            range,
            archives: command.archives.as_deref(),
            done: &done,
        };
        let result = check
            .all(connection, &sources, command.against_stream)
            .await;
        progress.abort();
        result
    }
}

/// That the rows could not be read.
fn unread(error: &anyhow::Error) -> Finding {
    Finding {
        stream: None,
        sequence: None,
        id: None,
        kind: Kind::TableChanged,
        layers: [Layer::Form].into(),
        text: format!(
            "the rows could not be read, and were not checked: {}",
            error_text(error)
        ),
    }
}

/// The rows that are asked for. They have to be rows of one log: a check of nothing would say that
/// nothing is wrong.
async fn range(
    connection: &mut PgConnection,
    bus: Option<&Bus>,
    command: &Verify,
    sources: &[Source],
) -> anyhow::Result<Option<(u64, u64)>> {
    if command.from.is_none() && command.to.is_none() {
        return Ok(None);
    }
    let [source] = sources else {
        return Err(ConfigError("--from and --to need one --stream".to_owned()).into());
    };
    let (from, to) = (command.from.unwrap_or(1), command.to.unwrap_or(u64::MAX));
    if from == 0 || from > to {
        return Err(ConfigError(format!(
            "--from {from}{}: rows are numbered from 1, and the first one is not behind the last",
            command
                .to
                .map_or_else(String::new, |to| format!(" --to {to}"))
        ))
        .into());
    }
    let stream = source.stream();
    let in_tables: i64 = sqlx::query_scalar(
        "select greatest( \
             (select size from public.audit_trees where stream = $1), \
             (select max(size) from public.audit_heads where stream = $1), \
             (select max(stream_sequence) from public.audit_logs where stream = $1), 0)",
    )
    .bind(&stream)
    .fetch_one(connection)
    .await?;
    // Rows that are gone from the tables were signed all the same.
    let note = match bus {
        Some(bus) => published::last(bus, &stream).await?.note,
        None => None,
    };
    let size = note.and_then(|note| note.lines().nth(1)?.parse().ok());
    let last = u64::try_from(in_tables).unwrap_or(0).max(size.unwrap_or(0));
    if from > last.max(1) {
        return Err(ConfigError(format!(
            "--from {from}: the log of {stream} ends at row {last}; nothing was checked"
        ))
        .into());
    }
    Ok(Some((from, to)))
}

/// The sources whose logs are checked: those with a log, a stream or heads.
async fn sources(
    connection: &mut PgConnection,
    bus: Option<&Bus>,
    only: &[String],
) -> anyhow::Result<Vec<Source>> {
    let streams: Vec<String> = sqlx::query_scalar(
        "select stream from public.audit_trees \
         union select distinct stream from public.audit_heads order by 1",
    )
    .fetch_all(connection)
    .await?;
    let mut sources: Vec<Source> = streams
        .iter()
        .filter_map(|stream| Source::of_stream(stream))
        .collect();
    if let Some(bus) = bus {
        sources.extend(workers::list(bus).await?);
    }
    sources.sort();
    sources.dedup();
    for wanted in only {
        if !sources.iter().any(|source| source.stream() == *wanted) {
            return Err(ConfigError(format!(
                "--stream {wanted}: there is no log and no stream of that name"
            ))
            .into());
        }
    }
    sources.retain(|source| only.is_empty() || only.contains(&source.stream()));
    Ok(sources)
}

async fn total(connection: &mut PgConnection, sources: &[Source]) -> Result<u64, sqlx::Error> {
    let streams: Vec<String> = sources.iter().map(Source::stream).collect();
    let total: i64 = sqlx::query_scalar(
        "select coalesce(sum(size), 0)::bigint from public.audit_trees where stream = any($1)",
    )
    .bind(streams)
    .fetch_one(connection)
    .await?;
    Ok(u64::try_from(total).unwrap_or(0))
}

/// A bar on a terminal, a line now and then otherwise, both on standard error; until it is aborted.
async fn show_progress(done: Arc<AtomicU64>, total: u64, quiet: bool) {
    if quiet {
        return;
    }
    let begun = Instant::now();
    let bar = std::io::stderr().is_terminal().then(|| {
        let form = "audit rows {bar:24} {pos:>9}/{len} {per_sec:>9} {eta:>4}";
        ProgressBar::new(total).with_style(bar::style(form))
    });
    let every = if bar.is_some() {
        Duration::from_millis(200)
    } else {
        EVERY
    };
    loop {
        tokio::time::sleep(every).await;
        let done = done.load(Ordering::Relaxed);
        match &bar {
            Some(bar) => bar.set_position(done),
            None => {
                let rate = done as f64 / begun.elapsed().as_secs_f64();
                let left = total.saturating_sub(done) as f64 / rate.max(1.0);
                eprintln!("audit rows: {done} of {total}, {rate:.0}/s, {left:.0} s left");
            }
        }
    }
}
