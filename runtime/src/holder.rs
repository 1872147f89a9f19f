//! Who holds something back: a session or a prepared transaction, as the database's lists of locks and
//! of sessions show it. It is shown by `artstore status` and in errors.

use std::fmt;

use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

/// A session, or a prepared transaction. A field that this role may not see is none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Holder {
    /// PostgreSQL's process; none for a prepared transaction.
    pub pid: Option<i32>,
    /// The role that it is of.
    pub user: Option<String>,
    /// What it calls itself. Anybody may call themselves anything.
    pub application: Option<String>,
    /// Where it comes from; none also for a local socket.
    pub address: Option<String>,
    /// What it does: `active`, `idle in transaction`, …
    pub state: Option<String>,
    /// For how long its transaction has been open, in seconds.
    pub seconds: Option<f64>,
    /// Its transaction's id.
    pub transaction: Option<String>,
    /// The name of a prepared transaction.
    pub prepared: Option<String>,
}

impl Holder {
    /// Reads the columns `pid`, `user`, `application`, `address`, `state`, `seconds`, `transaction`
    /// and `prepared` of a wider row.
    pub fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            pid: row.try_get("pid")?,
            user: row.try_get("user")?,
            application: row.try_get("application")?,
            address: row.try_get("address")?,
            state: row.try_get("state")?,
            seconds: row.try_get("seconds")?,
            transaction: row.try_get("transaction")?,
            prepared: row.try_get("prepared")?,
        })
    }

    /// The statement that ends it.
    pub fn end(&self) -> String {
        match (&self.prepared, self.pid) {
            (Some(name), _) => {
                let name = name.replace('\'', "''");
                format!("commit prepared '{name}' (or rollback prepared '{name}')")
            }
            (None, Some(pid)) => format!("select pg_terminate_backend({pid})"),
            (None, None) => "see pg_locks".to_owned(),
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.prepared, self.pid) {
            (Some(name), _) => write!(f, "prepared transaction {name:?}")?,
            (None, Some(pid)) => write!(f, "PostgreSQL process {pid}")?,
            (None, None) => f.write_str("a session that has just ended")?,
        }
        let user = self.user.as_ref().map(|user| format!("user {user}"));
        let application = self.application.as_ref().map(|name| format!("{name:?}"));
        let address = self.address.as_ref().map(|from| format!("from {from}"));
        let open = self.seconds.map(|open| format!("open for {open:.0} s"));
        let known = [user, application, address, self.state.clone(), open];
        let known: Vec<String> = known.into_iter().flatten().collect();
        match known.is_empty() {
            true => Ok(()),
            false => write!(f, " ({})", known.join(", ")),
        }
    }
}

/// The oldest transaction that has drawn numbers of a sequence and has not ended.
pub async fn of_sequence(
    connection: &mut PgConnection,
    sequence: &str,
) -> Result<Option<Holder>, sqlx::Error> {
    let row = sqlx::query(include_str!("sql/sequence_holder.sql"))
        .bind(sequence)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(Holder::read).transpose()
}

/// The oldest transaction that keeps others from reading one of these tables of the schema `public`, and which.
pub async fn of_a_table(
    connection: &mut PgConnection,
    tables: &[String],
) -> Result<Option<(String, Holder)>, sqlx::Error> {
    let row = sqlx::query(include_str!("sql/table_holder.sql"))
        .bind(tables)
        .fetch_optional(connection)
        .await?;
    let read = |row: PgRow| Ok((row.try_get("table")?, Holder::read(&row)?));
    row.map(read).transpose()
}
