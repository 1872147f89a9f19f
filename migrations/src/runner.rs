//! Up, down, status: takes the steps from [`crate::step`] to the database, one transaction each.

use std::time::Duration;

use sqlx::types::chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::error::MigrateError;
use crate::module::Module;
use crate::step::{Script, Step};
use crate::{adopt, guard, history, lock};

/// How often a step tries to get its locks. Between tries everybody who queued behind it goes on.
const ATTEMPTS: u32 = 5;

/// The wait after the first try; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Where a module stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Which module.
    pub module: Module,
    /// The version that the database is at; 0 where nothing of ours is there.
    pub version: u32,
    /// The last version that this program knows.
    pub latest: u32,
    /// Every known step, in order.
    pub steps: Vec<StepStatus>,
}

/// One step of a [`Status`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepStatus {
    /// The step.
    pub step: Step,
    /// When it was applied; `None` while it is pending.
    pub applied_at: Option<DateTime<Utc>>,
}

/// The last version of a module that this program knows.
pub fn latest(module: &Module) -> u32 {
    u32::try_from(module.scripts().len()).expect("versions are few")
}

/// Applies the steps above the database's version up to `to` (all without it) and returns them in
/// order; none where it is already there.
///
/// A step and its row in the version table commit together: after a crash a step is there as a
/// whole or not at all, and another `up` goes on. Two at once wait for each other. Nothing is
/// written where the database is another module's, or its tables are not ours.
///
/// Takes a direct connection of its own (no pooler, no open transaction). A caller that gives up
/// half-way should close it: the lock goes with the session.
pub async fn up(
    conn: &mut PgConnection,
    module: &Module,
    to: Option<u32>,
) -> Result<Vec<Step>, MigrateError> {
    let to = to.unwrap_or_else(|| latest(module));
    if to == 0 {
        return Err(out_of_range(module, to));
    }
    check_target(conn, module, to)?;
    lock::acquire(conn, module).await?;
    let result = climb(conn, module, to).await;
    lock::release(conn, module).await;
    result
}

/// Undoes the steps above `to`, the latest first, and returns them in that order. Version 0
/// leaves nothing of ours: no table, type, function or sequence. Where version 1 was adopted, the
/// product's tables stay. Transactions, locks and connection as in [`up`].
pub async fn down(
    conn: &mut PgConnection,
    module: &Module,
    to: u32,
) -> Result<Vec<Step>, MigrateError> {
    check_target(conn, module, to)?;
    lock::acquire(conn, module).await?;
    let result = descend(conn, module, to).await;
    lock::release(conn, module).await;
    result
}

/// Says where a module stands, without a lock and without changing anything. A version table that
/// is not in order (see [`MigrateError`]) is an error here too.
pub async fn status(conn: &mut PgConnection, module: &Module) -> Result<Status, MigrateError> {
    let history = history::read(conn, module).await?;
    let mut applied_at = history.applied_at.iter().copied();
    Ok(Status {
        module: module.clone(),
        version: history.version(),
        latest: latest(module),
        steps: module
            .steps()
            .map(|(step, _)| StepStatus {
                step,
                applied_at: applied_at.next(),
            })
            .collect(),
    })
}

fn out_of_range(module: &Module, to: u32) -> MigrateError {
    MigrateError::OutOfRange {
        module: module.clone(),
        to,
        latest: latest(module),
    }
}

fn check_target(conn: &PgConnection, module: &Module, to: u32) -> Result<(), MigrateError> {
    if to > latest(module) {
        return Err(out_of_range(module, to));
    }
    if conn.is_in_transaction() {
        return Err(MigrateError::InTransaction {
            module: module.clone(),
        });
    }
    Ok(())
}

/// Holds the lock: what another migrator did before us is read only now.
async fn climb(
    conn: &mut PgConnection,
    module: &Module,
    to: u32,
) -> Result<Vec<Step>, MigrateError> {
    guard::refuse_other_modules(conn, module).await?;
    let history = history::read(conn, module).await?;
    let version = history.version();
    if version > to {
        return Err(wrong_direction(module, version, Direction::Up, to));
    }
    if version == 0 {
        guard::refuse_unmanaged(conn, module).await?;
    }
    let mut done = Vec::new();
    for (step, script) in module.steps() {
        if step.version > version && step.version <= to {
            let make_table = step.version == 1 && !history.exists;
            run(conn, module, step, script, Direction::Up, make_table).await?;
            done.push(step);
        }
    }
    Ok(done)
}

/// Holds the lock.
async fn descend(
    conn: &mut PgConnection,
    module: &Module,
    to: u32,
) -> Result<Vec<Step>, MigrateError> {
    let version = history::read(conn, module).await?.version();
    if version < to {
        return Err(wrong_direction(module, version, Direction::Down, to));
    }
    let mut done = Vec::new();
    for (step, script) in module.steps().rev() {
        if step.version > to && step.version <= version {
            if step.version == 1 && adopt::is_adopted(conn, module).await? {
                adopt::release(conn, module).await?;
                done.push(step);
                continue;
            }
            run(conn, module, step, script, Direction::Down, false).await?;
            done.push(step);
        }
    }
    Ok(done)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

impl Direction {
    fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

fn wrong_direction(module: &Module, version: u32, direction: Direction, to: u32) -> MigrateError {
    MigrateError::WrongDirection {
        module: module.clone(),
        version,
        direction: direction.word(),
        to,
    }
}

/// One step, tried again while somebody holds its tables: the product sits idle in a transaction
/// for as long as an upload takes.
async fn run(
    conn: &mut PgConnection,
    module: &Module,
    step: Step,
    script: &'static Script,
    direction: Direction,
    make_table: bool,
) -> Result<(), MigrateError> {
    let word = direction.word();
    let mut pause = FIRST_PAUSE;
    let mut attempt = 1;
    loop {
        match attempt_once(conn, module, step, script, direction, make_table).await {
            Ok(()) => {
                tracing::info!(%module, %step, direction = word, "migration step done");
                return Ok(());
            }
            Err(Failure::Commit(source)) => {
                let module = module.clone();
                return Err(MigrateError::Commit {
                    module,
                    step,
                    direction: word,
                    source,
                });
            }
            Err(Failure::Work(source)) if !is_lock_conflict(&source) => {
                let module = module.clone();
                return Err(MigrateError::Step {
                    module,
                    step,
                    direction: word,
                    source,
                });
            }
            Err(Failure::Work(_)) => {}
        }
        let holders = holders(conn, module).await?;
        if attempt == ATTEMPTS {
            return Err(MigrateError::Blocked {
                module: module.clone(),
                step,
                direction: word,
                attempts: ATTEMPTS,
                holders,
            });
        }
        tracing::warn!(%module, %step, direction = word, attempt, holders = holders.join(", "),
            "migration step got no lock: trying again");
        tokio::time::sleep(pause).await;
        pause *= 2;
        attempt += 1;
    }
}

/// Where one try ended: before its commit nothing was kept, at the commit it is not known.
enum Failure {
    Work(sqlx::Error),
    Commit(sqlx::Error),
}

async fn attempt_once(
    conn: &mut PgConnection,
    module: &Module,
    step: Step,
    script: &'static Script,
    direction: Direction,
    make_table: bool,
) -> Result<(), Failure> {
    // `read committed`, whatever the role's default: after `lock table` a step must see the rows
    // that were committed while it waited.
    let mut tx = conn
        .begin_with("begin isolation level read committed read write")
        .await
        .map_err(Failure::Work)?;
    let worked = work(&mut tx, module, step, script, direction, make_table).await;
    if let Err(error) = worked {
        // The cause is what the caller needs; should this fail too, the session is gone.
        if let Err(rollback) = tx.rollback().await {
            tracing::warn!(%module, %step, error = %rollback, "rolling back failed as well");
        }
        return Err(Failure::Work(error));
    }
    // A crash before this line keeps neither the step nor its row, after it both.
    tx.commit().await.map_err(Failure::Commit)
}

async fn work(
    conn: &mut PgConnection,
    module: &Module,
    step: Step,
    script: &'static Script,
    direction: Direction,
    make_table: bool,
) -> Result<(), sqlx::Error> {
    // * lock_timeout: while a step waits, everybody else queues behind it. A shorter or longer
    //   one that the role or the URL sets is respected.
    // * statement_timeout: filling a large table takes its time.
    // * search_path: only the catalogue, so that a name without its schema fails.
    sqlx::raw_sql(
        "select set_config('lock_timeout', '5s', true)
         where (select setting from pg_settings where name = 'lock_timeout') = '0';
         set local statement_timeout = 0;
         set local search_path = pg_catalog;",
    )
    .execute(&mut *conn)
    .await?;
    let sql = match direction {
        Direction::Up => script.up,
        Direction::Down => script.down,
    };
    if make_table {
        history::create(&mut *conn, module).await?;
    }
    sqlx::raw_sql(AssertSqlSafe(module.render(sql).into_owned()))
        .execute(&mut *conn)
        .await?;
    match direction {
        Direction::Up => history::record(conn, module, step, script).await,
        Direction::Down => history::erase(conn, module, step).await,
    }
}

/// `lock_not_available` or `deadlock_detected`: the next try may get through.
fn is_lock_conflict(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(code.as_deref(), Some("55P03" | "40P01"))
}

/// Who holds locks on the module's tables. Asked right after a try, since the session that waits
/// can't ask; a holder that blocked us for seconds is most likely still there.
async fn holders(conn: &mut PgConnection, module: &Module) -> Result<Vec<String>, MigrateError> {
    sqlx::query_scalar(
        "select distinct format('pid %s (%s%s, transaction open for %s s)',
             activity.pid,
             coalesce(activity.state, 'state not visible'),
             case when activity.application_name <> '' then ', ' || activity.application_name end,
             coalesce(
                 extract(epoch from clock_timestamp() - activity.xact_start)::bigint::text, '?'
             ))
         from pg_catalog.pg_locks as held
         join pg_catalog.pg_class as class on class.oid = held.relation
         join pg_catalog.pg_stat_activity as activity on activity.pid = held.pid
         where held.locktype = 'relation' and held.granted
             and held.database = (select oid from pg_catalog.pg_database where datname = current_database())
             and held.pid <> pg_backend_pid()
             and class.relnamespace = 'public'::regnamespace
             and class.relname = any($1)
         order by 1",
    )
    .bind(module.tables())
    .fetch_all(conn)
    .await
    .map_err(MigrateError::database("looking for who holds the tables", module))
}
