//! The results, counted in the databases and the streams themselves.

use artstore_runtime::count::counted;
use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use artstore_runtime::connection;
use artstore_schemas::source::Source;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{AssertSqlSafe, PgConnection, Row};
use uuid::Uuid;

use crate::system::System;
use artstore_verification;
use artstore_verification::audit;
use artstore_verification::audit::log::Check;
use artstore_verification::finding::Kind;

/// The demo's result.
#[derive(Debug, Serialize)]
pub struct Report {
    operations: u64,
    finished: usize,
    published: usize,
    cache_rows: usize,
    live_files: usize,
    search_rows: i64,
    download_rows: i64,
    missing: usize,
    extra: usize,
    different: usize,
    disordered: usize,
    audit_rows: u64,
    audit_verified: u64,
    heads: u64,
    measured: usize,
    p50_ms: f64,
    p99_ms: f64,
    seconds: f64,
    #[serde(skip)]
    hits: Vec<Hit>,
    #[serde(skip)]
    findings: Vec<String>,
}

#[derive(Debug)]
struct Hit {
    filename: String,
    element: String,
    rank: f32,
}

/// How long the relay may take for what is finished.
const WAIT: Duration = Duration::from_secs(10);

const SEARCHES: [&str; 3] = ["relay", "gaps", "проверено"];

impl Report {
    /// Counts.
    pub async fn collect(
        system: &System,
        operations: u64,
        elapsed: Duration,
    ) -> anyhow::Result<Self> {
        let mut query = connection::open(&system.query_database()?).await?;
        let mut report = Self {
            operations,
            finished: 0,
            published: 0,
            cache_rows: 0,
            live_files: 0,
            search_rows: count(&mut query, "search_history").await?,
            download_rows: count(&mut query, "download_statistics").await?,
            missing: 0,
            extra: 0,
            different: 0,
            disordered: 0,
            audit_rows: 0,
            audit_verified: 0,
            heads: 0,
            measured: 0,
            p50_ms: 0.0,
            p99_ms: 0.0,
            seconds: elapsed.as_secs_f64(),
            hits: Vec::new(),
            findings: Vec::new(),
        };
        report.sources(system).await?;
        report.cache(system, &mut query).await?;
        report.history(system, &mut query).await?;
        report.audit_log(system).await?;
        report.latency(system, &mut query).await?;
        report.search(&mut query).await?;
        if report.finished as u64 != operations {
            let finished = report.finished;
            report.findings.push(format!(
                "asked for: {}; finished: {finished}",
                counted(operations, "operation")
            ));
        }
        Ok(report)
    }

    /// Whether nothing is lost, double or different.
    pub fn is_clean(&self) -> bool {
        self.missing == 0
            && self.extra == 0
            && self.different == 0
            && self.disordered == 0
            && self.findings.is_empty()
    }

    async fn sources(&mut self, system: &System) -> anyhow::Result<()> {
        for source in system.sources() {
            let mut connection = connection::open(&system.source_database(&source)?).await?;
            let found =
                artstore_verification::source::compare(&mut connection, &system.bus, &source, WAIT)
                    .await?;
            self.finished += usize::try_from(found.rows)?;
            self.published += usize::try_from(found.messages)?;
            for (kind, count) in &found.counts {
                let sum = match kind {
                    Kind::MessageMissing | Kind::RowUnnumbered | Kind::StreamHole => {
                        &mut self.missing
                    }
                    Kind::MessageExtra | Kind::MessageDoubled => &mut self.extra,
                    Kind::MessageDisordered => &mut self.disordered,
                    _ => &mut self.different,
                };
                *sum += usize::try_from(*count)?;
            }
            for finding in found.findings.iter().take(20) {
                self.findings.push(format!("{source}: {finding:?}"));
            }
        }
        Ok(())
    }

    async fn cache(&mut self, system: &System, query: &mut PgConnection) -> anyhow::Result<()> {
        let mut elements = Vec::new();
        for element in &system.elements {
            let source = Source::Element(element.clone());
            elements.push((
                element.clone(),
                connection::open(&system.source_database(&source)?).await?,
            ));
        }
        let found = artstore_verification::cache::compare(&mut elements, query).await?;
        self.cache_rows = found.cache_rows;
        self.live_files = found.live_files;
        self.missing += found.missing.len();
        self.extra += found.extra.len();
        self.different += found.different.len();
        if !found.is_clean() {
            self.findings.push(format!("cache: {found:?}"));
        }
        Ok(())
    }

    /// Searches and downloads: as many rows as events, each by its event id.
    async fn history(&mut self, system: &System, query: &mut PgConnection) -> anyhow::Result<()> {
        let mut source = connection::open(&system.source_database(&Source::Query)?).await?;
        for (entity, table) in [
            ("search", "search_history"),
            ("file", "download_statistics"),
        ] {
            let mut events: Vec<Uuid> =
                sqlx::query_scalar("select event_id from public.event_outbox where entity = $1")
                    .bind(entity)
                    .fetch_all(&mut source)
                    .await?;
            let sql = format!("select event_id from public.{table} where event_id is not null");
            let mut rows: Vec<Uuid> = sqlx::query_scalar(AssertSqlSafe(sql))
                .fetch_all(&mut *query)
                .await?;
            events.sort_unstable();
            rows.sort_unstable();
            if events != rows {
                let lost = events
                    .iter()
                    .filter(|id| rows.binary_search(id).is_err())
                    .count();
                self.missing += lost;
                self.extra += (rows.len() + lost).saturating_sub(events.len());
                self.findings
                    .push(format!("{table} differs from its events"));
            }
        }
        Ok(())
    }

    /// The audit log: every row computed again, and derived again from its message.
    async fn audit_log(&mut self, system: &System) -> anyhow::Result<()> {
        let database = system.admin_database()?;
        let keys = system.audit.keys()?;
        let done = AtomicU64::new(0);
        let trusted = keys.trusted();
        let check = Check {
            database: &database,
            bus: Some(&system.bus),
            ring: Some(&keys.ring),
            trusted: &trusted,
            range: None,
            archives: None,
            done: &done,
        };
        let mut admin = audit::log::connect(&database).await?;
        let found = check.all(&mut admin, &system.sources(), true).await?;
        for (log, (_, derived)) in found.logs.iter().zip(&found.derived) {
            self.audit_rows += log.rows;
            self.audit_verified += log.proven.min(derived.derived);
            self.heads += log.heads;
        }
        for finding in found.findings().take(20) {
            self.findings.push(format!("audit log: {}", finding.text));
        }
        if self.audit_rows != self.published as u64 || self.audit_verified != self.audit_rows {
            self.findings.push(format!(
                "{}, but {} in the audit log, {} of them proven",
                counted(self.published, "message"),
                counted(self.audit_rows, "row"),
                self.audit_verified
            ));
        }
        Ok(())
    }

    /// From commit to visible row, by the commit timestamps of both transactions.
    async fn latency(&mut self, system: &System, query: &mut PgConnection) -> anyhow::Result<()> {
        let mut visible: HashMap<Uuid, DateTime<Utc>> = HashMap::new();
        for table in [
            "file_metadata_cache",
            "search_history",
            "download_statistics",
        ] {
            let sql = format!(
                "select event_id, pg_xact_commit_timestamp(xmin) as at from public.{table} \
                 where event_id is not null"
            );
            for row in sqlx::query(AssertSqlSafe(sql))
                .fetch_all(&mut *query)
                .await?
            {
                visible.insert(row.try_get("event_id")?, row.try_get("at")?);
            }
        }
        let mut waits = Vec::new();
        for source in system.sources() {
            let table = artstore_producers::relay::source::SourceTable::of(&source);
            let sql = format!(
                "select {} as id, pg_xact_commit_timestamp(xmin) as at from public.{} \
                 where position is not null",
                table.id_column(),
                table.name()
            );
            let mut connection = connection::open(&system.source_database(&source)?).await?;
            for row in sqlx::query(AssertSqlSafe(sql))
                .fetch_all(&mut connection)
                .await?
            {
                let committed: DateTime<Utc> = row.try_get("at")?;
                if let Some(at) = visible.get(&row.try_get::<Uuid, _>("id")?) {
                    let micros = (*at - committed).num_microseconds().unwrap_or(i64::MAX);
                    waits.push(micros as f64 / 1_000.0);
                }
            }
        }
        waits.sort_by(f64::total_cmp);
        self.measured = waits.len();
        self.p50_ms = percentile(&waits, 50);
        self.p99_ms = percentile(&waits, 99);
        Ok(())
    }

    async fn search(&mut self, query: &mut PgConnection) -> anyhow::Result<()> {
        for words in SEARCHES {
            let rows = sqlx::query(
                "select filename, storage_element_id, \
                     ts_rank(search_vector, websearch_to_tsquery('russian', $1)) as rank \
                 from public.file_metadata_cache \
                 where search_vector @@ websearch_to_tsquery('russian', $1) \
                 order by rank desc, filename, id limit 2",
            )
            .bind(words)
            .fetch_all(&mut *query)
            .await?;
            for row in rows {
                self.hits.push(Hit {
                    filename: row.try_get("filename")?,
                    element: row.try_get("storage_element_id")?,
                    rank: row.try_get("rank")?,
                });
            }
        }
        Ok(())
    }

    /// Prints it: for people, or as one JSON object on the last line.
    pub fn show(&self, json: bool) -> anyhow::Result<()> {
        if json {
            for finding in &self.findings {
                eprintln!("{finding}");
            }
            println!("{}", serde_json::to_string(self)?);
            return Ok(());
        }
        println!(
            "\n{:<34}{:>9}",
            "finished operations in the sources", self.finished
        );
        println!("{:<34}{:>9}", "messages in the streams", self.published);
        println!("{:<34}{:>9}", "files on the elements", self.live_files);
        println!("{:<34}{:>9}", "files in the cache", self.cache_rows);
        println!("{:<34}{:>9}", "searches recorded", self.search_rows);
        println!("{:<34}{:>9}", "downloads recorded", self.download_rows);
        println!(
            "{:<34}{:>9}  ({} proven under {} signed heads)",
            "rows in the audit log", self.audit_rows, self.audit_verified, self.heads
        );
        println!(
            "missing {}, extra {}, different {}, out of order {}",
            self.missing, self.extra, self.different, self.disordered
        );
        println!(
            "commit to visible row: p50 {:.1} ms, p99 {:.1} ms ({} measured)",
            self.p50_ms, self.p99_ms, self.measured
        );
        println!("\nfull-text search for {}:", SEARCHES.join(", "));
        for hit in &self.hits {
            println!("  {:<40} {:<16} {:.3}", hit.filename, hit.element, hit.rank);
        }
        for finding in &self.findings {
            println!("\n{finding}");
        }
        if self.is_clean() {
            println!("\nSource, stream, cache and audit log agree.");
        } else {
            println!("\nSource, stream, cache and audit log DO NOT agree.");
        }
        Ok(())
    }
}

fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or(0.0)
}

async fn count(connection: &mut PgConnection, table: &str) -> Result<i64, sqlx::Error> {
    let sql = format!("select count(*) from public.{table} where event_id is not null");
    sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_one(connection)
        .await
}
