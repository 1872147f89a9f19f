//! `artstore migrate roles`: one role for each duty, with timeouts, limits and the least rights.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use artstore_migrations::roles::{Duty, Outcome, Role, make, roles};
use artstore_runtime::secret::Secret;
use artstore_runtime::secret_file::{self, SecretFileError};
use clap::{Args, ValueEnum};
use serde_json::json;

use super::target::{self, ModuleName, connect};
use crate::config::{Config, ConfigError};

/// Which roles.
#[derive(Debug, Args)]
pub struct Roles {
    /// What the roles' names begin with
    #[arg(long, value_name = "NAME", default_value = "artstore")]
    prefix: String,
    /// Only this duty; may be given often. Without it, all
    #[arg(long, value_enum)]
    duty: Vec<DutyName>,
    /// A folder with a file for each role that is to have a password, named like the role; the others are left
    /// as they are
    #[arg(long, value_name = "FOLDER")]
    passwords: Option<PathBuf>,
    /// Only this module; without it, every module whose database is configured
    #[arg(long, value_enum)]
    module: Option<ModuleName>,
    /// Print the statements, without passwords, and run none
    #[arg(long)]
    sql: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "sql")]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DutyName {
    /// Owns the tables and runs migrations
    Migrator,
    /// Reads finished rows and publishes them
    Relay,
    /// Writes an element's tables, or an outbox
    Publisher,
    /// Builds the query cache
    Projector,
    /// Builds the audit log and the element registry
    Audit,
    /// Reads the audit log
    Auditor,
    /// Reads what status, search and verify show
    Console,
}

impl DutyName {
    fn of(duty: Duty) -> Self {
        match duty {
            Duty::Migrator => Self::Migrator,
            Duty::Relay => Self::Relay,
            Duty::Publisher => Self::Publisher,
            Duty::QueryProjector => Self::Projector,
            Duty::AuditProjector => Self::Audit,
            Duty::Auditor => Self::Auditor,
            Duty::Console => Self::Console,
        }
    }
}

/// Makes them.
pub(super) async fn run(config: &Config, command: Roles) -> anyhow::Result<ExitCode> {
    let prefix = &command.prefix;
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !prefix.starts_with(|c: char| c.is_ascii_lowercase())
        || !prefix.chars().all(allowed)
        || prefix.len() > 16
    {
        return Err(ConfigError(format!(
            "--prefix {prefix:?}: a-z, 0-9 and _, beginning with a-z, at most 16 characters"
        ))
        .into());
    }
    let targets = target::targets(config, command.module)?;
    // The limits are those of all sources, whichever module is asked for.
    let sources = target::targets(config, None).map_or(0, |all| all.len());
    let sources = sources.max(targets.len());
    let mut report = Vec::new();
    for (module, database) in targets {
        let named = database.get_database().unwrap_or_default().to_owned();
        let mut roles = roles(&module, &named, prefix, sources);
        roles.retain(|role| {
            command.duty.is_empty() || command.duty.contains(&DutyName::of(role.duty))
        });
        if command.sql {
            println!("-- {module}, in its database {named:?}:");
            for statement in roles
                .iter()
                .flat_map(|role| role.made_by.iter().chain(&role.rights))
            {
                println!("{statement};");
            }
            continue;
        }
        let mut connection = connect(&module, &database).await?;
        for role in roles {
            let password = password(command.passwords.as_deref(), &role)?;
            let outcome = make(&mut connection, &module, &role, password.as_ref()).await?;
            if password.is_some() && outcome == Outcome::SettingsLeft {
                anyhow::bail!(
                    "{module}: {}: it has its rights, but not the password of --passwords, since this role may not \
                     change roles: let one do it that may (CREATEROLE), or run this without its file",
                    role.name
                );
            }
            if command.json {
                report.push(json!({
                    "module": module.to_string(),
                    "role": role.name,
                    "settings_left": outcome == Outcome::SettingsLeft,
                }));
                continue;
            }
            match outcome {
                Outcome::Done => println!("{module}: {}", role.name),
                Outcome::SettingsLeft => println!(
                    "{module}: {}: its rights; timeouts and limits are left as they are, since this role may \
                     not change roles",
                    role.name
                ),
            }
        }
    }
    if command.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    Ok(ExitCode::SUCCESS)
}

/// What stands in the file that is named like the role; none where there is no such file.
fn password(folder: Option<&Path>, role: &Role) -> anyhow::Result<Option<Secret>> {
    let Some(path) = folder.map(|folder| folder.join(&role.name)) else {
        return Ok(None);
    };
    match secret_file::read(&path) {
        Ok(password) => {
            secret_file::warn_where_shared("--passwords", &path);
            Ok(Some(password))
        }
        Err(SecretFileError::Unreadable(error)) if error.kind() == io::ErrorKind::NotFound => {
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("--passwords: {}", path.display())),
    }
}
