//! Locks the live tables for a moment. Whoever waits for a lock makes others queue, so it waits less than
//! a second, which is less than the server's deadlock timeout, and then tries again later.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, PgConnection};
use tokio_util::sync::CancellationToken;

use super::session::run;
use super::{OnStep, RebuildError, Step};
use crate::projector::Projector;
use crate::projector_error::WorkerError;

/// For so long it waits for all locks together.
const PATIENCE: Duration = Duration::from_millis(800);

/// A process that is frozen, or waits for something else than the database, keeps others waiting no longer.
const IDLE: &str = "3s";

/// No statement keeps others waiting longer, in seconds.
const STATEMENT: u64 = 30;

/// So often it tries.
const ATTEMPTS: u32 = 30;

/// The longest pause between two tries.
const LONGEST: Duration = Duration::from_secs(3);

/// For so long it waits for transactions with old snapshots.
const SNAPSHOTS: Duration = Duration::from_secs(60);

/// How often it logs for whom.
const REPORT_EVERY: Duration = Duration::from_secs(2);

/// Tries again and again.
pub(crate) struct Attempts {
    attempt: u32,
    pause: Duration,
}

impl Attempts {
    pub(crate) fn new() -> Self {
        Self {
            attempt: 0,
            pause: Duration::from_millis(100),
        }
    }

    /// After a lock that was not there in time.
    pub(crate) async fn locked<P: Projector>(
        &mut self,
        connection: &mut PgConnection,
        on_step: OnStep<'_>,
        stop: &CancellationToken,
    ) -> Result<(), RebuildError> {
        let holders = holders::<P>(connection).await?;
        self.attempt += 1;
        if self.attempt >= ATTEMPTS {
            return Err(RebuildError::Locked {
                attempts: self.attempt,
                holders,
            });
        }
        on_step(Step::Waiting {
            attempt: self.attempt,
            holders,
        });
        self.wait(stop).await
    }

    /// After the live workers continued too far.
    pub(crate) async fn late(&mut self, stop: &CancellationToken) -> Result<(), RebuildError> {
        self.attempt += 1;
        if self.attempt >= ATTEMPTS {
            return Err(RebuildError::TooFar {
                attempts: self.attempt,
            });
        }
        self.wait(stop).await
    }

    async fn wait(&mut self, stop: &CancellationToken) -> Result<(), RebuildError> {
        let pause = self.pause;
        self.pause = (self.pause * 2).min(LONGEST);
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = stop.cancelled() => Err(RebuildError::Stopped),
        }
    }
}

/// Whether the live tables could be had.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tables {
    /// They are locked.
    Taken,
    /// Not in time: the transaction is to be rolled back.
    Busy,
}

/// Takes the live tables: what others have in hand is waited for. At once in the strongest mode: a lock
/// that lets readers in would have to be raised for the swap, against all who have read meanwhile and now
/// wait to write, as each search of the product does. From here on the server ends the transaction when
/// nothing comes for a while.
pub(crate) async fn take_tables<P: Projector>(
    transaction: &mut PgConnection,
) -> Result<Tables, sqlx::Error> {
    match take::<P>(transaction).await {
        Ok(()) => Ok(Tables::Taken),
        Err(error) if is_late(&error) => Ok(Tables::Busy),
        Err(error) => Err(error),
    }
}

async fn take<P: Projector>(transaction: &mut PgConnection) -> Result<(), sqlx::Error> {
    let begun = Instant::now();
    let settings = format!(
        "set local idle_in_transaction_session_timeout = '{IDLE}'; \
         set local synchronous_commit = on; set local lock_timeout = {0}; \
         set local statement_timeout = {0}",
        PATIENCE.as_millis()
    );
    run(transaction, &settings).await?;
    // In the order in which workers and searches use them.
    let tables: Vec<String> = P::REBUILT
        .iter()
        .map(|table| format!("public.{}", table.name))
        .collect();
    let tables = tables.join(", ");
    // It waits for one table after another: the time is that of the statement.
    run(
        transaction,
        &format!("lock table {tables} in access exclusive mode"),
    )
    .await?;
    let left = PATIENCE.saturating_sub(begun.elapsed());
    let left = left.as_millis().max(1);
    run(
        transaction,
        &format!("set local statement_timeout = {left}"),
    )
    .await?;
    // First the table: a pause takes it whole, and then waits for rows.
    run(
        transaction,
        "lock table public.projection_checkpoints in row exclusive mode",
    )
    .await?;
    sqlx::query(
        "select from public.projection_checkpoints where projection = $1 order by stream for update",
    )
    .bind(P::NAME)
    .execute(&mut *transaction)
    .await?;
    run(
        transaction,
        &format!("set local statement_timeout = '{STATEMENT}s'"),
    )
    .await
}

/// A lock that was not there in time: by its own limit, the statement's, or a deadlock's.
fn is_late(error: &sqlx::Error) -> bool {
    matches!(
        database_code(error).as_deref(),
        Some("55P03" | "57014" | "40P01")
    )
}

/// Whether it was a lock that was not there in time, or a deadlock.
pub(crate) fn is_lock(error: &RebuildError) -> bool {
    matches!(rebuild_code(error).as_deref(), Some("55P03" | "40P01"))
}

/// Under the locks a statement that was ended is named as what it is.
pub(crate) fn too_long(error: RebuildError) -> RebuildError {
    match rebuild_code(&error).as_deref() {
        Some("57014") => RebuildError::TooLong { seconds: STATEMENT },
        _ => error,
    }
}

fn rebuild_code(error: &RebuildError) -> Option<Cow<'_, str>> {
    match error {
        RebuildError::Database(error) | RebuildError::Worker(WorkerError::Database(error)) => {
            database_code(error)
        }
        _ => None,
    }
}

fn database_code(error: &sqlx::Error) -> Option<Cow<'_, str>> {
    error.as_database_error()?.code()
}

/// Waits for transactions that read with a snapshot from before what was committed here: to them the
/// tables that take the live ones' place would be empty. Nobody waits behind it.
pub(crate) async fn wait_for_snapshots(
    connection: &mut PgConnection,
    on_step: OnStep<'_>,
    stop: &CancellationToken,
) -> Result<(), RebuildError> {
    let begun = Instant::now();
    // Whoever had no older transaction beside it when it took its snapshot sees all that was committed.
    let built: String = sqlx::query_scalar("select pg_current_xact_id()::text")
        .fetch_one(&mut *connection)
        .await?;
    let mut before = snapshots(connection, &built, None).await?;
    let mut next_report = Instant::now() + REPORT_EVERY;
    let mut attempt = 0;
    while !before.is_empty() {
        if begun.elapsed() >= SNAPSHOTS {
            return Err(RebuildError::Locked {
                attempts: attempt,
                holders: before.into_iter().map(|snapshot| snapshot.shown).collect(),
            });
        }
        attempt += 1;
        if Instant::now() >= next_report {
            next_report = Instant::now() + REPORT_EVERY;
            on_step(Step::Waiting {
                attempt,
                holders: before.iter().map(|s| s.shown.clone()).collect(),
            });
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
            () = stop.cancelled() => return Err(RebuildError::Stopped),
        }
        before = snapshots(connection, &built, Some(&before)).await?;
    }
    Ok(())
}

/// A transaction with a snapshot.
#[derive(Debug, Clone, PartialEq)]
struct Snapshot {
    pid: i32,
    /// Its transaction, and what it sees: a statement that ends takes another one.
    of: String,
    shown: String,
}

/// Sessions whose snapshot may be older than transaction `built`; of those, the ones that were `known`: one
/// that took its snapshot since is old only because another transaction is. Of the sessions of other roles
/// only `backend_xmin` is seen, unless ours has `pg_read_all_stats`: where it is seen, a transaction of one
/// statement is left out, as it ends with it. So are a vacuum and whatever is no client's.
async fn snapshots(
    connection: &mut PgConnection,
    built: &str,
    known: Option<&[Snapshot]>,
) -> Result<Vec<Snapshot>, sqlx::Error> {
    let rows: Vec<(i32, String, String)> = sqlx::query_as(AssertSqlSafe(format!(
        "select a.pid, format('%s %s', a.xact_start, a.backend_xmin), \
             {SHOWN} || ', that reads as of its beginning' \
         from pg_stat_activity a \
         where a.datname = current_database() and a.pid <> pg_backend_pid() \
             and a.usesysid is not null \
             and coalesce(a.backend_type, 'client backend') = 'client backend' \
             and not exists (select from pg_stat_replication r where r.pid = a.pid) \
             and not exists (select from pg_stat_progress_vacuum v where v.pid = a.pid) \
             and age(a.backend_xmin) > age($1::text::xid8::xid) \
             and (a.xact_start is null or a.xact_start < a.query_start) \
         order by a.xact_start, a.pid"
    )))
    .bind(built)
    .fetch_all(connection)
    .await?;
    let all = rows
        .into_iter()
        .map(|(pid, of, shown)| Snapshot { pid, of, shown });
    Ok(all
        .filter(|now| {
            known.is_none_or(|known| known.iter().any(|k| k.pid == now.pid && k.of == now.of))
        })
        .collect())
}

/// A session `a`, for people: with as much as this role may see of it.
const SHOWN: &str = "format('process %s of role %s (%s), ', a.pid, a.usename, \
         coalesce(nullif(a.application_name, ''), 'without a name')) \
     || case when a.xact_start is null then 'of which this role may see no more' \
         else format('%s, in a transaction since %s', a.state, date_trunc('second', a.xact_start)) end";

/// Who holds the live tables, the longest first.
async fn holders<P: Projector>(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    let tables: Vec<String> = P::REBUILT
        .iter()
        .map(|table| format!("public.{}", table.name))
        .collect();
    sqlx::query_scalar(AssertSqlSafe(format!(
        "select {SHOWN} from pg_stat_activity a \
         where a.pid <> pg_backend_pid() and a.datname = current_database() and exists ( \
             select from pg_locks l where l.pid = a.pid and l.granted and l.locktype = 'relation' \
                 and l.relation = any($1::text[]::regclass[]::oid[])) \
         order by a.xact_start limit 5"
    )))
    .bind(tables)
    .fetch_all(connection)
    .await
}
