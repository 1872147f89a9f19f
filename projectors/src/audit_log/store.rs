//! The log in its database: rows, tiles, heads, and how far each stream's tree has come. Everything
//! of one batch is written in the runner's transaction.

use data_encoding::HEXLOWER;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::canonical;
use super::head::Boundary;
use super::row::{FORMAT, Hash, Row};
use super::tile::{TileId, Tiles, Wanted};
use super::tree;
use crate::runtime::checkpoint::Advance;

/// How far a stream's log has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tip {
    /// The log's name.
    pub origin: String,
    /// How many rows it has.
    pub size: u64,
    /// The signature of the last one; of none, the hash of the origin.
    pub last_signature: Hash,
}

/// A row with its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The row.
    pub row: Row,
    /// Its signature, which covers that of the row before.
    pub signature: Hash,
}

/// Reads a tip; none before the first row.
pub async fn tip(connection: &mut PgConnection, stream: &str) -> Result<Option<Tip>, sqlx::Error> {
    let row = sqlx::query(
        "select origin, size, last_signature from public.audit_trees where stream = $1",
    )
    .bind(stream)
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(Tip {
            origin: row.try_get("origin")?,
            size: unsigned(row.try_get("size")?),
            last_signature: hash(row.try_get("last_signature")?)?,
        })
    })
    .transpose()
}

/// Moves the tip from `old` rows to `new`.
pub async fn advance(
    connection: &mut PgConnection,
    stream: &str,
    old: u64,
    new: &Tip,
) -> Result<Advance, sqlx::Error> {
    let sql = match old {
        0 => {
            "insert into public.audit_trees (stream, origin, size, last_signature) \
             select $1, $2, $3, $4 where $5 = 0::bigint on conflict (stream) do nothing"
        }
        _ => {
            "update public.audit_trees set size = $3, last_signature = $4 \
             where stream = $1 and origin = $2 and size = $5"
        }
    };
    let done = sqlx::query(sql)
        .bind(stream)
        .bind(&new.origin)
        .bind(signed(new.size))
        .bind(new.last_signature.as_slice())
        .bind(signed(old))
        .execute(connection)
        .await?;
    Ok(Advance::of_rows(done.rows_affected()))
}

/// Reads tiles, those of them that are there.
pub async fn tiles(
    connection: &mut PgConnection,
    stream: &str,
    places: &[TileId],
) -> Result<Tiles, sqlx::Error> {
    let rows = sqlx::query(
        "select t.level, t.tile, t.hashes from public.audit_tiles t \
         join unnest($2::smallint[], $3::bigint[]) as wanted (level, tile) using (level, tile) \
         where t.stream = $1",
    )
    .bind(stream)
    .bind(places.iter().map(|p| level(*p)).collect::<Vec<_>>())
    .bind(places.iter().map(|p| signed(p.index)).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let mut tiles = Tiles::default();
    for row in rows {
        let place = TileId {
            level: u32::try_from(row.try_get::<i16, _>("level")?).unwrap_or(u32::MAX),
            index: unsigned(row.try_get("tile")?),
        };
        let bytes: &[u8] = row.try_get("hashes")?;
        let (hashes, _) = bytes.as_chunks::<32>();
        tiles.0.insert(place, hashes.to_vec());
    }
    Ok(tiles)
}

/// Writes tiles that are new or have grown.
pub async fn put_tiles(
    connection: &mut PgConnection,
    stream: &str,
    tiles: &Tiles,
) -> Result<(), sqlx::Error> {
    let bytes: Vec<Vec<u8>> = tiles.0.values().map(|hashes| hashes.concat()).collect();
    sqlx::query(
        "insert into public.audit_tiles (stream, level, tile, hashes) \
         select $1, * from unnest($2::smallint[], $3::bigint[], $4::bytea[]) \
         on conflict (stream, level, tile) do update set hashes = excluded.hashes",
    )
    .bind(stream)
    .bind(tiles.0.keys().map(|p| level(*p)).collect::<Vec<_>>())
    .bind(tiles.0.keys().map(|p| signed(p.index)).collect::<Vec<_>>())
    .bind(bytes)
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes rows of one stream, signed with one key.
pub async fn insert(
    connection: &mut PgConnection,
    stream: &str,
    kid: &str,
    rows: &[Signed],
) -> Result<(), sqlx::Error> {
    fn all<T>(rows: &[Signed], of: impl Fn(&Row) -> T) -> Vec<T> {
        rows.iter().map(|signed| of(&signed.row)).collect()
    }
    let signatures = rows.iter().map(|row| HEXLOWER.encode(&row.signature));
    sqlx::query(include_str!("sql/audit_rows_insert.sql"))
        .bind(FORMAT)
        .bind(stream)
        .bind(kid)
        .bind(all(rows, |r| i32::try_from(r.mapping).unwrap_or(i32::MAX)))
        .bind(all(rows, |r| signed(r.sequence)))
        .bind(all(rows, |r| r.event_id))
        .bind(all(rows, |r| r.event_type.clone()))
        .bind(all(rows, |r| r.severity.clone()))
        .bind(all(rows, |r| r.actor_type.clone()))
        .bind(all(rows, |r| r.actor_id.clone()))
        .bind(all(rows, |r| r.actor_name.clone()))
        .bind(all(rows, |r| r.actor_role.clone()))
        .bind(all(rows, |r| r.account_ids().0))
        .bind(all(rows, |r| r.account_ids().1))
        .bind(all(rows, |r| r.resource_type.clone()))
        .bind(all(rows, |r| r.resource_id.clone()))
        .bind(all(rows, |r| r.action.clone()))
        .bind(all(rows, |r| r.ip_address.clone()))
        .bind(all(rows, |r| r.user_agent.clone()))
        .bind(all(rows, |r| r.request_id.clone()))
        .bind(all(rows, |r| r.session_id.clone()))
        .bind(all(rows, |r| r.data.clone()))
        .bind(all(rows, |r| r.success))
        .bind(all(rows, |r| r.error_message.clone()))
        .bind(all(rows, |r| r.time()))
        .bind(signatures.collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}

/// Writes a head; one that is there already has the same bytes.
pub async fn put_head(
    connection: &mut PgConnection,
    stream: &str,
    size: u64,
    note: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into public.audit_heads (stream, size, note) values ($1, $2, $3) \
         on conflict (stream, size) do nothing",
    )
    .bind(stream)
    .bind(signed(size))
    .bind(note)
    .execute(connection)
    .await?;
    Ok(())
}

/// The head of a size.
pub(crate) async fn head_at(
    connection: &mut PgConnection,
    stream: &str,
    size: u64,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar("select note from public.audit_heads where stream = $1 and size = $2")
        .bind(stream)
        .bind(signed(size))
        .fetch_optional(connection)
        .await
}

/// The heads above a size, ascending, at most so many.
pub(crate) async fn heads_above(
    connection: &mut PgConnection,
    stream: &str,
    size: u64,
    most: i64,
) -> Result<Vec<(u64, String)>, sqlx::Error> {
    let rows: Vec<(i64, String)> = sqlx::query_as(
        "select size, note from public.audit_heads where stream = $1 and size > $2 \
         order by size limit $3",
    )
    .bind(stream)
    .bind(signed(size))
    .bind(most)
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(size, note)| (unsigned(size), note))
        .collect())
}

/// The last head: its size, and how old it is in seconds; none before the first.
pub async fn last_head(
    connection: &mut PgConnection,
    stream: &str,
) -> Result<Option<(u64, f64)>, sqlx::Error> {
    let row: Option<(i64, f64)> = sqlx::query_as(
        "select size, extract(epoch from clock_timestamp() - signed_at)::float8 \
         from public.audit_heads where stream = $1 order by size desc limit 1",
    )
    .bind(stream)
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|(size, age)| (unsigned(size), age)))
}

/// The last head of at most so many rows; none before the first.
pub(crate) async fn last_head_up_to(
    connection: &mut PgConnection,
    stream: &str,
    size: u64,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select note from public.audit_heads where stream = $1 and size <= $2 \
         order by size desc limit 1",
    )
    .bind(stream)
    .bind(signed(size))
    .fetch_optional(connection)
    .await
}

/// Whether a row is in the table.
pub async fn is_there(
    connection: &mut PgConnection,
    stream: &str,
    sequence: u64,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select exists (select from public.audit_logs where stream = $1 and stream_sequence = $2)",
    )
    .bind(stream)
    .bind(signed(sequence))
    .fetch_one(connection)
    .await
}

/// The boundary; none before it was drawn.
pub async fn boundary(connection: &mut PgConnection) -> Result<Option<Boundary>, sqlx::Error> {
    let row = sqlx::query("select rows, last_id, digest from public.audit_boundary")
        .fetch_optional(connection)
        .await?;
    row.map(|row| {
        Ok(Boundary {
            rows: unsigned(row.try_get("rows")?),
            last_id: row.try_get("last_id")?,
            digest: hash(row.try_get("digest")?)?,
        })
    })
    .transpose()
}

/// The columns of [`stored`]. Reading them is no error whatever a row holds: a time that microseconds
/// in 64 bits do not reach (PostgreSQL has such times from the year 292277 on) is read as none, as an
/// infinite one is.
pub const COLUMNS: &str = "id, format, mapping, stream, stream_sequence, event_id, event_type, \
     severity, actor_type, actor_id, actor_name, actor_role, user_id, service_account_id, \
     resource_type, resource_id, action, ip_address, user_agent, request_id, session_id, data, \
     success, error_message, \
     case when isfinite(created_at) and created_at < timestamptz '292277-01-01 00:00:00+00' \
         then (extract(epoch from created_at) * 1000000)::bigint end as created_at, \
     kid, hmac_signature";

/// A row as the table has it, whatever was done to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its key in the table.
    pub id: i64,
    /// Its format.
    pub format: i16,
    /// What is signed.
    pub row: Row,
    /// Not signed: `user_id` and `service_account_id`.
    pub account_ids: (Option<i32>, Option<Uuid>),
    /// The id of the key that it was signed with, as it states.
    pub kid: String,
    /// The signature, as text.
    pub hmac_signature: String,
    /// What can't be what was signed, whatever the signature: a number in `data` that no row has.
    pub broken: Option<String>,
}

/// Reads a row of the table; its stream and sequence are not null.
pub fn stored(row: &PgRow) -> Result<Stored, sqlx::Error> {
    let data: Option<Json<serde_json::Value>> = match row.try_get("data") {
        Ok(data) => data,
        Err(error) => return broken(row, &error),
    };
    let text = data.map(|Json(data)| canonical::text(&data)).transpose();
    match text {
        Ok(text) => read(row, text, None),
        Err(error) => read(row, None, Some(format!("data: {error}"))),
    }
}

fn broken(row: &PgRow, error: &sqlx::Error) -> Result<Stored, sqlx::Error> {
    read(row, None, Some(format!("data: {error}")))
}

fn read(
    row: &PgRow,
    data: Option<String>,
    mut broken: Option<String>,
) -> Result<Stored, sqlx::Error> {
    // `infinity` is a time for PostgreSQL, and so is the year 294276.
    let created_at: Option<i64> = row.try_get("created_at")?;
    if created_at.is_none() {
        broken = Some("created_at is a time that no row has".to_owned());
    }
    let mapping: Option<i32> = row.try_get("mapping")?;
    let kid: Option<String> = row.try_get("kid")?;
    let format: Option<i16> = row.try_get("format")?;
    let signature: Option<String> = row.try_get("hmac_signature")?;
    let success: Option<bool> = row.try_get("success")?;
    // What can't be null is null only where somebody has made it so.
    let mut required = |column: &str| -> Result<String, sqlx::Error> {
        let text: Option<String> = row.try_get(column)?;
        if text.is_none() {
            broken = Some(format!("{column} is null"));
        }
        Ok(text.unwrap_or_default())
    };
    let event_type = required("event_type")?;
    let severity = required("severity")?;
    let actor_type = required("actor_type")?;
    let action = required("action")?;
    if success.is_none() {
        broken = Some("success is null".to_owned());
    }
    Ok(Stored {
        id: row.try_get("id")?,
        format: format.unwrap_or(0),
        account_ids: (row.try_get("user_id")?, row.try_get("service_account_id")?),
        kid: kid.unwrap_or_default(),
        hmac_signature: signature.unwrap_or_default(),
        broken,
        row: Row {
            mapping: u32::try_from(mapping.unwrap_or(0)).unwrap_or(0),
            stream: row.try_get("stream")?,
            sequence: unsigned(row.try_get("stream_sequence")?),
            event_id: row.try_get("event_id")?,
            event_type,
            severity,
            actor_type,
            actor_id: row.try_get("actor_id")?,
            actor_name: row.try_get("actor_name")?,
            actor_role: row.try_get("actor_role")?,
            resource_type: row.try_get("resource_type")?,
            resource_id: row.try_get("resource_id")?,
            action,
            ip_address: row.try_get("ip_address")?,
            user_agent: row.try_get("user_agent")?,
            request_id: row.try_get("request_id")?,
            session_id: row.try_get("session_id")?,
            data,
            success: success.unwrap_or_default(),
            error_message: row.try_get("error_message")?,
            created_at: created_at.unwrap_or(0),
        },
    })
}

fn level(place: TileId) -> i16 {
    i16::try_from(place.level).unwrap_or(i16::MAX)
}

fn hash(bytes: Vec<u8>) -> Result<Hash, sqlx::Error> {
    let length = bytes.len();
    bytes
        .try_into()
        .map_err(|_| sqlx::Error::Decode(format!("{length} bytes where a hash has 32").into()))
}

pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// The root of the first `size` rows, from the stored tree; none where its tiles are not there.
pub(crate) async fn root_at(
    connection: &mut PgConnection,
    stream: &str,
    size: u64,
) -> Result<Option<Hash>, sqlx::Error> {
    let wanted = Wanted::default();
    tree::root(&wanted, size);
    let tiles: Tiles = tiles(connection, stream, &wanted.places()).await?;
    Ok(tree::root(&tiles, size))
}
