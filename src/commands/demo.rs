//! `artstore demo`: the whole system on real files. It writes as a publisher does, waits until
//! everything is visible, and then counts the results in the databases and the streams.

mod load;
mod report;

use artstore_runtime::count::counted;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use artstore_runtime::connection;
use clap::Args;
use indicatif::ProgressBar;
use sqlx::AssertSqlSafe;

use crate::signals::stop_signal;
use crate::system::{Running, System};
use artstore_stack::StackOptions;
use report::Report;

/// What it works on.
#[derive(Debug, Args)]
pub struct Demo {
    /// The folder whose files become an element's files
    #[arg(long, default_value = ".")]
    path: PathBuf,
    /// How many operations are finished in all
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(20..=1_000_000))]
    events: u64,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

/// Nothing new for so long means that something stands still.
const STALL: Duration = Duration::from_secs(30);

/// Runs the command: exit code 1 if anything is lost, double or different.
pub async fn run(command: Demo) -> anyhow::Result<ExitCode> {
    let stop = stop_signal()?;
    let files = load::find_files(&command.path)?;
    say(
        &command,
        &format!(
            "{} under {}",
            counted(files.len(), "file"),
            command.path.display()
        ),
    );
    let system = System::start(StackOptions::default(), 2).await?;
    say(
        &command,
        "private NATS and PostgreSQL, migrated; relay and projectors run",
    );
    let mut running = Running::default();
    system.start_relays(&mut running).await?;
    system.start_projector(&mut running).await?;
    system.start_audit_log(&mut running).await?;
    let work = work(&command, &system, &files);
    let report = tokio::select! {
        report = work => report,
        error = running.failure() => Err(error),
        () = stop.cancelled() => Err(anyhow::anyhow!("stopped before the end")),
    };
    running.stop().await?;
    let report = report?;
    report.show(command.json)?;
    system.stop().await?;
    Ok(ExitCode::from(u8::from(!report.is_clean())))
}

async fn work(command: &Demo, system: &System, files: &[load::RealFile]) -> anyhow::Result<Report> {
    let started = Instant::now();
    let writing = progress(command, "finish operations", command.events);
    load::run(system, files, command.events, &writing).await?;
    writing.finish();
    let seeing = progress(command, "become visible", command.events);
    wait_until_visible(system, &seeing).await?;
    seeing.finish();
    let signing = progress(command, "signed in the log", command.events);
    wait_until_signed(system, &signing).await?;
    signing.finish();
    Report::collect(system, command.events, started.elapsed()).await
}

fn say(command: &Demo, text: &str) {
    if !command.json {
        println!("{text}");
    }
}

fn progress(command: &Demo, what: &'static str, length: u64) -> ProgressBar {
    if command.json {
        return ProgressBar::hidden();
    }
    let form = "{msg:18} {bar:24} {pos:>7}/{len} {per_sec:>10}";
    let bar = ProgressBar::new(length).with_style(super::bar::style(form));
    bar.set_message(what);
    bar
}

/// Waits until every message is a row of the audit log, under a signed head.
async fn wait_until_signed(system: &System, bar: &ProgressBar) -> anyhow::Result<()> {
    let mut admin = connection::open(&system.admin_database()?).await?;
    let mut best = 0;
    let mut moved = Instant::now();
    loop {
        let (mut messages, mut signed) = (0, 0);
        for source in system.sources() {
            let stream = source.stream();
            messages += system.bus.stream_info(&stream).await?.state.last_sequence;
            let head: i64 = sqlx::query_scalar(
                "select coalesce(max(size), 0) from public.audit_heads where stream = $1",
            )
            .bind(stream)
            .fetch_one(&mut admin)
            .await?;
            signed += u64::try_from(head).unwrap_or(0);
        }
        bar.set_position(signed);
        if signed >= messages {
            return Ok(());
        }
        if signed > best {
            best = signed;
            moved = Instant::now();
        }
        if moved.elapsed() > STALL {
            bail!(
                "{signed} of {messages} events are signed in the audit log, and no more for {STALL:?}"
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until the projector's checkpoints cover what every source has given out.
async fn wait_until_visible(system: &System, bar: &ProgressBar) -> anyhow::Result<()> {
    let mut query = connection::open(&system.query_database()?).await?;
    let mut best = 0;
    let mut moved = Instant::now();
    loop {
        let mut finished = 0;
        let mut applied = 0;
        for source in system.sources() {
            if source == artstore_schemas::source::Source::Admin {
                continue;
            }
            let table = artstore_producers::relay::source::SourceTable::of(&source);
            let mut connection = connection::open(&system.source_database(&source)?).await?;
            let sql = format!(
                "select count(*) from public.{} where position is not null",
                table.name()
            );
            let rows: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
                .fetch_one(&mut connection)
                .await
                .with_context(|| format!("source {source}"))?;
            finished += rows;
            let sequence: Option<i64> = sqlx::query_scalar(
                "select last_sequence from public.projection_checkpoints \
                 where projection = 'query-cache' and stream = $1",
            )
            .bind(source.stream())
            .fetch_optional(&mut query)
            .await?;
            applied += sequence.unwrap_or(0);
        }
        bar.set_position(u64::try_from(applied).unwrap_or(0));
        if applied >= finished {
            return Ok(());
        }
        if applied > best {
            best = applied;
            moved = Instant::now();
        }
        if moved.elapsed() > STALL {
            bail!("{applied} of {finished} events are visible, and no more for {STALL:?}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
