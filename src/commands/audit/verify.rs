//! `artstore audit verify`.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use artstore_projectors::workers;
use artstore_schemas::bus::Bus;
use artstore_schemas::source::Source;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use sqlx::{Connection as _, PgConnection};

use super::database;
use crate::audit::LegacySeen;
use crate::audit::against::{self, AgainstReport};
use crate::audit::finding::{Finding, Layer};
use crate::audit::legacy::{self, LegacyReport};
use crate::audit::log::{self, Check, LogReport, connect};
use crate::audit_keys::AuditSettings;
use crate::config::{Config, ConfigError};

/// How many findings of a kind are listed.
const LISTED: usize = 20;

/// How often a line of progress is written where there is no terminal.
const EVERY: Duration = Duration::from_secs(10);

/// What is checked.
#[derive(Debug, Args)]
pub struct Verify {
    /// Only the logs of these streams: ARTSTORE_ADMIN, or an element's name, admin or query
    #[arg(long)]
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
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    audit: AuditSettings,
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
    let bus = match command.no_bus {
        true => None,
        false => {
            let bus = Bus::connect(&config.bus("artstore audit verify")).await?;
            Some(bus.patient())
        }
    };
    let mut connection = connect(&database).await?;
    let sources = sources(&mut connection, bus.as_ref(), &command.stream).await?;
    let done = Arc::new(AtomicU64::new(0));
    let total = total(&mut connection, &sources).await?;
    let progress = tokio::spawn(show_progress(Arc::clone(&done), total, command.json));
    let range = (command.from.is_some() || command.to.is_some())
        .then(|| (command.from.unwrap_or(1), command.to.unwrap_or(u64::MAX)));
    if range.is_some() && sources.len() != 1 {
        return Err(ConfigError("--from and --to need one --stream".to_owned()).into());
    }
    let check = Check {
        database: &database,
        bus: bus.as_ref(),
        ring: ring.as_ref(),
        trusted: &trusted,
        range,
        done: &done,
    };
    let mut legacy = LegacySeen::default();
    let mut logs = Vec::new();
    let mut derived = Vec::new();
    for source in &sources {
        let report = log::check(&check, source, &mut legacy).await?;
        if let Some(bus) = bus.as_ref().filter(|_| command.against_stream) {
            let (first, last) = range.unwrap_or((1, u64::MAX));
            let last = last.min(report.size);
            let count = |rows| {
                done.fetch_add(rows, Ordering::Relaxed);
            };
            let against = against::check(&mut connection, bus, source, first, last, count).await?;
            derived.push((source.stream(), against));
        }
        logs.push(report);
    }
    let legacy = legacy::check(&mut connection, &legacy).await?;
    connection.close().await?;
    progress.abort();
    let result = Outcome {
        logs,
        derived,
        legacy,
    };
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
        .filter_map(|s| Source::of_stream(s))
        .collect();
    if let Some(bus) = bus {
        sources.extend(workers::list(bus).await?);
    }
    sources.sort();
    sources.dedup();
    for wanted in only {
        if !sources.iter().any(|source| is(source, wanted)) {
            return Err(ConfigError(format!(
                "--stream {wanted}: there is no log and no stream of that name"
            ))
            .into());
        }
    }
    sources.retain(|source| only.is_empty() || only.iter().any(|wanted| is(source, wanted)));
    Ok(sources)
}

fn is(source: &Source, name: &str) -> bool {
    source.stream() == name || source.to_string() == name
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
        let form = "audit rows {bar:30} {pos:>10}/{len} {per_sec:>12} {eta:>4}";
        let style =
            ProgressStyle::with_template(form).unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(total).with_style(style)
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

struct Outcome {
    logs: Vec<LogReport>,
    derived: Vec<(String, AgainstReport)>,
    legacy: LegacyReport,
}

impl Outcome {
    fn findings(&self) -> impl Iterator<Item = &Finding> {
        let logs = self.logs.iter().flat_map(|log| &log.findings);
        let derived = self
            .derived
            .iter()
            .flat_map(|(_, derived)| &derived.findings);
        logs.chain(derived).chain(&self.legacy.findings)
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "ok": self.findings().next().is_none(),
            "logs": self.logs,
            "derived": self.derived.iter().map(|(stream, report)| {
                json!({"stream": stream, "derived": report.derived, "gone": report.gone})
            }).collect::<Vec<_>>(),
            "product_rows": {"covered": self.legacy.rows, "uncovered": self.legacy.uncovered},
            "findings": self.findings().collect::<Vec<_>>(),
        })
    }

    fn text(&self) -> String {
        let mut lines =
            vec![["STREAM", "ROWS", "HEADS", "PROVEN UP TO", "FINDINGS"].map(str::to_owned)];
        for log in &self.logs {
            let derived = self
                .derived
                .iter()
                .filter(|(stream, _)| *stream == log.stream);
            let more: usize = derived.map(|(_, derived)| derived.findings.len()).sum();
            lines.push([
                log.stream.clone(),
                log.size.to_string(),
                log.heads.to_string(),
                log.proven.to_string(),
                (log.findings.len() + more).to_string(),
            ]);
        }
        let mut text = String::new();
        let width = |column: usize| {
            lines
                .iter()
                .map(|line| line[column].len())
                .max()
                .unwrap_or(0)
        };
        for line in &lines {
            let mut shown = format!("{:<width$}", line[0], width = width(0));
            for (column, cell) in line.iter().enumerate().skip(1) {
                shown += &format!("  {cell:>width$}", width = width(column));
            }
            text += shown.trim_end();
            text.push('\n');
        }
        for (stream, derived) in &self.derived {
            let gone = match derived.gone {
                0 => String::new(),
                gone => format!(", {gone} of messages that are gone"),
            };
            text += &format!("{stream}: {} rows derived again{gone}\n", derived.derived);
        }
        if self.legacy.rows + self.legacy.uncovered > 0 {
            text += &format!(
                "product's own rows: {} below the boundary, {} since, which nothing covers\n",
                self.legacy.rows, self.legacy.uncovered
            );
        }
        let mut kinds: BTreeMap<_, Vec<&Finding>> = BTreeMap::new();
        for finding in self.findings() {
            kinds.entry(finding.kind).or_default().push(finding);
        }
        for (kind, findings) in &kinds {
            text += &format!("\n{} ({})\n", kind.name(), findings.len());
            for finding in findings.iter().take(LISTED) {
                let stream = finding.stream.as_deref().unwrap_or("audit_logs");
                let layers: Vec<&str> = finding.layers.iter().map(|l: &Layer| l.name()).collect();
                text += &format!("  {stream}: {} [{}]\n", finding.text, layers.join(", "));
            }
            if findings.len() > LISTED {
                text += &format!(
                    "  and {} more: --json lists them\n",
                    findings.len() - LISTED
                );
            }
        }
        let rows: u64 = self.logs.iter().map(|log| log.rows).sum();
        text += &match self.findings().count() {
            0 => format!("\nAll {rows} rows are as they were signed.\n"),
            found => format!(
                "\nNOT AS IT WAS SIGNED: {found} findings. Keep database, bus and logs as they are; \
                 docs/audit.md says what each finding means.\n"
            ),
        };
        text
    }
}
