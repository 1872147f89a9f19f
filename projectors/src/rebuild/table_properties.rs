//! The properties that rebuilt tables share with the live ones, and that may change while they are filled:
//! owner, rights, settings, comments and indexes. They are copied before the swap, and
//! checked once more under the locks.

use artstore_runtime::crash;
use sqlx::PgConnection;

use super::session::run;
use super::{OnStep, RebuildError, Step};
use crate::projector::Projector;

/// Gives the tables in a schema what the live ones have: quick where nothing has changed.
pub(crate) async fn copy_properties<P: Projector>(
    connection: &mut PgConnection,
    schema: &str,
    on_step: OnStep<'_>,
) -> Result<(), RebuildError> {
    if has_same_properties::<P>(connection, schema).await? {
        return Ok(());
    }
    for table in P::REBUILT {
        copy(connection, schema, table.name).await?;
        drop_indexes(connection, schema, table.name).await?;
    }
    index::<P>(connection, schema, on_step).await?;
    match has_same_properties::<P>(connection, schema).await? {
        true => Ok(()),
        false => Err(RebuildError::Unlike(schema.to_owned())),
    }
}

/// Whether they have the same.
pub(crate) async fn has_same_properties<P: Projector>(
    connection: &mut PgConnection,
    schema: &str,
) -> Result<bool, sqlx::Error> {
    Ok(digest::<P>(connection, "public").await? == digest::<P>(connection, schema).await?)
}

async fn digest<P: Projector>(
    connection: &mut PgConnection,
    schema: &str,
) -> Result<String, sqlx::Error> {
    let names: Vec<&str> = P::REBUILT.iter().map(|table| table.name).collect();
    sqlx::query_scalar(include_str!("sql/likeness_digest.sql"))
        .bind(schema)
        .bind(names)
        .fetch_one(connection)
        .await
}

/// Gives a table the owner, rights, settings and comment of the live one.
pub(crate) async fn copy(
    connection: &mut PgConnection,
    schema: &str,
    table: &str,
) -> Result<(), sqlx::Error> {
    let statements = include_str!("sql/likeness.sql");
    run_each(connection, statements, schema, table).await
}

/// Runs the statements that a query of a schema and a table gives.
async fn run_each(
    connection: &mut PgConnection,
    query: &'static str,
    schema: &str,
    table: &str,
) -> Result<(), sqlx::Error> {
    let statements: Vec<String> = sqlx::query_scalar(query)
        .bind(schema)
        .bind(table)
        .fetch_all(&mut *connection)
        .await?;
    for statement in statements {
        run(connection, &statement).await?;
    }
    Ok(())
}

/// Removes indexes that the live table has no more, or others by that name.
async fn drop_indexes(
    connection: &mut PgConnection,
    schema: &str,
    table: &str,
) -> Result<(), sqlx::Error> {
    let statements = "select format('drop index %I.%I', $1, c.relname) \
         from pg_index i join pg_class c on c.oid = i.indexrelid \
         where i.indrelid = format('%I.%I', $1, $2)::regclass \
             and not exists (select from pg_constraint k \
                 where k.conindid = i.indexrelid and k.contype in ('p', 'u', 'x')) \
             and not exists (select from pg_index l join pg_class n on n.oid = l.indexrelid \
                 where l.indrelid = format('public.%I', $2)::regclass and l.indisvalid \
                     and i.indisvalid and n.relname = c.relname \
                     and regexp_replace(pg_get_indexdef(l.indexrelid), ' ON \\S+ USING ', ' USING ') \
                         = regexp_replace(pg_get_indexdef(i.indexrelid), ' ON \\S+ USING ', ' USING '))";
    run_each(connection, statements, schema, table).await
}

/// Which indexes of a table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Indexes {
    All,
    /// Those that rows must have from the first one on.
    Unique,
}

/// Indexes of a live table that are no rules', as statements for the other one, those that it has
/// already left out.
pub(crate) async fn indexes(
    connection: &mut PgConnection,
    schema: &str,
    table: &str,
    which: Indexes,
) -> Result<Vec<(String, String)>, sqlx::Error> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "select c.relname::text, pg_get_indexdef(i.indexrelid) \
         from pg_index i join pg_class c on c.oid = i.indexrelid \
         where i.indrelid = format('public.%I', $2)::regclass and i.indisvalid \
             and (i.indisunique or not $3) \
             and not exists (select from pg_constraint k \
                 where k.conindid = i.indexrelid and k.contype in ('p', 'u', 'x')) \
             and to_regclass(format('%I.%I', $1, c.relname)) is null \
         order by c.relname",
    )
    .bind(schema)
    .bind(table)
    .bind(which == Indexes::Unique)
    .fetch_all(connection)
    .await?;
    let moved = |sql: &str| {
        let (live, other) = (
            format!(" ON public.{table} "),
            format!(" ON {schema}.{table} "),
        );
        sql.replacen(&live, &other, 1)
    };
    Ok(rows
        .into_iter()
        .map(|(name, sql)| (name, moved(&sql)))
        .collect())
}

/// Builds the indexes that are not there yet, and counts the rows for the planner.
pub(crate) async fn index<P: Projector>(
    connection: &mut PgConnection,
    schema: &str,
    on_step: OnStep<'_>,
) -> Result<(), sqlx::Error> {
    let mut all = Vec::new();
    for table in P::REBUILT {
        all.extend(indexes(connection, schema, table.name, Indexes::All).await?);
    }
    for (number, (name, statement)) in all.iter().enumerate() {
        on_step(Step::Indexing {
            index: name.clone(),
            number: number + 1,
            of: all.len(),
        });
        run(connection, statement).await?;
        crash::point("rebuild.indexed");
    }
    for table in P::REBUILT {
        run(connection, &format!("analyze {schema}.{}", table.name)).await?;
    }
    Ok(())
}
