//! Runs the repairs of an adoption on a database in use: each statement in a transaction of its own
//! that gives up its wait for locks and tries again, indexes without blocking writers.

use std::fmt;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::error::MigrateError;
use crate::holders;
use crate::module::Module;

/// How often a statement tries to get its locks. Between tries everybody who queued behind it
/// continues.
const ATTEMPTS: u32 = 5;

/// The wait after the first try; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// What is run, and how.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    sql: String,
    how: How,
}

#[derive(Debug, Clone)]
enum How {
    /// In a transaction; its locks stop writers for an instant.
    Short,
    /// In a transaction; it looks at every row, under a lock that stops nobody.
    Long,
    /// `create index concurrently`: outside of transactions; a failed try leaves an index of this
    /// name that is not valid.
    Index(String),
}

impl Statement {
    pub(crate) fn short(sql: String) -> Self {
        let how = How::Short;
        Self { sql, how }
    }

    pub(crate) fn long(sql: String) -> Self {
        let how = How::Long;
        Self { sql, how }
    }

    pub(crate) fn index(name: &str, sql: String) -> Self {
        let how = How::Index(name.to_owned());
        Self { sql, how }
    }
}

impl fmt::Display for Statement {
    /// As SQL that does the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.how {
            How::Short => write!(
                f,
                "begin;\nset local lock_timeout = '5s';\n{};\ncommit;",
                self.sql
            ),
            How::Long => write!(f, "{};", self.sql),
            How::Index(name) => write!(
                f,
                "drop index concurrently if exists public.{name};\n{};",
                self.sql
            ),
        }
    }
}

/// Runs one statement, again and again while somebody holds its table.
pub(crate) async fn run(
    conn: &mut PgConnection,
    module: &Module,
    what: &str,
    statement: &Statement,
) -> Result<(), MigrateError> {
    let mut pause = FIRST_PAUSE;
    let mut attempt = 1;
    loop {
        let tried = match &statement.how {
            How::Short | How::Long => in_transaction(conn, module, &statement.sql).await,
            How::Index(name) => concurrently(conn, name, &statement.sql).await,
        };
        match tried {
            Ok(()) => return Ok(()),
            Err(source) if !is_lock_conflict(&source) => {
                return Err(MigrateError::Repair {
                    module: module.clone(),
                    what: what.to_owned(),
                    source,
                });
            }
            Err(_) => {}
        }
        let holders = holders::named(conn, module).await?;
        if attempt == ATTEMPTS {
            return Err(MigrateError::RepairBlocked {
                module: module.clone(),
                what: what.to_owned(),
                attempts: ATTEMPTS,
                holders,
            });
        }
        tracing::warn!(%module, what, attempt, holders = holders.join(", "),
            "a repair got no lock: trying again");
        tokio::time::sleep(pause).await;
        pause *= 2;
        attempt += 1;
    }
}

async fn in_transaction(
    conn: &mut PgConnection,
    module: &Module,
    sql: &str,
) -> Result<(), sqlx::Error> {
    let mut tx = conn
        .begin_with("begin isolation level read committed read write")
        .await?;
    // While it waits, everybody else queues behind it; looking at every row takes its time; a name
    // without its schema must fail.
    let settings = "set local lock_timeout = '5s'; set local statement_timeout = 0; \
                    set local search_path = pg_catalog;";
    let worked = async {
        sqlx::raw_sql(settings).execute(&mut *tx).await?;
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut *tx)
            .await
    };
    if let Err(error) = worked.await {
        // The cause is what the caller needs; should this fail too, the session is gone.
        if let Err(rollback) = tx.rollback().await {
            tracing::warn!(%module, error = %rollback, "rolling back failed as well");
        }
        return Err(error);
    }
    // A repair that was kept though its commit was not confirmed is found done by the next try.
    tx.commit().await
}

/// Nobody queues behind a concurrent build: it may wait for transactions that began before it, as
/// the product's during an upload, but not for ever.
async fn concurrently(conn: &mut PgConnection, name: &str, sql: &str) -> Result<(), sqlx::Error> {
    let settings = "set lock_timeout = '10min'; set statement_timeout = 0; \
                    set search_path = pg_catalog;";
    sqlx::raw_sql(settings).execute(&mut *conn).await?;
    // What an earlier try left behind. A crash leaves it too, and is found here.
    let remove = format!("drop index concurrently if exists public.{name}");
    let built = async {
        sqlx::raw_sql(AssertSqlSafe(remove.clone()))
            .execute(&mut *conn)
            .await?;
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut *conn)
            .await
    };
    let built = built.await;
    if built.is_err()
        && sqlx::raw_sql(AssertSqlSafe(remove))
            .execute(&mut *conn)
            .await
            .is_err()
    {
        tracing::warn!(
            index = name,
            "an index that is not valid was left; the next try removes it"
        );
    }
    sqlx::raw_sql(
        "reset lock_timeout; reset statement_timeout; set search_path = pg_catalog, public;",
    )
    .execute(conn)
    .await?;
    built.map(drop)
}

/// `lock_not_available` or `deadlock_detected`: the next try may get through.
fn is_lock_conflict(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(code.as_deref(), Some("55P03" | "40P01"))
}
