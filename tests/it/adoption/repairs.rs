//! What a repair adds.

use artstore_migrations::{adopt, inspect, up};

use super::*;

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
        // Numbers continue above the ids that are there.
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
