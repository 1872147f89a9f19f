//! Who holds locks on a module's tables now, so that a step or an adoption has to wait.

use std::fmt;

use artstore_runtime::holder::Holder;
use sqlx::{PgConnection, Row as _};

use crate::error::MigrateError;
use crate::module::Module;

/// How many of them an error or a log line names.
const NAMED: usize = 5;

/// A transaction that is open on the module's tables.
#[derive(Debug, Clone, PartialEq)]
pub struct TableHolder {
    /// Whose it is.
    pub holder: Holder,
    /// On which tables.
    pub tables: Vec<String>,
}

impl fmt::Display for TableHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.holder, self.tables.join(", "))
    }
}

/// Every transaction but our own that holds a lock on one of the module's tables, the longest
/// first.
///
/// # Errors
///
/// The database did not answer.
pub async fn of(
    conn: &mut PgConnection,
    module: &Module,
) -> Result<Vec<TableHolder>, MigrateError> {
    let failed =
        |source| MigrateError::database("looking for who holds the tables", module)(source);
    let rows = sqlx::query(include_str!("sql/table_holders.sql"))
        .bind(module.tables())
        .fetch_all(conn)
        .await
        .map_err(failed)?;
    let holder = |row: &sqlx::postgres::PgRow| {
        Ok(TableHolder {
            holder: Holder::read(row)?,
            tables: row.try_get("tables")?,
        })
    };
    let holders: Result<_, sqlx::Error> = rows.iter().map(holder).collect();
    holders.map_err(failed)
}

/// Transactions of this database that read in an older snapshot, the oldest first, as
/// [`named`] names holders.
///
/// # Errors
///
/// The database did not answer.
pub(crate) async fn snapshots(
    conn: &mut PgConnection,
    module: &Module,
) -> Result<Vec<String>, MigrateError> {
    sqlx::query_scalar(
        "select format('pid %s (%s%s, transaction open for %s s) with an old snapshot',
             pid, state,
             case when application_name <> '' then ', ' || application_name end,
             extract(epoch from clock_timestamp() - xact_start)::bigint)
         from pg_catalog.pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid()
             and backend_type = 'client backend' and backend_xmin is not null
         order by xact_start
         limit $1",
    )
    .bind(i64::try_from(NAMED).unwrap_or(i64::MAX))
    .fetch_all(conn)
    .await
    .map_err(MigrateError::database(
        "looking for who holds an old snapshot",
        module,
    ))
}

/// Those that have been open for the longest, as errors and logs name them. Asked right after a try,
/// since the session that waits can't ask; a holder that blocked us for a while is most likely still
/// there.
///
/// # Errors
///
/// The database did not answer.
pub(crate) async fn named(
    conn: &mut PgConnection,
    module: &Module,
) -> Result<Vec<String>, MigrateError> {
    let holders = of(conn, module).await?;
    Ok(holders
        .iter()
        .take(NAMED)
        .map(TableHolder::to_string)
        .collect())
}
