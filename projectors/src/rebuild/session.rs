//! The one session of a rebuild or rollback. It holds the lock that keeps others out, and everything is
//! written through it: a process that has lost it without noticing can't write any more.

use std::time::Duration;

use artstore_runtime::duty_lock::DutyLock;
use artstore_schemas::source::Source;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgConnection, Row as _};
use tracing::log::LevelFilter;

use super::RebuildError;
use crate::projector::Projector;
use crate::runtime::checkpoint::{self, Checkpoint};
use crate::runtime::database::{connect_for, lock_of};

/// Longer than a stream may stand still: a frozen process is ended later.
const SILENCE: Duration = Duration::from_secs(90);

/// Opens it.
pub(crate) async fn open<P: Projector>(
    database: &PgConnectOptions,
) -> Result<PgConnection, RebuildError> {
    if P::REBUILT.is_empty() {
        return Err(RebuildError::Never(P::NAME));
    }
    let name = format!("artstore rebuild {}", P::NAME);
    let mut connection = connect_for::<P>(&unhurried(database), &name, SILENCE).await?;
    // Whatever happens to the server: a commit is durable when it is acknowledged.
    // A statement whose client is gone is ended.
    sqlx::raw_sql(
        "set synchronous_commit = on; set lock_timeout = '10s'; \
         set client_connection_check_interval = '1s'",
    )
    .execute(&mut connection)
    .await?;
    let mut lock = rebuild_lock::<P>();
    if lock.try_lock(&mut connection).await?.is_some() {
        return Ok(connection);
    }
    let holder = lock.holder(&mut connection).await?;
    Err(RebuildError::Busy {
        projection: P::NAME,
        holder: match holder {
            Some(holder) => holder.to_string(),
            None => "a process that has just ended".to_owned(),
        },
    })
}

fn rebuild_lock<P: Projector>() -> DutyLock {
    lock_of(format!("artstore/rebuild/{}", P::NAME))
}

/// In the transaction of a swap: whether the lock still is this session's, and stays so until the swap is committed.
/// Otherwise another rebuild may have made the tables that would be swapped, which nobody has compared.
pub(crate) async fn confirm_lock<P: Projector>(
    transaction: &mut PgConnection,
) -> Result<(), RebuildError> {
    match rebuild_lock::<P>().confirm(transaction).await? {
        true => Ok(()),
        false => Err(RebuildError::LockLost(P::NAME)),
    }
}

/// A second session, for reading the live tables.
pub(crate) async fn reader<P: Projector>(
    database: &PgConnectOptions,
) -> Result<PgConnection, RebuildError> {
    let name = format!("artstore rebuild {} (live)", P::NAME);
    Ok(connect_for::<P>(&unhurried(database), &name, SILENCE).await?)
}

/// An index takes as long as it takes: nobody is warned.
fn unhurried(database: &PgConnectOptions) -> PgConnectOptions {
    let database = database.clone();
    database.log_slow_statements(LevelFilter::Off, Duration::ZERO)
}

/// Statements name tables without a schema: from now on they are those of this one, and of no other.
pub(crate) async fn use_schema(
    connection: &mut PgConnection,
    schema: &str,
) -> Result<(), sqlx::Error> {
    run(connection, &format!("set search_path = {schema}")).await
}

pub(crate) async fn run(connection: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await?;
    Ok(())
}

pub(crate) async fn schema_exists(
    connection: &mut PgConnection,
    schema: &str,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select to_regnamespace($1) is not null")
        .bind(schema)
        .fetch_one(connection)
        .await
}

/// The live checkpoints, by stream.
pub(crate) async fn live_checkpoints(
    connection: &mut PgConnection,
    projection: &str,
) -> Result<Vec<(Source, Checkpoint)>, sqlx::Error> {
    let streams: Vec<String> = sqlx::query(
        "select stream from public.projection_checkpoints where projection = $1 order by stream",
    )
    .bind(projection)
    .fetch_all(&mut *connection)
    .await?
    .iter()
    .map(|row| row.try_get(0))
    .collect::<Result<_, _>>()?;
    let mut found = Vec::new();
    for stream in streams {
        let Some(source) = Source::of_stream(&stream) else {
            continue;
        };
        let checkpoint = checkpoint::load_of(connection, "public", projection, &stream).await?;
        found.extend(checkpoint.map(|checkpoint| (source, checkpoint)));
    }
    Ok(found)
}
