//! Somebody with the rights on the database has something else shown than what was signed: instead of a
//! table, in between, or after the last head. `audit verify` finds it, and whatever shows rows marks it.

use artstore_projectors::audit_log::published;

use super::*;

/// A view that shows a forged name to whoever does not check, and what was signed to `audit verify`.
async fn view(admin: &mut sqlx::PgConnection) {
    let columns: String = value(
        admin,
        "select string_agg(case attname
             when 'actor_name' then
                 'case when current_query() like ''%order by stream_sequence%'' then actor_name else ''mallory'' end as actor_name'
             else quote_ident(attname) end, ', ' order by attnum)
         from pg_attribute where attrelid = 'audit_logs'::regclass and attnum > 0 and not attisdropped",
    )
    .await;
    execute(
        admin,
        format!(
            "alter table audit_logs rename to audit_logs_kept;
             create view audit_logs as select {columns} from audit_logs_kept"
        ),
    )
    .await;
}

/// What is put in the place of a table or in between, how it is taken away again, and what is reported.
const FORMS: [(&str, &str, &str); 13] = [
    (
        "alter table audit_logs enable row level security",
        "alter table audit_logs disable row level security",
        "audit_logs: row level security is on",
    ),
    (
        "alter table audit_trees force row level security",
        "alter table audit_trees no force row level security",
        "audit_trees: row level security is on",
    ),
    (
        "create policy hidden on audit_logs using (actor_name <> 'mallory')",
        "drop policy hidden on audit_logs",
        "the policy \"hidden\"",
    ),
    (
        "create rule aside as on insert to audit_heads do also nothing",
        "drop rule aside on audit_heads",
        "audit_heads: the rule \"aside\"",
    ),
    (
        "create table stray () inherits (audit_tiles)",
        "drop table stray",
        "audit_tiles: the parent or child \"stray\"",
    ),
    (
        "alter table audit_logs disable trigger audit_logs_append_only",
        TRIGGER_AGAIN,
        "audit_logs_append_only, which keeps rows from being changed, is disabled",
    ),
    (
        "alter table audit_logs enable trigger audit_logs_append_only",
        TRIGGER_AGAIN,
        "is disabled, or not always enabled",
    ),
    (
        "alter function audit_logs_append_only() rename to kept; \
         create function audit_logs_append_only() returns trigger language plpgsql as 'begin return null; end'; \
         drop trigger audit_logs_append_only on audit_logs; \
         create trigger audit_logs_append_only before update or delete or truncate on audit_logs \
             for each statement execute function audit_logs_append_only(); \
         alter table audit_logs enable always trigger audit_logs_append_only",
        "drop trigger audit_logs_append_only on audit_logs; \
         drop function audit_logs_append_only(); \
         alter function kept() rename to audit_logs_append_only; \
         create trigger audit_logs_append_only before update or delete or truncate on audit_logs \
             for each statement execute function audit_logs_append_only(); \
         alter table audit_logs enable always trigger audit_logs_append_only",
        "calls a function that is not ours",
    ),
    (
        "create trigger changes before insert on audit_logs \
             for each row execute function suppress_redundant_updates_trigger()",
        "drop trigger changes on audit_logs",
        "the trigger \"changes\"",
    ),
    (
        "alter table audit_trees drop constraint audit_trees_size_check",
        "alter table audit_trees add constraint audit_trees_size_check check (size >= 0)",
        "the constraint audit_trees_size_check is not there",
    ),
    (
        "drop index audit_logs_stream_key",
        "create unique index audit_logs_stream_key on audit_logs (stream, stream_sequence) \
             where stream is not null",
        "the unique index audit_logs_stream_key",
    ),
    (
        "alter table audit_boundary set unlogged",
        "alter table audit_boundary set logged",
        "audit_boundary: it is unlogged",
    ),
    (
        "alter table audit_logs rename column kid to key",
        "alter table audit_logs rename column key to kid",
        "audit_logs: column kid is not there",
    ),
];

#[test]
fn what_stands_in_the_place_of_a_table_is_found_and_shows_nothing_unchecked() {
    run(async {
        let world = World::new(&[]).await;
        let audited = Audited::new(&world).await;
        let [relay, projector] = with_admin_events(&audited, 300).await;
        projector.kill().await;
        relay.kill().await;
        let mut admin = pg(&world.admin_url).await;
        for (change, back, said) in FORMS {
            execute(&mut admin, change).await;
            let found = audited.verify(&["--no-bus"]).await.0;
            let findings = found["findings"].as_array().unwrap();
            let is_named = |finding: &Value| {
                finding["kind"] == "table-changed"
                    && finding["text"].as_str().unwrap().contains(said)
            };
            assert!(findings.iter().any(is_named), "{change}: {found:#}");
            execute(&mut admin, back).await;
        }
        let verdict = audited.verify(&[]).await;
        assert!(verdict.is_clean(), "{}", verdict.0);
        let (status, said) = audited
            .command(&["audit", "tail", "-n", "50"])
            .output()
            .await;
        assert!(status.success() && !said.contains("NOT AS"), "{said}");

        // The view's rows look right to whoever verifies them, and are wrong for whoever is shown them.
        view(&mut admin).await;
        let verdict = audited.verify(&[]).await;
        let kinds: Vec<String> = verdict
            .findings()
            .into_iter()
            .map(|found| found.0)
            .collect();
        assert!(
            kinds.iter().all(|kind| kind == "table-changed"),
            "{}",
            verdict.0
        );
        assert!(
            verdict.0.to_string().contains("it is a view"),
            "{}",
            verdict.0
        );
        shown_as_forged(&audited, 150).await;
        execute(
            &mut admin,
            "drop view audit_logs; alter table audit_logs_kept rename to audit_logs",
        )
        .await;
        let verdict = audited.verify(&[]).await;
        assert!(verdict.is_clean(), "{}", verdict.0);
    });
}

/// A row as the commands show it, with the secret and with public keys alone.
async fn shown_as_forged(audited: &Audited<'_>, id: i64) {
    let keys = audited.keys.to_str().unwrap();
    let id = id.to_string();
    let without = |arguments: &[&str]| {
        let command = audited.world.command(arguments);
        command.env("SECURITY_AUDIT_VERIFIER_KEYS_PATH", keys)
    };
    for with_secret in [true, false] {
        let command = |arguments: &[&str]| match with_secret {
            true => audited.command(arguments),
            false => without(arguments),
        };
        for arguments in [&["audit", "tail", "-n", "300"][..], &["audit", "show", &id]] {
            let mut process = command(arguments).start();
            let status = process.ended().await;
            let said = process.output();
            assert_eq!(status.code(), Some(1), "{arguments:?}: {said}");
            assert!(said.contains("mallory"), "{said}");
            assert!(said.contains("NOT AS IT WAS SIGNED"), "{said}");
            assert!(
                process.log().contains("NOT AS IT WAS SIGNED"),
                "{}",
                process.log()
            );
        }
        for format in ["jsonl", "csv", "ocsf"] {
            let export = ["audit", "export", "--format", format];
            let (status, said) = command(&export).output().await;
            assert_eq!(status.code(), Some(1), "{format}: {said}");
            let marked = |line: &str| line.contains("not the row in the stored tree");
            let forged = said.lines().filter(|line| line.contains("mallory"));
            assert!(forged.clone().count() > 0, "{format}: {said}");
            assert!(forged.clone().all(marked), "{format}: {said}");
        }
    }
}

#[test]
fn a_row_that_was_changed_is_shown_as_such_also_where_the_tree_was_made_to_fit() {
    run(async {
        let world = World::new(&[]).await;
        let audited = Audited::new(&world).await;
        let [relay, projector] = with_admin_events(&audited, 300).await;
        projector.kill().await;
        relay.kill().await;
        let mut admin = pg(&world.admin_url).await;
        let id: i64 = value(
            &mut admin,
            "select id from audit_logs where stream = 'ARTSTORE_ADMIN' and stream_sequence = 299",
        )
        .await;
        execute(
            &mut admin,
            format!(
                "alter table audit_logs disable trigger all;
                 update audit_logs set actor_name = 'mallory' where id = {id};
                 {TRIGGER_AGAIN}"
            ),
        )
        .await;
        shown_as_forged(&audited, id).await;

        // The leaf in the stored tree is that of the forged row: neither head nor secret is.
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "select {} from audit_logs where id = {id}",
            artstore_projectors::audit_log::store::COLUMNS
        )))
        .fetch_one(&mut admin)
        .await
        .unwrap();
        let leaf = artstore_projectors::audit_log::store::stored(&row)
            .unwrap()
            .row
            .leaf();
        sqlx::query(
            "update audit_tiles set hashes = overlay(hashes placing $1 from 42 * 32 + 1) \
             where stream = 'ARTSTORE_ADMIN' and level = 0 and tile = 1",
        )
        .bind(leaf.as_slice())
        .execute(&mut admin)
        .await
        .unwrap();
        let show = ["audit", "show", &id.to_string(), "--json"];
        let keys = audited.keys.to_str().unwrap();
        let by_head = world
            .command(&show)
            .env("SECURITY_AUDIT_VERIFIER_KEYS_PATH", keys);
        let by_secret = world
            .command(&show)
            .env("SECURITY_AUDIT_HMAC_SECRET", SECRET);
        for (command, reason) in [
            (by_head, "the stored tree does not lead to the signed head"),
            (
                by_secret,
                "its signature does not follow from the row before it",
            ),
        ] {
            let (status, said) = command.output().await;
            assert_eq!(status.code(), Some(1), "{said}");
            let said: Value = serde_json::from_str(&said).unwrap();
            assert_eq!(said["not_as_signed"], reason, "{said}");
        }
        // With neither, it is reported that nothing proves the row.
        let (status, log) = world.command(&show).finish().await;
        assert!(status.success(), "{log}");
        assert!(log.contains("1 row is not proven"), "{log}");
    });
}

/// Somebody with the database and the secret can chain any row. No head is signed over it.
#[test]
fn rows_behind_the_last_head_are_compared_with_their_messages_before_one_is_signed() {
    run(async {
        let world = World::new(&[]).await;
        let audited = Audited::new(&world).await;
        let [relay, projector] = with_admin_events(&audited, 300).await;
        projector.kill().await;
        let untimed = audited
            .projector()
            .env("SECURITY_AUDIT_HEAD_SECONDS", "3600")
            .start();
        admin_events(&world, 9).await;
        let mut admin = pg(&world.admin_url).await;
        eventually("rows without a head", async || {
            let size: i64 = value(&mut admin, "select max(size) from audit_trees").await;
            (size == 309).then_some(())
        })
        .await;
        untimed.kill().await;
        let name = |name: &str| {
            format!(
                "update audit_logs set actor_name = '{name}' where stream = 'ARTSTORE_ADMIN' and stream_sequence = 305"
            )
        };
        let real: String = value(
            &mut admin,
            "select coalesce(actor_name, '') from audit_logs where stream = 'ARTSTORE_ADMIN' and stream_sequence = 305",
        )
        .await;
        execute(&mut admin, "alter table audit_logs disable trigger all").await;
        execute(&mut admin, name("mallory")).await;
        super::attacks::sign_again(&mut admin).await;
        execute(&mut admin, TRIGGER_AGAIN).await;
        // By its signatures, tree and heads all is well.
        assert!(audited.verify(&[]).await.is_clean());

        let mut projector = audited.projector().start();
        projector
            .says("row 305 is not what its message on the bus says")
            .await;
        admin_events(&world, 1).await;
        let heads: i64 = value(&mut admin, "select max(size) from audit_heads").await;
        let note = published::last(&world.bus, "ARTSTORE_ADMIN")
            .await
            .unwrap()
            .note
            .unwrap();
        assert_eq!((heads, note.lines().nth(1)), (300, Some("300")));
        // The command that is named says which field.
        let command = ["--stream", "ARTSTORE_ADMIN", "--against-stream"];
        let verdict = audited.verify(&command).await.0.to_string();
        assert!(
            verdict.contains("row 305 is not what its message says: actor_name"),
            "{verdict}"
        );

        // With the row as it was it continues.
        execute(&mut admin, "alter table audit_logs disable trigger all").await;
        execute(
            &mut admin,
            if real.is_empty() {
                name("x").replace("'x'", "null")
            } else {
                name(&real)
            },
        )
        .await;
        super::attacks::sign_again(&mut admin).await;
        execute(&mut admin, TRIGGER_AGAIN).await;
        projector.signal("-TERM").await;
        projector.ended().await;
        let projector = audited.projector().start();
        audited.caught_up_with(&Source::Admin, 310).await;
        let verdict = audited.verify(&["--against-stream"]).await;
        assert!(verdict.is_clean(), "{}", verdict.0);
        projector.kill().await;
        relay.kill().await;
    });
}
