//! The tables of a database, from PostgreSQL's catalogue, as lines of [`crate::catalogue`]. Goes to
//! [`crate::compare`].

use sqlx::{Acquire as _, PgConnection, Row as _};

use crate::catalogue::{Catalogue, Name, kind};
use crate::error::MigrateError;
use crate::later::Later;
use crate::module::Module;

/// The catalogue of a module's tables as lines, in a fixed order.
///
/// # Errors
///
/// The database did not answer.
pub async fn catalogue(
    conn: &mut PgConnection,
    module: &Module,
) -> Result<Vec<String>, MigrateError> {
    let found = read(conn, module, &Later::of(module)).await?;
    Ok(found
        .iter()
        .map(|(name, text)| format!("{name} {text}").trim_end().to_owned())
        .collect())
}

/// What is there under the names of the module: its tables with all that hangs on them, its types
/// and sequences, and whatever has a name that a later step needs.
pub(crate) async fn read(
    conn: &mut PgConnection,
    module: &Module,
    later: &Later,
) -> Result<Catalogue, MigrateError> {
    let failed = |source| MigrateError::database("reading the catalogue", module)(source);
    // With nothing but the catalogue on the path, every name of ours is printed with its schema,
    // whatever the role's own path is. Rolled back: only the setting would be kept.
    let mut tx = conn.begin().await.map_err(failed)?;
    sqlx::raw_sql("set local search_path = pg_catalog")
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
    let rows = sqlx::query(include_str!("sql/catalogue.sql"))
        .bind(module.tables())
        .bind(module.sequences_and_types())
        .bind(later.names())
        .fetch_all(&mut *tx)
        .await
        .map_err(failed)?;
    tx.rollback().await.map_err(failed)?;

    let mut found = Catalogue::new();
    for row in rows {
        let word: String = row.try_get("kind").map_err(failed)?;
        let name = Name {
            kind: kind(&word),
            table: row.try_get("table").map_err(failed)?,
            name: row.try_get("name").map_err(failed)?,
        };
        found.insert(name, row.try_get("text").map_err(failed)?);
    }
    Ok(found)
}
