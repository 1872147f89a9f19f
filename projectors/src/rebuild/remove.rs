//! Removes what a rebuild has left for people: a snapshot, or the tables from before the last swap. It
//! removes neither live tables nor those that are being built.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};

use super::session::open;
use super::{RebuildError, previous_schema, shadow, snapshot_schema};
use crate::projector::Projector;

/// The schemas that may be removed, by name.
pub async fn kept(
    connection: &mut PgConnection,
    projection: &str,
) -> Result<Vec<String>, sqlx::Error> {
    let example = snapshot_schema(projection, DateTime::<Utc>::UNIX_EPOCH);
    let snapshots = example.trim_end_matches("19700101_000000");
    sqlx::query_scalar(
        "select nspname::text from pg_namespace \
         where nspname = $1 or nspname ~ ('^' || $2 || '[0-9]{8}_[0-9]{6}$') order by 1",
    )
    .bind(previous_schema(projection))
    .bind(snapshots)
    .fetch_all(connection)
    .await
}

/// Removes one of them; `record` writes what is to be committed with that. No rebuild or rollback of the
/// projection runs meanwhile. Where it is gone already, nothing is recorded.
pub async fn remove<P: Projector>(
    database: &PgConnectOptions,
    schema: &str,
    record: impl AsyncFnOnce(&mut PgConnection) -> Result<(), sqlx::Error>,
) -> Result<(), RebuildError> {
    let mut connection = open::<P>(database).await?;
    let mut transaction = connection.begin().await?;
    // A swap may have exchanged it, or another command removed it, before the lock was had.
    if kept(&mut transaction, P::NAME)
        .await?
        .iter()
        .any(|kept| kept == schema)
    {
        shadow::drop(&mut transaction, schema).await?;
        record(&mut transaction).await?;
        transaction.commit().await?;
    } else {
        transaction.rollback().await?;
    }
    connection.close().await?;
    Ok(())
}
