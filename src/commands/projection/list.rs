//! `artstore projection list` and `status`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::process::ExitCode;

use artstore_bus::accounts::role::Role;
use artstore_bus::connection::Bus;
use artstore_projectors::rebuild::{previous_schema, shadow_schema, snapshot_schema};
use artstore_projectors::runtime::pause::{self, Pause};
use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum as _};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use super::database::connect;
use crate::config::Config;
use crate::service::Projection as Projected;
use crate::service::answer::Stage;
use crate::status::answers;
use crate::status::database::{Checkpoint, checkpoints};

/// How to list.
#[derive(Debug, Args)]
pub struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Which one to show.
#[derive(Debug, Args)]
pub struct Status {
    /// The projection
    #[arg(value_enum)]
    projection: Projected,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What a projection's database and its running processes say of it.
struct ListedProjection {
    projection: Projected,
    halts: Halts,
    pause: Option<Pause>,
    checkpoints: Vec<Checkpoint>,
    schemas: Vec<Schema>,
}

/// Tables that were built beside the live ones.
struct Schema {
    name: String,
    what: SchemaKind,
    bytes: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SchemaKind {
    /// A rebuild that runs, or was interrupted.
    Rebuild {
        runs: bool,
    },
    /// What was live before the last swap.
    Previous,
    Snapshot,
}

/// Why workers have halted, by source. None where no process could be asked.
type Halts = Option<BTreeMap<String, String>>;

/// Asks the running processes of a projection who has halted.
async fn halts(bus: Option<&Bus>, projection: Projected) -> Halts {
    let answers = answers::ask(bus?, &[], &[projection.name()]).await.ok()?;
    let workers = answers.projectors.into_iter().flat_map(|p| p.workers);
    let mut active = BTreeSet::new();
    let mut halted = BTreeMap::new();
    for worker in workers {
        match worker.problem.filter(|problem| problem.halted) {
            Some(problem) => {
                halted.insert(worker.source, problem.text);
            }
            None if worker.stage == Stage::Active => {
                active.insert(worker.source);
            }
            None => {}
        }
    }
    // Another process may continue with it.
    halted.retain(|source, _| !active.contains(source));
    Some(halted)
}

/// Lists the projections whose databases are configured. Exit code 1 where one has halted.
pub async fn list(config: &Config, command: &List) -> anyhow::Result<ExitCode> {
    let mut rows = Vec::new();
    // Without it nobody knows who has halted; the rest is in the databases.
    let bus = Bus::connect(&config.bus(Role::Reader, "artstore projection list")?).await;
    for projection in Projected::value_variants() {
        if super::database::database(config, *projection).is_ok() {
            let mut connection = connect(config, *projection).await?;
            let halts = halts(bus.as_ref().ok(), *projection).await;
            rows.push(see(&mut connection, *projection, halts).await?);
            connection.close().await?;
        }
    }
    if command.json {
        let all: Vec<Value> = rows.iter().map(ListedProjection::json).collect();
        println!("{:#}", Value::from(all));
        return Ok(code(&rows));
    }
    if rows.is_empty() {
        println!(
            "No database of a projection is configured: QUERY_DATABASE_URL, ADMIN_DATABASE_URL."
        );
    } else {
        println!(
            "{:<18}{:>8}{:>9}{:>8}  STATE",
            "PROJECTION", "VERSION", "STREAMS", "PARKED"
        );
    }
    for row in &rows {
        println!(
            "{:<18}{:>8}{:>9}{:>8}  {}",
            row.projection.name(),
            row.projection.version(),
            row.checkpoints.len(),
            row.parked(),
            row.state()
        );
    }
    if let Err(error) = bus {
        println!("\nWhether one has halted is not known: {error}");
    }
    Ok(code(&rows))
}

fn code(seen: &[ListedProjection]) -> ExitCode {
    let halted = seen
        .iter()
        .flat_map(|seen| &seen.halts)
        .any(|halts| !halts.is_empty());
    ExitCode::from(u8::from(halted))
}

/// Shows one projection.
pub async fn status(config: &Config, command: &Status) -> anyhow::Result<ExitCode> {
    let mut connection = connect(config, command.projection).await?;
    let bus = Bus::connect(&config.bus(Role::Reader, "artstore projection status")?).await?;
    let halts = halts(Some(&bus), command.projection).await;
    let seen = see(&mut connection, command.projection, halts).await?;
    connection.close().await?;
    let mut ends = Vec::new();
    for checkpoint in &seen.checkpoints {
        let info = bus.stream_info(&checkpoint.stream).await;
        ends.push(info.map(|info| info.state.last_sequence).ok());
    }
    bus.client.drain().await?;
    if command.json {
        let mut said = seen.json();
        let streams = seen.checkpoints.iter().zip(&ends);
        said["streams"] = streams
            .map(|(at, end)| {
                json!({"stream": at.stream, "applied": at.sequence, "end": end,
                    "version": at.version, "parked": at.parked,
                    "moved_seconds": at.moved_seconds})
            })
            .collect();
        println!("{said:#}");
        return Ok(code(&[seen]));
    }
    print!("{}", seen.text(&ends));
    Ok(code(&[seen]))
}

async fn see(
    connection: &mut PgConnection,
    projection: Projected,
    halts: Halts,
) -> anyhow::Result<ListedProjection> {
    let mut found = checkpoints(connection).await?;
    found.retain(|checkpoint| checkpoint.projection == projection.name());
    Ok(ListedProjection {
        projection,
        halts,
        pause: pause::load(connection, projection.name()).await?,
        checkpoints: found,
        schemas: schemas(connection, projection).await?,
    })
}

async fn schemas(
    connection: &mut PgConnection,
    projection: Projected,
) -> anyhow::Result<Vec<Schema>> {
    let name = projection.name();
    let (shadow, previous) = (shadow_schema(name), previous_schema(name));
    let snapshots = snapshot_schema(name, DateTime::<Utc>::UNIX_EPOCH);
    let snapshots = snapshots.trim_end_matches("19700101_000000").to_owned();
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "select n.nspname::text, coalesce((select sum(pg_total_relation_size(c.oid)) from pg_class c \
             where c.relnamespace = n.oid and c.relkind = 'r'), 0)::bigint \
         from pg_namespace n where n.nspname in ($1, $2) or starts_with(n.nspname, $3) order by 1",
    )
    .bind(&shadow)
    .bind(&previous)
    .bind(&snapshots)
    .fetch_all(&mut *connection)
    .await?;
    let runs: bool = sqlx::query_scalar(
        "select exists (select from pg_locks where locktype = 'advisory' and granted \
             and objsubid = 1 and classid::bigint << 32 | objid::bigint = hashtextextended($1, 0) \
             and database = (select oid from pg_database where datname = current_database()))",
    )
    .bind(format!("artstore/rebuild/{name}"))
    .fetch_one(connection)
    .await?;
    let what = |schema: &str| match schema {
        name if name == shadow => SchemaKind::Rebuild { runs },
        name if name == previous => SchemaKind::Previous,
        _ => SchemaKind::Snapshot,
    };
    Ok(rows
        .into_iter()
        .map(|(name, bytes)| Schema {
            what: what(&name),
            name,
            bytes,
        })
        .collect())
}

impl ListedProjection {
    fn parked(&self) -> u64 {
        self.checkpoints.iter().map(|at| at.parked).sum()
    }

    /// Versions of tables that this program can't continue with.
    fn other_version(&self) -> Option<i32> {
        let version = i32::try_from(self.projection.version()).unwrap_or(i32::MAX);
        let versions = self.checkpoints.iter().map(|at| at.version);
        versions.into_iter().find(|found| *found != version)
    }

    fn state(&self) -> String {
        let mut parts = Vec::new();
        for source in self.halts.iter().flat_map(BTreeMap::keys) {
            parts.push(format!("HALTED at {source}"));
        }
        if let Some(version) = self.other_version() {
            parts.push(format!("tables of version {version}: to be built again"));
        }
        if self.pause.is_some() {
            parts.push("paused".to_owned());
        }
        for schema in &self.schemas {
            parts.push(match schema.what {
                SchemaKind::Rebuild { runs: true } => "is being built again".to_owned(),
                SchemaKind::Rebuild { runs: false } => "an interrupted rebuild is left".to_owned(),
                SchemaKind::Previous => "can be rolled back".to_owned(),
                SchemaKind::Snapshot => format!("snapshot {}", schema.name),
            });
        }
        if self.checkpoints.is_empty() {
            parts.push("nothing was applied yet".to_owned());
        }
        match parts.is_empty() {
            true => "-".to_owned(),
            false => parts.join(", "),
        }
    }

    fn json(&self) -> Value {
        let schemas = self.schemas.iter().map(|schema| {
            let (what, runs) = match schema.what {
                SchemaKind::Rebuild { runs } => ("rebuild", Some(runs)),
                SchemaKind::Previous => ("previous", None),
                SchemaKind::Snapshot => ("snapshot", None),
            };
            json!({"schema": schema.name, "what": what, "runs": runs, "bytes": schema.bytes})
        });
        let paused = self.pause.as_ref();
        json!({
            "projection": self.projection.name(),
            "version": self.projection.version(),
            "tables_of_version": self.other_version().unwrap_or_else(
                || i32::try_from(self.projection.version()).unwrap_or(i32::MAX)),
            "streams": self.checkpoints.len(),
            "parked": self.parked(),
            "halted": self.halts,
            "paused": paused.map(|pause| json!({"reason": pause.reason, "since": pause.since})),
            "schemas": schemas.collect::<Vec<_>>(),
        })
    }

    fn text(&self, ends: &[Option<u64>]) -> String {
        let name = self.projection.name();
        let mut text = format!("{name} v{}\n", self.projection.version());
        for (source, why) in self.halts.iter().flatten() {
            let _ = writeln!(text, "HALTED at {source}: {why}");
        }
        if let Some(pause) = &self.pause {
            let _ = writeln!(
                text,
                "{pause}; to resume: artstore projection resume {name}"
            );
        }
        if let Some(version) = self.other_version() {
            let _ = writeln!(
                text,
                "Its tables were built by version {version}: artstore projection rebuild {name}"
            );
        }
        let _ = writeln!(
            text,
            "\n{:<42}{:>12}{:>12}{:>10}{:>8}",
            "STREAM", "APPLIED", "END", "BEHIND", "PARKED"
        );
        for (at, end) in self.checkpoints.iter().zip(ends) {
            let shown = end.map_or_else(|| "?".to_owned(), |end| end.to_string());
            let behind = end.map_or_else(
                || "?".to_owned(),
                |end| end.saturating_sub(at.sequence).to_string(),
            );
            let _ = writeln!(
                text,
                "{:<42}{:>12}{shown:>12}{behind:>10}{:>8}",
                at.stream, at.sequence, at.parked
            );
        }
        if self.checkpoints.is_empty() {
            text.push_str("(nothing was applied yet)\n");
        }
        if self.parked() > 0 {
            let _ = writeln!(
                text,
                "\nSome events can't be applied: artstore parked list --projection {name}"
            );
        }
        for schema in &self.schemas {
            let (name_of, size) = (&schema.name, size(schema.bytes));
            let what = match schema.what {
                SchemaKind::Rebuild { runs: true } => "is being built".to_owned(),
                SchemaKind::Rebuild { runs: false } => format!(
                    "was left by a rebuild: `artstore projection rebuild {name}` goes on there, \
                     --abandon removes it"
                ),
                SchemaKind::Previous => format!(
                    "was live before the last swap: `artstore projection rollback {name}`; or, for its \
                     space: `artstore projection remove {name} {name_of}`"
                ),
                SchemaKind::Snapshot => format!(
                    "is a snapshot for reading; when it is not needed: `artstore projection remove \
                     {name} {name_of}`"
                ),
            };
            let _ = writeln!(text, "\nSchema {name_of} ({size}) {what}");
        }
        text
    }
}

fn size(bytes: i64) -> String {
    let megabytes = bytes as f64 / 1_048_576.0;
    match bytes {
        ..1_048_576 => format!("{} kB", bytes / 1_024),
        _ => format!("{megabytes:.1} MB"),
    }
}
