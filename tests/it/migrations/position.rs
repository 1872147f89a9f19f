//! Positions: what the trigger gives, to which rows, and who can get past it.

use artstore_migrations::up;

use super::*;

#[test]
fn rows_finished_before_the_trigger_are_numbered_in_the_order_they_were_finished() {
    run(async {
        let module = storage(ELEMENT);
        let mut conn = fresh("numbered").await;
        up(&mut conn, &module, Some(1)).await.unwrap();
        exec(&mut conn, "
            insert into storage_elem_01_wal
                (transaction_id, operation_type, status, operation_data, started_at, completed_at, user_id)
            values
                ('00000000-0000-0000-0000-000000000001', 'file_create', 'failed', '{}', '2025-01-02', null, '6th: never completed, started last'),
                ('00000000-0000-0000-0000-000000000002', 'file_create', 'committed', '{}', '2025-01-01', null, '5th: never completed'),
                ('00000000-0000-0000-0000-000000000003', 'file_create', 'pending', '{}', '2024-01-01', null, 'pending'),
                ('00000000-0000-0000-0000-000000000005', 'file_create', 'rolled_back', '{}', '2025-01-03', '2025-01-05', '3rd: same times, greater id'),
                ('00000000-0000-0000-0000-000000000004', 'file_create', 'committed', '{}', '2025-01-03', '2025-01-05', '2nd: same times, lower id'),
                ('00000000-0000-0000-0000-000000000006', 'file_create', 'committed', '{}', '2025-01-04', '2025-01-05', '4th: same completion, started later'),
                ('00000000-0000-0000-0000-000000000007', 'file_create', 'committed', '{}', '2025-01-05', '2025-01-04', '1st: completed first')").await;
        up(&mut conn, &module, Some(2)).await.unwrap();
        let order = texts(&mut conn, "select position || ' ' || user_id from storage_elem_01_wal where position is not null order by position").await;
        let words: Vec<String> = order.iter().map(|line| line[..5].to_owned()).collect();
        assert_eq!(
            words,
            ["1 1st", "2 2nd", "3 3rd", "4 4th", "5 5th", "6 6th"]
        );
        exec(
            &mut conn,
            "update storage_elem_01_wal set status = 'committed' where status = 'pending'",
        )
        .await;
        assert_eq!(
            text(
                &mut conn,
                "select position::text from storage_elem_01_wal where user_id = 'pending'"
            )
            .await,
            "7"
        );
    });
}

#[test]
fn a_row_gets_its_position_when_it_is_finished_and_keeps_it() {
    run(async {
        let mut conn = fresh("position").await;
        up(&mut conn, &storage(ELEMENT), None).await.unwrap();
        let all = "select coalesce(position::text, '-') from storage_elem_01_wal order by user_id";

        // Several rows of one statement; a supplied number is ignored, pending rows have none.
        exec(&mut conn, "
            insert into storage_elem_01_wal (transaction_id, operation_type, status, operation_data, position, user_id)
            select gen_random_uuid(), 'file_create', status, '{}', 1000, n
            from (values ('a', 'committed'), ('b', 'pending'), ('c', 'failed'), ('d', 'rolled_back')) as v (n, status)
            order by n").await;
        assert_eq!(texts(&mut conn, all).await, ["1", "-", "2", "3"]);
        exec(&mut conn, "update storage_elem_01_wal set position = 55").await;
        assert_eq!(texts(&mut conn, all).await, ["1", "-", "2", "3"]);
        exec(&mut conn, "update storage_elem_01_wal set status = 'committed', position = 55 where user_id = 'b'").await;
        assert_eq!(texts(&mut conn, all).await, ["1", "4", "2", "3"]);

        // The status of a finished row stays.
        for status in ["pending", "failed", "anything"] {
            let (code, message) = refusal(
                &mut conn,
                &format!("update storage_elem_01_wal set status = '{status}' where user_id = 'a'"),
            )
            .await;
            assert_eq!(code, "23000");
            let id = text(
                &mut conn,
                "select transaction_id::text from storage_elem_01_wal where user_id = 'a'",
            )
            .await;
            assert_eq!(
                message,
                format!(
                    "operation {id} is finished as committed: its status can not become {status}"
                )
            );
        }
        // And so does everything else; the same once more is no change.
        for column in [
            "transaction_id = gen_random_uuid()",
            "operation_type = 'file_delete'",
            "file_id = gen_random_uuid()",
            "operation_data = '{\"x\": 1}'",
            "error_message = 'x'",
            "started_at = started_at - interval '1 hour'",
            "completed_at = now()",
            "duration_ms = 1",
            "user_id = null",
        ] {
            let change = format!("update storage_elem_01_wal set {column} where user_id = 'a'");
            let (code, message) = refusal(&mut conn, &change).await;
            assert_eq!(code, "23000", "{column}");
            assert!(message.ends_with("its row can not be changed"), "{message}");
        }
        exec(&mut conn, "update storage_elem_01_wal set status = 'committed', file_id = file_id, operation_data = operation_data, position = 7 where user_id = 'a'").await;
        exec(
            &mut conn,
            "delete from storage_elem_01_wal where user_id <> 'a'",
        )
        .await;

        // Ordinary triggers off: ours still fires.
        exec(&mut conn, "set session_replication_role = replica").await;
        exec(&mut conn, &finished(", user_id", ", 'b'")).await;
        exec(&mut conn, "reset session_replication_role").await;
        assert_eq!(texts(&mut conn, all).await, ["1", "5"]);

        // COPY goes through it as well.
        let mut copy = conn
            .copy_in_raw("copy storage_elem_01_wal (transaction_id, operation_type, status, operation_data, user_id) from stdin")
            .await
            .unwrap();
        let lines: String = ["c", "d"]
            .map(|n| format!("{}\tfile_create\tcommitted\t{{}}\t{n}\n", Uuid::new_v4()))
            .concat();
        copy.send(lines.as_bytes()).await.unwrap();
        copy.finish().await.unwrap();
        assert_eq!(texts(&mut conn, all).await, ["1", "5", "6", "7"]);

        // A bypass fails loudly.
        exec(
            &mut conn,
            "alter table storage_elem_01_wal disable trigger zzz_storage_elem_01_wal_position",
        )
        .await;
        let (code, message) = refusal(&mut conn, &finished("", "")).await;
        assert_eq!(code, "23514", "{message}");
        exec(&mut conn, "alter table storage_elem_01_wal enable always trigger zzz_storage_elem_01_wal_position").await;

        // Another trigger that finishes the row is seen: ours comes last.
        exec(&mut conn, "
            create function finish() returns trigger language plpgsql as $$ begin new.status := 'committed'; return new; end $$;
            create trigger zz_finish before insert on storage_elem_01_wal for each row execute function finish()").await;
        exec(
            &mut conn,
            &finished(", user_id", ", 'e'").replace("'committed'", "'pending'"),
        )
        .await;
        assert_eq!(texts(&mut conn, all).await, ["1", "5", "6", "7", "8"]);
        exec(&mut conn, "drop trigger zz_finish on storage_elem_01_wal").await;

        // The transaction has its id before it draws: at the end of the sequence it already has.
        exec(
            &mut conn,
            "alter sequence storage_elem_01_wal_position_seq maxvalue 8",
        )
        .await;
        exec(&mut conn, "begin; savepoint s").await;
        let (_, message) = refusal(&mut conn, &finished("", "")).await;
        assert!(message.contains("reached maximum value"), "{message}");
        exec(&mut conn, "rollback to savepoint s").await;
        assert_ne!(
            text(&mut conn, "select pg_current_xact_id_if_assigned()::text").await,
            "null"
        );
        exec(&mut conn, "rollback").await;
        exec(
            &mut conn,
            "alter sequence storage_elem_01_wal_position_seq no maxvalue",
        )
        .await;

        // The numbers outlive the column, and are not owned by it.
        assert!(catalogue(&mut conn).await.iter().any(|line| {
            line.starts_with("sequence storage_elem_01_wal_position_seq bigint start 1 min 1 max 9223372036854775807 by 1 cache 1 cycle f owner ")
                && line.ends_with("owner ")
        }));
    });
}

#[test]
fn finishing_a_row_waits_for_the_disk_in_its_own_transaction_only() {
    run(async {
        let mut conn = fresh("sync").await;
        up(&mut conn, &storage(ELEMENT), None).await.unwrap();
        exec(&mut conn, "set synchronous_commit = off").await;
        let now = "select current_setting('synchronous_commit')";

        exec(&mut conn, "begin").await;
        exec(
            &mut conn,
            &finished("", "").replace("'committed'", "'pending'"),
        )
        .await;
        assert_eq!(
            text(&mut conn, now).await,
            "off",
            "a pending row needs no flush"
        );
        exec(&mut conn, "savepoint s").await;
        exec(&mut conn, &finished("", "")).await;
        exec(&mut conn, "release savepoint s").await;
        assert_eq!(
            text(&mut conn, now).await,
            "local",
            "up to the end of the transaction"
        );
        exec(&mut conn, "commit").await;
        assert_eq!(text(&mut conn, now).await, "off");

        exec(&mut conn, "set synchronous_commit = remote_write; begin").await;
        exec(&mut conn, &finished("", "")).await;
        assert_eq!(
            text(&mut conn, now).await,
            "remote_write",
            "a stronger setting stays"
        );
        exec(&mut conn, "rollback").await;
    });
}

#[test]
fn a_role_that_may_only_write_the_tables_can_publish_but_not_draw_numbers() {
    run(async {
        let (mut element, mut admin) = (fresh("role_e").await, fresh("role_a").await);
        up(&mut element, &storage(ELEMENT), None).await.unwrap();
        up(&mut admin, &Module::Admin, None).await.unwrap();
        let role = format!("writer_{}", Uuid::new_v4().simple());
        exec(
            &mut element,
            &format!(
                "
            create role {role};
            grant select, insert, update on storage_elem_01_wal, storage_elem_01_files to {role};
            set role {role}"
            ),
        )
        .await;
        exec(&mut element, &finished("", "")).await;
        exec(&mut element, &file("report.txt", "null", "null")).await;
        assert_eq!(
            text(
                &mut element,
                "select position::text from storage_elem_01_wal"
            )
            .await,
            "1"
        );
        for theft in [
            "select nextval('storage_elem_01_wal_position_seq')",
            "alter table storage_elem_01_wal disable trigger all",
        ] {
            assert_eq!(refusal(&mut element, theft).await.0, "42501", "{theft}");
        }
        // What the role's own schema calls `nextval` or `=` is not what the trigger uses.
        exec(&mut element, &format!("
            reset role; create schema authorization {role}; set role {role};
            create function {role}.nextval(regclass) returns bigint language sql as 'select 77::bigint';
            create function {role}.never(varchar, varchar) returns boolean language sql as 'select false';
            create operator {role}.= (leftarg = varchar, rightarg = varchar, function = {role}.never);
            set search_path = {role}, public, pg_catalog")).await;
        exec(&mut element, &finished("", "")).await;
        exec(&mut element, "set search_path = public").await;
        assert_eq!(
            text(
                &mut element,
                "select max(position)::text from storage_elem_01_wal"
            )
            .await,
            "2"
        );

        exec(
            &mut admin,
            &format!("grant select, insert on event_outbox to {role}; set role {role}"),
        )
        .await;
        exec(&mut admin, &outbox("user", "created")).await;
        assert_eq!(
            text(&mut admin, "select position::text from event_outbox").await,
            "1"
        );

        for conn in [&mut element, &mut admin] {
            exec(
                conn,
                &format!("reset role; reset search_path; drop owned by {role} cascade"),
            )
            .await;
        }
        exec(&mut element, &format!("drop role {role}")).await;
    });
}
