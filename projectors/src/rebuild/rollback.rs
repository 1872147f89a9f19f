//! Swaps back to the tables that were live before the last swap. A second rollback undoes the first. The
//! tables continue from their own checkpoints.

use artstore_bus::connection::Bus;
use artstore_runtime::crash;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio_util::sync::CancellationToken;

use super::build::Streams;
use super::lock::{Attempts, Tables, is_lock, take_tables, too_long};
use super::session::{confirm_lock, open, run, schema_exists, use_schema};
use super::swap::{
    Exchanged, Record, Settled, Swapped, applied_in, move_memory, move_tables, note, settle,
};
use super::{OnStep, RebuildError, previous_schema, product_rows, shadow, table_properties};
use crate::parking::discarded;
use crate::projector::Projector;

/// Rolls back, as soon as it gets the live tables for a moment.
pub async fn rollback<P: Projector>(
    projector: &P,
    bus: &Bus,
    database: &PgConnectOptions,
    stop: CancellationToken,
    on_step: OnStep<'_>,
    record: &mut impl Record,
) -> Result<Swapped, RebuildError> {
    let mut connection = open::<P>(database).await?;
    let previous = previous_schema(P::NAME);
    use_schema(&mut connection, &previous).await?;
    shadow::check::<P>(&mut connection).await?;
    check::<P>(&mut connection, &previous).await?;
    let mut attempts = Attempts::new();
    product_rows::bring_along::<P>(&mut connection, "public", &previous, &mut *on_step).await?;
    loop {
        table_properties::copy_properties::<P>(&mut connection, &previous, &mut *on_step).await?;
        product_rows::sync_rows::<P>(&mut connection, "public", &previous, &mut *on_step).await?;
        let streams = Streams::list(&mut connection, projector, bus).await?;
        // From here on it is done or not done.
        if stop.is_cancelled() {
            return Err(RebuildError::Stopped);
        }
        let exchange = exchange(projector, bus, &mut connection, &streams, record);
        let exchanged = match exchange.await {
            Err(error) if is_lock(&error) => Exchanged::Locked,
            exchanged => exchanged.map_err(too_long)?,
        };
        match exchanged {
            Exchanged::Done(swapped) => {
                connection.close().await?;
                return Ok(swapped);
            }
            Exchanged::Late => attempts.late(&stop).await?,
            Exchanged::Locked => {
                attempts
                    .locked::<P>(&mut connection, &mut *on_step, &stop)
                    .await?;
            }
        }
    }
}

/// Whether the program can continue with these tables.
async fn check<P: Projector>(
    connection: &mut PgConnection,
    previous: &str,
) -> Result<(), RebuildError> {
    if !schema_exists(connection, previous).await? {
        return Err(RebuildError::NoPrevious(P::NAME));
    }
    let live = shadow::form::<P>(connection).await?;
    if live != shadow::form_in::<P>(connection, previous).await? {
        return Err(RebuildError::Unusable(
            "the live tables were changed since (a migration). Migrate back first, or build the \
             projection again"
                .to_owned(),
        ));
    }
    let sql =
        format!("select max(version) from {previous}.projection_checkpoints where projection = $1");
    let version: Option<i32> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(P::NAME)
        .fetch_one(connection)
        .await?;
    match version {
        Some(version) if i64::from(version) != i64::from(P::VERSION) => {
            Err(RebuildError::Unusable(format!(
                "version {version} of the projection built them, this program has version {}. Use the \
                 program that built them",
                P::VERSION
            )))
        }
        _ => Ok(()),
    }
}

async fn exchange<P: Projector>(
    projector: &P,
    bus: &Bus,
    connection: &mut PgConnection,
    streams: &Streams,
    record: &mut impl Record,
) -> Result<Exchanged, RebuildError> {
    let previous = &previous_schema(P::NAME);
    let mut transaction = connection.begin().await?;
    if take_tables::<P>(&mut transaction).await? == Tables::Busy {
        transaction.rollback().await?;
        return Ok(Exchanged::Locked);
    }
    crash::point("rollback.locked");
    confirm_lock::<P>(&mut transaction).await?;
    shadow::check_dependents::<P>(&mut transaction).await?;
    // A migration may have come meanwhile.
    check::<P>(&mut transaction, previous).await?;
    if !table_properties::has_same_properties::<P>(&mut transaction, previous).await? {
        transaction.rollback().await?;
        return Ok(Exchanged::Late);
    }
    product_rows::sync_rows::<P>(&mut transaction, "public", previous, &mut |_| {}).await?;
    product_rows::sync_sequences::<P>(&mut transaction, "public", previous).await?;
    for statement in shadow::triggers::<P>(&mut transaction, previous).await? {
        run(&mut transaction, &statement).await?;
    }
    shadow::drop_triggers::<P>(&mut transaction, "public").await?;
    let returning = format!("{previous}_returning");
    run(
        &mut transaction,
        &format!("alter schema {previous} rename to {returning}; create schema {previous}"),
    )
    .await?;
    move_tables::<P>(&mut transaction, "public", previous).await?;
    move_tables::<P>(&mut transaction, &returning, "public").await?;
    for table in shadow::MEMORY {
        let sql = format!("create table {previous}.{table} (like public.{table} including all)");
        run(&mut transaction, &sql).await?;
    }
    // What was discarded since is not parked again.
    discarded::take_out(&mut transaction, &returning, P::NAME).await?;
    move_memory::<P>(&mut transaction, &returning, previous).await?;
    note::<P>(&mut transaction, previous).await?;
    shadow::drop(&mut transaction, &returning).await?;
    crash::point("rollback.moved");
    use_schema(&mut transaction, "public").await?;
    let settled = settle(projector, bus, &mut transaction, streams).await?;
    if settled == Settled::Late {
        transaction.rollback().await?;
        return Ok(Exchanged::Late);
    }
    let swapped = Swapped {
        previous: previous.to_owned(),
        streams: applied_in::<P>(&mut transaction, "public").await?,
    };
    record.record(&mut transaction, &swapped).await?;
    crash::point("rollback.recorded");
    transaction.commit().await?;
    crash::point("rollback.swapped");
    Ok(Exchanged::Done(swapped))
}
