//! What databases report: of a source its last position, its pending operations and its lock; of the
//! read model its checkpoints and workers. Small read-only statements, which the server ends when
//! nobody waits for them any more.

use std::time::Duration;

use artstore_producers::relay::election;
use artstore_producers::relay::source::SourceTable;
use artstore_runtime::holder::{self, Holder};
use artstore_runtime::{connection, relation, words};
use artstore_schemas::ranges::Ranges;
use artstore_schemas::source::Source;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgConnection, Row as _};

use super::Rows;

/// Rows are counted up to here.
const MOST: i64 = 100_000;

/// What a source's database reports without NATS.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceFacts {
    /// The last position that was drawn; 0 before the first.
    pub position: i64,
    /// Operations that nobody has finished.
    pub pending: Rows,
    /// Who has the relay's lock; none where nobody has.
    pub holder: Option<Holder>,
    /// Whether another session had it a moment before.
    pub changed_hands: bool,
}

/// A checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// The projection.
    pub projection: String,
    /// The stream.
    pub stream: String,
    /// The version of the tables.
    pub version: i32,
    /// The sequence of the last message applied.
    pub sequence: u64,
    /// The source's highest position that the rows show.
    pub high_water_mark: i64,
    /// When its stream was made.
    pub stream_created_at: chrono::DateTime<chrono::Utc>,
    /// Since it last moved, in seconds.
    pub moved_seconds: f64,
    /// How many events are parked.
    pub parked: u64,
}

/// Connects to a database; statements end by themselves after `patience`.
pub async fn connect(
    database: &PgConnectOptions,
    patience: Duration,
) -> Result<PgConnection, sqlx::Error> {
    let options = database
        .clone()
        .application_name("artstore status")
        .log_statements(tracing::log::LevelFilter::Trace);
    let patience = patience.as_millis();
    let settings =
        format!("set statement_timeout = {patience}; set default_transaction_read_only = on");
    connection::open_with(&options, &settings).await
}

/// Numbers of a table that hides rows would look as if all were well.
async fn shows_all(connection: &mut PgConnection, tables: &[String]) -> Result<(), sqlx::Error> {
    match relation::unfit(connection, tables).await? {
        Some(unfit) => Err(sqlx::Error::Configuration(Box::new(unfit))),
        None => Ok(()),
    }
}

/// An error of connecting, as a command ends with it; `check` is what to look at.
pub fn not_connected(
    database: &PgConnectOptions,
    check: impl std::fmt::Display,
    error: sqlx::Error,
) -> anyhow::Error {
    let what = words::not_connected(connection::shown(database), &error);
    anyhow::Error::from(error).context(format!("{what}; check {check}"))
}

/// What a source's database reports without NATS.
pub async fn source(
    connection: &mut PgConnection,
    source: &Source,
) -> Result<SourceFacts, sqlx::Error> {
    shows_all(connection, &SourceTable::of(source).relations()).await?;
    let position = position(connection, source).await?;
    let pending = match source {
        Source::Element(element) => {
            let sql = format!(
                "select count(*) as rows, \
                        extract(epoch from clock_timestamp() - min(p.at))::float8 as oldest \
                 from (select {} as at from public.{element}_wal w where w.status = 'pending' \
                       order by w.started_at limit $1) p",
                bounded("w.started_at")
            );
            let row = sqlx::query(AssertSqlSafe(sql)).bind(MOST);
            rows(&row.fetch_one(&mut *connection).await?)?
        }
        // A row of an outbox is finished when it is inserted.
        Source::Admin | Source::Query => Rows {
            rows: 0,
            at_least: false,
            oldest_seconds: None,
        },
    };
    Ok(SourceFacts {
        position,
        pending,
        holder: election::holder(connection, source).await?,
        changed_hands: false,
    })
}

/// The oldest transaction that has drawn positions and has not ended.
pub async fn held_by(
    connection: &mut PgConnection,
    source: &Source,
) -> Result<Option<Holder>, sqlx::Error> {
    holder::of_sequence(connection, SourceTable::of(source).sequence()).await
}

async fn position(connection: &mut PgConnection, source: &Source) -> Result<i64, sqlx::Error> {
    let sequence = match source {
        Source::Element(element) => format!("public.{element}_wal_position_seq"),
        Source::Admin | Source::Query => "public.event_outbox_position_seq".to_owned(),
    };
    sqlx::query_scalar("select coalesce(pg_sequence_last_value($1::text::regclass), 0)")
        .bind(sequence)
        .fetch_one(connection)
        .await
}

/// Finished rows that are above `high_water_mark` or in `gaps`, and the last position that was given
/// out. Asked after the stream was read, so that the source is never taken to be behind it.
pub async fn unpublished(
    connection: &mut PgConnection,
    source: &Source,
    high_water_mark: i64,
    gaps: &Ranges,
) -> Result<(Rows, i64), sqlx::Error> {
    let time = match source {
        Source::Element(_) => "coalesce(t.completed_at, t.started_at)",
        Source::Admin | Source::Query => "t.occurred_at",
    };
    let sql = include_str!("sql/unpublished.sql")
        .replace("{time}", &bounded(time))
        .replace("{table}", SourceTable::of(source).name());
    let ranges = gaps.as_slice();
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(high_water_mark)
        .bind(ranges.iter().map(|range| range.first).collect::<Vec<_>>())
        .bind(ranges.iter().map(|range| range.last).collect::<Vec<_>>())
        .bind(MOST)
        .fetch_one(&mut *connection)
        .await?;
    Ok((rows(&row)?, position(connection, source).await?))
}

/// A time that others wrote may be infinite, and then has no age.
fn bounded(time: &str) -> String {
    format!("least(greatest({time}, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00')")
}

fn rows(row: &sqlx::postgres::PgRow) -> Result<Rows, sqlx::Error> {
    let rows: i64 = row.try_get("rows")?;
    // A writer's clock may be ahead of the database's.
    let oldest: Option<f64> = row.try_get("oldest")?;
    Ok(Rows {
        rows,
        at_least: rows >= MOST,
        oldest_seconds: oldest.map(|oldest| oldest.max(0.0)),
    })
}

/// All checkpoints of all projections, all of one moment. An admin module's database from before the
/// audit log has none.
pub async fn checkpoints(connection: &mut PgConnection) -> Result<Vec<Checkpoint>, sqlx::Error> {
    let before: bool = sqlx::query_scalar(
        "select to_regclass('public.projection_checkpoints') is null \
             and to_regclass('public.artstore_admin_version') is not null",
    )
    .fetch_one(&mut *connection)
    .await?;
    if before {
        return Ok(Vec::new());
    }
    let read = [
        "projection_checkpoints",
        "projection_parked",
        "projection_pauses",
    ];
    shows_all(connection, &read.map(|table| format!("public.{table}"))).await?;
    let found = sqlx::query(
        "select projection, stream, version, last_sequence, source_high, stream_created_at, \
                extract(epoch from clock_timestamp() - updated_at)::float8 as moved, \
                (select count(*) from public.projection_parked p \
                 where (p.projection, p.stream) = (c.projection, c.stream)) as parked \
         from public.projection_checkpoints c order by projection, stream",
    )
    .fetch_all(connection)
    .await?;
    found
        .iter()
        .map(|row| {
            Ok(Checkpoint {
                projection: row.try_get("projection")?,
                stream: row.try_get("stream")?,
                version: row.try_get("version")?,
                sequence: u64::try_from(row.try_get::<i64, _>("last_sequence")?).unwrap_or(0),
                high_water_mark: row.try_get("source_high")?,
                stream_created_at: row.try_get("stream_created_at")?,
                moved_seconds: row.try_get::<f64, _>("moved")?.max(0.0),
                parked: u64::try_from(row.try_get::<i64, _>("parked")?).unwrap_or(0),
            })
        })
        .collect()
}
