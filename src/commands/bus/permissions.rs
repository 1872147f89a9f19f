//! `artstore bus permissions`: the accounts of the NATS server for the configured sources, and a key for each role.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use artstore_bus::accounts::configuration;
use artstore_bus::accounts::key::{Login, User, UserKey, write_whole};
use artstore_bus::accounts::role::Role;
use artstore_schemas::source::Source;
use clap::Args;
use serde_json::json;

use crate::config::Config;

/// What the server includes in its configuration, below the folder.
const ACCOUNTS: &str = "server/accounts.conf";

/// Where the files go.
#[derive(Debug, Args)]
pub struct Permissions {
    /// The folder for the server's accounts and for the keys: keys that are there stay, so that calling it again
    /// adds the accounts of new elements
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Writes keys, then the accounts that name them.
pub(super) fn run(config: &Config, command: &Permissions) -> anyhow::Result<ExitCode> {
    let elements = config.named_elements()?.into_iter().map(Source::Element);
    let sources: Vec<Source> = elements.chain([Source::Admin, Source::Query]).collect();
    let roles = Role::all(&sources);
    let mut users = Vec::with_capacity(roles.len());
    let mut shown = Vec::with_capacity(roles.len());
    for role in roles {
        let folder = command.folder.join(role.folder());
        make_private(&folder)?;
        let path = folder.join(role.key_file());
        let key = UserKey::of_file(&path)
            .with_context(|| format!("the key {}: remove it, or restore it", path.display()))?;
        let public = key.public();
        shown.push((role.clone(), path, public.clone()));
        let login = Login::Key(public);
        users.push(User { role, login });
    }
    let accounts = command.folder.join(ACCOUNTS);
    if let Some(folder) = accounts.parent() {
        make_private(folder)?;
    }
    let text = format!(
        "# Made by `artstore bus permissions FOLDER`, which is run again for new elements. It has no secret.\naccounts {{\n{}}}\n",
        configuration::accounts(&sources, &users)
    );
    // The server reads it, perhaps as another user.
    write_whole(&accounts, &text, 0o644)
        .with_context(|| format!("can't write {}", accounts.display()))?;
    if command.json {
        let keys: Vec<_> = shown
            .iter()
            .map(|(role, path, public)| {
                json!({"role": role.to_string(), "key": path, "public": public})
            })
            .collect();
        let report = json!({"accounts": accounts, "keys": keys});
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(ExitCode::SUCCESS);
    }
    println!("accounts  {}", accounts.display());
    let width = shown.iter().map(|(role, ..)| role.to_string().len()).max();
    for (role, path, _) in &shown {
        println!(
            "key       {:<width$}  {}",
            role.to_string(),
            path.display(),
            width = width.unwrap_or(0)
        );
    }
    println!(
        "\nInclude the accounts in the server's configuration and reload the server; give each process the folder of its\n\
         own keys as NATS_CREDENTIALS, and no other."
    );
    Ok(ExitCode::SUCCESS)
}

/// A folder that nobody else can enter. One that is there stays as it is.
fn make_private(folder: &Path) -> anyhow::Result<()> {
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder);
    made.with_context(|| format!("can't create {}", folder.display()))
}
