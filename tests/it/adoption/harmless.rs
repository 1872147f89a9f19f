//! Databases that differ from version 1 without harm.

use artstore_migrations::{Origin, adopt, inspect, up};

use super::*;

/// A database that differs from version 1 without harm, and what is reported about it.
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
