//! Databases, version tables and names that are refused, and left as they are.

use artstore_migrations::{MigrateError, down, latest, status, up};

use super::*;

#[test]
fn another_modules_database_is_refused_by_name_and_left_alone() {
    run(async {
        let cases = [
            (
                Module::Query,
                Module::Admin,
                "the query module's table file_metadata_cache",
                "ADMIN_DATABASE_URL",
            ),
            (
                storage(ELEMENT),
                Module::Admin,
                "a storage element's table storage_elem_01_wal",
                "ADMIN_DATABASE_URL",
            ),
            (
                Module::Admin,
                Module::Query,
                "the admin module's table users",
                "QUERY_DATABASE_URL",
            ),
            (
                storage(ELEMENT),
                Module::Query,
                "a storage element's table storage_elem_01_wal",
                "QUERY_DATABASE_URL",
            ),
            (
                Module::Admin,
                storage("e2"),
                "the admin module's table users",
                "STORAGE_DATABASE_URL",
            ),
            (
                Module::Query,
                storage("e2"),
                "the query module's table file_metadata_cache",
                "STORAGE_DATABASE_URL",
            ),
        ];
        for (owner, intruder, table, variable) in cases {
            let mut conn = fresh("wrong").await;
            up(&mut conn, &owner, None).await.unwrap();
            let name = text(&mut conn, "select current_database()::text").await;
            let before = catalogue(&mut conn).await;
            let error = up(&mut conn, &intruder, None).await.unwrap_err();
            assert!(
                matches!(error, MigrateError::WrongDatabase { .. }),
                "{error}"
            );
            let message = error.to_string();
            assert!(
                message.starts_with(&format!(
                    "database \"{name}\" holds {table}: refusing to create "
                )),
                "{message}"
            );
            assert!(message.contains(variable), "{message}");
            assert_eq!(catalogue(&mut conn).await, before);
        }

        // Another element's tables are no reason to refuse, and are not touched.
        let mut conn = fresh("stray").await;
        exec(&mut conn, "create table stray_files (file_id uuid); create table stray_wal (transaction_id uuid, operation_type text)").await;
        let before = catalogue(&mut conn).await;
        up(&mut conn, &storage(ELEMENT), None).await.unwrap();
        down(&mut conn, &storage(ELEMENT), 0).await.unwrap();
        assert_eq!(catalogue(&mut conn).await, before);
    });
}

#[test]
fn tables_that_something_else_made_are_not_adopted() {
    run(async {
        for (module, found) in [
            (Module::Admin, "create table audit_logs (id int)"),
            (Module::Admin, "create type user_role_enum as enum ('x')"),
            (Module::Query, "create table search_history (id int)"),
            (
                storage(ELEMENT),
                "create table storage_elem_01_config (id int)",
            ),
            (
                storage(ELEMENT),
                "create sequence storage_elem_01_config_id_seq",
            ),
        ] {
            let mut conn = fresh("unmanaged").await;
            exec(&mut conn, found).await;
            let before = catalogue(&mut conn).await;
            let error = up(&mut conn, &module, None).await.unwrap_err();
            assert!(matches!(error, MigrateError::Unmanaged { .. }), "{error}");
            assert!(
                error.to_string().contains(found.split(' ').nth(2).unwrap()),
                "{error}"
            );
            assert!(error.to_string().contains("nothing was changed"), "{error}");
            assert_eq!(catalogue(&mut conn).await, before);
        }
    });
}

#[test]
fn a_version_table_that_does_not_fit_stops_up_down_and_status() {
    run(async {
        let module = storage(ELEMENT);
        let mut conn = fresh("history").await;
        up(&mut conn, &module, Some(2)).await.unwrap();
        let newer = latest(&module) + 1;
        let newer_row = format!("insert into {{v}} values ({newer}, 'x', 'x')");
        let newer_gone = format!("delete from {{v}} where version = {newer}");
        let newer_said = format!("version {newer}");

        for (spoil, repair, variant, words) in [
            (
                "update {v} set checksum = 'x' where version = 2",
                "",
                "Changed",
                "step 0002 position",
            ),
            (
                "insert into {v} values (3, 'x', 'x'), (4, 'x', 'x')",
                "delete from {v} where version > 2",
                "Changed",
                "0003",
            ),
            (
                newer_row.as_str(),
                newer_gone.as_str(),
                "TooNew",
                newer_said.as_str(),
            ),
            (
                "delete from {v} where version = 1",
                "",
                "BrokenHistory",
                "has 2 where 1 should be",
            ),
        ] {
            exec(
                &mut conn,
                "create table saved as select * from storage_elem_01_version",
            )
            .await;
            exec(&mut conn, &spoil.replace("{v}", "storage_elem_01_version")).await;
            for error in [
                up(&mut conn, &module, None).await.unwrap_err(),
                down(&mut conn, &module, 0).await.unwrap_err(),
                status(&mut conn, &module).await.unwrap_err(),
            ] {
                assert!(format!("{error:?}").starts_with(variant), "{error:?}");
                assert!(error.to_string().contains(words), "{error}");
            }
            exec(&mut conn, &repair.replace("{v}", "storage_elem_01_version")).await;
            exec(&mut conn, "truncate storage_elem_01_version; insert into storage_elem_01_version select * from saved; drop table saved").await;
        }

        for (to, wrong) in [
            (Some(0), true),
            (Some(newer), true),
            (Some(1), true),
            (Some(2), false),
        ] {
            assert_eq!(up(&mut conn, &module, to).await.is_err(), wrong, "{to:?}");
        }
        for (to, wrong) in [(newer, true), (3, true), (2, false)] {
            assert_eq!(down(&mut conn, &module, to).await.is_err(), wrong, "{to:?}");
        }
        let mut tx = conn.begin().await.unwrap();
        let error = up(&mut tx, &module, None).await.unwrap_err();
        assert!(
            matches!(error, MigrateError::InTransaction { .. }),
            "{error}"
        );
        drop(tx);

        let status = status(&mut conn, &module).await.unwrap();
        assert_eq!((status.version, status.latest), (2, latest(&module)));
        let applied: Vec<bool> = status
            .steps
            .iter()
            .map(|step| step.applied_at.is_some())
            .collect();
        let expected: Vec<bool> = (1..=latest(&module)).map(|version| version <= 2).collect();
        assert_eq!(applied, expected);
    });
}

#[test]
fn a_bad_prefix_is_refused_and_the_longest_one_works() {
    run(async {
        for bad in [
            "",
            "1a",
            "a-b",
            "a\"; drop table x; --",
            "A",
            &"a".repeat(35),
        ] {
            assert!(
                bad.parse::<artstore_schemas::element::ElementName>()
                    .is_err(),
                "{bad:?}"
            );
        }
        let prefix = "z".repeat(34);
        let module = storage(&prefix);
        let mut conn = fresh("longest").await;
        let before = catalogue(&mut conn).await;
        up(&mut conn, &module, None).await.unwrap();
        exec(
            &mut conn,
            &format!(
                "insert into {prefix}_wal (transaction_id, operation_type, status, operation_data)
             values (gen_random_uuid(), 'file_create', 'committed', '{{}}')"
            ),
        )
        .await;
        assert_eq!(
            text(
                &mut conn,
                &format!("select position::text from {prefix}_wal")
            )
            .await,
            "1"
        );
        assert!(
            catalogue(&mut conn)
                .await
                .iter()
                .any(|line| { line.contains(&format!(" ix_{prefix}_files_created_by_username ")) })
        );
        exec(&mut conn, &format!("delete from {prefix}_wal")).await;
        down(&mut conn, &module, 0).await.unwrap();
        assert_eq!(catalogue(&mut conn).await, before);
    });
}
