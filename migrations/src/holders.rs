//! Who holds locks on a module's tables now, so that a step or an adoption has to wait.

use std::fmt;

use sqlx::{PgConnection, Row as _};

use crate::error::MigrateError;
use crate::module::Module;

/// How many of them an error or a log line names.
const NAMED: usize = 5;

/// A transaction that is open on the module's tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its backend; none for a prepared transaction.
    pub pid: Option<i32>,
    /// What the backend does, where the role may see that; the name of a prepared transaction.
    pub state: Option<String>,
    /// What the client calls itself; may be empty.
    pub application: String,
    /// For how long the transaction is open, where the role may see that.
    pub seconds: Option<i64>,
    /// On which tables.
    pub tables: Vec<String>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.as_deref().unwrap_or("state not visible");
        match self.pid {
            Some(pid) => write!(f, "pid {pid} ({state}")?,
            None => write!(f, "prepared transaction {state:?} (no session")?,
        }
        if !self.application.is_empty() {
            write!(f, ", {}", self.application)?;
        }
        match self.seconds {
            Some(seconds) => write!(f, ", transaction open for {seconds} s")?,
            None => f.write_str(", transaction open for ? s")?,
        }
        write!(f, ") on {}", self.tables.join(", "))
    }
}

/// Every transaction but our own that holds a lock on one of the module's tables, the longest
/// first.
///
/// # Errors
///
/// The database did not answer.
pub async fn of(conn: &mut PgConnection, module: &Module) -> Result<Vec<Holder>, MigrateError> {
    let failed =
        |source| MigrateError::database("looking for who holds the tables", module)(source);
    let rows = sqlx::query(
        "select held.pid,
             case when held.pid is null then prepared.gid else activity.state end as state,
             coalesce(activity.application_name, '') as application,
             extract(
                 epoch from clock_timestamp() - coalesce(activity.xact_start, prepared.prepared)
             )::bigint as seconds,
             array_agg(distinct class.relname::text) as tables
         from pg_catalog.pg_locks as held
         join pg_catalog.pg_class as class on class.oid = held.relation
         left join pg_catalog.pg_stat_activity as activity on activity.pid = held.pid
         -- A prepared transaction has no session; its lock on its own id identifies it.
         left join pg_catalog.pg_locks as own
             on held.pid is null and own.pid is null and own.locktype = 'transactionid'
                 and own.virtualtransaction = held.virtualtransaction
         left join pg_catalog.pg_prepared_xacts as prepared
             on prepared.transaction = own.transactionid
         where held.locktype = 'relation' and held.granted
             and held.database = (select oid from pg_catalog.pg_database where datname = current_database())
             and held.pid is distinct from pg_backend_pid()
             and class.relnamespace = 'public'::regnamespace
             and class.relname = any($1)
         group by 1, 2, 3, activity.xact_start, prepared.prepared
         order by coalesce(activity.xact_start, prepared.prepared) nulls last, held.pid",
    )
    .bind(module.tables())
    .fetch_all(conn)
    .await
    .map_err(failed)?;
    let holder = |row: &sqlx::postgres::PgRow| {
        Ok(Holder {
            pid: row.try_get("pid")?,
            state: row.try_get("state")?,
            application: row.try_get("application")?,
            seconds: row.try_get("seconds")?,
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
    Ok(holders.iter().take(NAMED).map(Holder::to_string).collect())
}
