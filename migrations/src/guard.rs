//! Databases that are not migrated: another module's, and one whose tables something else created.
//!
//! Two modules that once shared a database dropped each other's tables; so a wrong name in the
//! configuration is refused here, before anything is written. Read from `pg_class`, not from
//! `information_schema`, which hides what the role may not use.

use sqlx::PgConnection;

use crate::error::MigrateError;
use crate::module::{ADMIN_TABLES, Module, QUERY_TABLES};

/// Refuses a database that holds a table of another module. Another element's tables beside a
/// storage element's are accepted: installations have such strays, and no prefix is another's.
pub(crate) async fn refuse_other_modules(
    conn: &mut PgConnection,
    module: &Module,
) -> Result<(), MigrateError> {
    let found = match module {
        Module::Admin => match query_table(conn, module).await? {
            Some(table) => Some(table),
            None => storage_table(conn, module).await?,
        },
        Module::Query => match admin_table(conn, module).await? {
            Some(table) => Some(table),
            None => storage_table(conn, module).await?,
        },
        Module::Storage(_) => match admin_table(conn, module).await? {
            Some(table) => Some(table),
            None => query_table(conn, module).await?,
        },
    };
    let Some((owner, table)) = found else {
        return Ok(());
    };
    Err(MigrateError::WrongDatabase {
        database: database_name(conn, module).await?,
        owner,
        table,
        whose: match module {
            Module::Admin => "admin's".to_owned(),
            Module::Query => "query's".to_owned(),
            Module::Storage(element) => format!("{element}'s"),
        },
        variable: module.variable(),
    })
}

/// Refuses a database where something of the module's own name exists though no version table
/// shows that we created it. Only to be called where there is none.
pub(crate) async fn refuse_unmanaged(
    conn: &mut PgConnection,
    module: &Module,
) -> Result<(), MigrateError> {
    let mut names = module.tables();
    names.extend(module.sequences_and_types());
    // A table is also a type, hence the union; an array type has another name.
    let found: Vec<String> = sqlx::query_scalar(
        "select relname::text from pg_catalog.pg_class
         where relnamespace = 'public'::regnamespace and relname = any($1)
         union
         select typname::text from pg_catalog.pg_type
         where typnamespace = 'public'::regnamespace and typname = any($1)
         order by 1",
    )
    .bind(&names)
    .fetch_all(&mut *conn)
    .await
    .map_err(MigrateError::database(
        "looking for existing tables",
        module,
    ))?;
    if found.is_empty() {
        return Ok(());
    }
    Err(MigrateError::Unmanaged {
        database: database_name(conn, module).await?,
        module: module.clone(),
        found,
        version_table: module.version_table(),
    })
}

/// The database's own name, for messages: a URL may not contain it.
pub(crate) async fn database_name(
    conn: &mut PgConnection,
    module: &Module,
) -> Result<String, MigrateError> {
    sqlx::query_scalar("select current_database()::text")
        .fetch_one(conn)
        .await
        .map_err(MigrateError::database(
            "asking for the database's name",
            module,
        ))
}

type WrongDatabase = Option<(&'static str, String)>;

async fn admin_table(
    conn: &mut PgConnection,
    module: &Module,
) -> Result<WrongDatabase, MigrateError> {
    let table = first_of(conn, module, ADMIN_TABLES).await?;
    Ok(table.map(|table| ("the admin module's", table)))
}

async fn query_table(
    conn: &mut PgConnection,
    module: &Module,
) -> Result<WrongDatabase, MigrateError> {
    let table = first_of(conn, module, QUERY_TABLES).await?;
    Ok(table.map(|table| ("the query module's", table)))
}

async fn first_of(
    conn: &mut PgConnection,
    module: &Module,
    tables: &[&str],
) -> Result<Option<String>, MigrateError> {
    sqlx::query_scalar(
        "select relname::text from pg_catalog.pg_class
         where relnamespace = 'public'::regnamespace
             and relkind in ('r', 'p', 'v', 'm', 'f')
             and relname = any($1)
         order by array_position($1, relname::text)
         limit 1",
    )
    .bind(tables)
    .fetch_optional(conn)
    .await
    .map_err(MigrateError::database(
        "looking for another module's tables",
        module,
    ))
}

/// An element's prefix can be anything, so it is known by the shape of its tables.
async fn storage_table(
    conn: &mut PgConnection,
    module: &Module,
) -> Result<WrongDatabase, MigrateError> {
    let table: Option<String> = sqlx::query_scalar(
        "select wal.relname::text
         from pg_catalog.pg_class as wal
         where wal.relnamespace = 'public'::regnamespace
             and wal.relkind in ('r', 'p', 'v', 'm', 'f')
             and wal.relname ~ '._wal$'
             and (
                 select count(*) from pg_catalog.pg_attribute as col
                 where col.attrelid = wal.oid and not col.attisdropped
                     and col.attname in ('transaction_id', 'operation_type')
             ) = 2
             and exists (
                 select 1 from pg_catalog.pg_class as files
                 where files.relnamespace = wal.relnamespace
                     and files.relname = regexp_replace(wal.relname, '_wal$', '_files')
             )
         order by wal.relname
         limit 1",
    )
    .fetch_optional(conn)
    .await
    .map_err(MigrateError::database(
        "looking for a storage element's tables",
        module,
    ))?;
    Ok(table.map(|table| ("a storage element's", table)))
}
