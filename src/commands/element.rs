//! `artstore element backfill`: backfills an element's stream from its table of files, as the
//! element's relay, while files change. `artstore element set-url`: where the element's API is reached.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use artstore_bus::accounts::role::Role;
use artstore_bus::connection::Bus;
use artstore_producers::backfill;
use artstore_producers::backfill::differences::{BackfillCounts, FILES_PER_PASS};
use artstore_producers::relay::api_url;
use artstore_producers::relay::lock_handover;
use artstore_producers::relay::progress::RelayProgress;
use artstore_producers::relay::{self, RelayOptions};
use artstore_runtime::connection;
use artstore_schemas::element::ElementName;
use artstore_schemas::source::Source;
use clap::{Args, Subcommand};
use indicatif::{HumanCount, ProgressBar};
use serde_json::json;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnectOptions;

use crate::access::Attempt;
use crate::command_event;
use crate::config::{Config, ConfigError, RelaySettings};
use crate::signals::stop_signal;

/// How long a relay may take to let its lock go: longer than it takes to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often the progress is shown on a terminal.
const SHOWN: Duration = Duration::from_millis(200);

/// How often progress is printed where there is no terminal.
const TOLD: Duration = Duration::from_secs(10);

/// What to do with an element.
#[derive(Debug, Subcommand)]
pub enum ElementCommand {
    /// Compare every file with what the stream says of it, and publish what differs; while it runs,
    /// it is the element's relay
    Backfill(Backfill),
    /// Store where the element's API is reached, as events and the cache say it; with the rights of
    /// the tables' owner
    SetUrl(SetUrl),
}

/// Where the element's API is reached.
#[derive(Debug, Args)]
pub struct SetUrl {
    /// The element
    name: String,
    /// Where its API is reached: http://… or https://…
    #[arg(required_unless_present = "none", conflicts_with = "none")]
    url: Option<String>,
    /// It is reached nowhere: events say no URL
    #[arg(long)]
    none: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Which element.
#[derive(Debug, Args)]
pub struct Backfill {
    /// The element, or its stream
    name: String,
    #[command(flatten)]
    relay: RelaySettings,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl ElementCommand {
    /// What it does that needs a right.
    pub fn attempt(&self) -> Option<Attempt> {
        let (command, element) = match self {
            Self::Backfill(command) => ("element backfill", &command.name),
            Self::SetUrl(command) => ("element set-url", &command.name),
        };
        Some(Attempt::on_source(command, Some(element)))
    }
}

/// Runs the command.
pub async fn run(config: &Config, command: ElementCommand) -> anyhow::Result<ExitCode> {
    match command {
        ElementCommand::Backfill(command) => backfill(config, command).await,
        ElementCommand::SetUrl(command) => set_url(config, command).await,
    }
}

async fn set_url(config: &Config, command: SetUrl) -> anyhow::Result<ExitCode> {
    let (element, database) = config.one_element(&command.name)?;
    let url = command.url.as_deref();
    if let Some(url) = url {
        api_url::check(url).map_err(ConfigError)?;
    }
    let context = || {
        format!(
            "element {element}: its API URL was not stored; that needs the rights of the owner of \
             {element}_api, which `artstore migrate up` makes"
        )
    };
    let database = database.application_name("artstore element set-url");
    let mut connection = connection::open(&database).await.with_context(context)?;
    let changed = api_url::store(&mut connection, &element, url)
        .await
        .with_context(context)?;
    let facts = json!({"api_url": url, "changed": changed});
    let source = Source::Element(element.clone());
    command_event::of_source(config, "element set-url", (&source, &database), facts).await;
    if command.json {
        let report = json!({"element": element.as_str(), "api_url": url, "changed": changed});
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(ExitCode::SUCCESS);
    }
    let url = url.unwrap_or("no URL");
    if changed {
        println!(
            "{element}: events say {url} from now on. Files that were published before keep what their \
             events say until: artstore element backfill {element}"
        );
    } else {
        println!("{element}: events say {url}, as before");
    }
    Ok(ExitCode::SUCCESS)
}

async fn backfill(config: &Config, command: Backfill) -> anyhow::Result<ExitCode> {
    let (element, database) = config.one_element(&command.name)?;
    let options = RelayOptions {
        source: Source::Element(element.clone()),
        database: database.clone(),
        api_url: config.api_url(&element)?,
        mode: command.relay.mode(),
        poll_interval: command.relay.poll_interval(),
    };
    let stop = stop_signal()?;
    let begun = Instant::now();
    let bus = Bus::connect(&config.bus(Role::Operator, "artstore element backfill")?).await?;
    relay::check(&bus, &options)
        .await
        .with_context(|| format!("element {element}"))?;
    let source = options.source.clone();
    let name = "artstore element backfill";
    let lease = lock_handover::acquire(&bus, &database, &source, name, PATIENCE).await?;
    let progress = RelayProgress::default();
    let showing = tokio::spawn(show(
        element.clone(),
        database.clone(),
        progress.clone(),
        command.json,
    ));
    let backfill = backfill::run(bus, options, lease, FILES_PER_PASS, progress.clone(), stop).await;
    showing.abort();
    let done = progress.read().backfill.unwrap_or_default();
    // What was published stays, whatever ended it.
    let facts = json!({
        "complete": matches!(backfill, Ok(Some(_))),
        "compared": done.compared,
        "created": done.created,
        "deleted": done.deleted,
        "unchanged": done.unchanged,
    });
    command_event::of_source(config, "element backfill", (&source, &database), facts).await;
    let is_complete = backfill
        .with_context(|| format!("element {element}"))?
        .is_some();
    print(&element, done, is_complete, begun.elapsed(), command.json)?;
    if !is_complete && !command.json {
        eprintln!(
            "artstore: stopped before the end. What was published stays; run \
             `artstore element backfill {element}` again for the rest"
        );
    }
    Ok(ExitCode::from(u8::from(!is_complete)))
}

fn print(
    element: &ElementName,
    done: BackfillCounts,
    is_complete: bool,
    took: Duration,
    as_json: bool,
) -> anyhow::Result<()> {
    if as_json {
        let report = json!({
            "element": element.as_str(),
            "complete": is_complete,
            "compared": done.compared,
            "created": done.created,
            "deleted": done.deleted,
            "unchanged": done.unchanged,
            "seconds": took.as_secs_f64(),
        });
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(());
    }
    let line = |what: &str, count: u64| println!("{what:<34}{:>14}", HumanCount(count).to_string());
    line("files compared", done.compared);
    line("published, new or changed", done.created);
    line("published, deleted", done.deleted);
    line("unchanged", done.unchanged);
    if is_complete {
        println!("The stream of {element} has every file as the element has it.");
    }
    Ok(())
}

/// Shows how far it is, until it is ended.
async fn show(
    element: ElementName,
    database: PgConnectOptions,
    progress: RelayProgress,
    quiet: bool,
) {
    if quiet {
        return;
    }
    let terminal = std::io::stderr().is_terminal();
    let bar = if terminal {
        let form = "{msg} {wide_bar} {human_pos}/{human_len} files  {per_sec}  {eta}";
        ProgressBar::new(0).with_style(super::bar::style(form))
    } else {
        ProgressBar::hidden()
    };
    bar.set_message("reading the stream");
    // Without it there is no estimate, which is no reason to fail.
    let total = count(&element, &database).await.ok();
    let mut told = Instant::now();
    loop {
        tokio::time::sleep(SHOWN).await;
        let Some(done) = progress.read().backfill else {
            bar.tick();
            continue;
        };
        if bar.length() == Some(0) {
            bar.set_length(total.unwrap_or(0));
            bar.set_message("comparing");
            bar.reset_elapsed();
        }
        bar.set_position(done.compared);
        if !terminal && told.elapsed() >= TOLD {
            told = Instant::now();
            eprintln!(
                "{} of {} files, {:.0}/s, {} s left",
                done.compared,
                total.map_or_else(|| "?".to_owned(), |total| total.to_string()),
                bar.per_sec(),
                bar.eta().as_secs(),
            );
        }
    }
}

async fn count(element: &ElementName, database: &PgConnectOptions) -> anyhow::Result<u64> {
    let database = database
        .clone()
        .application_name("artstore element backfill (progress)");
    let mut connection = connection::open(&database).await?;
    let sql = format!("select count(*) from public.{element}_files");
    let count: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_one(&mut connection)
        .await?;
    Ok(u64::try_from(count).unwrap_or(0))
}
