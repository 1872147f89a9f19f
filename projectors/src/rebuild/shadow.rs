//! Tables like the live ones, in a schema of their own: columns, rules, owner and rights at once, with
//! what makes rows unique; other indexes when they are filled; triggers at the swap, so that they do
//! not fire for rows that were there before. The shadow also has its own checkpoints and parked
//! events, and a note of what it is for.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};

use super::session::{run, schema_exists};
use super::table_properties::Indexes;
use super::{RebuildError, table_properties};
use crate::projector::Projector;

/// Ids of new rows begin so far above those of the live table: live rows can't get the same ones
/// meanwhile, and rows of the product's own services keep theirs.
const ID_GAP: i64 = 10_000_000;

/// What a projection remembers, beside its tables.
pub(crate) const MEMORY: [&str; 2] = ["projection_checkpoints", "projection_parked"];

/// Refuses what a swap would break, before anything is built.
pub(crate) async fn check<P: Projector>(connection: &mut PgConnection) -> Result<(), RebuildError> {
    let role: String = sqlx::query_scalar("select current_user::text")
        .fetch_one(&mut *connection)
        .await?;
    let creates: bool =
        sqlx::query_scalar("select has_database_privilege(current_database(), 'create')")
            .fetch_one(&mut *connection)
            .await?;
    if !creates {
        let lacks = "may not create schemas in this database".to_owned();
        return Err(RebuildError::Rights { role, lacks });
    }
    for table in P::REBUILT.iter().map(|table| table.name).chain(MEMORY) {
        let owns: bool = sqlx::query_scalar(
            "select pg_has_role(relowner, 'usage') from pg_class where oid = $1::text::regclass",
        )
        .bind(format!("public.{table}"))
        .fetch_one(&mut *connection)
        .await?;
        if !owns {
            let lacks = format!("does not own table public.{table}");
            return Err(RebuildError::Rights { role, lacks });
        }
    }
    check_dependents::<P>(connection).await
}

/// What stays with a table when another one takes its name.
pub(crate) async fn check_dependents<P: Projector>(
    connection: &mut PgConnection,
) -> Result<(), RebuildError> {
    for table in P::REBUILT {
        let name = format!("public.{}", table.name);
        let found: Option<String> = sqlx::query_scalar(
            "with t as (select * from pg_class where oid = $1::text::regclass) \
             select case when relkind <> 'r' or relispartition then 'it is no ordinary table' \
                 else 'it has row security' end \
             from t where relkind <> 'r' or relispartition or relrowsecurity \
             union all \
             select 'it inherits, or another one inherits from it' from pg_inherits, t \
             where t.oid in (inhparent, inhrelid) \
             union all \
             select format('publication %I names it', p.pubname) \
             from pg_publication_rel r join pg_publication p on p.oid = r.prpubid, t \
             where r.prrelid = t.oid \
             union all \
             select format('policy %I is on it', polname) from pg_policy, t where polrelid = t.oid \
             union all \
             select format('foreign key %I refers to %s', conname, confrelid::regclass) \
             from pg_constraint, t where contype = 'f' and conrelid = t.oid \
             union all \
             select pg_describe_object(d.classid, d.objid, 0) || ' depends on it' \
             from pg_depend d, t \
             where d.deptype = 'n' and (d.refclassid, d.refobjid) in \
                     (('pg_class'::regclass, t.oid), ('pg_type'::regclass, t.reltype)) \
                 and not exists (select from pg_trigger g \
                     where d.classid = 'pg_trigger'::regclass and g.oid = d.objid \
                         and g.tgrelid = t.oid) \
                 and not exists (select from pg_constraint k \
                     where d.classid = 'pg_constraint'::regclass and k.oid = d.objid \
                         and k.conrelid = t.oid) \
                 and not exists (select from pg_index i \
                     where d.classid = 'pg_class'::regclass and i.indexrelid = d.objid \
                         and i.indrelid = t.oid) \
                 and not exists (select from pg_attrdef a \
                     where d.classid = 'pg_attrdef'::regclass and a.oid = d.objid \
                         and a.adrelid = t.oid) \
             limit 1",
        )
        .bind(&name)
        .fetch_optional(&mut *connection)
        .await?;
        if let Some(what) = found {
            return Err(RebuildError::Depends { table: name, what });
        }
    }
    Ok(())
}

/// Makes it, empty.
pub(crate) async fn create<P: Projector>(
    connection: &mut PgConnection,
    schema: &str,
    purpose: &str,
) -> Result<(), RebuildError> {
    let mut transaction = connection.begin().await?;
    run(&mut transaction, &format!("create schema {schema}")).await?;
    // Also those that only take what a projector writes on its way: nothing of it is used.
    for table in P::TABLES {
        table_like(&mut transaction, schema, table).await?;
    }
    // A rebuild continues while the projection is paused: it has a table of pauses without any.
    for table in MEMORY.into_iter().chain(["projection_pauses"]) {
        let sql = format!("create table {schema}.{table} (like public.{table} including all)");
        run(&mut transaction, &sql).await?;
    }
    run(
        &mut transaction,
        &format!(
            "create table {schema}.artstore_rebuild (purpose text not null, version integer not null, \
                 tables text not null, begun_at timestamptz not null default clock_timestamp())"
        ),
    )
    .await?;
    let tables = form::<P>(&mut transaction).await?;
    let sql = format!(
        "insert into {schema}.artstore_rebuild (purpose, version, tables) values ($1, $2, $3)"
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(purpose)
        .bind(i32::try_from(P::VERSION).unwrap_or(i32::MAX))
        .bind(tables)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(())
}

async fn table_like(
    transaction: &mut PgConnection,
    schema: &str,
    table: &str,
) -> Result<(), RebuildError> {
    run(
        transaction,
        &format!(
            "create table {schema}.{table} \
             (like public.{table} including all excluding indexes)"
        ),
    )
    .await?;
    table_properties::copy(transaction, schema, table).await?;
    // What makes rows unique.
    let rules: Vec<String> = sqlx::query_scalar(
        "select format('alter table %I.%I add constraint %I %s', $1, $2, k.conname, \
             pg_get_constraintdef(k.oid)) \
         from pg_constraint k \
         where k.conrelid = format('public.%I', $2)::regclass and k.contype in ('p', 'u', 'x') \
         order by k.conname",
    )
    .bind(schema)
    .bind(table)
    .fetch_all(&mut *transaction)
    .await?;
    for statement in rules {
        run(transaction, &statement).await?;
    }
    for (_, statement) in
        table_properties::indexes(transaction, schema, table, Indexes::Unique).await?
    {
        run(transaction, &statement).await?;
    }
    shift_ids(transaction, schema, table).await?;
    Ok(())
}

async fn shift_ids(
    connection: &mut PgConnection,
    schema: &str,
    table: &str,
) -> Result<(), sqlx::Error> {
    for (live, shadow) in sequences(connection, "public", schema, table).await? {
        let sql = format!("select setval('{shadow}', last_value + {ID_GAP}) from {live}");
        run(connection, &sql).await?;
    }
    Ok(())
}

/// The sequences of a table's ids, in two schemas.
pub(crate) async fn sequences(
    connection: &mut PgConnection,
    one: &str,
    other: &str,
    table: &str,
) -> Result<Vec<(String, String)>, sqlx::Error> {
    sqlx::query_as(
        "select pg_get_serial_sequence(format('%I.%I', $1, $3), a.attname), \
             pg_get_serial_sequence(format('%I.%I', $2, $3), a.attname) \
         from pg_attribute a \
         where a.attrelid = format('%I.%I', $1, $3)::regclass and a.attidentity <> ''",
    )
    .bind(one)
    .bind(other)
    .bind(table)
    .fetch_all(connection)
    .await
}

/// The triggers of the live tables, as statements for the shadow.
pub(crate) async fn triggers<P: Projector>(
    connection: &mut PgConnection,
    schema: &str,
) -> Result<Vec<String>, sqlx::Error> {
    let mut all = Vec::new();
    for table in P::REBUILT {
        let rows = sqlx::query(
            "select tgname::text, pg_get_triggerdef(oid), tgenabled::text from pg_trigger \
             where tgrelid = format('public.%I', $1)::regclass and not tgisinternal order by tgname",
        )
        .bind(table.name)
        .fetch_all(&mut *connection)
        .await?;
        let (live, shadow) = (
            format!(" ON public.{} ", table.name),
            format!(" ON {schema}.{} ", table.name),
        );
        for row in rows {
            let (name, sql): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            all.push(sql.replacen(&live, &shadow, 1));
            let fires = match row.try_get::<String, _>(2)?.as_str() {
                "D" => "disable trigger",
                "R" => "enable replica trigger",
                "A" => "enable always trigger",
                _ => continue,
            };
            let name = name.replace('"', "\"\"");
            all.push(format!(
                "alter table {schema}.{} {fires} \"{name}\"",
                table.name
            ));
        }
    }
    Ok(all)
}

/// Tables that are set aside have none: their functions can be changed and dropped.
pub(crate) async fn drop_triggers<P: Projector>(
    connection: &mut PgConnection,
    schema: &str,
) -> Result<(), sqlx::Error> {
    for table in P::REBUILT {
        let statements: Vec<String> = sqlx::query_scalar(
            "select format('drop trigger %I on %I.%I', tgname, $1, $2) from pg_trigger \
             where tgrelid = format('%I.%I', $1, $2)::regclass and not tgisinternal",
        )
        .bind(schema)
        .bind(table.name)
        .fetch_all(&mut *connection)
        .await?;
        for statement in statements {
            run(connection, &statement).await?;
        }
    }
    Ok(())
}

/// A digest of what the live tables are made of: columns and rules.
pub(crate) async fn form<P: Projector>(
    connection: &mut PgConnection,
) -> Result<String, sqlx::Error> {
    form_in::<P>(connection, "public").await
}

/// The same of the tables in another schema.
pub(crate) async fn form_in<P: Projector>(
    connection: &mut PgConnection,
    schema: &str,
) -> Result<String, sqlx::Error> {
    let names = P::REBUILT.iter().map(|table| table.name).chain(MEMORY);
    let names: Vec<String> = names.map(str::to_owned).collect();
    sqlx::query_scalar(
        "select md5(coalesce(string_agg(part, E'\\n' order by part), '')) from ( \
             select format('%s.%s %s %s %s %s %s', c.relname, a.attname, \
                 format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated, \
                 case when a.attgenerated <> '' or a.attidentity = '' \
                     then pg_get_expr(d.adbin, d.adrelid) end) as part \
             from pg_class c join pg_attribute a on a.attrelid = c.oid \
             left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum \
             where c.relnamespace = $1::text::regnamespace and c.relkind = 'r' \
                 and c.relname = any($2) and a.attnum > 0 and not a.attisdropped \
             union all \
             select format('%s: %s', c.relname, regexp_replace(pg_get_constraintdef(k.oid), ' NOT VALID$', '')) \
             from pg_class c join pg_constraint k on k.conrelid = c.oid \
             where c.relnamespace = $1::text::regnamespace and c.relname = any($2) \
                 and k.contype in ('c', 'p', 'u', 'x')) parts",
    )
    .bind(schema)
    .bind(names)
    .fetch_one(connection)
    .await
}

/// Whether a shadow that an earlier command left can be used: by the same version, like the live tables.
/// One of another purpose is refused: it may have taken hours, and somebody wants it.
pub(crate) async fn fits<P: Projector>(
    connection: &mut PgConnection,
    schema: &str,
    purpose: &str,
) -> Result<bool, RebuildError> {
    if !schema_exists(connection, schema).await? {
        return Ok(false);
    }
    let noted: bool =
        sqlx::query_scalar("select to_regclass(format('%I.artstore_rebuild', $1)) is not null")
            .bind(schema)
            .fetch_one(&mut *connection)
            .await?;
    if !noted {
        return Ok(false);
    }
    let sql = format!("select purpose from {schema}.artstore_rebuild");
    let before: Option<String> = sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_optional(&mut *connection)
        .await?;
    if let Some(before) = before.filter(|before| before != purpose) {
        return Err(RebuildError::OtherPurpose {
            projection: P::NAME,
            before,
        });
    }
    let form = form::<P>(connection).await?;
    let sql = format!(
        "select exists (select from {schema}.artstore_rebuild \
         where purpose = $1 and version = $2 and tables = $3)"
    );
    Ok(sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(purpose)
        .bind(i32::try_from(P::VERSION).unwrap_or(i32::MAX))
        .bind(form)
        .fetch_one(connection)
        .await?)
}

/// Removes it.
pub(crate) async fn drop(connection: &mut PgConnection, schema: &str) -> Result<(), sqlx::Error> {
    // What is dropped says so in notices otherwise.
    let sql = format!(
        "set client_min_messages = warning; drop schema if exists {schema} cascade; \
         reset client_min_messages"
    );
    run(connection, &sql).await
}
