//! How fast the audit log is written, compared with inserting the very same rows, and how fast it is
//! verified, compared with reading the same rows from the same table.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use artstore_bus::stream_name::{AUDIT_HEADS, StreamName};
use artstore_projectors::audit_log::mapping::{self, NEWEST, RawMessage, Record};
use artstore_projectors::audit_log::store::{self, COLUMNS, Signed};
use artstore_runtime::connection;
use artstore_schemas::source::Source;
use chrono::Utc;
use futures::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::drain;
use super::line::Line;
use crate::system::{Running, System};
use artstore_verification::audit::log::Check;

const BATCH: usize = 1_000;

/// Writes the log of a stream, inserts its rows, verifies it, and reads its rows, in turn.
pub async fn measure(system: &System, events: u32, rounds: u32) -> anyhow::Result<[Line; 2]> {
    let source = Source::Element(system.elements[0].clone());
    let rows = rows(system, &source, events).await?;
    let mut admin = connection::open(&system.admin_database()?).await?;
    let (mut written, mut verified) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        empty(system, &mut admin).await?;
        let raw = insert(&rows, &source, &mut admin).await?;
        empty(system, &mut admin).await?;
        let ours = write(system, &source, events, &mut admin).await?;
        written.push((ours, raw));
        let ours = verify(system, &source, events).await?;
        let raw = read(&source, &mut admin).await?;
        verified.push((ours, raw));
    }
    empty(system, &mut admin).await?;
    let limit = "the same rows, inserted with unnest into the same table, durably";
    let written = Line::of("audit log", "/s", limit, written);
    let limit = "the same rows, read from the same table by one connection";
    Ok([written, Line::of("audit verify", "/s", limit, verified)])
}

async fn rows(system: &System, source: &Source, events: u32) -> anyhow::Result<Vec<Signed>> {
    let messages = drain::messages(system, source, events).await?;
    let signed = messages.into_iter().zip(1..).map(|(message, sequence)| {
        let record = Record {
            sequence,
            published: Utc::now(),
            message: Some(RawMessage {
                subject: message.subject,
                headers: message.headers,
                body: message.body,
            }),
        };
        Signed {
            row: mapping::row(NEWEST, source, &record).expect("the newest one is known"),
            signature: [0; 32],
        }
    });
    Ok(signed.collect())
}

async fn insert(rows: &[Signed], source: &Source, admin: &mut PgConnection) -> anyhow::Result<f64> {
    let stream = source.stream();
    let started = Instant::now();
    for batch in rows.chunks(BATCH) {
        let mut transaction = admin.begin().await?;
        store::insert(&mut transaction, &stream, "0", batch).await?;
        transaction.commit().await?;
    }
    Ok(rows.len() as f64 / started.elapsed().as_secs_f64())
}

async fn write(
    system: &System,
    source: &Source,
    events: u32,
    admin: &mut PgConnection,
) -> anyhow::Result<f64> {
    let mut running = Running::default();
    let started = Instant::now();
    system.start_audit_log(&mut running).await?;
    let ended = async {
        loop {
            let size: Option<i64> =
                sqlx::query_scalar("select size from public.audit_trees where stream = $1")
                    .bind(source.stream())
                    .fetch_optional(&mut *admin)
                    .await?;
            if size >= Some(events.into()) {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(600), ended)
        .await
        .context("the audit log does not come to the end of the stream")??;
    let elapsed = started.elapsed();
    running.stop().await?;
    Ok(f64::from(events) / elapsed.as_secs_f64())
}

async fn verify(system: &System, source: &Source, events: u32) -> anyhow::Result<f64> {
    let database = system.admin_database()?;
    let keys = system.audit.keys()?;
    let (trusted, done) = (keys.trusted(), AtomicU64::new(0));
    let check = Check {
        database: &database,
        bus: Some(&system.bus),
        ring: Some(&keys.ring),
        trusted: &trusted,
        range: None,
        archives: None,
        done: &done,
    };
    let started = Instant::now();
    let log =
        artstore_verification::audit::log::check(&check, source, &mut Default::default()).await?;
    let elapsed = started.elapsed();
    ensure!(
        log.findings.is_empty() && log.rows == u64::from(events),
        "the log is not as it was signed: {:?}",
        log.findings
    );
    Ok(log.rows as f64 / elapsed.as_secs_f64())
}

async fn read(source: &Source, admin: &mut PgConnection) -> anyhow::Result<f64> {
    let sql = format!(
        "select {COLUMNS} from public.audit_logs where stream = $1 order by stream_sequence"
    );
    let started = Instant::now();
    let mut rows = sqlx::query(AssertSqlSafe(sql))
        .bind(source.stream())
        .fetch(admin);
    let mut count = 0;
    while rows.try_next().await?.is_some() {
        count += 1;
    }
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}

/// Nothing is left of the log, in the database and on the bus: these are the bench's own servers.
async fn empty(system: &System, admin: &mut PgConnection) -> anyhow::Result<()> {
    sqlx::raw_sql(
        "alter table public.audit_logs disable trigger audit_logs_append_only; \
         truncate public.audit_logs, public.audit_trees, public.audit_tiles, public.audit_heads, \
             public.projection_checkpoints; \
         alter table public.audit_logs enable always trigger audit_logs_append_only; \
         checkpoint",
    )
    .execute(admin)
    .await?;
    system.bus.jetstream.delete_stream(AUDIT_HEADS).await?;
    system.bus.ensure(&StreamName::audit_heads(), 1).await?;
    Ok(())
}
