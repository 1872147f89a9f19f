//! What elements' databases report about some files: their rows, positions and pending operations, each
//! database at one moment.

use std::collections::HashMap;
use std::time::Duration;

use artstore_producers::texts::Texts;
use artstore_runtime::text::text;
use artstore_schemas::element::ElementName;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use uuid::Uuid;

use super::rows::{self, TableFile};

/// What an element's database reports about some files, at one moment.
#[derive(Debug, Default, PartialEq)]
pub(super) struct ElementFiles {
    pub(super) files: HashMap<Uuid, TableFile>,
    /// The highest position of each file.
    pub(super) positions: HashMap<Uuid, i64>,
    /// Files with an operation that nobody has finished, and for how long.
    pub(super) pending: HashMap<Uuid, Duration>,
}

/// Asks all elements.
pub(super) async fn see_all(
    elements: &mut [(ElementName, PgConnection)],
    ids: &[Uuid],
) -> anyhow::Result<Vec<ElementFiles>> {
    let mut seen = Vec::with_capacity(elements.len());
    for (element, connection) in elements {
        seen.push(see(connection, element, ids).await?);
    }
    Ok(seen)
}

/// Files, positions and what is pending, in one snapshot.
async fn see(
    connection: &mut PgConnection,
    element: &ElementName,
    ids: &[Uuid],
) -> anyhow::Result<ElementFiles> {
    let mut snapshot = connection.begin().await?;
    sqlx::raw_sql("set transaction isolation level repeatable read read only")
        .execute(&mut *snapshot)
        .await?;
    let texts = Texts::of_element(&mut snapshot, element).await?;
    let mut seen = ElementFiles::default();
    let mut by_name = HashMap::new();
    for file in rows::in_table(&mut snapshot, element, &texts, ids).await? {
        by_name.insert(file.storage_filename.clone(), file.file_id);
        seen.files.insert(file.file_id, file);
    }
    let sql = format!(
        "select file_id, max(position) as position, \
             case when bool_or(status = 'pending') then greatest(0, extract(epoch from now() - min(started_at) \
                 filter (where status = 'pending' and isfinite(started_at))))::float8 end as pending \
         from public.{element}_wal where file_id = any($1) group by file_id"
    );
    let operations = sqlx::query(AssertSqlSafe(sql))
        .bind(ids)
        .fetch_all(&mut *snapshot)
        .await?;
    for row in operations {
        let id: Uuid = row.try_get("file_id")?;
        if let Some(position) = row.try_get("position")? {
            seen.positions.insert(id, position);
        }
        if let Some(seconds) = row.try_get::<Option<f64>, _>("pending")? {
            seen.pending.insert(id, Duration::from_secs_f64(seconds));
        }
    }
    // A create may be pending from before its file had an id: its name on disk is unique.
    let name = texts.sql("{operation_data ->> 'storage_filename'}");
    let sql = format!(
        "select {name} as name, \
             case when isfinite(started_at) \
                 then greatest(0, extract(epoch from now() - started_at)) else 0 end::float8 as pending \
         from public.{element}_wal \
         where status = 'pending' and file_id is null and {name} = any($1)"
    );
    let names = sqlx::query(AssertSqlSafe(sql));
    let names = if texts.are_bytes() {
        names.bind(by_name.keys().map(String::as_bytes).collect::<Vec<_>>())
    } else {
        names.bind(by_name.keys().collect::<Vec<_>>())
    };
    for row in names.fetch_all(&mut *snapshot).await? {
        if let Some(id) = by_name.get(&text(&row, "name")?) {
            let seconds = Duration::from_secs_f64(row.try_get("pending")?);
            let age = seen.pending.entry(*id).or_default();
            *age = (*age).max(seconds);
        }
    }
    snapshot.rollback().await?;
    Ok(seen)
}
