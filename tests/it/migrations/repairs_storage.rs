//! An element's database as it should have been, with the product's own statements at work.

use artstore_migrations::up;

use super::*;

#[test]
fn the_elements_totals_pass_two_gigabytes_and_there_is_one_row_of_them() {
    run(async {
        let mut conn = fresh("totals").await;
        up(&mut conn, &storage(ELEMENT), Some(1)).await.unwrap();
        exec(&mut conn, "insert into storage_elem_01_config (current_mode, is_master, total_files, total_size_bytes) values ('edit', true, 0, 0)").await;
        let update = "update storage_elem_01_config set total_files = 3000000000, total_size_bytes = 1125899906842624";
        assert_eq!(refusal(&mut conn, update).await.0, "22003");
        up(&mut conn, &storage(ELEMENT), None).await.unwrap();
        exec(&mut conn, update).await;
        for mode in ["edit", "rw", "ro", "ar"] {
            exec(
                &mut conn,
                &format!("update storage_elem_01_config set current_mode = '{mode}'"),
            )
            .await;
        }
        for wrong in [
            "update storage_elem_01_config set current_mode = 'EDIT'",
            "update storage_elem_01_config set id = 2",
            "insert into storage_elem_01_config (current_mode, is_master, total_files, total_size_bytes) values ('edit', true, 0, 0)",
        ] {
            assert_eq!(refusal(&mut conn, wrong).await.0, "23514", "{wrong}");
        }
    });
}

#[test]
fn an_operation_has_a_known_status_and_any_type() {
    run(async {
        let mut conn = fresh("status").await;
        up(&mut conn, &storage(ELEMENT), None).await.unwrap();
        for status in ["pending", "committed", "rolled_back", "failed"] {
            exec(
                &mut conn,
                &finished("", "")
                    .replace("'committed'", &format!("'{status}'"))
                    .replace("file_create", "something new"),
            )
            .await;
        }
        let (code, message) = refusal(
            &mut conn,
            &finished("", "").replace("'committed'", "'done'"),
        )
        .await;
        assert_eq!(code, "23514");
        assert!(
            message.contains("storage_elem_01_wal_status_check"),
            "{message}"
        );
        exec(&mut conn, &file("report.txt", "null", "null")).await;
        assert_eq!(
            found(
                &mut conn,
                "storage_elem_01_files",
                "original_filename",
                "report"
            )
            .await,
            ["report.txt"]
        );
        assert_eq!(
            texts(
                &mut conn,
                "select indexname::text from pg_indexes where schemaname = 'public' and indexdef like '%USING gin%' order by 1"
            )
            .await,
            ["idx_storage_elem_01_search_vector"]
        );
    });
}
