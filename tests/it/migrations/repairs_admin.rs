//! The admin database as it should have been, with the product's own statements at work.

use artstore_migrations::{Module, up};

use super::*;

/// Indexes that another one answers for: equal, or the beginning of a longer one. Those of the product's
/// rows answer which rows there are, and no other does.
pub(super) const DUPLICATES: &str = "
    select format('%s by %s', a.indexrelid::regclass, b.indexrelid::regclass)
    from pg_index as a
    join pg_index as b on b.indrelid = a.indrelid and b.indexrelid <> a.indexrelid
    join pg_class as ac on ac.oid = a.indexrelid
    join pg_class as bc on bc.oid = b.indexrelid
    where ac.relnamespace = 'public'::regnamespace
        and ac.relam = bc.relam and ac.relam = (select oid from pg_am where amname = 'btree')
        and starts_with(b.indkey::text || ' ', a.indkey::text || ' ')
        and b.indpred is null and (a.indpred is null or not a.indisunique)
        and (not a.indisunique or b.indisunique and a.indkey = b.indkey)
        and pg_get_expr(a.indpred, a.indrelid) is distinct from '(event_id IS NULL)'
    order by 1";

#[test]
fn every_question_has_one_index() {
    run(async {
        for module in modules() {
            let mut conn = fresh("one_index").await;
            up(&mut conn, &module, Some(1)).await.unwrap();
            assert!(texts(&mut conn, DUPLICATES).await.len() >= 6, "{module}");
            up(&mut conn, &module, None).await.unwrap();
            assert_eq!(texts(&mut conn, DUPLICATES).await, [""; 0], "{module}");
        }
    });
}

#[test]
fn what_was_unique_in_accounts_still_is() {
    run(async {
        let mut conn = fresh("unique_a").await;
        up(&mut conn, &Module::Admin, Some(1)).await.unwrap();
        filled::fill(&mut conn, &Module::Admin, filled::FEW).await;
        let again = [
            ("users", "username", "'u1'"),
            ("users", "email", "'u1@x'"),
            ("users", "ldap_dn", "'cn=1'"),
            ("service_accounts", "name", "'s1'"),
            ("service_accounts", "client_id", "'sa_1'"),
            ("storage_elements", "name", "'e'"),
            ("jwt_keys", "version", "'a'"),
        ];
        let mut refusals = Vec::new();
        for version in [1, 5] {
            up(&mut conn, &Module::Admin, Some(version)).await.unwrap();
            for (table, column, value) in again {
                let sql = format!(
                    "insert into {table} select (jsonb_populate_record(t, jsonb_build_object(
                         'id', case when '{table}' = 'service_accounts' then to_jsonb(gen_random_uuid()) else '1000'::jsonb end)
                         || case when '{column}' <> 'name' then '{{\"name\": \"n\"}}'::jsonb else '{{}}' end
                         || case when '{column}' <> 'username' then '{{\"username\": \"n\"}}'::jsonb else '{{}}' end
                         || case when '{column}' <> 'email' then '{{\"email\": \"n\"}}'::jsonb else '{{}}' end
                         || case when '{column}' <> 'ldap_dn' then '{{\"ldap_dn\": \"n\"}}'::jsonb else '{{}}' end
                         || case when '{column}' <> 'client_id' then '{{\"client_id\": \"n\"}}'::jsonb else '{{}}' end)).*
                     from {table} as t where {column} = {value}"
                );
                refusals.push(refusal(&mut conn, &sql).await);
            }
        }
        assert!(
            refusals.iter().all(|(code, _)| code == "23505"),
            "{refusals:?}"
        );
        // By the same constraint as before: what a service makes of the error stays true.
        assert_eq!(refusals[..7], refusals[7..]);
    });
}

/// An audit row as the product inserts it, without any column of ours.
fn audit(columns: &str, values: &str) -> String {
    format!(
        "insert into audit_logs (event_type, action, success, hmac_signature, created_at{columns})
         values ('login_success', 'login', true, 'sig', now(){values})"
    )
}

#[test]
fn audit_rows_are_neither_refused_nor_changed_because_of_something_else() {
    run(async {
        let mut conn = fresh("audit").await;
        up(&mut conn, &Module::Admin, None).await.unwrap();
        exec(&mut conn, "
            insert into users (id, username, email, role, status, is_system, failed_login_attempts, created_at, updated_at)
            values (7, 'u', 'e', 'ADMIN', 'ACTIVE', false, 0, now(), now());
            insert into service_accounts (id, name, client_id, client_secret_hash, secret_changed_at, role, status, is_system,
                rate_limit, secret_expires_at, created_at, updated_at)
            values ('00000000-0000-0000-0000-000000000007', 's', 'c', 'h', now(), 'USER', 'ACTIVE', false, 1, now(), now(), now())").await;
        exec(
            &mut conn,
            &audit(", severity, actor_type, user_id", ", 'info', 'user', 7"),
        )
        .await;
        exec(
            &mut conn,
            &audit(
                ", severity, actor_type, service_account_id",
                ", 'error', 'service_account', '00000000-0000-0000-0000-000000000007'",
            ),
        )
        .await;
        // An event can still name somebody who is gone already.
        exec(
            &mut conn,
            &audit(", severity, actor_type, user_id", ", 'warning', 'user', 8"),
        )
        .await;
        let rows = "select log::text from audit_logs as log order by id";
        let before = texts(&mut conn, rows).await;
        exec(&mut conn, "delete from users; delete from service_accounts").await;
        assert_eq!(texts(&mut conn, rows).await, before);

        let long = "r".repeat(300);
        exec(
            &mut conn,
            &audit(
                ", severity, actor_type, request_id",
                &format!(", 'info', 'system', '{long}'"),
            ),
        )
        .await;
        assert_eq!(
            text(
                &mut conn,
                "select request_id from audit_logs where request_id is not null"
            )
            .await,
            long
        );

        for severity in ["debug", "info", "warning", "error", "critical"] {
            for actor in ["user", "service_account", "system"] {
                exec(
                    &mut conn,
                    &audit(
                        ", severity, actor_type",
                        &format!(", '{severity}', '{actor}'"),
                    ),
                )
                .await;
            }
        }
        for (severity, actor) in [
            ("INFO", "user"),
            ("", "user"),
            ("info", "robot"),
            ("info", "User"),
        ] {
            let (code, message) = refusal(
                &mut conn,
                &audit(
                    ", severity, actor_type",
                    &format!(", '{severity}', '{actor}'"),
                ),
            )
            .await;
            assert_eq!(code, "23514", "{message}");
        }
    });
}

#[test]
fn two_keys_are_active_while_they_are_rotated() {
    run(async {
        let mut conn = fresh("keys").await;
        up(&mut conn, &Module::Admin, None).await.unwrap();
        exec(&mut conn, "
            insert into jwt_keys (version, private_key, public_key, algorithm, created_at, expires_at, is_active, rotation_count)
            values ('a', 'x', 'y', 'RS256', now(), now(), true, 0), ('b', 'x', 'y', 'RS256', now(), now(), true, 0)").await;
        let comment = "select col_description('jwt_keys'::regclass, 3)";
        assert!(text(&mut conn, comment).await.starts_with("In clear."));

        // A comment that was there comes back.
        artstore_migrations::down(&mut conn, &Module::Admin, 4)
            .await
            .unwrap();
        exec(
            &mut conn,
            "comment on column jwt_keys.private_key is 'Закрытый ключ'",
        )
        .await;
        up(&mut conn, &Module::Admin, None).await.unwrap();
        assert!(
            text(&mut conn, comment)
                .await
                .ends_with("Before: Закрытый ключ")
        );
        artstore_migrations::down(&mut conn, &Module::Admin, 4)
            .await
            .unwrap();
        assert_eq!(text(&mut conn, comment).await, "Закрытый ключ");
    });
}
