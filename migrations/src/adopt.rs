//! Takes over tables that the product created: from what its version tables and the catalogue contain
//! ([`crate::difference`]) to our version table, in which version 1 is then recorded as adopted.
//! From there [`crate::runner`] continues.
//!
//! Only tables of the module itself are touched, the product's own version table never. All
//! repairs are additions, each complete in itself: a crash between them leaves an installation
//! that the product still runs on, and another try continues.

use artstore_runtime::crash;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::catalogue::{self, Kind};
use crate::compare::compare;
use crate::difference::{Difference, Effect};
use crate::error::MigrateError;
use crate::history::ADOPTED;
use crate::later::Later;
use crate::module::Module;
use crate::step::{Script, Step};
use crate::{existing, guard, history, lock, repair};

/// Who created the existing tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// None of the module's tables is there.
    Nothing,
    /// There is a version table of ours.
    Ours {
        /// The version that it is at.
        version: u32,
        /// Whether version 1 was adopted, not made.
        adopted: bool,
    },
    /// Something else, most likely the product.
    Product {
        /// Its version table, where there is one.
        version_table: Option<String>,
        /// What is in it.
        revision: Option<String>,
        /// Whether that is the revision whose catalogue is version 1.
        known: bool,
    },
}

/// Rows of a storage element's write-ahead log that were written before there were positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OldRows {
    /// Finished: they get positions 1, 2, 3 and so on.
    pub finished: i64,
    /// Pending: they get one when they are finished.
    pub pending: i64,
    /// With a status that is neither: nobody hears of them.
    pub other: i64,
    /// Files that no finished row is about: they appear in events with their next operation.
    pub untold_files: i64,
}

/// The order in which [`OldRows::finished`] are numbered.
pub const OLD_ROWS_ORDER: &str = "completed_at, started_at, transaction_id";

/// What adoption found, and what it would do or has done.
#[derive(Debug, Clone)]
pub struct Adoption {
    /// Which module.
    pub module: Module,
    /// The database's own name.
    pub database: String,
    /// Who made the tables.
    pub origin: Origin,
    /// How they differ from version 1, what blocks first. Empty where the tables are ours.
    pub differences: Vec<Difference>,
    /// For a storage element that is not ours yet.
    pub old_rows: Option<OldRows>,
    /// Tables that a later step rewrites while nobody else can use them.
    pub written_anew: Vec<WrittenAnew>,
}

/// A table that a later step rewrites.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenAnew {
    /// Its name.
    pub table: String,
    /// How many rows it has, as the database estimates it; none where it never counted.
    pub rows: Option<i64>,
    /// Its size with its indexes, in bytes.
    pub bytes: i64,
}

impl Adoption {
    /// Whether the tables are the product's and nothing blocks.
    pub fn is_possible(&self) -> bool {
        matches!(self.origin, Origin::Product { .. })
            && self.differences.iter().all(|d| d.effect != Effect::Blocks)
    }

    /// What adoption runs, as SQL that does the same. Its last part is the version table.
    pub fn sql(&self) -> Vec<String> {
        let repairs = self
            .differences
            .iter()
            .flat_map(|difference| &difference.repair);
        let mut sql: Vec<String> = repairs.map(ToString::to_string).collect();
        sql.push(format!(
            "begin;\n{};\ninsert into public.{} (version, name, checksum)\n\
             values (1, '{}{ADOPTED}', '(SHA-256 of the step)');\ncommit;",
            history::create_sql(&self.module),
            self.module.version_table(),
            first(&self.module).0.name,
        ));
        sql
    }
}

/// Looks at an installation and changes nothing. Adoption does what this says, unless the tables
/// are changed in between.
///
/// # Errors
///
/// The database is another module's, our version table is not in order, or the database did not
/// answer.
pub async fn inspect(conn: &mut PgConnection, module: &Module) -> Result<Adoption, MigrateError> {
    guard::refuse_other_modules(conn, module).await?;
    let mut adoption = Adoption {
        module: module.clone(),
        database: guard::database_name(conn, module).await?,
        origin: Origin::Nothing,
        differences: Vec::new(),
        old_rows: None,
        written_anew: Vec::new(),
    };
    let history = history::read(conn, module).await?;
    let (version, adopted) = (history.version(), history.adopted);
    if version > 0 {
        adoption.origin = Origin::Ours { version, adopted };
        return Ok(adoption);
    }
    let later = Later::of(module);
    let expected = catalogue::expected(module);
    let found = existing::read(conn, module, &later).await?;
    if !found.keys().any(|name| name.kind == Kind::Table) {
        return Ok(adoption);
    }
    adoption.origin = product(conn, module).await?;
    adoption.differences = compare(&expected, &found, &later);
    for difference in &mut adoption.differences {
        ask_the_rows(conn, module, difference).await?;
    }
    let foreign = owned_by_others(conn, module).await?;
    adoption.differences.splice(0..0, foreign);
    let views = views_in_the_way(conn, module, &later).await?;
    adoption.differences.extend(views);
    adoption
        .differences
        .sort_by_key(|difference| difference.effect);
    adoption.old_rows = old_rows(conn, module, &found).await?;
    adoption.written_anew = written_anew(conn, module).await?;
    Ok(adoption)
}

/// Adopts: repairs what is to be repaired and records version 1 as adopted. Where that is not
/// possible, or the tables are ours already, nothing is changed; [`Adoption::origin`] and
/// [`Adoption::differences`] say why. Returns what was found before.
///
/// Takes a direct connection of its own, as [`crate::up`]. Two at once wait for each other.
///
/// # Errors
///
/// As [`inspect`]; a repair failed or got no lock. What was repaired before stays.
pub async fn adopt(conn: &mut PgConnection, module: &Module) -> Result<Adoption, MigrateError> {
    if conn.is_in_transaction() {
        return Err(MigrateError::InTransaction {
            module: module.clone(),
        });
    }
    lock::acquire(conn, module).await?;
    let result = take_over(conn, module).await;
    lock::release(conn, module).await;
    result
}

/// Holds the lock: what another migrator did before us is read only now.
async fn take_over(conn: &mut PgConnection, module: &Module) -> Result<Adoption, MigrateError> {
    let adoption = inspect(conn, module).await?;
    if !adoption.is_possible() {
        return Ok(adoption);
    }
    for difference in &adoption.differences {
        for statement in &difference.repair {
            repair::run(conn, module, &difference.what, statement).await?;
            crash::point("adopt.repaired");
            tracing::info!(%module, what = difference.what, "repaired");
        }
    }
    // The tables may have been changed since they were checked, or a repair undone.
    let after = inspect(conn, module).await?;
    let left = after
        .differences
        .iter()
        .find(|d| d.effect != Effect::Harmless);
    if let Some(left) = left {
        return Err(MigrateError::ChangedMeanwhile {
            module: module.clone(),
            what: left.what.clone(),
        });
    }
    record(conn, module).await?;
    Ok(adoption)
}

async fn record(conn: &mut PgConnection, module: &Module) -> Result<(), MigrateError> {
    let failed = |source| MigrateError::database("recording the adoption", module)(source);
    let (step, script) = first(module);
    let exists = history::read(conn, module).await?.exists;
    let begin = "begin isolation level read committed read write";
    let mut tx = conn.begin_with(begin).await.map_err(failed)?;
    if !exists {
        history::create(&mut tx, module).await.map_err(failed)?;
    }
    history::record(&mut tx, module, step, script)
        .await
        .map_err(failed)?;
    let sql = format!(
        "update public.{} set name = name || $1 where version = 1",
        module.version_table()
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(ADOPTED)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
    crash::point("adopt.recorded");
    // A crash before this line keeps nothing, after it the adoption is done.
    tx.commit().await.map_err(|source| MigrateError::Commit {
        module: module.clone(),
        step,
        direction: "adopting",
        source,
    })
}

/// The existing tables of the module, with the version tables of the product and of ours:
/// what a backup has to hold.
///
/// # Errors
///
/// The database did not answer.
pub async fn tables_present(
    conn: &mut PgConnection,
    module: &Module,
) -> Result<Vec<String>, MigrateError> {
    let mut tables = module.tables();
    tables.extend([module.version_table(), product_version_table(module)]);
    sqlx::query_scalar(
        "select relname::text from pg_catalog.pg_class
         where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')
             and relname = any($1)
         order by 1",
    )
    .bind(&tables)
    .fetch_all(conn)
    .await
    .map_err(MigrateError::database("looking for the tables", module))
}

/// Views on columns whose type a later step changes: PostgreSQL refuses that.
async fn views_in_the_way(
    conn: &mut PgConnection,
    module: &Module,
    later: &Later,
) -> Result<Vec<Difference>, MigrateError> {
    let (tables, columns) = later.retyped();
    let rows: Vec<(String, String, String)> = sqlx::query_as(
        "select distinct view.oid::regclass::text, retyped.table_name, retyped.column_name
         from unnest($1::text[], $2::text[]) as retyped (table_name, column_name)
         join pg_catalog.pg_attribute as col
             on col.attrelid = to_regclass('public.' || retyped.table_name)
             and col.attname = retyped.column_name
         join pg_catalog.pg_depend as use
             on use.refclassid = 'pg_class'::regclass and use.refobjid = col.attrelid
             and use.refobjsubid = col.attnum and use.classid = 'pg_rewrite'::regclass
         join pg_catalog.pg_rewrite as rule on rule.oid = use.objid
         join pg_catalog.pg_class as view on view.oid = rule.ev_class
         order by 1, 2, 3",
    )
    .bind(tables)
    .bind(columns)
    .fetch_all(conn)
    .await
    .map_err(MigrateError::database("looking for views", module))?;
    let views = rows.into_iter().map(|(view, table, column)| {
        Difference::blocks(
            format!("{view} uses column {table}.{column}"),
            "a later step changes the column's type, which PostgreSQL refuses while a view or rule \
             uses it; drop it, and create it again after migrate up",
        )
    });
    Ok(views.collect())
}

/// Each table of the module that is another role's: no step can change those.
///
/// # Errors
///
/// The database did not answer.
pub async fn owned_by_others(
    conn: &mut PgConnection,
    module: &Module,
) -> Result<Vec<Difference>, MigrateError> {
    let rows: Vec<(String, String, String)> = sqlx::query_as(
        "select relname::text, pg_get_userbyid(relowner)::text, current_user::text
         from pg_catalog.pg_class
         where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')
             and relname = any($1) and not pg_has_role(relowner, 'usage')
         order by 1",
    )
    .bind(module.tables())
    .fetch_all(conn)
    .await
    .map_err(MigrateError::database("asking who owns the tables", module))?;
    let foreign = rows.into_iter().map(|(table, owner, role)| {
        Difference::blocks(
            format!("table {table} belongs to {owner}, not to {role}"),
            format!("only an owner can change it; connect as {owner}, or grant {owner} to {role}"),
        )
    });
    Ok(foreign.collect())
}

fn first(module: &Module) -> (Step, &'static Script) {
    module
        .steps()
        .next()
        .expect("every module has a first step")
}

/// The table in which the product's migrations keep their revision.
fn product_version_table(module: &Module) -> String {
    match module {
        Module::Admin | Module::Query => "alembic_version".to_owned(),
        Module::Storage(element) => format!("{element}_alembic_version"),
    }
}

/// The revision whose catalogue is version 1.
fn product_revision(module: &Module) -> &'static str {
    match module {
        Module::Admin => "4c7e84fcc6b9",
        Module::Query => "16c6973431df",
        Module::Storage(_) => "100779395dad",
    }
}

async fn product(conn: &mut PgConnection, module: &Module) -> Result<Origin, MigrateError> {
    let failed =
        |source| MigrateError::database("reading the product's version table", module)(source);
    let table = product_version_table(module);
    let exists: bool = sqlx::query_scalar(
        "select exists (
             select from pg_catalog.pg_attribute
             where attrelid = to_regclass('public.' || $1) and attname = 'version_num'
                 and not attisdropped
         )",
    )
    .bind(&table)
    .fetch_one(&mut *conn)
    .await
    .map_err(failed)?;
    if !exists {
        return Ok(Origin::Product {
            version_table: None,
            revision: None,
            known: false,
        });
    }
    // More than one row where branches of migrations were applied.
    let sql = format!(
        "select string_agg(version_num::text, ', ' order by version_num) from public.{table}"
    );
    let revision: Option<String> = sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_one(conn)
        .await
        .map_err(failed)?;
    Ok(Origin::Product {
        known: revision.as_deref() == Some(product_revision(module)),
        version_table: Some(table),
        revision,
    })
}

async fn ask_the_rows(
    conn: &mut PgConnection,
    module: &Module,
    difference: &mut Difference,
) -> Result<(), MigrateError> {
    let Some(unless) = &difference.unless else {
        return Ok(());
    };
    let refused: bool = sqlx::query_scalar(AssertSqlSafe(unless.sql.clone()))
        .fetch_one(conn)
        .await
        .map_err(MigrateError::database("looking at the rows", module))?;
    if refused {
        difference.effect = Effect::Blocks;
        difference.why = unless.why.clone();
        difference.repair.clear();
    }
    Ok(())
}

async fn old_rows(
    conn: &mut PgConnection,
    module: &Module,
    found: &catalogue::Catalogue,
) -> Result<Option<OldRows>, MigrateError> {
    let Module::Storage(element) = module else {
        return Ok(None);
    };
    // Where one of these is missing, that blocks, and there is nothing to count.
    let has = |table: &str, column: &str| {
        found.keys().any(|name| {
            name.kind == Kind::Column
                && name.table == format!("{element}_{table}")
                && name.name == column
        })
    };
    if !has("wal", "status") || !has("wal", "file_id") || !has("files", "file_id") {
        return Ok(None);
    }
    let finished = "status in ('committed', 'rolled_back', 'failed')";
    let sql = format!(
        "select count(*) filter (where {finished}),
             count(*) filter (where status = 'pending'),
             count(*) filter (where not {finished} and status <> 'pending'),
             (
                 select count(*) from public.{element}_files as file
                 where not exists (
                     select from public.{element}_wal as wal
                     where wal.file_id = file.file_id and wal.{finished}
                 )
             )
         from public.{element}_wal"
    );
    let (finished, pending, other, untold_files) = sqlx::query_as(AssertSqlSafe(sql))
        .fetch_one(conn)
        .await
        .map_err(MigrateError::database("counting the operations", module))?;
    Ok(Some(OldRows {
        finished,
        pending,
        other,
        untold_files,
    }))
}

/// What query 0004 rewrites (`docs/decisions/0008-ids-are-widened-in-place.md`).
async fn written_anew(
    conn: &mut PgConnection,
    module: &Module,
) -> Result<Vec<WrittenAnew>, MigrateError> {
    if *module != Module::Query {
        return Ok(Vec::new());
    }
    let rows: Vec<(String, Option<i64>, i64)> = sqlx::query_as(
        "select relname::text, nullif(reltuples, -1)::bigint, pg_total_relation_size(oid)
         from pg_catalog.pg_class
         where oid = any (array[
             to_regclass('public.search_history'), to_regclass('public.download_statistics')
         ]::oid[])
         order by relname",
    )
    .fetch_all(conn)
    .await
    .map_err(MigrateError::database("measuring the tables", module))?;
    let table = |(table, rows, bytes)| WrittenAnew { table, rows, bytes };
    Ok(rows.into_iter().map(table).collect())
}
