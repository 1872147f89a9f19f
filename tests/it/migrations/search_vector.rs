//! Full-text search finds files by their words, in an element and in the cache.

use artstore_migrations::{down, latest, status, up};

use super::*;

#[test]
fn an_elements_files_are_found_by_their_words_whatever_their_metadata_is() {
    run(async {
        let mut conn = fresh("words_e").await;
        up(&mut conn, &storage(ELEMENT), Some(2)).await.unwrap();
        exec(
            &mut conn,
            &file(
                "annual_report.pdf",
                "'Отчёты о продажах'",
                r#"'{"tags": ["Budgets", 7, null, ["nested"], {"a": "b"}]}'"#,
            ),
        )
        .await;
        up(&mut conn, &storage(ELEMENT), None).await.unwrap();
        let table = ("storage_elem_01_files", "original_filename");

        // The row that was there before, in English and Russian, by name, description and tag.
        for words in [
            "report",
            "annual",
            "reports",
            "annual_report.pdf",
            "отчёт",
            "продажа",
            "budget",
        ] {
            assert_eq!(
                found(&mut conn, table.0, table.1, words).await,
                ["annual_report.pdf"],
                "{words}"
            );
        }
        assert!(
            found(&mut conn, table.0, table.1, "nested")
                .await
                .is_empty()
        );
        let weights = text(
            &mut conn,
            "select search_vector::text from storage_elem_01_files",
        )
        .await;
        for weighted in ["'report':3A", "'продаж':7B", "'budget':8C"] {
            assert!(weights.contains(weighted), "{weighted} in {weights}");
        }

        // Free-form metadata never fails a row; texts beyond what a vector can hold are cut.
        for metadata in [
            "null",
            "'null'",
            "'7'",
            r#"'"tags"'"#,
            "'[]'",
            r#"'["tags"]'"#,
            r#"'{"tags": null}'"#,
            r#"'{"tags": "x"}'"#,
            r#"'{"tags": {"a": ["x"]}}'"#,
            r#"'{"tags": []}'"#,
            r#"'{"tags": [null, [], {}]}'"#,
        ] {
            exec(&mut conn, &file("договор-2024.txt", "null", metadata)).await;
        }
        assert_eq!(
            found(&mut conn, table.0, table.1, "договоры").await.len(),
            11
        );
        let distinct_words = "(select string_agg(chr(131072 + n) || chr(131073 + n) || '-' || chr(131074 + n), ' ') from generate_series(1, 40000) as n)";
        exec(
            &mut conn,
            &file(
                &"х".repeat(500),
                distinct_words,
                &format!("jsonb_build_object('tags', jsonb_build_array({distinct_words}))"),
            ),
        )
        .await;

        // The words follow the row; a supplied vector is ignored, an untouched one not computed.
        exec(&mut conn, "update storage_elem_01_files set description = 'invoices', search_vector = 'wrong' where original_filename like 'annual%'").await;
        exec(&mut conn, "update storage_elem_01_files set search_vector = 'wrong' where original_filename like 'annual%'").await;
        assert_eq!(
            found(&mut conn, table.0, table.1, "invoice").await,
            ["annual_report.pdf"]
        );
        assert!(found(&mut conn, table.0, table.1, "wrong").await.is_empty());
        assert!(
            found(&mut conn, table.0, table.1, "продажа")
                .await
                .is_empty()
        );
        exec(&mut conn, "update storage_elem_01_files set search_vector = null, metadata_json = '{\"tags\": [\"late\"]}' where original_filename like 'annual%'").await;
        assert_eq!(
            found(&mut conn, table.0, table.1, "late").await,
            ["annual_report.pdf"]
        );
    });
}

#[test]
fn the_cache_takes_every_legal_row_and_finds_it_by_its_words() {
    run(async {
        let mut conn = fresh("words_q").await;
        up(&mut conn, &Module::Query, Some(1)).await.unwrap();
        exec(&mut conn, &cached("annual_report.pdf", "Отчёты о продажах")).await;
        up(&mut conn, &Module::Query, None).await.unwrap();
        let table = ("file_metadata_cache", "filename");
        for words in ["report", "annual", "отчёт", "продажа", "budget"] {
            assert_eq!(
                found(&mut conn, table.0, table.1, words).await,
                ["annual_report.pdf"],
                "{words}"
            );
        }

        // The same content again, under a name as long as an element takes it.
        let long = "ж".repeat(500);
        exec(&mut conn, &cached(&long, "second")).await;
        assert_eq!(
            found(&mut conn, table.0, table.1, "second").await,
            [long.as_str()]
        );

        // A supplied vector is kept; the product's update, which names none, renews the old one.
        exec(&mut conn, "update file_metadata_cache set description = 'x', search_vector = to_tsvector('russian', 'supplied') where filename like 'annual%'").await;
        assert_eq!(
            found(&mut conn, table.0, table.1, "supplied").await,
            ["annual_report.pdf"]
        );
        exec(&mut conn, "update file_metadata_cache set filename = 'renamed_file.pdf' where filename like 'annual%'").await;
        assert_eq!(
            found(&mut conn, table.0, table.1, "renamed budget").await,
            ["renamed_file.pdf"]
        );
        assert!(
            found(&mut conn, table.0, table.1, "supplied")
                .await
                .is_empty()
        );

        // One row per event; rows of the product have none.
        let search = "insert into search_history (search_mode, results_count, response_time_ms, event_id) values ('fulltext', 1, 1, ";
        exec(
            &mut conn,
            &format!(
                "{search} null); {search} null); {search} '00000000-0000-0000-0000-000000000001')"
            ),
        )
        .await;
        assert_eq!(
            refusal(
                &mut conn,
                &format!("{search} '00000000-0000-0000-0000-000000000001')")
            )
            .await
            .0,
            "23505"
        );

        // Back to the narrow tables: refused as long as a row does not fit, and then whole.
        let error = down(&mut conn, &Module::Query, 1).await.unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("down step 0002 cache_widened of query can't be done"),
            "{error}"
        );
        assert_eq!(
            status(&mut conn, &Module::Query).await.unwrap().version,
            latest(&Module::Query),
            "refused before the first step"
        );
        exec(
            &mut conn,
            "delete from file_metadata_cache where length(filename) > 255;
             delete from search_history where event_id is not null",
        )
        .await;
        down(&mut conn, &Module::Query, 1).await.unwrap();
    });
}

#[test]
fn ids_go_on_above_the_highest_in_both_directions() {
    run(async {
        let mut conn = fresh("ids").await;
        up(&mut conn, &Module::Query, Some(3)).await.unwrap();
        let insert = "insert into search_history (search_mode, results_count, response_time_ms) values ('exact', 1, 1)";
        exec(
            &mut conn,
            &format!("{insert}; {insert}; {insert}; delete from search_history where id = 3"),
        )
        .await;
        exec(&mut conn, "insert into search_history (id, search_mode, results_count, response_time_ms) values (2000000000, 'exact', 1, 1)").await;
        up(&mut conn, &Module::Query, Some(4)).await.unwrap();
        exec(&mut conn, insert).await;
        exec(&mut conn, "insert into search_history (id, search_mode, results_count, response_time_ms) values (7, 'exact', 1, 1)").await;
        down(&mut conn, &Module::Query, 3).await.unwrap();
        exec(&mut conn, insert).await;
        let ids = texts(
            &mut conn,
            "select id::text from search_history order by search_history.id",
        )
        .await;
        assert_eq!(
            ids,
            ["1", "2", "7", "2000000000", "2000000001", "2000000002"]
        );

        up(&mut conn, &Module::Query, Some(4)).await.unwrap();
        exec(&mut conn, "insert into search_history (id, search_mode, results_count, response_time_ms) values (3000000000, 'exact', 1, 1)").await;
        let error = down(&mut conn, &Module::Query, 3).await.unwrap_err();
        assert!(
            error
                .to_string()
                .contains("ids of search_history are beyond four bytes"),
            "{error}"
        );
        assert_eq!(status(&mut conn, &Module::Query).await.unwrap().version, 4);

        // An empty table starts at 1.
        exec(&mut conn, "insert into download_statistics (file_id, bytes_transferred, download_time_ms, was_resumed, storage_element_id) values ('x', 1, 1, false, 'e')").await;
        assert_eq!(
            text(&mut conn, "select id::text from download_statistics").await,
            "1"
        );
    });
}
