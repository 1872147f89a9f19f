//! An installation that the product made is taken over while it runs: what is recognised, what
//! blocks, what is repaired, that no row is lost or changed; and the commands around it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use artstore_migrations::{
    Adoption, Effect, Goal, MigrateError, Migrator, Module, Origin, adopt, catalogue, down,
    inspect, up,
};
use serde_json::Value;
use sqlx::PgConnection;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::support::*;

pub const ELEMENT: &str = "storage_elem_01";

pub fn storage() -> Module {
    Module::Storage(ELEMENT.parse().unwrap())
}

pub fn modules() -> [Module; 3] {
    [Module::Admin, Module::Query, storage()]
}

/// What the services created: by their migrations, or on their own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Made {
    ByMigrations,
    /// No version table, no default of `_config.id`, and tables of an element that is gone.
    ByTheServices,
}

/// Fills an empty database as the product does, with rows in every table.
async fn product(connection: &mut PgConnection, module: &Module, made: Made) {
    let (tables, rows, table, revision) = match module {
        Module::Admin => (
            include_str!("../../migrations/admin/0001_initial.up.sql"),
            include_str!("product/admin.sql"),
            "alembic_version".to_owned(),
            "4c7e84fcc6b9",
        ),
        Module::Query => (
            include_str!("../../migrations/query/0001_initial.up.sql"),
            include_str!("product/query.sql"),
            "alembic_version".to_owned(),
            "16c6973431df",
        ),
        Module::Storage(element) => (
            include_str!("../../migrations/storage/0001_initial.up.sql"),
            include_str!("product/storage.sql"),
            format!("{element}_alembic_version"),
            "100779395dad",
        ),
    };
    execute(connection, tables.replace("{prefix}", ELEMENT)).await;
    if matches!(module, Module::Storage(_)) && made == Made::ByTheServices {
        let sql = format!(
            "alter table {ELEMENT}_config alter id drop default; \
             drop sequence {ELEMENT}_config_id_seq; \
             create table storage_elem_99_wal (transaction_id uuid, operation_type text); \
             create table storage_elem_99_files (file_id uuid); \
             insert into storage_elem_99_wal values (gen_random_uuid(), 'file_create'); \
             create table storage_elem_99_alembic_version (version_num varchar(32) not null)"
        );
        execute(connection, sql).await;
    }
    execute(connection, rows.replace("{prefix}", ELEMENT)).await;
    if made == Made::ByMigrations {
        let sql = format!(
            "create table {table} (version_num varchar(32) not null, \
                 constraint {table}_pkc primary key (version_num)); \
             insert into {table} values ('{revision}')"
        );
        execute(connection, sql).await;
    }
}

pub async fn product_database(module: &Module, made: Made) -> (String, PgConnection) {
    let url = database("product").await;
    let mut connection = pg(&url).await;
    product(&mut connection, module, made).await;
    (url, connection)
}

async fn texts(connection: &mut PgConnection, sql: &str) -> Vec<String> {
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned()))
        .fetch_all(connection)
        .await
        .unwrap()
}

/// Every table with every row, as text: but those columns that the product does not have, the
/// search vectors that adoption fills, and rows that the writer wrote.
pub async fn rows(connection: &mut PgConnection, columns: &[String]) -> BTreeSet<String> {
    let mut rows = BTreeSet::new();
    for line in columns {
        let (table, list) = line.split_once(' ').unwrap();
        let writer = match table.strip_prefix(ELEMENT) {
            Some("_files") => "created_by_id <> 'writer'",
            Some("_wal") => "user_id is distinct from 'writer'",
            _ => "true",
        };
        let sql = format!("select '{table} ' || row({list})::text from {table} where {writer}");
        rows.extend(texts(connection, &sql).await);
    }
    rows
}

pub async fn columns(connection: &mut PgConnection) -> Vec<String> {
    texts(
        connection,
        "select table_name || ' ' || string_agg(column_name, ', ' order by ordinal_position) \
         from information_schema.columns \
         where table_schema = 'public' and column_name <> 'search_vector' \
         group by table_name order by 1",
    )
    .await
}

async fn lines(connection: &mut PgConnection, module: &Module) -> Vec<String> {
    catalogue(connection, module).await.unwrap()
}

/// What differs, by its effect.
fn found(adoption: &Adoption, effect: Effect) -> Vec<String> {
    let differences = adoption.differences.iter();
    differences
        .filter(|difference| difference.effect == effect)
        .map(ToString::to_string)
        .collect()
}

/// The embedded catalogues are what version 1 makes. To write them:
/// `ARTSTORE_UPDATE=1 cargo test --test it adoption::the_embedded`.
#[test]
fn the_embedded_catalogues_are_those_of_version_1() {
    run(async {
        let update = std::env::var_os("ARTSTORE_UPDATE").is_some_and(|value| value == "1");
        let element = "zzelementzz";
        for (folder, module) in [
            ("admin", Module::Admin),
            ("query", Module::Query),
            ("storage", Module::Storage(element.parse().unwrap())),
        ] {
            let mut connection = pg(&database("letter").await).await;
            up(&mut connection, &module, Some(1)).await.unwrap();
            let text = lines(&mut connection, &module).await.join("\n") + "\n";
            let text = text.replace(element, "{prefix}");
            let path = format!(
                "{}/migrations/{folder}/0001_initial.catalogue",
                env!("CARGO_MANIFEST_DIR")
            );
            if update {
                std::fs::write(&path, text).unwrap();
            } else {
                assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "{path}");
            }
        }
    });
}

/// The product's writer: three transactions an operation, the first of which stays open as long as
/// an upload takes. Any error fails the test.
fn writer(url: &str, number: u32, stop: &Arc<AtomicBool>) -> JoinHandle<u32> {
    let (url, stop) = (url.to_owned(), Arc::clone(stop));
    tokio::spawn(async move {
        let mut connection = pg(&url).await;
        let mut operations = 0;
        while !stop.load(Ordering::Relaxed) {
            let file = Uuid::new_v4();
            for kind in ["file_create", "file_update", "file_delete"] {
                let id = Uuid::new_v4();
                execute(
                    &mut connection,
                    format!(
                        "begin; insert into {ELEMENT}_wal (transaction_id, operation_type, \
                             status, file_id, operation_data, user_id) values ('{id}', '{kind}', \
                             'pending', '{file}', '{{\"content_type\": \"text/plain\"}}', 'writer')"
                    ),
                )
                .await;
                // The upload.
                tokio::time::sleep(Duration::from_millis(5 + u64::from(number) * 40)).await;
                let change = match kind {
                    "file_create" => format!(
                        "insert into {ELEMENT}_files (file_id, original_filename, \
                             storage_filename, file_size, content_type, created_by_id, \
                             created_by_username, storage_path, checksum, search_vector) \
                         values ('{file}', 'w.txt', '{file}', 1, 'text/plain', 'writer', 'writer', \
                             '/w', 'c', null)"
                    ),
                    "file_update" => format!(
                        "update {ELEMENT}_files set description = '{id}', updated_at = now() \
                         where file_id = '{file}'"
                    ),
                    _ if operations % 2 == 0 => "select 1".to_owned(),
                    _ => format!("delete from {ELEMENT}_files where file_id = '{file}'"),
                };
                execute(&mut connection, "commit").await;
                execute(&mut connection, change).await;
                execute(
                    &mut connection,
                    format!(
                        "update {ELEMENT}_wal set status = 'committed', completed_at = now(), \
                             duration_ms = 3, operation_data = operation_data || \
                             jsonb_build_object('result', jsonb_build_object('file_id', '{file}')) \
                         where transaction_id = '{id}'"
                    ),
                )
                .await;
                operations += 1;
            }
        }
        operations
    })
}

async fn adopted_while_it_is_written_to(made: Made) {
    let mut world = World::new(&[]).await;
    let (url, mut element) = product_database(&storage(), made).await;
    let (query_url, mut query) = product_database(&Module::Query, made).await;
    let (admin_url, mut admin) = product_database(&Module::Admin, made).await;
    world.elements.push((ELEMENT.parse().unwrap(), url.clone()));
    (world.query_url, world.admin_url) = (query_url, admin_url);

    let mut before = Vec::new();
    for connection in [&mut element, &mut query, &mut admin] {
        let columns = columns(connection).await;
        let rows = rows(connection, &columns).await;
        assert!(rows.len() >= columns.len(), "rows in every table");
        before.push((columns, rows));
    }
    let order = format!(
        "select transaction_id::text from {ELEMENT}_wal \
         where user_id = 'before' and status in ('committed', 'rolled_back', 'failed') order by "
    );
    let by_time = texts(
        &mut element,
        &format!("{order} completed_at nulls last, started_at, transaction_id"),
    )
    .await;
    assert!(by_time.len() > 500);

    let (status, said) = world.command(&["migrate", "check"]).output().await;
    assert!(status.success(), "{said}");
    let by = match made {
        Made::ByMigrations => "the product: revision 100779395dad",
        Made::ByTheServices => "the product, without a version table",
    };
    assert!(said.contains(by), "{said}");
    assert!(
        said.contains("run `artstore bus init`") && said.contains("nothing stops"),
        "{said}"
    );

    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4).map(|number| writer(&url, number, &stop)).collect();
    eventually("the writers write", || async {
        let mut connection = pg(&url).await;
        let sql = format!("select count(*) from {ELEMENT}_wal where user_id = 'writer'");
        (value::<i64>(&mut connection, sql).await > 20).then_some(())
    })
    .await;
    let (status, said) = world.command(&["migrate", "adopt", "--up"]).output().await;
    assert!(status.success(), "{said}");
    assert!(
        said.contains(by) && said.contains("finished get positions by"),
        "{said}"
    );
    assert_eq!(
        said.contains("repair     column storage_elem_01_config.id has no default"),
        made == Made::ByTheServices,
        "{said}"
    );
    // (The writers' files of the moment may be among them.)
    assert!(said.contains("files have no finished operation"), "{said}");
    println!("{said}");
    let during: i64 = value(&mut element, format!("select count(*) from {ELEMENT}_wal")).await;
    eventually("the writers go on", || async {
        let mut connection = pg(&url).await;
        let rows: i64 = value(
            &mut connection,
            format!("select count(*) from {ELEMENT}_wal"),
        )
        .await;
        (rows > during + 20).then_some(())
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    let mut operations = 0;
    for writer in writers {
        operations += writer.await.unwrap();
    }

    // No row lost, none changed, and the product's version table says what it said.
    for (connection, (columns, before)) in [&mut element, &mut query, &mut admin]
        .into_iter()
        .zip(before)
    {
        assert_eq!(rows(connection, &columns).await, before);
    }
    let by_position = texts(&mut element, &format!("{order} position")).await;
    assert_eq!(by_position, by_time);
    let written: i64 = value(
        &mut element,
        format!(
            "select count(*) from {ELEMENT}_wal where user_id = 'writer' and position is not null"
        ),
    )
    .await;
    assert_eq!(written, i64::from(operations));
    // Everything that was finished, before and since, is published once.
    let (status, said) = world.command(&["bus", "init"]).output().await;
    assert!(status.success(), "{said}");
    let (relay, projector) = (world.relay(0).start(), world.projector().start());
    let source = world.source(0);
    let finished = finished(&mut element, &source).await;
    eventually("every finished row is published", || async {
        (world.last_sequence(&source).await >= finished).then_some(())
    })
    .await;
    let report = world.checked(&source, &mut element).await;
    // Not their order: the writers finish in another transaction than they change.
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.rows, report.messages);
    // Files that no operation tells of are known to `_files` alone.
    let untold = format!(
        "delete from {ELEMENT}_files as file where not exists (select from {ELEMENT}_wal as wal \
         where wal.file_id = file.file_id and wal.position is not null)"
    );
    execute(&mut element, untold).await;
    world.projected().await;
    relay.kill().await;
    projector.kill().await;

    // Once more: nothing to do.
    let now = lines(&mut element, &storage()).await;
    let (status, said) = world
        .command(&["migrate", "adopt", "--json"])
        .output()
        .await;
    assert!(status.success(), "{said}");
    let again: Value = serde_json::from_str(&said).unwrap();
    for module in again.as_array().unwrap() {
        assert_eq!(module["result"], "ours", "{again}");
        assert_eq!(module["made"]["adopted"], true, "{again}");
    }
    assert_eq!(lines(&mut element, &storage()).await, now);
}

#[test]
fn what_migrations_made_is_adopted_while_it_is_written_to() {
    run(adopted_while_it_is_written_to(Made::ByMigrations));
}

#[test]
fn what_the_services_made_on_their_own_is_adopted_while_it_is_written_to() {
    run(adopted_while_it_is_written_to(Made::ByTheServices));
}

#[test]
fn an_adoption_is_taken_back_without_touching_the_products_tables() {
    run(async {
        for module in modules() {
            let (_, mut connection) = product_database(&module, Made::ByMigrations).await;
            let columns = columns(&mut connection).await;
            let (before, made) = (
                rows(&mut connection, &columns).await,
                lines(&mut connection, &module).await,
            );
            for _ in 0..2 {
                adopt(&mut connection, &module).await.unwrap();
                up(&mut connection, &module, None).await.unwrap();
                assert_eq!(rows(&mut connection, &columns).await, before, "{module}");
                // The positions are lost; everything else is as it was.
                let migrator = Migrator::new(&mut connection, &module).accept_loss(true);
                migrator.run(Goal::Down(1)).await.unwrap();
                // Version 1 is the product's work: not ours to do again.
                let again = Migrator::new(&mut connection, &module).run(Goal::Redo);
                let refused = again.await.unwrap_err();
                assert!(
                    matches!(refused, MigrateError::NothingToRedo { .. }),
                    "{module}"
                );
                let origin = inspect(&mut connection, &module).await.unwrap().origin;
                assert!(
                    matches!(
                        origin,
                        Origin::Ours {
                            version: 1,
                            adopted: true
                        }
                    ),
                    "{module}"
                );
                let done = down(&mut connection, &module, 0).await.unwrap();
                assert_eq!(done.len(), 1);
                assert_eq!(rows(&mut connection, &columns).await, before, "{module}");
                assert_eq!(lines(&mut connection, &module).await, made, "{module}");
                let table = module.version_table();
                let gone = format!("select to_regclass('{table}') is null");
                assert!(value::<bool>(&mut connection, gone).await, "{module}");
            }
        }
    });
}

#[test]
fn what_blocks_is_named_and_nothing_is_changed() {
    run(async {
        let cases: Vec<(Module, &str, &str)> = vec![
            (
                storage(),
                "drop table {e}_config",
                "table storage_elem_01_config is missing",
            ),
            (
                storage(),
                "alter table {e}_files drop checksum",
                "column storage_elem_01_files.checksum is missing",
            ),
            (
                storage(),
                "alter table {e}_wal alter status type varchar(5) using left(status, 5)",
                "column storage_elem_01_wal.status is character varying(5)",
            ),
            (
                storage(),
                "drop index idx_{e}_wal_data; alter table {e}_wal alter operation_data type json",
                "column storage_elem_01_wal.operation_data is json",
            ),
            (
                storage(),
                "alter table {e}_wal drop constraint {e}_wal_pkey",
                "constraint storage_elem_01_wal.storage_elem_01_wal_pkey is missing",
            ),
            (
                storage(),
                "alter table {e}_files add owner text; update {e}_files set owner = ''; alter table {e}_files alter owner set not null",
                "column storage_elem_01_files.owner is not of version 1: rows without it",
            ),
            (
                storage(),
                "alter table {e}_wal add position bigint",
                "column storage_elem_01_wal.position is not of version 1: a later step",
            ),
            (
                storage(),
                "create sequence {e}_wal_position_seq",
                "sequence storage_elem_01_wal_position_seq is not of version 1: a later step",
            ),
            (
                storage(),
                "create function {e}_wal_position() returns int language sql as 'select 1'",
                "function storage_elem_01_wal_position is not of version 1: a later step",
            ),
            (
                storage(),
                "create table other (id int); create index {e}_wal_position_key on other (id)",
                "index public.other.storage_elem_01_wal_position_key is not of version 1",
            ),
            (
                storage(),
                "create function x() returns trigger language plpgsql as 'begin return new; end'; create trigger zzzz before update on {e}_wal for each row execute function x()",
                "trigger storage_elem_01_wal.zzzz is not of version 1: it would fire behind",
            ),
            (
                Module::Query,
                "create view recent as select id, query_text from search_history",
                "recent uses column search_history.id",
            ),
            (
                storage(),
                "alter table {e}_wal enable row level security",
                "table storage_elem_01_wal is with row security",
            ),
            (
                storage(),
                "alter table {e}_files set unlogged",
                "table storage_elem_01_files is unlogged",
            ),
            (
                storage(),
                "alter table {e}_files alter storage_path drop not null; update {e}_files set storage_path = null where file_id = (select min(file_id::text)::uuid from {e}_files)",
                "column storage_elem_01_files.storage_path may be null: there are rows",
            ),
            (
                storage(),
                "alter table {e}_files drop search_vector, add search_vector tsvector generated always as (to_tsvector('pg_catalog.english', original_filename)) stored",
                "column storage_elem_01_files.search_vector has the default",
            ),
            (
                Module::Query,
                "alter table search_history alter id drop default, alter id add generated always as identity",
                "column search_history.id has the default",
            ),
            (
                Module::Query,
                "alter table file_metadata_cache alter tags type text[]",
                "column file_metadata_cache.tags is text[]",
            ),
            (
                Module::Query,
                "delete from file_metadata_cache; alter table file_metadata_cache alter description set not null",
                "column file_metadata_cache.description is not null: rows without it",
            ),
            (
                Module::Query,
                "drop table file_metadata_cache; create view file_metadata_cache as select 1 as id",
                "table file_metadata_cache is a view",
            ),
            (
                Module::Query,
                "create table event_outbox (id int)",
                "table event_outbox is not of version 1",
            ),
            (
                Module::Admin,
                "alter type user_role_enum rename value 'ADMIN' to 'ROOT'",
                "enum user_role_enum has no ADMIN",
            ),
            (
                Module::Admin,
                "alter table users alter status type text",
                "column users.status is text",
            ),
        ];
        for (module, spoil, words) in cases {
            let (_, mut connection) = product_database(&module, Made::ByMigrations).await;
            execute(&mut connection, spoil.replace("{e}", ELEMENT)).await;
            let before = lines(&mut connection, &module).await;
            let adoption = adopt(&mut connection, &module).await.unwrap();
            let blocking = found(&adoption, Effect::Blocks);
            assert!(
                !adoption.is_possible() && blocking.iter().any(|line| line.contains(words)),
                "{spoil}: {blocking:#?}"
            );
            assert_eq!(blocking.len(), 1, "{spoil}: {blocking:#?}");
            assert_eq!(lines(&mut connection, &module).await, before, "{spoil}");
            let table = module.version_table();
            let none = format!("select to_regclass('{table}') is null");
            assert!(value::<bool>(&mut connection, none).await, "{spoil}");
        }
    });
}

/// A database that differs from version 1 without harm, and what is said of it.
struct Odd {
    module: Module,
    spoil: &'static str,
    /// None: it depends on what later steps do.
    effect: Option<Effect>,
    words: &'static str,
}

fn odd(
    module: Module,
    spoil: &'static str,
    effect: impl Into<Option<Effect>>,
    words: &'static str,
) -> Odd {
    Odd {
        module,
        spoil,
        effect: effect.into(),
        words,
    }
}

fn odd_installations() -> Vec<Odd> {
    use Effect::{Harmless, Repaired};
    vec![
        odd(
            storage(),
            "drop index idx_{e}_search_vector",
            Repaired,
            "index storage_elem_01_files.idx_storage_elem_01_search_vector is missing: it is built",
        ),
        odd(
            storage(),
            "drop index idx_{e}_wal_data",
            None,
            "index storage_elem_01_wal.idx_storage_elem_01_wal_data is missing",
        ),
        odd(
            storage(),
            "update pg_index set indisvalid = false where indexrelid = 'idx_{e}_wal_file'::regclass",
            Repaired,
            "idx_storage_elem_01_wal_file is not valid",
        ),
        odd(
            storage(),
            "alter table {e}_files alter updated_at drop default",
            Repaired,
            "column storage_elem_01_files.updated_at has no default: it gets now()",
        ),
        odd(
            storage(),
            "alter table {e}_files alter storage_path drop not null",
            Repaired,
            "column storage_elem_01_files.storage_path may be null: no row is",
        ),
        odd(
            storage(),
            "alter table {e}_files alter updated_at set default clock_timestamp()",
            Harmless,
            "the default clock_timestamp()",
        ),
        odd(
            storage(),
            "alter table {e}_config alter total_size_bytes type bigint",
            Harmless,
            "is bigint: version 1 has integer, which is narrower",
        ),
        odd(
            storage(),
            "alter table {e}_files alter original_filename type text",
            Harmless,
            "original_filename is text",
        ),
        odd(
            storage(),
            "alter table {e}_files add note text, add kept int not null default 1",
            Harmless,
            "column storage_elem_01_files.kept is not of version 1",
        ),
        odd(
            storage(),
            "create index my_own on {e}_files (version)",
            Harmless,
            "index storage_elem_01_files.my_own is not of version 1",
        ),
        odd(
            storage(),
            "alter table {e}_wal add constraint mine check (duration_ms < 1000000)",
            Harmless,
            "constraint storage_elem_01_wal.mine",
        ),
        odd(
            storage(),
            "create function x() returns trigger language plpgsql as 'begin return new; end'; create trigger theirs before insert on {e}_files for each row execute function x()",
            Harmless,
            "trigger storage_elem_01_files.theirs",
        ),
        odd(
            storage(),
            "drop index ix_{e}_files_storage_filename",
            Harmless,
            "ix_storage_elem_01_files_storage_filename is missing: nothing here relies on it",
        ),
        odd(
            storage(),
            "update {e}_alembic_version set version_num = 'abc'",
            Harmless,
            "",
        ),
        odd(storage(), "delete from {e}_alembic_version", Harmless, ""),
        odd(
            Module::Query,
            "drop index ix_file_metadata_cache_sha256_hash; update file_metadata_cache set sha256_hash = 'same'",
            None,
            "ix_file_metadata_cache_sha256_hash is missing: a later step",
        ),
        odd(
            Module::Query,
            "drop index ix_file_metadata_cache_sha256_hash; create index ix_file_metadata_cache_sha256_hash on file_metadata_cache (sha256_hash)",
            Harmless,
            "index file_metadata_cache.ix_file_metadata_cache_sha256_hash is CREATE INDEX",
        ),
        odd(
            Module::Query,
            "alter table search_history alter id drop default; drop sequence search_history_id_seq",
            Repaired,
            "column search_history.id has no default",
        ),
        odd(
            Module::Query,
            "alter table search_history drop constraint check_results_count_positive",
            Harmless,
            "check_results_count_positive is missing",
        ),
        odd(
            Module::Admin,
            "alter type user_role_enum add value 'AUDITOR'",
            Harmless,
            "more values",
        ),
        odd(
            Module::Admin,
            "alter sequence users_id_seq cache 10",
            Harmless,
            "sequence users_id_seq is integer start 1",
        ),
        odd(
            Module::Admin,
            "alter table audit_logs drop constraint audit_logs_user_id_fkey, add constraint audit_logs_user_id_fkey foreign key (user_id) references users (id) on delete set null not valid",
            Harmless,
            "it is only not validated",
        ),
    ]
}

#[test]
fn what_does_no_harm_is_named_repaired_where_needed_and_migrated() {
    run(async {
        for Odd {
            module,
            spoil,
            effect,
            words,
        } in odd_installations()
        {
            let (_, mut connection) = product_database(&module, Made::ByMigrations).await;
            execute(&mut connection, spoil.replace("{e}", ELEMENT)).await;
            let columns = columns(&mut connection).await;
            let before = rows(&mut connection, &columns).await;
            let adoption = adopt(&mut connection, &module).await.unwrap();
            let said = match effect {
                Some(effect) => found(&adoption, effect),
                None => adoption
                    .differences
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
            };
            assert!(
                adoption.is_possible(),
                "{spoil}: {:#?}",
                found(&adoption, Effect::Blocks)
            );
            assert!(
                words.is_empty() || said.iter().any(|line| line.contains(words)),
                "{spoil}: {said:#?}"
            );
            assert_eq!(
                adoption.differences.len(),
                usize::from(!words.is_empty()).max(said.len()),
                "{spoil}"
            );
            assert!(
                matches!(
                    inspect(&mut connection, &module).await.unwrap().origin,
                    Origin::Ours {
                        version: 1,
                        adopted: true
                    }
                ),
                "{spoil}"
            );
            up(&mut connection, &module, None).await.unwrap();
            assert_eq!(rows(&mut connection, &columns).await, before, "{spoil}");
        }
    });
}

/// A repair makes what version 1 has, to the letter; the printed SQL makes the same.
#[test]
fn repairs_make_version_1_to_the_letter_and_the_printed_sql_the_same() {
    run(async {
        for module in modules() {
            let mut letter = pg(&database("letter").await).await;
            up(&mut letter, &module, Some(1)).await.unwrap();
            let version_1 = lines(&mut letter, &module).await;
            for by_hand in [false, true] {
                let (_, mut connection) = product_database(&module, Made::ByMigrations).await;
                let spoil = match module {
                    Module::Admin => {
                        "drop index ix_audit_logs_created_at; drop index ix_jwt_keys_is_active; alter table jwt_keys alter id drop default; drop sequence jwt_keys_id_seq"
                    }
                    Module::Query => {
                        "drop index idx_file_metadata_tags; alter table search_history alter created_at drop default; update pg_index set indisvalid = false where indexrelid = 'idx_search_history_mode'::regclass"
                    }
                    Module::Storage(_) => {
                        "alter table {e}_config alter id drop default; drop sequence {e}_config_id_seq; drop index idx_{e}_search_vector; alter table {e}_files alter checksum drop not null, alter created_at drop default, alter created_at drop not null"
                    }
                };
                execute(&mut connection, spoil.replace("{e}", ELEMENT)).await;
                let spoiled = lines(&mut connection, &module).await;
                assert_ne!(spoiled, version_1);
                if by_hand {
                    let sql = inspect(&mut connection, &module).await.unwrap().sql();
                    for statement in sql.join("\n").split(";\n") {
                        execute(&mut connection, statement).await;
                    }
                } else {
                    adopt(&mut connection, &module).await.unwrap();
                }
                let repaired = lines(&mut connection, &module).await;
                let missing: Vec<_> = version_1
                    .iter()
                    .filter(|line| !repaired.contains(line))
                    .collect();
                assert!(missing.is_empty(), "{module}: {missing:#?}");
                assert_eq!(repaired.len(), version_1.len(), "{module}");
            }
        }
        // Numbers go on above the ids that are there.
        let (_, mut connection) = product_database(&storage(), Made::ByTheServices).await;
        adopt(&mut connection, &storage()).await.unwrap();
        let next: i64 = value(
            &mut connection,
            format!("select nextval('{ELEMENT}_config_id_seq')"),
        )
        .await;
        assert_eq!(next, 2);
    });
}

/// Killed between any two of its steps, an adoption leaves what the product runs on; the next one
/// goes on.
#[test]
fn an_adoption_that_is_killed_is_gone_on_with() {
    run(async {
        let spoil = format!(
            "drop index idx_{ELEMENT}_search_vector; \
             alter table {ELEMENT}_files alter checksum drop not null, alter checksum drop default, \
                 alter created_at drop default"
        );
        let mut version_1 = None;
        for (point, times) in [("adopt.repaired", 1..=6), ("adopt.recorded", 1..=1)] {
            for time in times {
                let (url, mut connection) = product_database(&storage(), Made::ByTheServices).await;
                execute(&mut connection, &spoil).await;
                let columns = columns(&mut connection).await;
                let before = rows(&mut connection, &columns).await;
                let program = |arguments: &[&str]| {
                    Program::new(arguments).env("ARTSTORE_ELEMENTS", &format!("{ELEMENT}={url}"))
                };
                let (status, said) = program(&["migrate", "adopt"])
                    .crash_at(point, time)
                    .finish()
                    .await;
                assert_eq!(status.code(), None, "{point} {time}: {said}");
                assert_eq!(rows(&mut connection, &columns).await, before);
                let origin = inspect(&mut connection, &storage()).await.unwrap().origin;
                assert!(matches!(origin, Origin::Product { .. }), "{point} {time}");
                let (status, said) = program(&["migrate", "adopt"]).output().await;
                assert!(status.success(), "{point} {time}: {said}");
                assert_eq!(rows(&mut connection, &columns).await, before);
                let now = lines(&mut connection, &storage()).await;
                assert_eq!(
                    version_1.get_or_insert_with(|| now.clone()),
                    &now,
                    "{point} {time}"
                );
            }
        }
        let expected = include_str!("../../migrations/storage/0001_initial.catalogue");
        let expected = expected.replace("{prefix}", ELEMENT);
        assert_eq!(version_1.unwrap(), expected.lines().collect::<Vec<_>>());
    });
}

/// The product keeps a transaction open on a table for as long as an upload takes: a repair gives
/// way, so that others go on, and comes again.
#[test]
fn a_repair_waits_for_an_upload_and_lets_others_through() {
    run(async {
        let (url, mut connection) = product_database(&storage(), Made::ByMigrations).await;
        execute(
            &mut connection,
            format!("alter table {ELEMENT}_wal alter started_at drop default; drop index idx_{ELEMENT}_wal_file"),
        )
        .await;
        let mut upload = pg(&url).await;
        execute(
            &mut upload,
            format!("begin; update {ELEMENT}_wal set duration_ms = 6 where status = 'pending'"),
        )
        .await;
        let adopting = tokio::spawn(async move {
            adopt(&mut connection, &storage()).await.unwrap();
            connection
        });
        // It waits behind the upload, and a writer behind it; both before the upload ends.
        let mut other = pg(&url).await;
        eventually("adoption waits for the upload", || async {
            let mut watching = pg(&url).await;
            let sql = format!(
                "select exists (select from pg_locks where not granted and relation = '{ELEMENT}_wal'::regclass)"
            );
            value::<bool>(&mut watching, sql).await.then_some(())
        })
        .await;
        let insert = format!(
            "insert into {ELEMENT}_wal (transaction_id, operation_type, status, operation_data, \
                 started_at) values (gen_random_uuid(), 'file_create', 'pending', '{{}}', now())"
        );
        tokio::time::timeout(PATIENCE, execute(&mut other, insert))
            .await
            .expect("a writer gets through while the upload goes on");
        assert!(!adopting.is_finished());
        execute(&mut upload, "commit").await;
        let mut connection = adopting.await.unwrap();
        let origin = inspect(&mut connection, &storage()).await.unwrap().origin;
        assert_eq!(
            origin,
            Origin::Ours {
                version: 1,
                adopted: true
            }
        );
    });
}

#[test]
fn the_command_changes_nothing_where_one_database_blocks_or_it_is_only_asked() {
    run(async {
        let (url, mut element) = product_database(&storage(), Made::ByTheServices).await;
        let (query_url, mut query) = product_database(&Module::Query, Made::ByMigrations).await;
        let command = |arguments: &[&str]| {
            Program::new(arguments)
                .env("ARTSTORE_ELEMENTS", &format!("{ELEMENT}={url}"))
                .env("QUERY_DATABASE_URL", &query_url)
        };
        let before = (
            lines(&mut element, &storage()).await,
            lines(&mut query, &Module::Query).await,
        );

        let (status, said) = command(&["migrate", "adopt", "--dry-run", "--up"])
            .output()
            .await;
        assert!(status.success(), "{said}");
        assert!(
            said.contains("create sequence if not exists public.storage_elem_01_config_id_seq"),
            "{said}"
        );
        assert!(
            said.contains("create table public.artstore_query_version"),
            "{said}"
        );
        assert!(
            said.contains("750 finished get positions by completed_at")
                && said.contains("150 are pending"),
            "{said}"
        );

        assert!(
            said.contains("3 files have no finished operation"),
            "{said}"
        );

        // Of two one is in the way: the other one is left alone as well.
        execute(
            &mut query,
            "alter table search_history drop column search_mode",
        )
        .await;
        let blocked = lines(&mut query, &Module::Query).await;
        let (status, said) = command(&["migrate", "adopt", "--up"]).output().await;
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(
            said.contains("blocks     column search_history.search_mode is missing"),
            "{said}"
        );
        assert!(said.contains("because another database can't be"), "{said}");
        let (status, said) = command(&["migrate", "check", "--module", "query"])
            .output()
            .await;
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(
            said.contains("STOP  differs       blocks: column search_history.search_mode"),
            "{said}"
        );
        // Without adoption, a migration says what to do.
        let (status, said) = command(&["migrate", "up"]).finish().await;
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("run `artstore migrate adopt`"), "{said}");
        assert_eq!(lines(&mut element, &storage()).await, before.0);
        assert_eq!(lines(&mut query, &Module::Query).await, blocked);

        // An empty database is not filled, another module's is refused.
        let empty = database("empty").await;
        let program = Program::new(&["migrate", "adopt", "--up"]).env("QUERY_DATABASE_URL", &empty);
        let (status, said) = program.output().await;
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(
            said.contains("nothing to adopt: is it the right database?"),
            "{said}"
        );
        let program = Program::new(&["migrate", "adopt"]).env("ADMIN_DATABASE_URL", &query_url);
        let (status, said) = program.finish().await;
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("the query module's table"), "{said}");
    });
}

#[test]
fn check_says_what_is_in_use_and_what_is_not_allowed() {
    run(async {
        let (url, mut connection) = product_database(&storage(), Made::ByMigrations).await;
        let mut upload = pg(&url).await;
        execute(
            &mut upload,
            format!("begin; update {ELEMENT}_wal set duration_ms = 6"),
        )
        .await;
        let mut forgotten = pg(&url).await;
        let name = Uuid::new_v4();
        execute(
            &mut forgotten,
            format!("begin; delete from {ELEMENT}_config; prepare transaction '{name}'"),
        )
        .await;
        let role = format!("r{}", Uuid::new_v4().simple());
        execute(
            &mut connection,
            format!(
                "create role {role} login password 'p@ss:w/r%d'; \
                 grant select on all tables in schema public to {role}; \
                 revoke create on schema public from public"
            ),
        )
        .await;
        let other: url::Url = {
            let mut other: url::Url = url.parse().unwrap();
            other.set_username(&role).unwrap();
            other.set_password(Some("p%40ss%3Aw%2Fr%25d")).unwrap();
            other
        };
        let program = Program::new(&["migrate", "check", "--json", "--module", "storage"])
            .env("ARTSTORE_ELEMENTS", &format!("{ELEMENT}={other}"));
        let (status, said) = program.output().await;
        assert_eq!(status.code(), Some(1), "{said}");
        for words in [
            "belongs to artstore, not to",
            "may not create in the schema public",
            "open for",
            "steps wait for it",
            &format!("prepared transaction \\\"{name}\\\""),
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
        let report: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(
            report[0]["details"]["made"]["revision"], "100779395dad",
            "{report}"
        );
        assert_eq!(report[0]["stops"], true);
        execute(&mut forgotten, format!("rollback prepared '{name}'")).await;
        // The same role can't adopt either.
        let adoption = inspect(&mut pg(other.as_str()).await, &storage())
            .await
            .unwrap();
        assert!(!adoption.is_possible());

        let program = Program::new(&["migrate", "check"])
            .env("NATS_URL", "nats://127.0.0.1:9")
            .env("QUERY_DATABASE_URL", "postgres://x@127.0.0.1:9/gone");
        let (status, said) = program.output().await;
        assert_eq!(status.code(), Some(1), "{said}");
        assert_eq!(said.matches("STOP  reachable").count(), 2, "{said}");
    });
}
