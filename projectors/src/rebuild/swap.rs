//! Exchanges the rebuilt tables and the live ones, in one transaction: what was applied meanwhile,
//! the product's own rows, the tables, checkpoints and parked events. Every checkpoint gets another
//! generation, so that no worker commits that remembers the previous tables.

use std::time::{Duration, Instant};

use artstore_bus::connection::Bus;
use artstore_runtime::crash;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::build::{Rebuild, Streams};
use super::fill::{Fill, Filled};
use super::lock::{Attempts, Tables, is_lock, take_tables, too_long, wait_for_snapshots};
use super::parked::ParkedInBoth;
use super::session::{confirm_lock, run, use_schema};
use super::{OnStep, RebuildError, previous_schema, product_rows, shadow, table_properties};
use crate::projector::Projector;
use crate::projector_error::WorkerError;

/// For so long others are kept waiting for the last stretch, and for whatever else is asked of the bus.
pub(crate) const STRETCH: Duration = Duration::from_secs(1);

/// What is live now.
#[derive(Debug, Clone)]
pub struct Swapped {
    /// Where the previous tables are.
    pub previous: String,
    /// The streams, and how far each is applied.
    pub streams: Vec<(String, u64)>,
}

/// Writes what is to be committed with a swap.
pub trait Record: Send {
    /// Writes it, in the transaction of the swap.
    fn record(
        &mut self,
        transaction: &mut PgConnection,
        swapped: &Swapped,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
}

impl<P: Projector> Rebuild<'_, P> {
    /// The streams, and how far each is applied in what was built.
    pub async fn places(&mut self) -> Result<Vec<(String, u64)>, RebuildError> {
        Ok(applied_in::<P>(&mut self.connection, &self.schema).await?)
    }

    /// Swaps, as soon as it gets the live tables for a moment.
    pub async fn swap(
        &mut self,
        on_step: OnStep<'_>,
        record: &mut impl Record,
    ) -> Result<Swapped, RebuildError> {
        let mut attempts = Attempts::new();
        let stop = self.stop.clone();
        tokio::select! {
            brought = product_rows::bring_along::<P>(&mut self.connection, "public", &self.schema, &mut *on_step) => brought?,
            () = stop.cancelled() => return Err(RebuildError::Stopped),
        }
        loop {
            self.catch_up(&mut *on_step).await?;
            tokio::select! {
                copied = table_properties::copy_properties::<P>(&mut self.connection, &self.schema, &mut *on_step) => copied?,
                () = stop.cancelled() => return Err(RebuildError::Stopped),
            }
            // What changed since.
            product_rows::sync_rows::<P>(
                &mut self.connection,
                "public",
                &self.schema,
                &mut *on_step,
            )
            .await?;
            crash::point("rebuild.copied");
            wait_for_snapshots(&mut self.connection, &mut *on_step, &stop).await?;
            // All of that took its time: what came meanwhile may be more than fits the last stretch.
            self.catch_up(&mut *on_step).await?;
            // Nobody has to wait for what the bus reports of its streams.
            let streams = Streams::list(&mut self.connection, &self.projector, self.bus).await?;
            // From here on it is done or not done.
            if stop.is_cancelled() {
                return Err(RebuildError::Stopped);
            }
            let exchanged = match self.exchange(&streams, &mut *on_step, record).await {
                Err(error) if is_lock(&error) => {
                    tracing::debug!(%error, "the live tables could not be had");
                    Exchanged::Locked
                }
                exchanged => exchanged.map_err(too_long)?,
            };
            match exchanged {
                Exchanged::Done(swapped) => return Ok(swapped),
                Exchanged::Late => attempts.late(&stop).await?,
                Exchanged::Locked => {
                    attempts
                        .locked::<P>(&mut self.connection, &mut *on_step, &stop)
                        .await?;
                }
            }
        }
    }

    /// One try. Nobody is kept waiting for the bus longer than for the last stretch.
    async fn exchange(
        &mut self,
        streams: &Streams,
        on_step: OnStep<'_>,
        record: &mut impl Record,
    ) -> Result<Exchanged, RebuildError> {
        let mut transaction = self.connection.begin().await?;
        if take_tables::<P>(&mut transaction).await? == Tables::Busy {
            transaction.rollback().await?;
            return Ok(Exchanged::Locked);
        }
        crash::point("rebuild.locked");
        confirm_lock::<P>(&mut transaction).await?;
        shadow::check_dependents::<P>(&mut transaction).await?;
        if shadow::form::<P>(&mut transaction).await?
            != shadow::form_in::<P>(&mut transaction, &self.schema).await?
        {
            return Err(RebuildError::Changed);
        }
        let alike =
            table_properties::has_same_properties::<P>(&mut transaction, &self.schema).await?;
        // Nobody reads or writes: these are the last sequences.
        let places = streams.places::<P>(&mut transaction).await?;
        let deadline = Instant::now() + STRETCH;
        let mut fill = Fill {
            projector: &self.projector,
            bus: self.bus,
            stop: self.stop.clone(),
            deadline: Some(deadline),
        };
        let filled = match places {
            Some(places) if alike => fill.fill(&mut transaction, &places, &mut *on_step).await?,
            Some(_) | None => Filled::Late,
        };
        if filled == Filled::Late {
            transaction.rollback().await?;
            return Ok(Exchanged::Late);
        }
        let seen = ParkedInBoth::read_both::<P>(&mut transaction, &self.schema).await?;
        if let Some((stream, sequence)) = self.seen.decided(&seen) {
            return Err(RebuildError::Decided { stream, sequence });
        }
        product_rows::sync_rows::<P>(&mut transaction, "public", &self.schema, on_step).await?;
        product_rows::sync_sequences::<P>(&mut transaction, "public", &self.schema).await?;
        crash::point("rebuild.synced");
        for statement in shadow::triggers::<P>(&mut transaction, &self.schema).await? {
            run(&mut transaction, &statement).await?;
        }
        let previous = previous_schema(P::NAME);
        shadow::drop(&mut transaction, &previous).await?;
        run(&mut transaction, &format!("create schema {previous}")).await?;
        shadow::drop_triggers::<P>(&mut transaction, "public").await?;
        move_tables::<P>(&mut transaction, "public", &previous).await?;
        move_tables::<P>(&mut transaction, &self.schema, "public").await?;
        crash::point("rebuild.moved");
        for table in shadow::MEMORY {
            let sql =
                format!("create table {previous}.{table} (like public.{table} including all)");
            run(&mut transaction, &sql).await?;
        }
        move_memory::<P>(&mut transaction, &self.schema, &previous).await?;
        note::<P>(&mut transaction, &previous).await?;
        shadow::drop(&mut transaction, &self.schema).await?;
        use_schema(&mut transaction, "public").await?;
        let settled = settle(&self.projector, self.bus, &mut transaction, streams).await?;
        if settled == Settled::Late {
            transaction.rollback().await?;
            return Ok(Exchanged::Late);
        }
        let swapped = Swapped {
            previous,
            streams: applied_in::<P>(&mut transaction, "public").await?,
        };
        record.record(&mut transaction, &swapped).await?;
        use_schema(&mut transaction, &self.schema).await?;
        crash::point("rebuild.recorded");
        transaction.commit().await?;
        crash::point("rebuild.swapped");
        Ok(Exchanged::Done(swapped))
    }
}

/// What came of a try to exchange tables.
pub(crate) enum Exchanged {
    Done(Swapped),
    /// Not in time: the live workers had gone too far, or the bus did not answer.
    Late,
    /// The live tables could not be had.
    Locked,
}

/// Whether the projector has written in time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    InTime,
    Late,
}

/// Lets the projector write on what has become live.
pub(crate) async fn settle<P: Projector>(
    projector: &P,
    bus: &Bus,
    transaction: &mut PgConnection,
    streams: &Streams,
) -> Result<Settled, RebuildError> {
    let settled = async {
        for stream in &streams.streams {
            projector
                .settle(&mut *transaction, bus, &stream.source)
                .await?;
        }
        Ok::<(), WorkerError>(())
    };
    match tokio::time::timeout(STRETCH, settled).await {
        Ok(settled) => settled
            .map(|()| Settled::InTime)
            .map_err(RebuildError::from),
        Err(_) => Ok(Settled::Late),
    }
}

/// Moves the tables of a projection to another schema.
pub(crate) async fn move_tables<P: Projector>(
    transaction: &mut PgConnection,
    from: &str,
    to: &str,
) -> Result<(), sqlx::Error> {
    for table in P::REBUILT {
        let sql = format!("alter table {from}.{} set schema {to}", table.name);
        run(transaction, &sql).await?;
    }
    Ok(())
}

/// Checkpoints and parked events that are live go to `previous`, those of `from` become live.
pub(crate) async fn move_memory<P: Projector>(
    transaction: &mut PgConnection,
    from: &str,
    previous: &str,
) -> Result<(), sqlx::Error> {
    let raise = format!(
        "update {from}.projection_checkpoints n \
         set generation = greatest(n.generation, o.generation) + 1 \
         from public.projection_checkpoints o \
         where (n.projection, n.stream) = (o.projection, o.stream) and n.projection = $1"
    );
    let mut statements = vec![raise];
    for table in shadow::MEMORY {
        statements.extend([
            format!(
                "insert into {previous}.{table} select * from public.{table} where projection = $1"
            ),
            format!("delete from public.{table} where projection = $1"),
            format!(
                "insert into public.{table} select * from {from}.{table} where projection = $1"
            ),
        ]);
    }
    for statement in statements {
        sqlx::query(AssertSqlSafe(statement))
            .bind(P::NAME)
            .execute(&mut *transaction)
            .await?;
    }
    Ok(())
}

/// Records in the database what the previous tables are.
pub(crate) async fn note<P: Projector>(
    transaction: &mut PgConnection,
    previous: &str,
) -> Result<(), sqlx::Error> {
    let sql: String = sqlx::query_scalar(
        "select format('comment on schema %I is %L', $1, \
             format('Tables of projection %s that were live until %s: artstore projection rollback %s', \
                 $2, to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS'), $2))",
    )
    .bind(previous)
    .bind(P::NAME)
    .fetch_one(&mut *transaction)
    .await?;
    run(transaction, &sql).await
}

/// How far the tables in a schema are.
pub(crate) async fn applied_in<P: Projector>(
    transaction: &mut PgConnection,
    schema: &str,
) -> Result<Vec<(String, u64)>, sqlx::Error> {
    let sql = format!(
        "select stream, last_sequence from {schema}.projection_checkpoints \
         where projection = $1 order by stream"
    );
    let rows: Vec<(String, i64)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(P::NAME)
        .fetch_all(transaction)
        .await?;
    Ok(rows
        .into_iter()
        .map(|(stream, sequence)| (stream, u64::try_from(sequence).unwrap_or(0)))
        .collect())
}
