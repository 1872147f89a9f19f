//! `artstore migrate backup`: a dump of each configured database in one new folder, each proved to
//! hold every row, with a manifest. A folder is a whole backup or stays empty.

mod dump;

use artstore_runtime::connection;
use artstore_runtime::count::counted;
use std::fs::DirBuilder;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use artstore_migrations::Module;
use chrono::Utc;
use clap::Args;
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;

use self::dump::Dump;
use super::adopt::made_by;
use super::target::{ModuleName, connect, targets};
use crate::config::{Config, ConfigError};
use crate::signals::stop_signal;

const MANIFEST: &str = "manifest.json";

/// What to dump, and where to.
#[derive(Debug, Args)]
pub struct Backup {
    /// A folder for this backup: a new one, or an empty one
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Only this module; without it, every module whose database is configured
    #[arg(long, value_enum)]
    module: Option<ModuleName>,
    /// Print JSON: the manifest
    #[arg(long)]
    json: bool,
}

/// What a restored backup does not bring back, and people must not find out then.
const NOT_IN_IT: &[&str] = &[
    "the streams on NATS: operations that were pruned are only there (`artstore bus backup FOLDER`)",
    "the keys and secrets of the audit log, which are files and variables",
    "roles and how they log in, which belongs to the server, and tables of other programs",
];

/// A database, with every module that is in it: several elements may share one.
struct Target {
    database: PgConnectOptions,
    modules: Vec<Module>,
}

/// Files that are removed again unless the backup comes to its end.
#[derive(Default)]
struct Unfinished(Vec<PathBuf>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        for path in &self.0 {
            if let Err(error) = std::fs::remove_file(path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::error!(path = %path.display(), %error, "an unfinished backup can't be removed");
            }
        }
    }
}

/// Runs the command.
pub async fn run(config: &Config, command: &Backup) -> anyhow::Result<ExitCode> {
    let targets = by_database(targets(config, command.module)?);
    open_folder(&command.to)?;
    let stop = stop_signal()?;
    let mut unfinished = Unfinished::default();
    let backup = backup(&targets, command, &mut unfinished);
    let manifest = tokio::select! {
        done = backup => done?,
        () = stop.cancelled() => bail!("interrupted: the backup is removed again"),
    };
    unfinished.0.clear();
    if command.json {
        println!("{}", serde_json::to_string_pretty(&manifest)?);
    } else {
        println!("{}", command.to.join(MANIFEST).display());
    }
    Ok(ExitCode::SUCCESS)
}

async fn backup(
    targets: &[Target],
    command: &Backup,
    unfinished: &mut Unfinished,
) -> anyhow::Result<Value> {
    let started = Utc::now();
    let mut databases = Vec::new();
    for target in targets {
        let name = target.database.get_database().unwrap_or("default");
        // A database's name may hold anything; a file's may not.
        let name: String = name
            .chars()
            .map(|c| {
                if c.is_alphanumeric() || "-_.".contains(c) {
                    c
                } else {
                    '_'
                }
            })
            .collect();
        let mut file = format!("{name}-{}.dump", started.format("%Y%m%dT%H%M%SZ"));
        // Databases of two servers may have one name.
        if command.to.join(&file).exists() {
            file = format!("{}-{file}", databases.len() + 1);
        }
        let (made, mut tables) = (modules(target).await?, Vec::new());
        for (.., present) in &made {
            tables.extend(present.iter().cloned());
        }
        tables.sort_unstable();
        tables.dedup();
        let path = command.to.join(&file);
        let part = command.to.join(format!("{file}.part"));
        unfinished.0.extend([part.clone(), path.clone()]);
        let dump = dump::make(&target.database, &tables, &part)
            .await
            .with_context(|| {
                format!("backup of database {}", connection::shown(&target.database))
            })?;
        std::fs::rename(&part, &path)
            .with_context(|| format!("{} can't be renamed", part.display()))?;
        if !command.json {
            print(target, &made, &path, &dump);
        }
        databases.push(entry(target, &made, &file, &dump));
    }
    if !command.json {
        println!("Not in it:");
        for part in NOT_IN_IT {
            println!("  {part}");
        }
    }
    let manifest = json!({
        "not_in_it": NOT_IN_IT,
        "made_by": concat!("artstore ", env!("CARGO_PKG_VERSION")),
        "started_at": started,
        "finished_at": Utc::now(),
        "databases": databases,
    });
    let path = command.to.join(MANIFEST);
    unfinished.0.push(path.clone());
    let write = || -> std::io::Result<()> {
        let mut file = dump::new_file(&path)?;
        writeln!(file, "{manifest:#}")?;
        file.sync_all()
    };
    write().with_context(|| format!("{} can't be written", path.display()))?;
    Ok(manifest)
}

fn by_database(targets: Vec<(Module, PgConnectOptions)>) -> Vec<Target> {
    let mut grouped: Vec<Target> = Vec::new();
    for (module, database) in targets {
        match grouped
            .iter_mut()
            .find(|t| connection::shown(&t.database) == connection::shown(&database))
        {
            Some(target) => target.modules.push(module),
            None => grouped.push(Target {
                database,
                modules: vec![module],
            }),
        }
    }
    grouped
}

/// Refuses a folder with something in it: a backup overwrites nothing.
fn open_folder(folder: &Path) -> anyhow::Result<()> {
    // Dumps hold the keys that sign tokens: nobody else may read them.
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("--to {}: can't be made", folder.display()))?;
    let mut entries = std::fs::read_dir(folder)
        .with_context(|| format!("--to {}: can't be read", folder.display()))?;
    if entries.next().is_some() {
        return Err(ConfigError(format!(
            "--to {}: there is something in it already; a backup overwrites nothing: name a new folder",
            folder.display()
        ))
        .into());
    }
    Ok(())
}

/// Each module of a database: who made it, and its tables. A database without them is most likely
/// a wrong one.
async fn modules(target: &Target) -> anyhow::Result<Vec<(Module, String, Vec<String>)>> {
    let mut found = Vec::new();
    for module in &target.modules {
        let mut connection = connect(module, &target.database).await?;
        let tables = artstore_migrations::tables_present(&mut connection, module).await?;
        if tables.is_empty() {
            bail!(
                "{module}: database {} has none of its tables: is it the right database?",
                connection::shown(&target.database)
            );
        }
        // What can't be adopted or migrated can be dumped all the same.
        let by = match artstore_migrations::inspect(&mut connection, module).await {
            Ok(adoption) => made_by(&adoption.origin),
            Err(error) => format!("not known: {error}"),
        };
        found.push((module.clone(), by, tables));
    }
    Ok(found)
}

fn print(target: &Target, made: &[(Module, String, Vec<String>)], path: &Path, dump: &Dump) {
    for (module, by, _) in made {
        println!(
            "{module}: database {}, made by {by}",
            connection::shown(&target.database)
        );
    }
    println!("  file     {}", path.display());
    println!("  size     {} bytes", dump.bytes);
    println!("  sha-256  {}", dump.sha256);
    println!(
        "  tables   {} with {}, all of them in the dump",
        dump.rows.len(),
        counted(dump.rows.values().sum::<u64>(), "row")
    );
}

fn entry(
    target: &Target,
    made: &[(Module, String, Vec<String>)],
    file: &str,
    dump: &Dump,
) -> Value {
    json!({
        "database": target.database.get_database(),
        "host": target.database.get_host(),
        "port": target.database.get_port(),
        "modules": made.iter().map(|(module, by, tables)| json!({
            "module": module.to_string(), "made_by": by, "tables": tables,
        })).collect::<Vec<_>>(),
        "server_version": dump.server,
        "pg_dump_version": dump.tool,
        "file": file,
        "bytes": dump.bytes,
        "sha256": dump.sha256,
        "rows": dump.rows,
    })
}
