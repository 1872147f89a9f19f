//! `artstore migrate`: the tables of the admin and query modules and of each storage element.

use std::process::ExitCode;

use anyhow::Context as _;
use artstore_migrations::{Module, Step};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;

use crate::config::{Config, ConfigError};

/// What to do with the tables.
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

/// Runs the command.
pub async fn run(config: &Config, command: Migrate) -> anyhow::Result<ExitCode> {
    let (Migrate::Up(which) | Migrate::Down(which) | Migrate::Status(which)) = &command;
    let targets = targets(config, which)?;
    let mut report = Vec::new();
    for (module, database) in targets {
        let mut connection = database.connect().await.with_context(|| {
            format!(
                "{module}: database {} at {}:{} can't be reached",
                database.get_database().unwrap_or("(default)"),
                database.get_host(),
                database.get_port()
            )
        })?;
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

fn targets(config: &Config, which: &Which) -> Result<Vec<(Module, PgConnectOptions)>, ConfigError> {
    let wanted = |name| which.module.is_none_or(|module| module == name);
    let mut targets = Vec::new();
    // DB_* are the admin's or the element's: only --module says whose.
    let admin = which.module == Some(ModuleName::Admin) || config.admin_database_url.is_some();
    if wanted(ModuleName::Admin) && admin {
        targets.extend(config.admin_database()?.map(|d| (Module::Admin, d)));
    }
    if wanted(ModuleName::Query) {
        targets.extend(config.query_database()?.map(|d| (Module::Query, d)));
    }
    let storage = which.module == Some(ModuleName::Storage)
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
