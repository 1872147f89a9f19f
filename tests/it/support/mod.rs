//! What tests rest on: one shared PostgreSQL for all tests of this program; a *world* for each test,
//! with databases and a NATS server of its own; and waiting for a condition with a deadline.
//!
//! - `world`: elements and modules with their databases, and a NATS server
//! - `migrated`: copies of databases that were migrated once
//! - `process`: processes of the program
//! - `nats_server`: a nats-server with a configuration of the test's own
//! - `proxy`: a network that swallows packets
//! - `contract`: what was published, against its schema
//! - `load`, `mix`: writers that write until they are stopped
//! - `abandoned`: operations that their process left behind
//! - `compose`: compose.yaml, read
//! - `repository`: files of the repository
//! - `running`: turns of tests, and the time that each takes
//! - `signed`: keys and tokens

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use artstore_bus::accounts::role::Role;
use artstore_bus::connection::{Bus, BusOptions};
use artstore_bus::tls::TlsFiles;
use artstore_migrations::Module;
use artstore_schemas::source::Source;
use artstore_stack::{PostgresStop, Stack, StackOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, Row as _};

pub mod abandoned;
pub mod compose;
mod contract;
pub mod load;
mod migrated;
pub mod mix;
pub mod nats_server;
mod process;
mod proxy;
pub mod repository;
mod running;
mod world;
// Tokens as the unit tests of their verification make them; not all of its kinds are used here.
#[allow(dead_code)]
#[path = "../../../producers/src/token/signed.rs"]
pub mod signed;

pub use contract::fits_its_schema;
use migrated::migrated_on;
pub use process::{Process, Program};
pub use proxy::{Cut, Proxy};
pub use running::{run, run_measurement, run_waiting};
pub use world::World;

/// How long anything may take that is expected to happen, on a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(150);

/// Between two looks at a condition.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// How many tests at most take an account of the shared NATS.
pub(in crate::support) const ACCOUNTS: usize = 50;

/// The stack that all tests share which do not stop its servers.
pub async fn shared_stack() -> &'static Stack {
    static STACK: tokio::sync::OnceCell<Stack> = tokio::sync::OnceCell::const_new();
    STACK
        .get_or_init(|| async {
            let options = StackOptions {
                accounts: ACCOUNTS,
                ..StackOptions::default()
            };
            let stack = Stack::start(options).await.unwrap();
            // Each database gets its turn in that time: with a thousand of them a worker would start every
            // 60 ms, and take a part of the cores that grows from test to test.
            let mut connection = pg(&stack.database_url("postgres")).await;
            execute(
                &mut connection,
                "alter system set autovacuum_naptime = '10min'",
            )
            .await;
            // Eight tests at once, one of them with fifty writers.
            execute(&mut connection, "alter system set max_connections = 800").await;
            connection.close().await.unwrap();
            stack.stop_postgres(PostgresStop::Fast).await.unwrap();
            stack.start_postgres().await.unwrap();
            stack
        })
        .await
}

/// A folder of a test's own, below the build's.
pub fn folder(name: &str) -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = logs().join(format!("{name}-{number}"));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn logs() -> &'static Path {
    static LOGS: OnceLock<PathBuf> = OnceLock::new();
    LOGS.get_or_init(|| {
        let folder =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("logs-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    })
}

/// A fresh database with a module's tables on the shared stack.
pub async fn migrated(hint: &str, module: Module) -> String {
    migrated_on(shared_stack().await, hint, module).await
}

/// A fresh empty database on the shared stack.
pub async fn database(hint: &str) -> String {
    database_on(shared_stack().await, hint).await
}

async fn database_on(stack: &Stack, hint: &str) -> String {
    let name = database_name(hint);
    stack.create_database(&name).await.unwrap();
    stack.database_url(&name)
}

fn database_name(hint: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    format!("t{}_{hint}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Waits until a condition gives something.
pub async fn eventually<T>(what: &str, condition: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_or(|| what.to_owned(), condition).await
}

/// Waits until a condition gives something; what is reported about one that does not is asked at the end.
pub async fn eventually_or<T>(
    what: impl Fn() -> String,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {}",
            what()
        );
        // Often at first, then as seldom as it costs little time: many a condition opens a connection.
        let pause = (started.elapsed() / 5).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        tokio::time::sleep(pause).await;
    }
}

/// The projector's sequence in a source's stream; 0 at the start.
pub async fn checkpoint(query_url: &str, source: &Source) -> u64 {
    let Ok(mut query) = try_pg(query_url).await else {
        return 0;
    };
    let sequence: Option<i64> = sqlx::query_scalar(
        "select last_sequence from projection_checkpoints \
         where projection = 'query-cache' and stream = $1",
    )
    .bind(source.stream())
    .fetch_optional(&mut query)
    .await
    .unwrap_or(None);
    u64::try_from(sequence.unwrap_or(0)).unwrap()
}

/// How many rows of a source are finished.
pub async fn finished(connection: &mut PgConnection, source: &Source) -> u64 {
    let table = artstore_producers::relay::source::SourceTable::of(source);
    let sql = format!(
        "select count(*) from {} where position is not null",
        table.name()
    );
    let rows: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_one(connection)
        .await
        .unwrap();
    u64::try_from(rows).unwrap()
}

/// A connection of a user whom the URL names.
pub async fn connect(nats_url: &str) -> Bus {
    connect_as(Role::Administrator, nats_url, None).await
}

/// A connection with the key of a role, from a folder of keys.
pub async fn connect_as(role: Role, nats_url: &str, keys: Option<&Path>) -> Bus {
    let options = BusOptions {
        url: nats_url.to_owned(),
        credentials: keys.map(Path::to_owned),
        tls: TlsFiles::default(),
        role,
        name: "test".to_owned(),
    };
    Bus::connect(&options).await.unwrap()
}

/// Waits until the server has processed what this connection has sent; `flush` only writes it.
pub async fn processed(client: &async_nats::Client) {
    let answer = client.request("$SYS.REQ.USER.INFO", "".into());
    answer.await.unwrap();
}

pub async fn migrate(url: &str, module: Module) {
    let mut connection = pg(url).await;
    artstore_migrations::up(&mut connection, &module, None)
        .await
        .unwrap();
    connection.close().await.unwrap();
}

pub async fn pg(url: &str) -> PgConnection {
    try_pg(url).await.unwrap()
}

pub async fn try_pg(url: &str) -> sqlx::Result<PgConnection> {
    let options: sqlx::postgres::PgConnectOptions = url.parse()?;
    options
        .log_statements(tracing::log::LevelFilter::Off)
        .connect()
        .await
}

/// Runs statements on a connection.
pub async fn execute(connection: &mut PgConnection, sql: impl Into<String>) {
    try_execute(connection, sql).await.unwrap();
}

/// Changes finished rows of an element, behind the trigger that refuses that.
pub async fn forge(connection: &mut PgConnection, element: &str, sql: impl Into<String>) {
    let trigger =
        format!("alter table {element}_wal {{}} trigger {element}_wal_finished_unchanged");
    let (off, on) = (
        trigger.replace("{}", "disable"),
        trigger.replace("{}", "enable always"),
    );
    execute(connection, format!("{off}; {}; {on}", sql.into())).await;
}

pub async fn try_execute(
    connection: &mut PgConnection,
    sql: impl Into<String>,
) -> sqlx::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql.into()))
        .execute(connection)
        .await?;
    Ok(())
}

/// One value.
pub async fn value<T>(connection: &mut PgConnection, sql: impl Into<String>) -> T
where
    T: for<'a> sqlx::Decode<'a, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    let row = sqlx::query(AssertSqlSafe(sql.into()))
        .fetch_one(connection)
        .await
        .unwrap();
    row.get(0)
}
