//! Waiting for tables that others hold: the product sits idle in a transaction for as long as an
//! upload takes. [`crate::runner`] and the parts ask here after each refusal.

use std::time::{Duration, Instant};

use sqlx::PgConnection;

use crate::error::{MigrateError, Task};
use crate::module::Module;

/// How long a part waits for its locks in all, unless told otherwise.
pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(15 * 60);

/// The wait after the first refusal; it doubles up to the longest. Each is as long as the time that
/// others may have queued behind us, or longer, so that they get more than half of all time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How many holders are named.
const NAMED: i64 = 5;

/// The patience of one part.
#[derive(Debug)]
pub(crate) struct Waiting {
    started: Instant,
    patience: Duration,
    pause: Duration,
}

impl Waiting {
    pub(crate) fn new(patience: Duration) -> Self {
        Self {
            started: Instant::now(),
            patience,
            pause: FIRST_PAUSE,
        }
    }

    /// What is left of it.
    pub(crate) fn left(&self) -> Duration {
        self.patience.saturating_sub(self.started.elapsed())
    }

    /// Says who holds the tables and waits a little, or gives up.
    pub(crate) async fn refused(
        &mut self,
        conn: &mut PgConnection,
        task: &Task<'_>,
    ) -> Result<(), MigrateError> {
        let holders = holders(conn, task.module).await?;
        if self.left().is_zero() {
            return Err(MigrateError::Blocked {
                module: task.module.clone(),
                step: task.step,
                direction: task.direction.word(),
                waited_s: self.started.elapsed().as_secs(),
                holders,
                progress: task.progress(),
            });
        }
        tracing::warn!(module = %task.module, step = %task.step,
            direction = task.direction.word(), waited_s = self.started.elapsed().as_secs(),
            gives_up_in_s = self.left().as_secs(), holders = holders.join(", "),
            "the tables are in use: trying again");
        tokio::time::sleep(self.pause.min(self.left())).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

/// `lock_not_available` or `deadlock_detected`: the next try may get through.
pub(crate) fn is_lock_conflict(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(code.as_deref(), Some("55P03" | "40P01"))
}

/// Who holds locks on the module's tables, the longest open transaction first. Asked right after a
/// try, since the session that waits can't ask; a holder that blocked us for a while is most likely
/// still there.
pub(crate) async fn holders(
    conn: &mut PgConnection,
    module: &Module,
) -> Result<Vec<String>, MigrateError> {
    sqlx::query_scalar(
        "select format('pid %s (%s%s, transaction open for %s s)',
             activity.pid,
             coalesce(activity.state, 'state not visible'),
             case when activity.application_name <> '' then ', ' || activity.application_name end,
             coalesce(
                 extract(epoch from clock_timestamp() - activity.xact_start)::bigint::text, '?'
             ))
         from pg_catalog.pg_stat_activity as activity
         where activity.pid <> pg_backend_pid() and activity.pid in (
             select held.pid
             from pg_catalog.pg_locks as held
             join pg_catalog.pg_class as class on class.oid = held.relation
             where held.locktype = 'relation' and held.granted
                 and held.database = (
                     select oid from pg_catalog.pg_database where datname = current_database()
                 )
                 and class.relnamespace = 'public'::regnamespace
                 and class.relname = any($1)
         )
         order by activity.xact_start, activity.pid
         limit $2",
    )
    .bind(module.tables())
    .bind(NAMED)
    .fetch_all(conn)
    .await
    .map_err(MigrateError::database(
        "looking for who holds the tables",
        module,
    ))
}
