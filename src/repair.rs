//! Repairing a read model from the streams. It never touches a source or a stream: it writes
//! what the projector would have written, with the projector's own code.
//!
//! Events that an operator gave up (`artstore parked discard`) are skipped, as by the projector.
//!
//! Everything is one transaction per some thousand files, so that a process that is killed anywhere
//! leaves either the old rows or the right ones. Its locks are taken in the same order as those of workers
//! (claims, rows, searches, downloads, checkpoint): workers wait for it, and it for
//! them, but never in a circle.

mod part;
mod read;
mod repaired;
mod write;

use std::time::Duration;

use anyhow::{Context as _, bail};
use artstore_bus::connection::Bus;
use artstore_projectors::query_cache::QueryCache;
use artstore_projectors::runtime::database;
use sqlx::postgres::PgConnectOptions;
use uuid::Uuid;

use self::part::Part;
pub use self::repaired::{Repaired, RepairedCheckpoint, RepairedRow};
use self::write::Written;
use artstore_verification::cache::checkpoints;

/// The most files or events of one transaction.
const CHUNK: usize = 2_000;

/// How often it is tried again when something holds a table, or the projector was faster.
const TRIES: usize = 20;

/// What is to be repaired. Unsound checkpoints are, in any case.
#[derive(Debug, Clone, Default)]
pub struct Damage {
    /// Files whose rows are derived again.
    pub files: Vec<Uuid>,
    /// Events whose rows of searches and downloads are derived again.
    pub events: Vec<Uuid>,
}

/// Repairs. Works while projectors run.
pub async fn repair(
    bus: &Bus,
    query: &PgConnectOptions,
    damage: &Damage,
) -> anyhow::Result<Repaired> {
    database::check_direct::<QueryCache>(query).await?;
    let mut repaired = Repaired::default();
    let mut files: Vec<&[Uuid]> = damage.files.chunks(CHUNK).collect();
    let mut events: Vec<&[Uuid]> = damage.events.chunks(CHUNK).collect();
    loop {
        let part = Part {
            bus,
            query,
            files: files.pop().unwrap_or_default(),
            events: events.pop().unwrap_or_default(),
        };
        part.repair(&mut repaired).await?;
        if files.is_empty() && events.is_empty() {
            return Ok(repaired);
        }
    }
}

impl Part<'_> {
    async fn repair(&self, repaired: &mut Repaired) -> anyhow::Result<()> {
        for tried in 1.. {
            let read = self.read().await?;
            match self.write(read, repaired).await {
                Ok(Written::Done) => return Ok(()),
                Ok(Written::Moved) if tried < TRIES => {}
                Ok(Written::Moved) => bail!(
                    "the checkpoints move faster than the streams are read; nothing of this part \
                     was changed. Stop the projector, or try again"
                ),
                Err(error) if tried < TRIES && is_busy(&error) => {
                    tracing::info!("something else holds the tables, it is tried again: {error:#}");
                }
                Err(error) => {
                    return Err(
                        error.context("the read model was not repaired: nothing was changed")
                    );
                }
            }
            tokio::time::sleep(Duration::from_millis(50 * tried as u64)).await;
        }
        unreachable!("the last try returns")
    }
}

/// Whether another session was in the way, so that a later try may succeed.
fn is_busy(error: &anyhow::Error) -> bool {
    let database = error.chain().find_map(|cause| {
        let error = cause.downcast_ref::<sqlx::Error>()?;
        error.as_database_error()?.code()
    });
    database.is_some_and(|code| matches!(code.as_ref(), "55P03" | "40P01" | "40001"))
}

/// Reads what is to be repaired from a report of `artstore verify --json`: those of its findings
/// whose command is this one.
pub fn from_report(text: &str) -> anyhow::Result<Damage> {
    let report: serde_json::Value = serde_json::from_str(text).context("no JSON")?;
    // The read model's database was not configured: nothing of it was compared.
    if report.get("cache").is_some_and(serde_json::Value::is_null) {
        return Ok(Damage::default());
    }
    let findings = report.pointer("/cache/findings");
    let findings = findings
        .or_else(|| report.get("findings"))
        .unwrap_or(&report);
    let Some(findings) = findings.as_array() else {
        bail!("no findings in it: expected what `artstore verify --json` prints");
    };
    let mut damage = Damage::default();
    for finding in findings {
        let repair = finding["repair"].as_str().unwrap_or_default();
        let Some(rest) = repair.strip_prefix(checkpoints::REPAIR) else {
            continue;
        };
        match rest.trim().split_once(' ') {
            Some(("--file", id)) => damage.files.push(id.parse()?),
            Some(("--event", id)) => damage.events.push(id.parse()?),
            _ => {}
        }
    }
    Ok(damage)
}
