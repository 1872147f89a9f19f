//! What blocks an adoption.

use artstore_migrations::adopt;

use super::*;

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
