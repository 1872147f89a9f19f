//! The version table: which steps were applied, when, and from which text. It is read under the
//! lock. A row is written or deleted in the last transaction of its step. A step of several parts
//! has a row without a time from its first part to its last, in either direction: it is unfinished.

use sqlx::types::chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgConnection, Row};

use crate::error::MigrateError;
use crate::guard::database_name;
use crate::module::{Module, latest};
use crate::step::{Script, Step};

/// What marks the row of version 1 where its tables were adopted, not made.
pub(crate) const ADOPTED: &str = " (adopted)";

/// The content of the version table, once it was found to be in order.
#[derive(Debug)]
pub(crate) struct History {
    /// Whether there is a version table.
    pub(crate) exists: bool,
    /// When each step was applied, from version 1 on without a gap.
    pub(crate) applied_at: Vec<DateTime<Utc>>,
    /// Whether the step after these was begun, up or down, and not finished.
    pub(crate) unfinished: bool,
    /// Whether version 1 was adopted: its tables are the product's.
    pub(crate) adopted: bool,
}

impl History {
    /// The version that the database is at.
    pub(crate) fn version(&self) -> u32 {
        u32::try_from(self.applied_at.len()).expect("no more steps than are embedded")
    }

    /// The highest version of which anything may be there.
    pub(crate) fn reached(&self) -> u32 {
        self.version() + u32::from(self.unfinished)
    }
}

/// Reads the version table and compares it with the embedded steps: a gap, a version that we
/// don't know or a step from another text is an error. No table is version 0.
pub(crate) async fn read(
    conn: &mut PgConnection,
    module: &Module,
) -> Result<History, MigrateError> {
    let failed = |source| MigrateError::database("reading the version table", module)(source);
    let table = module.version_table();
    let exists: bool = sqlx::query_scalar("select to_regclass('public.' || $1) is not null")
        .bind(&table)
        .fetch_one(&mut *conn)
        .await
        .map_err(failed)?;
    if !exists {
        return Ok(History {
            exists,
            applied_at: Vec::new(),
            unfinished: false,
            adopted: false,
        });
    }

    // The database computes the checksums on both ends, so there is one way to do it. As bytes: its encoding
    // need not have all characters of a remark.
    let scripts = module.scripts().iter();
    let ups: Vec<&[u8]> = scripts.map(|script| script.up.as_bytes()).collect();
    let rows = sqlx::query(AssertSqlSafe(format!(
        "select applied.version::bigint as version, applied.name, applied.checksum,
             applied.applied_at,
             encode(sha256(($1::bytea[])[applied.version]), 'hex') as embedded
         from public.{table} as applied
         order by applied.version"
    )))
    .bind(&ups)
    .fetch_all(&mut *conn)
    .await
    .map_err(failed)?;

    let mut applied_at = Vec::with_capacity(rows.len());
    let (mut unfinished, mut adopted) = (false, false);
    for (expected, row) in (1i64..).zip(&rows) {
        let version: i64 = row.try_get("version").map_err(failed)?;
        let Some((step, _)) = module
            .steps()
            .find(|(step, _)| i64::from(step.version) == version)
        else {
            return Err(unknown_version(conn, module, version, expected).await?);
        };
        if version != expected || unfinished {
            return Err(broken(conn, module, version, expected).await?);
        }
        let applied: String = row.try_get("checksum").map_err(failed)?;
        let embedded: String = row.try_get("embedded").map_err(failed)?;
        if applied != embedded {
            let database = database_name(conn, module).await?;
            let module = module.clone();
            return Err(MigrateError::Changed {
                database,
                module,
                step,
                applied,
                embedded,
            });
        }
        let name: String = row.try_get("name").map_err(failed)?;
        adopted |= name.ends_with(ADOPTED);
        match row.try_get("applied_at").map_err(failed)? {
            Some(at) => applied_at.push(at),
            None => unfinished = true,
        }
    }
    Ok(History {
        exists,
        applied_at,
        unfinished,
        adopted,
    })
}

/// Makes the version table. In the transaction of the first step.
pub(crate) async fn create(conn: &mut PgConnection, module: &Module) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(create_sql(module)))
        .execute(conn)
        .await
        .map(drop)
}

/// What [`create`] runs.
pub(crate) fn create_sql(module: &Module) -> String {
    let table = module.version_table();
    format!(
        "create table public.{table} (\n    \
             version integer not null,\n    \
             name text not null,\n    \
             checksum text not null,\n    \
             applied_at timestamptz default clock_timestamp(),\n    \
             constraint {table}_pkey primary key (version)\n\
         )"
    )
}

/// Writes a step's row without a time: its first part comes next.
pub(crate) async fn begin_up(
    conn: &mut PgConnection,
    module: &Module,
    step: Step,
    script: &Script,
) -> Result<(), sqlx::Error> {
    sqlx::query(AssertSqlSafe(format!(
        "insert into public.{} (version, name, checksum, applied_at)
         values ($1, $2, encode(sha256($3), 'hex'), null)
         on conflict (version) do nothing",
        module.version_table()
    )))
    .bind(number(step))
    .bind(step.name)
    .bind(script.up.as_bytes())
    .execute(conn)
    .await
    .map(drop)
}

/// Takes the time from a step's row: the first part that undoes it comes next.
pub(crate) async fn begin_down(
    conn: &mut PgConnection,
    module: &Module,
    step: Step,
) -> Result<(), sqlx::Error> {
    sqlx::query(AssertSqlSafe(format!(
        "update public.{} set applied_at = null where version = $1",
        module.version_table()
    )))
    .bind(number(step))
    .execute(conn)
    .await
    .map(drop)
}

/// Writes a step's row, or the time into it. In the last transaction of the step.
pub(crate) async fn record(
    conn: &mut PgConnection,
    module: &Module,
    step: Step,
    script: &Script,
) -> Result<(), sqlx::Error> {
    sqlx::query(AssertSqlSafe(format!(
        "insert into public.{} (version, name, checksum)
         values ($1, $2, encode(sha256($3), 'hex'))
         on conflict (version) do update set applied_at = clock_timestamp()",
        module.version_table()
    )))
    .bind(number(step))
    .bind(step.name)
    .bind(script.up.as_bytes())
    .execute(conn)
    .await
    .map(drop)
}

/// Erases a step's row, and with the first step's the table. In the last transaction that
/// undoes it.
pub(crate) async fn erase(
    conn: &mut PgConnection,
    module: &Module,
    step: Step,
) -> Result<(), sqlx::Error> {
    let table = module.version_table();
    if step.version == 1 {
        return sqlx::raw_sql(AssertSqlSafe(format!("drop table public.{table}")))
            .execute(conn)
            .await
            .map(drop);
    }
    sqlx::query(AssertSqlSafe(format!(
        "delete from public.{table} where version = $1"
    )))
    .bind(number(step))
    .execute(conn)
    .await
    .map(drop)
}

fn number(step: Step) -> i32 {
    i32::try_from(step.version).expect("versions are few")
}

async fn unknown_version(
    conn: &mut PgConnection,
    module: &Module,
    version: i64,
    expected: i64,
) -> Result<MigrateError, MigrateError> {
    let latest = latest(module);
    if version < i64::from(latest) {
        return broken(conn, module, version, expected).await;
    }
    Ok(MigrateError::TooNew {
        database: database_name(conn, module).await?,
        module: module.clone(),
        version,
        latest,
    })
}

async fn broken(
    conn: &mut PgConnection,
    module: &Module,
    found: i64,
    expected: i64,
) -> Result<MigrateError, MigrateError> {
    Ok(MigrateError::BrokenHistory {
        database: database_name(conn, module).await?,
        version_table: module.version_table(),
        expected,
        found,
    })
}
