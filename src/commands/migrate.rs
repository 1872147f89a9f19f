//! `artstore migrate`: the tables of the admin and query modules and of each storage element.
//! Steps up and down are here; the rest has a file each, in the order in which an operator who
//! has an installation of the product uses them.

pub mod adopt;
pub mod backup;
pub mod check;
pub mod smoke;

use std::process::ExitCode;

use anyhow::Context as _;
use artstore_migrations::{Module, Step};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};

use crate::config::{Config, ConfigError};

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
    Steps(Migrate),
    /// Write, find, change and delete one file through the whole system that runs
    Smoke(smoke::Smoke),
}

/// Runs the command.
pub async fn run(config: &Config, command: MigrateCommand) -> anyhow::Result<ExitCode> {
    match command {
        MigrateCommand::Check(command) => check::run(config, &command).await,
        MigrateCommand::Backup(command) => backup::run(config, &command).await,
        MigrateCommand::Adopt(command) => adopt::run(config, &command).await,
        MigrateCommand::Steps(command) => steps(config, command).await,
        MigrateCommand::Smoke(command) => smoke::run(config, &command).await,
    }
}

/// What to do with the steps.
#[derive(Debug, Subcommand)]
pub enum Migrate {
    /// Apply the steps that are not applied yet
    Up(Which),
    /// Take steps back, down to --to
    Down(Which),
    /// Show what is applied
    Status(Which),
}

/// Which tables.
#[derive(Debug, Args)]
pub struct Which {
    /// Only this module; without it, every module whose database is configured
    #[arg(long, value_enum)]
    module: Option<ModuleName>,
    /// The version to end at; for `up` the newest without it
    #[arg(long)]
    to: Option<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ModuleName {
    Admin,
    Query,
    Storage,
}

async fn steps(config: &Config, command: Migrate) -> anyhow::Result<ExitCode> {
    let (Migrate::Up(which) | Migrate::Down(which) | Migrate::Status(which)) = &command;
    let targets = targets(config, which.module)?;
    let mut report = Vec::new();
    for (module, database) in targets {
        let mut connection = connect(&module, &database).await?;
        let done = match &command {
            Migrate::Up(_) => artstore_migrations::up(&mut connection, &module, which.to).await?,
            Migrate::Down(_) => {
                let to = which.to.ok_or_else(|| {
                    ConfigError("migrate down needs --to N: the version to end at".to_owned())
                })?;
                artstore_migrations::down(&mut connection, &module, to).await?
            }
            Migrate::Status(_) => Vec::new(),
        };
        let status = artstore_migrations::status(&mut connection, &module).await?;
        if which.json {
            report.push(json!({
                "module": module.to_string(),
                "version": status.version,
                "latest": status.latest,
                "done": done.iter().map(name).collect::<Vec<_>>(),
                "steps": status.steps.iter().map(|step| json!({
                    "version": step.step.version,
                    "name": step.step.name,
                    "applied_at": step.applied_at,
                })).collect::<Vec<_>>(),
            }));
            continue;
        }
        println!("{module}: version {} of {}", status.version, status.latest);
        if matches!(command, Migrate::Status(_)) {
            for step in &status.steps {
                let when = step
                    .applied_at
                    .map_or_else(|| "pending".to_owned(), |at| at.to_rfc3339());
                println!("  {:04} {:<24} {when}", step.step.version, step.step.name);
            }
        }
        let verb = if matches!(command, Migrate::Down(_)) {
            "taken back"
        } else {
            "applied"
        };
        for step in &done {
            println!("  {} {verb}", name(step));
        }
    }
    if which.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    Ok(ExitCode::SUCCESS)
}

fn name(step: &Step) -> String {
    format!("{:04} {}", step.version, step.name)
}

async fn connect(module: &Module, database: &PgConnectOptions) -> anyhow::Result<PgConnection> {
    let connected = database.connect().await;
    connected.with_context(|| format!("{module}: database {} can't be reached", shown(database)))
}

/// A database as people know it: never with a password.
fn shown(database: &PgConnectOptions) -> String {
    format!(
        "{} at {}:{}",
        database.get_database().unwrap_or("(default)"),
        database.get_host(),
        database.get_port()
    )
}

fn targets(
    config: &Config,
    only: Option<ModuleName>,
) -> Result<Vec<(Module, PgConnectOptions)>, ConfigError> {
    let wanted = |name| only.is_none_or(|module| module == name);
    let mut targets = Vec::new();
    // DB_* are the admin's or the element's: only --module says whose.
    let admin = only == Some(ModuleName::Admin) || config.admin_database_url.is_some();
    if wanted(ModuleName::Admin) && admin {
        targets.extend(config.admin_database()?.map(|d| (Module::Admin, d)));
    }
    if wanted(ModuleName::Query) {
        targets.extend(config.query_database()?.map(|d| (Module::Query, d)));
    }
    let storage = only == Some(ModuleName::Storage)
        || config.storage_database_url.is_some()
        || config.elements.is_some();
    if wanted(ModuleName::Storage) && storage {
        let mut elements = config.elements()?;
        if config.element.is_some() {
            let only = config.element()?;
            elements.retain(|(name, _)| *name == only);
            if elements.is_empty() {
                return Err(ConfigError(format!(
                    "--element {only} (DB_TABLE_PREFIX): no database is configured for it"
                )));
            }
        }
        let elements = elements.into_iter();
        targets.extend(elements.map(|(name, database)| (Module::Storage(name), database)));
    }
    if targets.is_empty() {
        return Err(ConfigError(
            "no database is configured for that: set ADMIN_DATABASE_URL, QUERY_DATABASE_URL, \
             ARTSTORE_ELEMENTS, or STORAGE_DATABASE_URL with --element"
                .to_owned(),
        ));
    }
    Ok(targets)
}
