//! The element registry: what the admin module shows of each storage element, from the elements'
//! streams: mode, number of files, bytes, and the time of the last event. The numbers change in
//! the transaction that moves the checkpoint, so they are exact at every checkpoint; the product's
//! own counters drift. An event that was parked and is applied later gives the same rows: the time
//! is the latest one of any event, and changes of an element itself keep their order, as those of a
//! file do. What administrators own (name, address, capacity, status) is never touched.
//!
//! The numbers need the previous size of each file: `registry_files`. `registry_elements` has them
//! whether or not an administrator has registered the element yet; `storage_elements` gets them by
//! name, also where somebody else has overwritten them. Where that row can't be written (an
//! administrator locks it, or a rule of theirs refuses the numbers), the stream continues:
//! the row is tried again after each batch, and every second or two.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use artstore_bus::connection::Bus;
use artstore_schemas::element::ElementName;
use artstore_schemas::envelope::Envelope;
use artstore_schemas::event::{Event, Status, WalEvent};
use artstore_schemas::json::Document;
use artstore_schemas::source::Source;
use chrono::{DateTime, Utc};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::projection_names::ELEMENT_REGISTRY;
use crate::projector::{Projector, Received, Rejection, Table};
use crate::projector_error::WorkerError;

/// Builds the element registry.
#[derive(Debug, Clone, Copy, Default)]
pub struct ElementRegistry;

impl Projector for ElementRegistry {
    const NAME: &'static str = ELEMENT_REGISTRY;
    const VERSION: u32 = 1;
    const TABLES: &'static [&'static str] =
        &["registry_files", "registry_elements", "storage_elements"];
    // What administrators own is not built again; the next commit shows the numbers there.
    const REBUILT: &'static [Table] = &[
        Table {
            name: "registry_files",
            key: "element || ' ' || file_id",
            left_out: &[],
            shared: None,
            about: "file_id",
        },
        Table {
            name: "registry_elements",
            key: "element",
            left_out: &[],
            shared: None,
            about: "element",
        },
    ];
    const MODULE: &'static str = "admin";
    const VARIABLE: &'static str = "ADMIN_DATABASE_URL";
    const DURABLE: bool = false;

    type Message = Received;

    fn reads(&self, source: &Source) -> bool {
        matches!(source, Source::Element(_))
    }

    /// What is about no file is about the element.
    fn key(&self, envelope: &Envelope) -> Option<Uuid> {
        let file = envelope.subject.as_deref().and_then(|s| s.parse().ok());
        let element = || Uuid::new_v5(&Uuid::NAMESPACE_URL, envelope.source.as_bytes());
        Some(file.unwrap_or_else(element))
    }

    async fn apply(
        &self,
        transaction: &mut PgConnection,
        source: &Source,
        batch: &[Received],
    ) -> Result<(), Rejection> {
        let Source::Element(element) = source else {
            return Ok(());
        };
        let summary = BatchSummary::of(batch);
        let (files, bytes) = count(transaction, element, &summary.files).await?;
        add(transaction, element, &summary, files, bytes).await?;
        show_or_leave(transaction, element).await?;
        Ok(())
    }

    /// An element that was registered since, and numbers that somebody else has written.
    async fn settle(
        &self,
        connection: &mut PgConnection,
        _bus: &Bus,
        source: &Source,
    ) -> Result<(), WorkerError> {
        if let Source::Element(element) = source {
            show_or_leave(connection, element).await?;
        }
        Ok(())
    }
}

/// What a batch states about its element, in the end.
#[derive(Debug, Default)]
struct BatchSummary {
    /// The size of each file; none: it is gone.
    files: BTreeMap<Uuid, Option<i64>>,
    mode: Option<String>,
    /// The latest time of an event.
    last: Option<DateTime<Utc>>,
}

impl BatchSummary {
    fn of(batch: &[Received]) -> Self {
        let mut summary = Self::default();
        for received in batch {
            let Event::Wal(wal) = &received.event else {
                continue;
            };
            // Every event has the file's whole state, whatever became of its operation.
            if let Some(id) = wal.file.as_ref().map(|f| f.id).or(wal.operation.file_id) {
                summary
                    .files
                    .insert(id, wal.file.as_ref().map(|f| f.file_size));
            }
            if let Some(mode) = mode(wal) {
                summary.mode = Some(mode);
            }
            summary.last = summary.last.max(Some(received.envelope.time));
        }
        summary
    }
}

/// The mode that an operation has led to, in the words of the database.
fn mode(wal: &WalEvent) -> Option<String> {
    let operation = &wal.operation;
    if operation.kind != "mode_change" || operation.status != Status::Committed {
        return None;
    }
    let Some(Document::Json(data)) = &operation.data else {
        return None;
    };
    let mode = data.get("to")?.as_str()?.to_uppercase();
    ["EDIT", "RW", "RO", "AR"]
        .contains(&mode.as_str())
        .then_some(mode)
}

/// Writes the files' sizes; how many more files and bytes there are now.
async fn count(
    transaction: &mut PgConnection,
    element: &ElementName,
    files: &BTreeMap<Uuid, Option<i64>>,
) -> Result<(i64, i64), sqlx::Error> {
    if files.is_empty() {
        return Ok((0, 0));
    }
    sqlx::query_as(
        "with changed as (select * from unnest($2::uuid[], $3::bigint[]) as changed (file_id, file_size)), \
         old as ( \
             select r.file_size from registry_files r join changed using (file_id) \
             where r.element = $1), \
         gone as ( \
             delete from registry_files r using changed \
             where r.element = $1 and r.file_id = changed.file_id and changed.file_size is null), \
         present as ( \
             insert into registry_files (element, file_id, file_size) \
             select $1, file_id, file_size from changed where file_size is not null \
             on conflict (element, file_id) do update set file_size = excluded.file_size) \
         select (select count(file_size) from changed) - (select count(*) from old), \
             (coalesce((select sum(file_size) from changed), 0) \
                 - coalesce((select sum(r.file_size) from old r), 0))::bigint",
    )
    .bind(element.as_str())
    .bind(files.keys().copied().collect::<Vec<_>>())
    .bind(files.values().copied().collect::<Vec<_>>())
    .fetch_one(transaction)
    .await
}

/// Adds them to the element's numbers.
async fn add(
    transaction: &mut PgConnection,
    element: &ElementName,
    summary: &BatchSummary,
    files: i64,
    bytes: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into registry_elements as e (element, mode, files, bytes, last_event_at) \
         values ($1, $2, $3, $4, $5) \
         on conflict (element) do update set \
             mode = coalesce(excluded.mode, e.mode), \
             files = e.files + excluded.files, \
             bytes = e.bytes + excluded.bytes, \
             last_event_at = greatest(excluded.last_event_at, e.last_event_at)",
    )
    .bind(element.as_str())
    .bind(&summary.mode)
    .bind(files)
    .bind(bytes)
    .bind(summary.last)
    .execute(transaction)
    .await?;
    Ok(())
}

/// How long an administrator's own transaction is waited for.
const PATIENCE: &str = "set local lock_timeout = '100ms'";

/// Shows the numbers, or leaves the row as it is where it belongs to somebody else just now.
async fn show_or_leave(
    connection: &mut PgConnection,
    element: &ElementName,
) -> Result<(), sqlx::Error> {
    let mut attempt = connection.begin().await?;
    let before: String = sqlx::query_scalar("select current_setting('lock_timeout')")
        .fetch_one(&mut *attempt)
        .await?;
    sqlx::raw_sql(PATIENCE).execute(&mut *attempt).await?;
    match show(&mut attempt, element).await {
        Ok(()) => {
            // What follows in this transaction waits as it did.
            sqlx::query("select set_config('lock_timeout', $1, true)")
                .bind(before)
                .execute(&mut *attempt)
                .await?;
            attempt.commit().await
        }
        Err(error) if is_theirs(&error) => {
            attempt.rollback().await?;
            log_once(element, &error);
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Whether a lock (`lock_not_available`), a rule (integrity constraint) or a trigger
/// (`raise_exception`) of the administrators' keeps the row as it is.
fn is_theirs(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code == "55P03" || code == "P0001" || code.starts_with("23"))
}

/// Logs that, once a minute.
fn log_once(element: &ElementName, error: &sqlx::Error) {
    static LOGGED: Mutex<Option<Instant>> = Mutex::new(None);
    let mut logged = LOGGED.lock().unwrap_or_else(PoisonError::into_inner);
    if logged.is_none_or(|at| at.elapsed() >= Duration::from_secs(60)) {
        *logged = Some(Instant::now());
        tracing::warn!(
            %element,
            %error,
            "storage_elements does not show the element's numbers: its row can't be written; it is \
             tried again, and registry_elements has them"
        );
    }
}

/// Shows the numbers where administrators look; nothing is written where they are there already.
async fn show(connection: &mut PgConnection, element: &ElementName) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update storage_elements s \
         set mode = coalesce(e.mode::public.storage_mode_enum, s.mode), \
             file_count = least(e.files, 2147483647)::integer, \
             used_bytes = e.bytes, \
             last_event_at = e.last_event_at \
         from registry_elements e \
         where e.element = $1 and s.name = e.element \
             and (s.mode, s.file_count, s.used_bytes, s.last_event_at) is distinct from \
                 (coalesce(e.mode::public.storage_mode_enum, s.mode), \
                  least(e.files, 2147483647)::integer, e.bytes, e.last_event_at)",
    )
    .bind(element.as_str())
    .execute(connection)
    .await?;
    Ok(())
}
