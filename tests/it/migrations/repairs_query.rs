//! The query database as it should have been, with the product's own statements at work.

use artstore_migrations::{Direction, Goal, Migrator, Module, down, up};

use super::*;

#[test]
fn the_products_statements_work_on_the_cache() {
    run(async {
        let mut conn = fresh("cache").await;
        up(&mut conn, &Module::Query, None).await.unwrap();
        let id = Uuid::new_v4().to_string();
        // Its upsert, by its own model: no column of ours, an explicit NULL for the vector.
        let upsert = "
            insert into file_metadata_cache (id, filename, storage_filename, file_size, mime_type, sha256_hash, username,
                tags, description, storage_element_id, storage_element_url, created_at, updated_at, cache_updated_at, search_vector)
            values ($1, $2, 's', 1, 'text/plain', 'same', 'ann', $3::varchar[], $4, 'e', 'http://e', now(), now(), now(), null)
            on conflict (id) do update set filename = excluded.filename, tags = excluded.tags,
                description = excluded.description, updated_at = excluded.updated_at, cache_updated_at = now()";
        for (name, description) in [("first.txt", "alpha"), ("second.txt", "beta")] {
            sqlx::query(upsert)
                .bind(&id)
                .bind(name)
                .bind(vec!["a", "b"])
                .bind(description)
                .execute(&mut conn)
                .await
                .unwrap();
        }
        // Another file with the same content.
        sqlx::query(upsert)
            .bind(Uuid::new_v4().to_string())
            .bind("third.txt")
            .bind(vec!["c"])
            .bind("gamma")
            .execute(&mut conn)
            .await
            .unwrap();

        // Its reads: text bound to the id, varchar[] compared with the tags.
        let name: String =
            sqlx::query_scalar("select filename from file_metadata_cache where id = $1::varchar")
                .bind(&id)
                .fetch_one(&mut conn)
                .await
                .unwrap();
        assert_eq!(name, "second.txt");
        let names: Vec<String> = sqlx::query_scalar(
            "select filename from file_metadata_cache where tags && $1::varchar[]",
        )
        .bind(vec!["b", "x"])
        .fetch_all(&mut conn)
        .await
        .unwrap();
        assert_eq!(names, ["second.txt"]);
        assert_eq!(
            found(&mut conn, "file_metadata_cache", "filename", "beta").await,
            ["second.txt"]
        );

        let history = |mode: &str, event: &str| {
            format!(
                "insert into search_history (query_text, search_mode, filters_applied, results_count, response_time_ms, username, event_id)
                 values ('q', '{mode}', null, 0, 1, null, {event})"
            )
        };
        for mode in ["exact", "partial", "fulltext"] {
            exec(&mut conn, &history(mode, "null")).await;
        }
        assert_eq!(
            refusal(&mut conn, &history("semantic", "null")).await.0,
            "23514"
        );
        // An event is shown as it is: refusing it would stop the projection.
        exec(&mut conn, &history("semantic", "gen_random_uuid()")).await;
    });
}

#[test]
fn a_files_id_has_one_form_whoever_writes_it() {
    run(async {
        let mut conn = fresh("canonical").await;
        up(&mut conn, &Module::Query, Some(6)).await.unwrap();
        let id = "abcdef00-0000-4000-8000-00000000000a";
        let insert = |id: &str| {
            cached("x", "y")
                .replacen("values ('", &format!("values ('{id}' || left('"), 1)
                .replacen("', 'x'", "', 0), 'x'", 1)
        };
        let download = |id: &str| {
            format!(
            "insert into download_statistics (file_id, bytes_transferred, download_time_ms, was_resumed, storage_element_id)
             values ('{id}', 1, 1, false, 'e')"
        )
        };
        exec(&mut conn, &insert(&id.to_uppercase())).await;
        exec(&mut conn, &download(&id.to_uppercase())).await;
        exec(
            &mut conn,
            "comment on column download_statistics.file_id is 'FK на file_metadata_cache'",
        )
        .await;
        up(&mut conn, &Module::Query, Some(7)).await.unwrap();

        exec(&mut conn, &download(&id.replace('-', ""))).await;
        exec(&mut conn, &download("no uuid AT ALL")).await;
        assert_eq!(
            texts(&mut conn, "select id from file_metadata_cache").await,
            [id]
        );
        assert_eq!(
            texts(
                &mut conn,
                "select file_id from download_statistics order by id"
            )
            .await,
            [id, id, "no uuid AT ALL"]
        );
        assert_eq!(
            refusal(&mut conn, &insert(&id.to_uppercase())).await.0,
            "23505"
        );

        let comment = "select col_description('download_statistics'::regclass, 2)";
        let said = text(&mut conn, comment).await;
        assert!(
            said.contains("soft reference") && said.ends_with("Before: FK на file_metadata_cache"),
            "{said}"
        );
        down(&mut conn, &Module::Query, 6).await.unwrap();
        assert_eq!(text(&mut conn, comment).await, "FK на file_metadata_cache");

        // Two forms of one id: which file is meant is not ours to say.
        exec(&mut conn, &insert(&id.to_uppercase())).await;
        let error = up(&mut conn, &Module::Query, None)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("the same id in different forms") && error.contains(&id.to_uppercase()),
            "{error}"
        );
    });
}

#[test]
fn partial_search_uses_an_index_on_name_or_description() {
    run(async {
        let mut conn = fresh("trigram").await;
        up(&mut conn, &Module::Query, Some(1)).await.unwrap();
        filled::fill(&mut conn, &Module::Query, filled::MANY).await;
        up(&mut conn, &Module::Query, None).await.unwrap();
        // The last step wrote every row: what GIN keeps aside until then makes an index look dear.
        exec(&mut conn, "vacuum analyze file_metadata_cache").await;
        let explained = |sql: &str| format!("explain (costs off) {sql}");
        let partial = "select id from file_metadata_cache where filename ilike '%report_2499%' or description ilike '%протокол%'";
        let plan = texts(&mut conn, &explained(partial)).await.join("\n");
        assert!(
            plan.contains("idx_file_metadata_filename_trgm")
                && plan.contains("idx_file_metadata_description_trgm"),
            "{plan}"
        );
        for (sql, index) in [
            (
                "select id from file_metadata_cache where filename = 'annual_report_2499.pdf'",
                "ix_file_metadata_cache_filename",
            ),
            (
                "select id from file_metadata_cache where file_size > 1 order by file_size limit 9",
                "idx_file_metadata_file_size",
            ),
            (
                "select id from file_metadata_cache order by updated_at desc limit 9",
                "ix_file_metadata_cache_updated_at",
            ),
            (
                "select id from file_metadata_cache where storage_element_id = 'nowhere'",
                "idx_file_metadata_storage_elem",
            ),
            (
                "select id from file_metadata_cache where sha256_hash = 'h7'",
                "ix_file_metadata_cache_sha256_hash",
            ),
            (
                "select id from file_metadata_cache where username = 'nobody' order by created_at",
                "idx_file_metadata_username_created",
            ),
            (
                "select id from file_metadata_cache order by created_at desc limit 10",
                "ix_file_metadata_cache_created_at",
            ),
            (
                "select id from search_history where username = 'nobody'",
                "idx_search_history_username_spgist",
            ),
            (
                "select id from search_history where search_mode = 'none'",
                "idx_search_history_mode_spgist",
            ),
            (
                "select id from download_statistics where username = 'nobody'",
                "idx_download_stats_username_spgist",
            ),
            (
                "select id from download_statistics where storage_element_id = 'nowhere'",
                "idx_download_stats_storage_spgist",
            ),
        ] {
            exec(&mut conn, "set enable_seqscan = off").await;
            let plan = texts(&mut conn, &explained(sql)).await.join("\n");
            assert!(plan.contains(index), "{plan}");
        }
    });
}

#[test]
fn without_the_right_to_make_the_extension_the_cache_does_without_it() {
    run(async {
        let url = database("no_trigram").await;
        let mut admin = connect(&url).await;
        let role = format!("owner_{}", Uuid::new_v4().simple());
        exec(
            &mut admin,
            &format!("create role {role}; grant create, usage on schema public to {role}"),
        )
        .await;
        let mut conn = connect(&url).await;
        exec(&mut conn, &format!("set role {role}")).await;
        // Up to the step that makes them.
        let last = 10;
        up(&mut conn, &Module::Query, Some(last)).await.unwrap();
        let indexes =
            "select indexname::text from pg_indexes where indexname like '%filename%' order by 1";
        assert_eq!(
            texts(&mut conn, indexes).await,
            ["ix_file_metadata_cache_filename"]
        );

        // Somebody makes it; the step is done again; theirs is not dropped by going down.
        exec(&mut admin, "create extension pg_trgm schema public").await;
        let done = Migrator::new(&mut conn, &Module::Query)
            .run(Goal::Redo)
            .await
            .unwrap();
        let done: Vec<_> = done
            .iter()
            .map(|(step, direction)| (step.version, *direction))
            .collect();
        assert_eq!(done, [(last, Direction::Down), (last, Direction::Up)]);
        assert_eq!(
            texts(&mut conn, indexes).await,
            [
                "idx_file_metadata_filename_trgm",
                "ix_file_metadata_cache_filename"
            ]
        );
        down(&mut conn, &Module::Query, last - 1).await.unwrap();
        assert_eq!(
            text(
                &mut conn,
                "select count(*)::text from pg_extension where extname = 'pg_trgm'"
            )
            .await,
            "1"
        );
        exec(
            &mut admin,
            &format!("drop owned by {role} cascade; drop role {role}"),
        )
        .await;
    });
}
