//! The product's own rows. The product signed a time that it did not store, so no row of it can be verified.
//! They stay as they are, below a boundary that is drawn once, before the first row of ours; every head
//! contains the digest of what is below it.

use std::time::{Duration, Instant};

use aws_lc_rs::digest::{Context, SHA256};
use futures::TryStreamExt as _;
use sqlx::{Connection as _, PgConnection, Row as _};
use uuid::Uuid;

use super::head::Boundary;
use super::row::put;
use super::store;

/// What the digest begins with.
const DOMAIN: &[u8] = b"artstore/audit-legacy/v1\0";

/// How often it is checked whether older transactions have ended.
const LOOK: Duration = Duration::from_millis(200);

/// After so long it logs what it waits for.
const SILENCE: Duration = Duration::from_secs(10);

/// Draws the boundary where there is none, and returns it. Waits for the transactions that were
/// running: one of them may still insert a row below it.
pub async fn draw(connection: &mut PgConnection) -> Result<Boundary, sqlx::Error> {
    let mut transaction = loop {
        if let Some(boundary) = store::boundary(connection).await? {
            return Ok(boundary);
        }
        let mut transaction = connection.begin().await?;
        // One worker draws it; the others look again.
        let mine: bool = sqlx::query_scalar(
            "select pg_try_advisory_xact_lock(hashtextextended('artstore/audit-boundary', 0))",
        )
        .fetch_one(&mut *transaction)
        .await?;
        if mine && store::boundary(&mut transaction).await?.is_none() {
            break transaction;
        }
        transaction.rollback().await?;
        tokio::time::sleep(LOOK).await;
    };
    let last_id: i64 = sqlx::query_scalar(
        "select coalesce(pg_sequence_last_value('public.audit_logs_id_seq'), 0)",
    )
    .fetch_one(&mut *transaction)
    .await?;
    wait_for_older(&mut transaction).await?;
    let boundary = below(&mut transaction, last_id).await?;
    sqlx::query("insert into public.audit_boundary (rows, last_id, digest) values ($1, $2, $3)")
        .bind(store::signed(boundary.rows))
        .bind(boundary.last_id)
        .bind(boundary.digest.as_slice())
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    tracing::info!(
        rows = boundary.rows,
        last_id,
        "the boundary below which rows are the product's own is drawn"
    );
    Ok(boundary)
}

/// Waits until every transaction that was running has ended.
async fn wait_for_older(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let begun = Instant::now();
    let mut logged = false;
    loop {
        let alone: bool = sqlx::query_scalar(
            "select pg_current_xact_id() = pg_snapshot_xmin(pg_current_snapshot())",
        )
        .fetch_one(&mut *connection)
        .await?;
        if alone {
            return Ok(());
        }
        if begun.elapsed() > SILENCE && !std::mem::replace(&mut logged, true) {
            tracing::warn!(
                "the audit log begins when the transactions that are running in this PostgreSQL have ended; \
                 the oldest ones: select pid, xact_start, query from pg_stat_activity order by xact_start"
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The product's rows up to this id, as they are now, whatever they hold. One row at a time is in
/// memory.
pub async fn below(connection: &mut PgConnection, last_id: i64) -> Result<Boundary, sqlx::Error> {
    let mut context = Context::new(&SHA256);
    context.update(DOMAIN);
    let mut count = 0;
    let mut rows = sqlx::query(
        "select id, event_type, severity, user_id, service_account_id, actor_type, resource_type, \
                resource_id, action, ip_address, user_agent, request_id, session_id, \
                data::text as data, success, error_message, hmac_signature, \
                isfinite(created_at) as finite, \
                case when isfinite(created_at) \
                        and created_at < timestamptz '292277-01-01 00:00:00+00' \
                    then (extract(epoch from created_at) * 1000000)::bigint end as created_at \
         from public.audit_logs where format = 0 and id <= $1 order by id",
    )
    .bind(last_id)
    .fetch(connection);
    while let Some(row) = rows.try_next().await? {
        count += 1;
        let mut bytes = row.try_get::<i64, _>("id")?.to_be_bytes().to_vec();
        let text = |bytes: &mut Vec<u8>, column: &str| -> Result<(), sqlx::Error> {
            let text: Option<&str> = row.try_get(column)?;
            put(bytes, text.map(str::as_bytes));
            Ok(())
        };
        text(&mut bytes, "event_type")?;
        text(&mut bytes, "severity")?;
        let user: Option<i32> = row.try_get("user_id")?;
        put(
            &mut bytes,
            user.map(i32::to_be_bytes).as_ref().map(<[u8; 4]>::as_slice),
        );
        let account: Option<Uuid> = row.try_get("service_account_id")?;
        put(
            &mut bytes,
            account.as_ref().map(|id| id.as_bytes().as_slice()),
        );
        for column in [
            "actor_type",
            "resource_type",
            "resource_id",
            "action",
            "ip_address",
            "user_agent",
            "request_id",
            "session_id",
            "data",
        ] {
            text(&mut bytes, column)?;
        }
        let success: Option<bool> = row.try_get("success")?;
        let success = success.map(|success| [u8::from(success)]);
        put(&mut bytes, success.as_ref().map(<[u8; 1]>::as_slice));
        text(&mut bytes, "error_message")?;
        text(&mut bytes, "hmac_signature")?;
        let time: Option<i64> = row.try_get("created_at")?;
        let time = time.map(i64::to_be_bytes);
        let finite: Option<bool> = row.try_get("finite")?;
        put(
            &mut bytes,
            match (&time, finite) {
                (Some(time), _) => Some(time.as_slice()),
                // Further than microseconds in 64 bits reach.
                (None, Some(true)) => Some(&[]),
                (None, Some(false) | None) => None,
            },
        );
        context.update(&bytes);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    Ok(Boundary {
        rows: count,
        last_id,
        digest,
    })
}
