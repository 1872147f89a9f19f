//! The steps of the three modules on a real PostgreSQL, one promise a file: the catalogue that they
//! make and take back, the databases that they refuse, what their triggers do, and that a database
//! in use stays in use.

mod catalogue;
mod crashes;
mod dry_run;
mod every_way;
mod filled;
mod grants;
mod guards;
mod live;
mod locks;
mod outbox;
mod position;
mod refused_rows;
mod repairs_admin;
mod repairs_query;
mod repairs_storage;
mod roles;
mod search_vector;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use artstore_migrations::Module;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use uuid::Uuid;

use crate::support::*;

const ELEMENT: &str = "storage_elem_01";

fn storage(prefix: &str) -> Module {
    Module::Storage(prefix.parse().unwrap())
}

fn modules() -> [Module; 3] {
    [Module::Admin, Module::Query, storage(ELEMENT)]
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

async fn fresh(hint: &str) -> PgConnection {
    connect(&database(hint).await).await
}

async fn try_run(conn: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(conn)
        .await
        .map(drop)
}

async fn exec(conn: &mut PgConnection, sql: &str) {
    try_run(conn, sql)
        .await
        .unwrap_or_else(|error| panic!("{error}: {sql}"));
}

/// What the statement is refused with: SQLSTATE and message.
async fn refusal(conn: &mut PgConnection, sql: &str) -> (String, String) {
    let error = try_run(conn, sql).await.expect_err(sql);
    let error = error.as_database_error().expect(sql);
    (
        error.code().unwrap().into_owned(),
        error.message().to_owned(),
    )
}

/// The rows of a query whose one column is text.
async fn texts(conn: &mut PgConnection, sql: &str) -> Vec<String> {
    let rows = sqlx::query(AssertSqlSafe(sql.to_owned()))
        .fetch_all(conn)
        .await;
    let rows = rows.unwrap_or_else(|error| panic!("{error}: {sql}"));
    rows.iter()
        .map(|row| row.get::<Option<String>, _>(0).unwrap_or("null".into()))
        .collect()
}

async fn text(conn: &mut PgConnection, sql: &str) -> String {
    texts(conn, sql).await.remove(0)
}

/// Polls until the query returns "true".
async fn until(conn: &mut PgConnection, sql: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while text(conn, sql).await != "true" {
        assert!(Instant::now() < deadline, "never became true: {sql}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Columns, constraints, indexes and enums in the words of `schema_initial.md`, a line each.
const LETTER: &str = r"
    select format('%s #%s %s | %s | %s | %s', class.relname,
        row_number() over (partition by class.oid order by col.attnum), col.attname,
        replace(replace(format_type(col.atttypid, col.atttypmod),
            'character varying', 'varchar'), 'timestamp with time zone', 'timestamptz'),
        case when col.attnotnull then 'not null' else 'null' end,
        coalesce(pg_get_expr(def.adbin, def.adrelid), ''))
    from pg_class as class
    join pg_attribute as col on col.attrelid = class.oid and col.attnum > 0 and not col.attisdropped
    left join pg_attrdef as def on def.adrelid = class.oid and def.adnum = col.attnum
    where class.relnamespace = 'public'::regnamespace and class.relkind in ('r', 'p', 'v', 'm')
    union all
    select format('%s constraint %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
    from pg_constraint where connamespace = 'public'::regnamespace
    union all
    select format('%s index %s', tablename,
        regexp_replace(indexdef, '^CREATE (UNIQUE )?INDEX (\S+) ON \S+ USING ', '\2 \1'))
    from pg_indexes where schemaname = 'public'
    union all
    select format('enum %s (%s)', type.typname,
        string_agg(label.enumlabel, ', ' order by label.enumsortorder))
    from pg_type as type join pg_enum as label on label.enumtypid = type.oid
    group by type.typname";

/// All that a step can make: the above, and sequences, identities, triggers, functions, comments,
/// extensions.
async fn catalogue(conn: &mut PgConnection) -> BTreeSet<String> {
    let sql = LETTER.to_owned()
        + r"
    union all
    select format('sequence %s %s start %s min %s max %s by %s cache %s cycle %s owner %s',
        seq.seqrelid::regclass, seq.seqtypid::regtype, seq.seqstart, seq.seqmin, seq.seqmax,
        seq.seqincrement, seq.seqcache, seq.seqcycle,
        (select format('%s %s %s', dep.refobjid::regclass, dep.refobjsubid, dep.deptype)
         from pg_depend as dep
         where dep.objid = seq.seqrelid and dep.classid = 'pg_class'::regclass
             and dep.refclassid = 'pg_class'::regclass and dep.deptype in ('a', 'i')))
    from pg_sequence as seq
    union all
    select format('identity %s %s %s', attrelid::regclass, attname, attidentity)
    from pg_attribute where attidentity <> ''
    union all
    select format('trigger %s %s', pg_get_triggerdef(oid), tgenabled)
    from pg_trigger where not tgisinternal
    union all
    select format('function %s %s', pg_get_functiondef(oid), proacl)
    from pg_proc where pronamespace = 'public'::regnamespace
    union all
    select format('comment %s %s %s', objoid::regclass, objsubid, description)
    from pg_description
    where classoid = 'pg_class'::regclass
        and objoid in (select oid from pg_class where relnamespace = 'public'::regnamespace)
    union all
    select format('not valid %s', indexrelid::regclass) from pg_index where not indisvalid
    union all
    select format('extension %s %s', extname, obj_description(oid, 'pg_extension')) from pg_extension
    union all
    select format('type %s', typname) from pg_type
    where typnamespace = 'public'::regnamespace and typtype not in ('b', 'c')";
    texts(conn, &sql).await.into_iter().collect()
}

/// A finished row in short. `{}` would be taken for a placeholder by `format!`.
fn finished(extra_column: &str, extra_value: &str) -> String {
    let id = Uuid::new_v4();
    format!(
        "insert into storage_elem_01_wal (transaction_id, operation_type, status, operation_data{extra_column})
         values ('{id}', 'file_create', 'committed', '{{}}'{extra_value})"
    )
}

/// A file as the product inserts it: with an explicit NULL for the vector.
fn file(name: &str, description: &str, metadata: &str) -> String {
    let id = Uuid::new_v4();
    format!(
        "insert into storage_elem_01_files (file_id, original_filename, storage_filename, file_size, content_type,
             created_by_id, created_by_username, description, storage_path, checksum, search_vector, metadata_json)
         values ('{id}', '{name}', '{id}', 1, 'text/plain', '1', 'u', {description}, '/', 'x', null, {metadata})"
    )
}

fn outbox(entity: &str, action: &str) -> String {
    let id = Uuid::new_v4();
    format!(
        "insert into event_outbox (event_id, entity, action, data, actor, position)
         values ('{id}', '{entity}', '{action}', '{{}}', '{{}}', 1000)"
    )
}

/// A cache row as the product inserts it, without our columns.
fn cached(name: &str, description: &str) -> String {
    let id = Uuid::new_v4();
    format!(
        "insert into file_metadata_cache (id, filename, storage_filename, file_size, sha256_hash, username, tags,
             description, storage_element_id, storage_element_url, created_at, updated_at, search_vector)
         values ('{id}', '{name}', 's', 1, 'same', 'u', array['Budgets'], '{description}', 'e', 'http://e', now(), now(), null)"
    )
}

async fn found(conn: &mut PgConnection, table: &str, column: &str, words: &str) -> Vec<String> {
    texts(conn, &format!(
        "select {column} from {table} where search_vector @@ plainto_tsquery('russian', '{words}') order by 1"
    )).await
}
