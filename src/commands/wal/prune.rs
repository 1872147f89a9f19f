//! `artstore wal prune`: removes finished operations from an element's log once its stream provably
//! contains them. Each element is compared with its whole stream first; where anything differs, nothing
//! of it is removed.

use artstore_runtime::count::{by, counted};
use std::fmt;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use artstore_bus::accounts::role::Role;
use artstore_bus::connection::Bus;
use artstore_producers::operations::prune::{self, Compared, Facts, KEPT, Limits, Plan, Stays};
use artstore_runtime::crash;
use artstore_schemas::element::ElementName;
use artstore_schemas::source::Source;
use chrono::{DateTime, SecondsFormat, Utc};
use clap::Args;
use serde_json::{Map, Value, json};
use sqlx::PgConnection;

use super::elements::{Connected, check_reason, connect, duration};
use crate::bus_backup::limit;
use crate::commands::verify::progress::VerifyDisplay;
use crate::config::{Config, ConfigError};
use crate::operator;
use crate::signals::stop_signal;
use artstore_verification::pass::{NewDecision, State};
use artstore_verification::source::{self, Ended, Report};
use tokio_util::sync::CancellationToken;

/// How often a line reports the progress of a long removal.
const EVERY: Duration = Duration::from_secs(10);

/// How often a comparison starts again because a break or damage was accepted meanwhile.
const ATTEMPTS: usize = 3;

/// What has to be old enough.
#[derive(Debug, Args)]
pub struct Prune {
    /// Only operations that were finished so long ago (12h, 90d)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    older_than: Duration,
    /// Only what this backup of the stream has (artstore bus backup): its file is checked, and that it
    /// was taken of the stream that is there now
    #[arg(long, value_name = "FOLDER")]
    backed_up_in: Option<PathBuf>,
    /// Why, in words: it goes into the audit log
    #[arg(long)]
    reason: Option<String>,
    /// How many seconds the relay may take for what was finished before the comparison, without any
    /// of it coming
    #[arg(
        long,
        env = "ARTSTORE_VERIFY_WAIT_SECONDS",
        value_name = "SECONDS",
        default_value_t = 60
    )]
    wait: u64,
    /// Compare, and show what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Don't ask
    #[arg(long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Prune {
    /// Or it only shows.
    pub(super) fn changes(&self) -> bool {
        !self.dry_run
    }
}

/// An element that was looked at.
struct PrunePreview {
    element: ElementName,
    connection: PgConnection,
    compared: Compared,
    report: Report,
    /// None: something was found, so nothing is removed.
    plan: Option<Plan>,
}

/// What was done to an element.
#[derive(Default)]
struct Done {
    operations: i64,
    prune_mark: i64,
    /// The position of the last operation that records it.
    event: Option<i64>,
    /// What ended it before all was done.
    error: Option<anyhow::Error>,
}

/// Runs the command.
pub(super) async fn run(config: &Config, command: &Prune) -> anyhow::Result<ExitCode> {
    check_reason(command.reason.as_deref())?;
    let asks = !command.yes && !command.dry_run;
    if asks && (command.json || !std::io::stdin().is_terminal()) {
        return Err(ConfigError(
            "wal prune asks before it removes anything, and there is nobody to ask: add --yes, or \
             --dry-run to see what it would do"
                .to_owned(),
        )
        .into());
    }
    let finished_before = Utc::now()
        - chrono::Duration::from_std(command.older_than)
            .ok()
            .filter(|age| Utc::now().checked_sub_signed(*age).is_some())
            .ok_or_else(|| ConfigError("--older-than: longer than time itself".to_owned()))?;
    let stop = stop_signal()?;
    let bus = Bus::connect(&config.bus(Role::Operator, "artstore wal prune")?)
        .await?
        .patient();
    let mut looked = Vec::new();
    for connected in connect(config).await? {
        let element = connected.0.clone();
        let found = look(&bus, connected, command, finished_before, &stop).await;
        match found.with_context(|| format!("element {element}"))? {
            Some(found) => looked.push(found),
            None => {
                eprintln!("artstore: stopped; nothing was removed");
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    if !command.json {
        looked.iter().for_each(|found| show(found, finished_before));
    }
    let all: i64 = looked.iter().map(|found| operations(&found.plan)).sum();
    if asks && all > 0 && !agreed(all)? {
        println!("nothing was removed");
        return Ok(ExitCode::SUCCESS);
    }
    let mut clean = looked.iter().all(|found| found.plan.is_some());
    let mut report = Vec::new();
    for mut found in looked {
        let done = match command.dry_run {
            true => None,
            false => remove(&bus, &mut found, command, finished_before, &stop).await?,
        };
        if command.json {
            report.push(as_json(&found, done.as_ref()));
        } else if let Some(done) = &done {
            print_outcome(&found.element, done);
        }
        // The results of the others are printed all the same.
        if let Some(error) = done.as_ref().and_then(|done| done.error.as_ref()) {
            eprintln!("artstore: element {}: {error:#}", found.element);
            clean = false;
        }
    }
    if command.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    if stop.is_cancelled() {
        eprintln!("artstore: stopped before the end: run it again for the rest");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::from(u8::from(!clean)))
}

/// Compares an element with its stream, and plans. None: it was asked to stop.
async fn look(
    bus: &Bus,
    (element, mut connection): Connected,
    command: &Prune,
    finished_before: DateTime<Utc>,
    stop: &CancellationToken,
) -> anyhow::Result<Option<PrunePreview>> {
    let begun = prune::begin(bus, &mut connection, &element).await?;
    // Before the long comparison: a backup that is none ends it at once.
    let backed_up = match &command.backed_up_in {
        None => None,
        Some(folder) => {
            let is_stopped = || stop.is_cancelled();
            match limit::backed_up(bus, folder, &element, is_stopped).await {
                Err(_) if is_stopped() => return Ok(None),
                backed_up => Some(backed_up?),
            }
        }
    };
    let behind = backed_up.map(|backup| backup.last_sequence);
    let source = Source::Element(element.clone());
    let mut attempts = 0;
    let ended = loop {
        attempts += 1;
        match verify(bus, &mut connection, &source, behind, command, stop).await {
            Err(error) if error.is::<NewDecision>() && attempts < ATTEMPTS => {}
            ended => break ended?,
        }
    };
    let Ended::Done(report) = ended else {
        return Ok(None);
    };
    let plan = match report.is_clean() {
        false => None,
        true => {
            let limits = Limits {
                finished_before,
                proven: report.proven,
                published: report.published,
                backed_up: backed_up.map(|backup| backup.up_to(report.lowest_newer)),
            };
            Some(prune::plan(&mut connection, &element, limits).await?)
        }
    };
    crash::point("prune.planned");
    Ok(Some(PrunePreview {
        element,
        connection,
        compared: begun.compared(report.sequence, report.last_event),
        report: *report,
        plan,
    }))
}

async fn verify(
    bus: &Bus,
    connection: &mut PgConnection,
    source: &Source,
    behind: Option<u64>,
    command: &Prune,
    stop: &CancellationToken,
) -> anyhow::Result<Ended> {
    let mut pass = source::begin(bus, source, State::default()).await?;
    pass.newer.behind = behind;
    let mut progress = VerifyDisplay::new(source, 0, command.json);
    let wait = Duration::from_secs(command.wait);
    let ended = source::run(connection, bus, pass, wait, |pass, fixed| {
        progress.show(pass, fixed);
        match stop.is_cancelled() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })
    .await;
    progress.finish();
    ended
}

/// Removes what was planned, batch by batch. None: there was nothing.
async fn remove(
    bus: &Bus,
    found: &mut PrunePreview,
    command: &Prune,
    finished_before: DateTime<Utc>,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Done>> {
    let Some(plan) = found.plan.as_ref().filter(|plan| plan.operations > 0) else {
        return Ok(None);
    };
    let backed_up_in = command.backed_up_in.as_ref();
    let since = finished_before.to_rfc3339_opts(SecondsFormat::Micros, true);
    let operator = operator::operator(&mut found.connection).await?;
    let facts = Facts {
        actor: operator::actor("wal prune"),
        data: Map::from_iter([
            ("finished_before".to_owned(), json!(since)),
            ("reason".to_owned(), json!(command.reason)),
            (
                "backed_up_in".to_owned(),
                json!(backed_up_in.map(|folder| folder.display().to_string())),
            ),
            ("operator".to_owned(), operator),
        ]),
    };
    let mut done = Done {
        prune_mark: plan.prune_mark,
        ..Done::default()
    };
    let mut next_line = Instant::now() + EVERY;
    while !stop.is_cancelled() {
        let (connection, compared) = (&mut found.connection, &found.compared);
        let removed = match prune::batch(bus, connection, compared, plan.up_to, &facts).await {
            Ok(Some(removed)) => removed,
            Ok(None) => break,
            Err(error) => {
                done.error = Some(error.into());
                break;
            }
        };
        done.operations += removed.operations;
        done.prune_mark = removed.prune_mark;
        done.event = Some(removed.event);
        if !command.json && Instant::now() >= next_line {
            next_line = Instant::now() + EVERY;
            let (element, of) = (&found.element, plan.operations);
            eprintln!(
                "{element}: {} of {} removed",
                done.operations,
                counted(of, "operation")
            );
        }
    }
    Ok((done.operations > 0 || done.error.is_some()).then_some(done))
}

fn operations(plan: &Option<Plan>) -> i64 {
    plan.as_ref().map_or(0, |plan| plan.operations)
}

fn agreed(count: i64) -> anyhow::Result<bool> {
    let these = by(count, "this", "these");
    print!(
        "Remove {these} {} for good? [y/N] ",
        counted(count, "operation")
    );
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn show(found: &PrunePreview, finished_before: DateTime<Utc>) {
    let PrunePreview {
        element,
        report,
        plan,
        ..
    } = found;
    println!(
        "{element}: {} and {} compared, proven up to position {}",
        counted(report.rows, "operation"),
        counted(report.messages, "message"),
        report.proven
    );
    let Some(plan) = plan else {
        let count: u64 = report.counts.values().sum();
        println!(
            "  {}: nothing is removed before it is repaired",
            counted(count, "finding")
        );
        for (kind, count) in &report.counts {
            println!("    {count} {kind}");
        }
        println!(
            "  `artstore verify --source {element}` shows each, and the command that repairs it"
        );
        return;
    };
    let before = finished_before.format("%F %T UTC");
    if plan.prune_mark > 0 {
        println!("  pruned     up to position {}, before", plan.prune_mark);
    }
    match plan.operations {
        0 => println!("  can go     nothing"),
        count => println!(
            "  can go     {}, up to position {}, finished before {before}",
            counted(count, "operation"),
            plan.up_to
        ),
    }
    if let Some((position, stays)) = &plan.stays {
        println!("  stays      from position {position} on: {}", Why(stays));
    }
}

/// Why something stays, in words.
struct Why<'a>(&'a Stays);

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Stays::Young => f.write_str("finished later than that"),
            Stays::Pending { operation, since } => write!(
                f,
                "operation {operation} is pending since {}, and what was finished since may tell \
                 what became of it (artstore wal pending)",
                since.format("%F %T UTC")
            ),
            Stays::NotProven => f.write_str(
                "not proven yet: a transaction below it is open, or its message is on the way",
            ),
            Stays::NotBackedUp => f.write_str(
                "the backup does not have it: it was published later, perhaps again, or a transaction \
                 below it was open (take a new backup)",
            ),
            Stays::Last => write!(
                f,
                "the last {KEPT} always stay, the relay recognises its source by them"
            ),
        }
    }
}

fn print_outcome(element: &ElementName, done: &Done) {
    println!(
        "{element}: {} removed; pruned up to position {}{}",
        counted(done.operations, "operation"),
        done.prune_mark,
        match done.event {
            Some(event) => format!(", recorded up to position {event}"),
            None => String::new(),
        }
    );
}

fn as_json(found: &PrunePreview, done: Option<&Done>) -> Value {
    json!({
        "element": found.element,
        "proven": found.report.proven,
        "findings": found.report.counts,
        "plan": found.plan.as_ref().map(|plan| json!({
            "prune_mark": plan.prune_mark,
            "up_to": plan.up_to,
            "operations": plan.operations,
            "stays": plan.stays.as_ref().map(|(position, why)| json!({
                "position": position,
                "why": why,
                "detail": Why(why).to_string(),
            })),
        })),
        "removed": done.map_or(0, |done| done.operations),
        "prune_mark": done.map(|done| done.prune_mark).or(found.plan.as_ref().map(|plan| plan.prune_mark)),
        "event_position": done.and_then(|done| done.event),
        "error": done.and_then(|done| done.error.as_ref()).map(|error| format!("{error:#}")),
    })
}
