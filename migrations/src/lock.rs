//! One migrator of a module at a time: a session advisory lock in the database to be migrated.
//!
//! It is held across the transactions of all steps, and the server releases it if we die.

use std::time::{Duration, Instant};

use sqlx::PgConnection;

use crate::error::MigrateError;
use crate::module::Module;

/// The first half of every key: "ARMG". Keys of two halves never meet those of one, which the
/// relay and the projectors use.
const NAMESPACE: i32 = i32::from_be_bytes(*b"ARMG");

/// A step may fill a large table.
const LONGEST_WAIT: Duration = Duration::from_secs(30 * 60);

/// Waits until no other session migrates this module. It asks again and again instead of waiting
/// in the database: a waiting statement holds a snapshot, and a step that builds an index
/// concurrently would wait for that snapshot while we wait for its lock.
pub(crate) async fn acquire(conn: &mut PgConnection, module: &Module) -> Result<(), MigrateError> {
    let failed = MigrateError::database;
    let started = Instant::now();
    let mut pause = Duration::from_millis(50);
    let mut logged = false;
    loop {
        let held: bool = sqlx::query_scalar("select pg_try_advisory_lock($1, $2)")
            .bind(NAMESPACE)
            .bind(key(module))
            .fetch_one(&mut *conn)
            .await
            .map_err(failed("taking the migration lock", module))?;
        if held {
            return Ok(());
        }
        if !logged {
            tracing::info!(%module, "another migrator is at work: waiting for it");
            logged = true;
        }
        if started.elapsed() >= LONGEST_WAIT {
            return Err(MigrateError::Busy {
                module: module.clone(),
                pid: holder(conn, module).await?,
                waited_s: started.elapsed().as_secs(),
            });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

/// Releases the lock. A failure means that the session is gone, and the lock with it.
pub(crate) async fn release(conn: &mut PgConnection, module: &Module) {
    let released: Result<bool, sqlx::Error> =
        sqlx::query_scalar("select pg_advisory_unlock($1, $2)")
            .bind(NAMESPACE)
            .bind(key(module))
            .fetch_one(conn)
            .await;
    match released {
        Ok(true) => {}
        Ok(false) => {
            tracing::warn!(%module, "the migration lock was not held at the end: connect directly, not through a pooler")
        }
        Err(error) => {
            tracing::warn!(%module, %error, "the session ended before the migration lock was released")
        }
    }
}

async fn holder(conn: &mut PgConnection, module: &Module) -> Result<Option<i32>, MigrateError> {
    sqlx::query_scalar(
        "select pid from pg_catalog.pg_locks
         where locktype = 'advisory' and granted and objsubid = 2
             and database = (select oid from pg_catalog.pg_database where datname = current_database())
             and classid = $1::bigint::oid and objid = $2::bigint::oid
         limit 1",
    )
    .bind(i64::from(NAMESPACE.cast_unsigned()))
    .bind(i64::from(key(module).cast_unsigned()))
    .fetch_optional(conn)
    .await
    .map_err(MigrateError::database("looking for the other migrator", module))
}

/// FNV-1a of the module's name and prefix. Should two elements of one database ever share a key,
/// they wait for each other, no more.
fn key(module: &Module) -> i32 {
    let hash = module
        .to_string()
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
    hash.cast_signed()
}
