//! The read model's database: sessions that the server ends when the projector freezes or vanishes,
//! checked to be direct and writable, and their locks.

use std::time::Duration;

use artstore_runtime::duty_lock::{DutyLock, FixedKey, HeldLock};
use artstore_runtime::pulse::within;
use artstore_runtime::relation;
use artstore_runtime::server::{Holds, Server};
use artstore_runtime::session::{Session, shown};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};

use crate::projector::Projector;
use crate::projector_error::{Halt, WorkerError};

/// A session that is silent for so long is ended by the server, and its lock released.
const SILENCE: Duration = Duration::from_secs(6);

/// How long the check before the first session may take.
const CHECK: Duration = Duration::from_secs(60);

/// How long the server may take to confirm that the lock is released.
const RELEASE: Duration = Duration::from_secs(3);

/// The tables that every projection needs beside its own.
pub const PROJECTION_TABLES: &[&str] = &[
    "projection_checkpoints",
    "projection_parked",
    "projection_pauses",
    "projection_discarded",
    LOCKS,
];

/// The table with the keys of their locks.
pub(crate) const LOCKS: &str = "projection_locks";

/// Connects to a read model, and checks that it can be written, that the projector's tables are there,
/// and that they show all of their rows.
pub async fn connect<P: Projector>(
    database: &PgConnectOptions,
    name: &str,
) -> Result<PgConnection, WorkerError> {
    connect_for::<P>(database, name, SILENCE).await
}

/// Connects as [`connect`]; the server ends the session when it is silent for so long.
pub(crate) async fn connect_for<P: Projector>(
    database: &PgConnectOptions,
    name: &str,
    silence: Duration,
) -> Result<PgConnection, WorkerError> {
    let opened = Session {
        silence,
        ..session::<P>(database, name)
    };
    let opened = opened.open().await;
    let failed = |error| WorkerError::of_session(error, P::VARIABLE);
    let mut connection = opened.map_err(failed)?;
    let standby: bool = sqlx::query_scalar("select pg_is_in_recovery()")
        .fetch_one(&mut connection)
        .await?;
    if standby {
        return Err(Halt::Standby {
            database: shown(database),
            variable: P::VARIABLE,
        }
        .into());
    }
    for table in P::TABLES.iter().chain(PROJECTION_TABLES) {
        let found: bool = sqlx::query_scalar("select to_regclass($1) is not null")
            .bind(format!("public.{table}"))
            .fetch_one(&mut connection)
            .await?;
        if !found {
            return Err(Halt::NotMigrated {
                database: shown(database),
                table: (*table).to_owned(),
                module: P::MODULE,
                variable: P::VARIABLE,
            }
            .into());
        }
    }
    let tables = P::TABLES.iter().chain(PROJECTION_TABLES);
    let tables: Vec<String> = tables.map(|table| format!("public.{table}")).collect();
    match relation::unfit(&mut connection, &tables).await? {
        Some(unfit) => Err(Halt::Unfit {
            database: shown(database),
            unfit,
        }
        .into()),
        None => Ok(connection),
    }
}

// Projectors name their tables without a schema: a rebuild has tables of the same names elsewhere,
// and changes the search path.
fn session<'a, P: Projector>(database: &'a PgConnectOptions, name: &'a str) -> Session<'a> {
    Session {
        database,
        name,
        silence: SILENCE,
        settings: if P::DURABLE {
            "set synchronous_commit = on"
        } else {
            "set synchronous_commit = off"
        },
    }
}

/// Refuses a pooler, and whatever [`connect`] refuses; names what works, but not as people expect. It ends
/// within a minute.
pub async fn check_direct<P: Projector>(database: &PgConnectOptions) -> Result<(), WorkerError> {
    within(CHECK, checked::<P>(database)).await
}

async fn checked<P: Projector>(database: &PgConnectOptions) -> Result<(), WorkerError> {
    let name = "artstore projector (check)";
    let direct = session::<P>(database, name).refuse_pooler().await;
    direct.map_err(|error| WorkerError::of_session(error, P::VARIABLE))?;
    let mut connection = connect::<P>(database, name).await?;
    let holds = match P::MODULE {
        "query" => Holds::QueryCache,
        _ => Holds::AuditLog,
    };
    for note in Server::read(&mut connection).await?.notes(holds) {
        tracing::warn!(projection = P::NAME, "the read model's database: {note}");
    }
    Ok(())
}

/// A lock that only roles which may write projections can hold. Earlier versions hold it by the same name.
pub(crate) fn lock_of(name: String) -> DutyLock {
    let fixed = FixedKey::Hashed(name.clone());
    DutyLock::new(format!("public.{LOCKS}"), name, fixed)
}

/// Releases a lock: once this returns, another worker has it or can have it.
pub(crate) async fn release(
    mut connection: PgConnection,
    (lock, held): (&DutyLock, HeldLock),
    stream: &str,
) -> Result<(), WorkerError> {
    let released = async {
        lock.release(&mut connection, held).await?;
        connection.close().await
    };
    match tokio::time::timeout(RELEASE, released).await {
        Ok(released) => Ok(released?),
        Err(_) => Err(WorkerError::NotDrained(format!(
            "the read model's database does not confirm that the lock of stream {stream} was released"
        ))),
    }
}
