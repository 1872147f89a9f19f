//! Rows that forbid a step are listed before anything is changed, in either direction.

use artstore_migrations::{Goal, MigrateError, Migrator, down, latest, status, up};

use super::*;

/// Runs it, and checks that it lists so many rows, says these words and changes nothing.
async fn refused(
    conn: &mut PgConnection,
    module: &Module,
    goal: Goal,
    listed: i64,
    words: &[&str],
) {
    let at = status(conn, module).await.unwrap();
    let before = catalogue(conn).await;
    let error = Migrator::new(conn, module)
        .run(goal)
        .await
        .expect_err("a refusal");
    let MigrateError::Refused { found, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(found.count, listed, "{error}");
    assert_eq!(
        i64::try_from(found.rows.len()).unwrap(),
        listed.min(10),
        "{error}"
    );
    for word in words.iter().chain(&["nothing of it was changed"]) {
        assert!(error.to_string().contains(word), "{word} in {error}");
    }
    assert_eq!(catalogue(conn).await, before);
    assert_eq!(status(conn, module).await.unwrap(), at);
}

#[test]
fn up_lists_the_rows_that_a_check_would_refuse() {
    run(async {
        let mut conn = fresh("up_admin").await;
        up(&mut conn, &Module::Admin, Some(2)).await.unwrap();
        exec(&mut conn, "
            insert into audit_logs (event_type, severity, actor_type, action, success, hmac_signature, created_at)
            select 'x', 'LOUD', 'user', 'login', true, 'sig', now() from generate_series(1, 12)").await;
        refused(
            &mut conn,
            &Module::Admin,
            Goal::Up(None),
            12,
            &["id 1: severity 'LOUD', x", "and 2 more, 12 in all"],
        )
        .await;
        exec(&mut conn, "update audit_logs set severity = 'info', actor_type = case when id = 5 then 'robot' else 'user' end").await;
        refused(
            &mut conn,
            &Module::Admin,
            Goal::Up(None),
            1,
            &["id 5: actor_type 'robot'"],
        )
        .await;
        exec(&mut conn, "update audit_logs set actor_type = 'system'").await;
        // A reference goes whatever its name is in an installation that was adopted.
        exec(
            &mut conn,
            "alter table audit_logs rename constraint audit_logs_user_id_fkey to fk_audit_user",
        )
        .await;
        up(&mut conn, &Module::Admin, Some(3)).await.unwrap();
        let references = "select conname::text from pg_constraint where conrelid = 'audit_logs'::regclass and contype = 'f'";
        assert_eq!(texts(&mut conn, references).await, [""; 0]);
        // The last unique rule of a column is not dropped as a double of another that is not there.
        exec(&mut conn, "alter table users drop constraint uq_username").await;
        refused(
            &mut conn,
            &Module::Admin,
            Goal::Up(None),
            1,
            &["users (username), which version 1 keeps unique by uq_username"],
        )
        .await;
        exec(
            &mut conn,
            "alter table users add constraint uq_username unique (username)",
        )
        .await;
        up(&mut conn, &Module::Admin, None).await.unwrap();

        let mut conn = fresh("up_query").await;
        up(&mut conn, &Module::Query, Some(7)).await.unwrap();
        exec(&mut conn, "insert into search_history (search_mode, results_count, response_time_ms) values ('odd', 1, 1)").await;
        refused(
            &mut conn,
            &Module::Query,
            Goal::Up(None),
            1,
            &["id 1: search_mode 'odd'", "correct or delete"],
        )
        .await;

        let element = storage(ELEMENT);
        let mut conn = fresh("up_storage").await;
        up(&mut conn, &element, Some(3)).await.unwrap();
        exec(&mut conn, "insert into storage_elem_01_config (current_mode, is_master, total_files, total_size_bytes) values ('rw', true, 0, 0), ('odd', true, 0, 0)").await;
        refused(
            &mut conn,
            &element,
            Goal::Up(None),
            1,
            &["id 2: current_mode 'odd'", "the one row with id 1"],
        )
        .await;
        exec(&mut conn, "delete from storage_elem_01_config where id = 1; update storage_elem_01_config set id = 1").await;
        refused(
            &mut conn,
            &element,
            Goal::Up(None),
            1,
            &["none of edit, rw, ro, ar"],
        )
        .await;
        exec(
            &mut conn,
            "update storage_elem_01_config set current_mode = 'ar'",
        )
        .await;
        exec(
            &mut conn,
            &finished("", "").replace("'committed'", "'stuck'"),
        )
        .await;
        refused(
            &mut conn,
            &element,
            Goal::Up(None),
            1,
            &["status 'stuck', file_create"],
        )
        .await;
        exec(
            &mut conn,
            "update storage_elem_01_wal set status = 'failed'",
        )
        .await;
        up(&mut conn, &element, None).await.unwrap();
    });
}

#[test]
fn down_lists_the_rows_that_the_older_tables_can_not_hold() {
    run(async {
        let mut conn = fresh("down_admin").await;
        let module = Module::Admin;
        up(&mut conn, &module, None).await.unwrap();
        let audit = |column: &str, value: &str| {
            format!(
            "insert into audit_logs (event_type, severity, actor_type, action, success, hmac_signature, created_at, {column})
             values ('x', 'info', 'user', 'login', true, 'sig', now(), {value})"
        )
        };
        exec(&mut conn, &audit("request_id", "repeat('r', 37)")).await;
        exec(&mut conn, &audit("request_id", "repeat('r', 36)")).await;
        refused(
            &mut conn,
            &module,
            Goal::Down(1),
            1,
            &["id 1: 37 characters"],
        )
        .await;
        // What an archive does with rows that it has verified.
        exec(&mut conn, "set artstore.audit_archive = 'on'").await;
        exec(&mut conn, "delete from audit_logs where id = 1").await;
        let evidence = "format, stream, stream_sequence, mapping, kid";
        let evidence = audit(evidence, "1, 's', 7, 1, 'k'");
        exec(&mut conn, &evidence).await;
        refused(
            &mut conn,
            &module,
            Goal::Down(5),
            1,
            &["stream s: rows 7 to 7", "--accept-loss"],
        )
        .await;
        exec(&mut conn, "delete from audit_logs where id = 3").await;
        exec(&mut conn, &audit("session_id", "repeat('s', 101)")).await;
        refused(
            &mut conn,
            &module,
            Goal::Down(5),
            1,
            &["too long for version 5", "id 4: x, login"],
        )
        .await;
        exec(&mut conn, "delete from audit_logs where id = 4").await;
        exec(&mut conn, &audit("user_id", "77")).await;
        exec(&mut conn, &audit("service_account_id", "gen_random_uuid()")).await;
        refused(
            &mut conn,
            &module,
            Goal::Down(1),
            2,
            &["id 5: user_id 77", "no longer there"],
        )
        .await;
        exec(&mut conn, "delete from audit_logs where id > 2").await;
        exec(&mut conn, &outbox("user", "created")).await;
        refused(
            &mut conn,
            &module,
            Goal::Down(1),
            1,
            &["position 1: user created", "--accept-loss"],
        )
        .await;
        down(&mut conn, &module, 2).await.unwrap();
        let done = Migrator::new(&mut conn, &module)
            .accept_loss(true)
            .run(Goal::Down(1))
            .await
            .unwrap();
        assert_eq!(done.len(), 1);
        refused(&mut conn, &module, Goal::Down(0), 1, &["audit_logs 2"]).await;

        let mut conn = fresh("down_query").await;
        let module = Module::Query;
        up(&mut conn, &module, None).await.unwrap();
        exec(&mut conn, &cached("a", "x")).await;
        exec(&mut conn, &cached("b", "x")).await;
        refused(
            &mut conn,
            &module,
            Goal::Down(1),
            1,
            &["same: 2 files", "same sha256_hash"],
        )
        .await;
        exec(&mut conn, "update file_metadata_cache set sha256_hash = filename, storage_element_url = nullif(filename, 'a')").await;
        refused(
            &mut conn,
            &module,
            Goal::Down(1),
            1,
            &[": a, no storage_element_url"],
        )
        .await;
        for column in [
            "filename",
            "storage_filename",
            "mime_type",
            "username",
            "storage_element_id",
            "storage_element_url",
        ] {
            exec(&mut conn, &format!("update file_metadata_cache set storage_element_url = 'u'; update file_metadata_cache set {column} = repeat('z', 513) where sha256_hash = 'a'")).await;
            refused(&mut conn, &module, Goal::Down(1), 1, &["too long"]).await;
            exec(
                &mut conn,
                &format!("update file_metadata_cache set {column} = 'z' where sha256_hash = 'a'"),
            )
            .await;
        }
        exec(&mut conn, "insert into search_history (search_mode, results_count, response_time_ms, username) values ('exact', 1, 1, repeat('u', 256))").await;
        refused(
            &mut conn,
            &module,
            Goal::Down(1),
            1,
            &["rows of search_history are too long"],
        )
        .await;
        for (table, column) in [
            ("search_history", "username"),
            ("search_history", "search_mode"),
            ("download_statistics", "storage_element_id"),
        ] {
            let value =
                "(select string_agg(gen_random_uuid()::text, '') from generate_series(1, 73))";
            let insert = match table {
                "search_history" => {
                    "insert into search_history (search_mode, results_count, response_time_ms, username, event_id) values ('exact', 1, 1, 'u', gen_random_uuid())"
                }
                _ => {
                    "insert into download_statistics (file_id, bytes_transferred, download_time_ms, was_resumed, storage_element_id, event_id) values ('x', 1, 1, false, 'e', gen_random_uuid())"
                }
            };
            exec(
                &mut conn,
                &format!(
                    "{insert}; update {table} set {column} = {value} where event_id is not null"
                ),
            )
            .await;
            refused(
                &mut conn,
                &module,
                Goal::Down(13),
                1,
                &[table, "an entry of a btree"],
            )
            .await;
            exec(
                &mut conn,
                &format!("delete from {table} where event_id is not null"),
            )
            .await;
        }
        exec(
            &mut conn,
            "update search_history set username = 'u', id = 2147483648",
        )
        .await;
        refused(
            &mut conn,
            &module,
            Goal::Down(1),
            1,
            &["id 2147483648", "beyond four bytes"],
        )
        .await;
        exec(
            &mut conn,
            "update search_history set id = 1; select setval('search_history_id_seq', 2147483647)",
        )
        .await;
        refused(
            &mut conn,
            &module,
            Goal::Down(1),
            1,
            &["last given: 2147483647", "restart with"],
        )
        .await;
        exec(
            &mut conn,
            "alter sequence search_history_id_seq restart with 2",
        )
        .await;
        exec(&mut conn, "insert into download_statistics (file_id, bytes_transferred, download_time_ms, was_resumed, storage_element_id) values ('x', 1, 1, false, repeat('e', 51))").await;
        refused(
            &mut conn,
            &module,
            Goal::Down(1),
            1,
            &["rows of download_statistics are too long"],
        )
        .await;
        exec(
            &mut conn,
            "update download_statistics set storage_element_id = 'e'",
        )
        .await;
        exec(
            &mut conn,
            "update file_metadata_cache set event_id = gen_random_uuid() where sha256_hash = 'a'",
        )
        .await;
        refused(
            &mut conn,
            &module,
            Goal::Down(1),
            1,
            &["from which event", "--accept-loss"],
        )
        .await;
        exec(&mut conn, "update file_metadata_cache set event_id = null").await;
        exec(&mut conn, "insert into projection_checkpoints (projection, stream, version, stream_created_at, last_sequence) values ('p', 's', 1, now(), 7)").await;
        refused(
            &mut conn,
            &module,
            Goal::Down(5),
            1,
            &["checkpoint of p in s at 7"],
        )
        .await;
        exec(&mut conn, "delete from projection_checkpoints").await;
        down(&mut conn, &module, 1).await.unwrap();
        refused(&mut conn, &module, Goal::Down(0), 4, &["back them up"]).await;

        let mut conn = fresh("down_storage").await;
        let module = storage(ELEMENT);
        up(&mut conn, &module, None).await.unwrap();
        exec(
            &mut conn,
            "update storage_elem_01_api set url = 'http://a', set_at = now()",
        )
        .await;
        refused(
            &mut conn,
            &module,
            Goal::Down(6),
            1,
            &["API URL http://a", "--accept-loss"],
        )
        .await;
        exec(
            &mut conn,
            "update storage_elem_01_api set url = null, set_at = null",
        )
        .await;
        exec(&mut conn, "insert into storage_elem_01_config (current_mode, is_master, total_files, total_size_bytes) values ('rw', true, 0, 2147483648)").await;
        refused(
            &mut conn,
            &module,
            Goal::Down(1),
            1,
            &["total_size_bytes 2147483648"],
        )
        .await;
        exec(
            &mut conn,
            "update storage_elem_01_config set total_size_bytes = 2147483647",
        )
        .await;
        exec(&mut conn, &finished("", "")).await;
        refused(
            &mut conn,
            &module,
            Goal::Down(1),
            1,
            &["position 1: ", "--accept-loss"],
        )
        .await;
        down(&mut conn, &module, 2).await.unwrap();
        // A step that comes here has its refusals above.
        assert_eq!(latest(&module), 12);
    });
}
