//! `artstore migrate`: the tables of the admin and query modules and of each storage element.
//! Steps up and down are here; the rest has a file each, in the order in which an operator who
//! has an installation of the product uses them.

pub mod adopt;
pub mod backup;
pub mod check;
pub mod smoke;

mod dry_run;
mod grant;
mod roles;
mod target;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use artstore_migrations::{DEFAULT_PATIENCE, Direction, Goal, Migrator, Module, Status};
use artstore_producers::relay::api_url;
use artstore_producers::relay::source::SourceTable;
use artstore_schemas::element::ElementName;
use artstore_schemas::source::Source;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::config::{Config, ConfigError};
use target::{ModuleName, connect, name, name_server, targets};

/// What to do with the tables, and around it.
#[derive(Debug, Subcommand)]
pub enum MigrateCommand {
    /// Say whether databases and NATS are fit for an adoption or a migration; changes nothing
    Check(check::Check),
    /// Dump each configured database with pg_dump, and prove that the dumps hold every row
    Backup(backup::Backup),
    /// Take over tables that the product made, with their rows, while it runs
    Adopt(adopt::Adopt),
    /// Steps up and down.
    #[command(flatten)]
    Steps(StepsCommand),
    /// Write, find, change and delete one file through the whole system that runs
    Smoke(smoke::Smoke),
}

/// Runs the command.
pub async fn run(config: &Config, command: MigrateCommand) -> anyhow::Result<ExitCode> {
    match command {
        MigrateCommand::Check(command) => check::run(config, &command).await,
        MigrateCommand::Backup(command) => backup::run(config, &command).await,
        MigrateCommand::Adopt(command) => adopt::run(config, &command).await,
        MigrateCommand::Steps(command) => run_steps(config, command).await,
        MigrateCommand::Smoke(command) => smoke::run(config, &command).await,
    }
}

/// What to do with the steps.
#[derive(Debug, Subcommand)]
pub enum StepsCommand {
    /// Apply the steps that are not applied yet
    Up(Up),
    /// Take steps back, down to --to; what would lose data is refused
    Down(Down),
    /// Take the last step back and apply it again
    Redo(Redo),
    /// Show what is applied
    Status(Which),
    /// Give a role the least rights that a relay, a projector or a publisher needs
    Grant(grant::Grant),
    /// Make one role for each duty, with timeouts, limits and the least rights
    Roles(roles::Roles),
}

/// Which tables.
#[derive(Debug, Args)]
pub struct Which {
    /// Only this module; without it, every module whose database is configured
    #[arg(long, value_enum)]
    module: Option<ModuleName>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How far up.
#[derive(Debug, Args)]
pub struct Up {
    #[command(flatten)]
    which: Which,
    /// The version to end at; without it the newest
    #[arg(long)]
    to: Option<u32>,
    #[command(flatten)]
    how: How,
}

/// How far down.
#[derive(Debug, Args)]
pub struct Down {
    #[command(flatten)]
    which: Which,
    /// The version to end at
    #[arg(long)]
    to: Option<u32>,
    #[command(flatten)]
    how: How,
    /// Go on where rows or columns are lost that the lower version has no place for
    #[arg(long)]
    accept_loss: bool,
}

/// Which last step.
#[derive(Debug, Args)]
pub struct Redo {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    how: How,
    /// Go on where rows or columns are lost that the lower version has no place for
    #[arg(long)]
    accept_loss: bool,
}

/// How steps are taken.
#[derive(Debug, Clone, Copy, Args)]
struct How {
    /// How many seconds each part of a step may wait for tables that others hold. It asks for a
    /// second at a time and lets them continue in between
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_PATIENCE.as_secs())]
    patience: u64,
    /// Print the SQL that would run, part by part, and change nothing
    #[arg(long)]
    dry_run: bool,
}

async fn run_steps(config: &Config, command: StepsCommand) -> anyhow::Result<ExitCode> {
    match command {
        StepsCommand::Up(up) => steps(config, &up.which, Goal::Up(up.to), up.how, false).await,
        StepsCommand::Down(down) => {
            let to = down.to.ok_or_else(|| {
                ConfigError("migrate down needs --to N: the version to end at".to_owned())
            })?;
            let loss = down.accept_loss;
            steps(config, &down.which, Goal::Down(to), down.how, loss).await
        }
        StepsCommand::Redo(redo) => {
            let loss = redo.accept_loss;
            steps(config, &redo.which, Goal::Redo, redo.how, loss).await
        }
        StepsCommand::Status(which) => status(config, &which).await,
        StepsCommand::Grant(grant) => grant::run(config, grant).await,
        StepsCommand::Roles(roles) => roles::run(config, roles).await,
    }
}

async fn steps(
    config: &Config,
    which: &Which,
    goal: Goal,
    how: How,
    accept_loss: bool,
) -> anyhow::Result<ExitCode> {
    let mut report = Vec::new();
    for (module, database) in targets(config, which.module)? {
        let mut connection = connect(&module, &database).await?;
        let version = artstore_migrations::status(&mut connection, &module).await?;
        let first = version.version == 0 && matches!(goal, Goal::Up(_));
        name_server(&module, &mut connection, first).await?;
        if how.dry_run {
            let steps = artstore_migrations::plan(&mut connection, &module, goal).await?;
            if which.json {
                report.push(dry_run::json(&module, &steps));
            } else {
                print!("{}", dry_run::text(&module, &steps));
            }
            continue;
        }
        let done = Migrator::new(&mut connection, &module)
            .patience(Duration::from_secs(how.patience))
            .accept_loss(accept_loss)
            .run(goal)
            .await?;
        let status = artstore_migrations::status(&mut connection, &module).await?;
        if let (Goal::Up(_), Module::Storage(element)) = (goal, &module) {
            store_url(config, element, &status, &mut connection).await?;
        }
        if which.json {
            let done = done.iter().map(|(step, _)| name(step)).collect();
            report.push(to_json(&status, done));
            continue;
        }
        println!("{module}: version {} of {}", status.version, status.latest);
        for (step, direction) in &done {
            let verb = match direction {
                Direction::Up => "applied",
                Direction::Down => "taken back",
            };
            println!("  {} {verb}", name(step));
        }
    }
    if which.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    Ok(ExitCode::SUCCESS)
}

/// Stores where the element's API is reached, where the settings say it and nobody has stored it: from
/// then on whoever publishes says it, however it was started. What is stored stays: this runs with each
/// start of an installation, with settings that may be older than an `element set-url`.
async fn store_url(
    config: &Config,
    element: &ElementName,
    status: &Status,
    connection: &mut PgConnection,
) -> anyhow::Result<()> {
    let Some(url) = config
        .api_url(element)?
        .filter(|_| status.version == status.latest)
    else {
        return Ok(());
    };
    api_url::check(&url).map_err(|problem| {
        ConfigError(format!("ARTSTORE_ELEMENT_API_URLS: {element}: {problem}"))
    })?;
    let stored = api_url::store_first(connection, element, &url).await;
    if stored.with_context(|| format!("the API URL of {element} was not stored"))? {
        eprintln!(
            "artstore: {element}: events say {url} from now on; for files that were published before: \
             artstore element backfill {element}"
        );
        return Ok(());
    }
    let table = SourceTable::of(&Source::Element(element.clone()));
    let stored = api_url::stored(connection, &table).await?;
    let stored = stored.and_then(|stored| stored.url);
    if stored.as_ref() != Some(&url) {
        let stored = stored.as_deref().unwrap_or("no URL");
        eprintln!(
            "artstore: {element}: events say {stored}, which is stored with the element; \
             ARTSTORE_ELEMENT_API_URLS says {url} and changes nothing. To change it: artstore element \
             set-url {element} {url}"
        );
    }
    Ok(())
}

async fn status(config: &Config, which: &Which) -> anyhow::Result<ExitCode> {
    let mut report = Vec::new();
    for (module, database) in targets(config, which.module)? {
        let mut connection = connect(&module, &database).await?;
        let status = artstore_migrations::status(&mut connection, &module).await?;
        if which.json {
            report.push(to_json(&status, Vec::new()));
            continue;
        }
        println!("{module}: version {} of {}", status.version, status.latest);
        for step in &status.steps {
            let when = match step.applied_at {
                Some(at) => at.format("%F %T UTC").to_string(),
                None if step.unfinished => "unfinished: go on with up or down".to_owned(),
                None => "pending".to_owned(),
            };
            println!("  {:04} {:<24} {when}", step.step.version, step.step.name);
        }
    }
    if which.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    Ok(ExitCode::SUCCESS)
}

fn to_json(status: &Status, done: Vec<String>) -> Value {
    json!({
        "module": status.module.to_string(),
        "version": status.version,
        "latest": status.latest,
        "done": done,
        "steps": status.steps.iter().map(|step| json!({
            "version": step.step.version,
            "name": step.step.name,
            "applied_at": step.applied_at,
            "unfinished": step.unfinished,
        })).collect::<Vec<_>>(),
    })
}
