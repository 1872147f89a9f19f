//! A part that is one transaction: the usual kind. Where it is the step's last part, the row of the
//! version table is written in it.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::error::{Failure, MigrateError, Task};
use crate::history;
use crate::module::Module;
use crate::patience::{Waiting, is_lock_conflict};
use crate::step::{Direction, Script};

/// What a transaction of ours begins with.
/// * lock_timeout: while we wait for a table, everybody else queues behind us. A shorter or longer
///   one that the role, the URL or the session sets is respected.
/// * statement_timeout: a large table takes its time.
/// * search_path: only the catalogue, so that a name without its schema fails.
pub(crate) const SETTINGS: &str = "\
select set_config('lock_timeout', '1s', true)
where (select setting from pg_settings where name = 'lock_timeout') = '0';
set local statement_timeout = 0;
set local search_path = pg_catalog;";

/// What to do with the version table in the same transaction.
pub(crate) enum Version {
    /// Nothing: more parts come.
    Keep,
    /// The step begins: it is unfinished from now on.
    Begin,
    /// The step is done. With `true` the version table is made first.
    Finish(bool),
}

/// Runs it, again and again while others hold its tables.
pub(crate) async fn run(
    conn: &mut PgConnection,
    task: &Task<'_>,
    script: &'static Script,
    sql: &str,
    version: Version,
    mut waiting: Waiting,
) -> Result<(), MigrateError> {
    loop {
        match attempt(conn, task, script, sql, &version).await {
            Ok(()) => return Ok(()),
            Err(Failure::Work(source)) if is_lock_conflict(&source) => {
                waiting.refused(conn, task).await?;
            }
            Err(failure) => return Err(task.failed(failure)),
        }
    }
}

async fn attempt(
    conn: &mut PgConnection,
    task: &Task<'_>,
    script: &'static Script,
    sql: &str,
    version: &Version,
) -> Result<(), Failure> {
    let mut tx = begin(conn).await.map_err(Failure::Work)?;
    if let Err(error) = work(&mut tx, task, script, sql, version).await {
        roll_back(tx, task.module).await;
        return Err(Failure::Work(error));
    }
    // A crash before this line keeps nothing of the part, after it all, with its version.
    tx.commit().await.map_err(Failure::Commit)
}

/// `read committed`, whatever the role's default: after `lock table` a step must see the rows that
/// were committed while it waited.
pub(crate) async fn begin(
    conn: &mut PgConnection,
) -> Result<sqlx::Transaction<'_, sqlx::Postgres>, sqlx::Error> {
    let mut tx = conn
        .begin_with("begin isolation level read committed read write")
        .await?;
    sqlx::raw_sql(SETTINGS).execute(&mut *tx).await?;
    Ok(tx)
}

/// The cause is what the caller needs; should this fail too, the session is gone.
pub(crate) async fn roll_back(tx: sqlx::Transaction<'_, sqlx::Postgres>, module: &Module) {
    if let Err(error) = tx.rollback().await {
        tracing::warn!(%module, %error, "rolling back failed as well");
    }
}

async fn work(
    conn: &mut PgConnection,
    task: &Task<'_>,
    script: &'static Script,
    sql: &str,
    version: &Version,
) -> Result<(), sqlx::Error> {
    if let Version::Finish(true) = version {
        history::create(&mut *conn, task.module).await?;
    }
    if !sql.is_empty() {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut *conn)
            .await?;
    }
    match (version, task.direction) {
        (Version::Keep, _) => Ok(()),
        (Version::Begin, Direction::Up) => {
            history::begin_up(conn, task.module, task.step, script).await
        }
        (Version::Begin, Direction::Down) => {
            history::begin_down(conn, task.module, task.step).await
        }
        (Version::Finish(_), Direction::Up) => {
            history::record(conn, task.module, task.step, script).await
        }
        (Version::Finish(_), Direction::Down) => history::erase(conn, task.module, task.step).await,
    }
}
