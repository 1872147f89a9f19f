//! The steps of the three modules on a real PostgreSQL: the catalogue that they make and take
//! back, the databases that they refuse, and what their triggers do.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use artstore_migrations::{MigrateError, Module, down, latest, status, up};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use uuid::Uuid;

use crate::support::*;

/// The initial schemas as the product made them, read back from its databases.
const SCHEMA_INITIAL: &str = include_str!("schema_initial.md");

const ELEMENT: &str = "storage_elem_01";

fn storage(prefix: &str) -> Module {
    Module::Storage(prefix.parse().unwrap())
}

fn modules() -> [Module; 3] {
    [Module::Admin, Module::Query, storage(ELEMENT)]
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

async fn fresh(hint: &str) -> PgConnection {
    connect(&database(hint).await).await
}

async fn try_run(conn: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(conn)
        .await
        .map(drop)
}

async fn exec(conn: &mut PgConnection, sql: &str) {
    try_run(conn, sql)
        .await
        .unwrap_or_else(|error| panic!("{error}: {sql}"));
}

/// What the statement is refused with: SQLSTATE and message.
async fn refusal(conn: &mut PgConnection, sql: &str) -> (String, String) {
    let error = try_run(conn, sql).await.expect_err(sql);
    let error = error.as_database_error().expect(sql);
    (
        error.code().unwrap().into_owned(),
        error.message().to_owned(),
    )
}

/// The rows of a query whose one column is text.
async fn texts(conn: &mut PgConnection, sql: &str) -> Vec<String> {
    let rows = sqlx::query(AssertSqlSafe(sql.to_owned()))
        .fetch_all(conn)
        .await;
    let rows = rows.unwrap_or_else(|error| panic!("{error}: {sql}"));
    rows.iter()
        .map(|row| row.get::<Option<String>, _>(0).unwrap_or("null".into()))
        .collect()
}

async fn text(conn: &mut PgConnection, sql: &str) -> String {
    texts(conn, sql).await.remove(0)
}

/// Polls until the query says "true".
async fn until(conn: &mut PgConnection, sql: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while text(conn, sql).await != "true" {
        assert!(Instant::now() < deadline, "never became true: {sql}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Columns, constraints, indexes and enums in the words of `schema_initial.md`, a line each.
const LETTER: &str = r"
    select format('%s #%s %s | %s | %s | %s', class.relname,
        row_number() over (partition by class.oid order by col.attnum), col.attname,
        replace(replace(format_type(col.atttypid, col.atttypmod),
            'character varying', 'varchar'), 'timestamp with time zone', 'timestamptz'),
        case when col.attnotnull then 'not null' else 'null' end,
        coalesce(pg_get_expr(def.adbin, def.adrelid), ''))
    from pg_class as class
    join pg_attribute as col on col.attrelid = class.oid and col.attnum > 0 and not col.attisdropped
    left join pg_attrdef as def on def.adrelid = class.oid and def.adnum = col.attnum
    where class.relnamespace = 'public'::regnamespace and class.relkind in ('r', 'p', 'v', 'm')
    union all
    select format('%s constraint %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
    from pg_constraint where connamespace = 'public'::regnamespace
    union all
    select format('%s index %s', tablename,
        regexp_replace(indexdef, '^CREATE (UNIQUE )?INDEX (\S+) ON \S+ USING ', '\2 \1'))
    from pg_indexes where schemaname = 'public'
    union all
    select format('enum %s (%s)', type.typname,
        string_agg(label.enumlabel, ', ' order by label.enumsortorder))
    from pg_type as type join pg_enum as label on label.enumtypid = type.oid
    group by type.typname";

/// All that a step can make: the above, and sequences, identities, triggers, functions.
async fn catalogue(conn: &mut PgConnection) -> BTreeSet<String> {
    let sql = LETTER.to_owned()
        + r"
    union all
    select format('sequence %s %s start %s min %s max %s by %s cache %s cycle %s owner %s',
        seq.seqrelid::regclass, seq.seqtypid::regtype, seq.seqstart, seq.seqmin, seq.seqmax,
        seq.seqincrement, seq.seqcache, seq.seqcycle,
        (select format('%s %s %s', dep.refobjid::regclass, dep.refobjsubid, dep.deptype)
         from pg_depend as dep
         where dep.objid = seq.seqrelid and dep.classid = 'pg_class'::regclass
             and dep.refclassid = 'pg_class'::regclass and dep.deptype in ('a', 'i')))
    from pg_sequence as seq
    union all
    select format('identity %s %s %s', attrelid::regclass, attname, attidentity)
    from pg_attribute where attidentity <> ''
    union all
    select format('trigger %s %s', pg_get_triggerdef(oid), tgenabled)
    from pg_trigger where not tgisinternal
    union all
    select format('function %s %s', pg_get_functiondef(oid), proacl)
    from pg_proc where pronamespace = 'public'::regnamespace
    union all
    select format('type %s', typname) from pg_type
    where typnamespace = 'public'::regnamespace and typtype not in ('b', 'c')";
    texts(conn, &sql).await.into_iter().collect()
}

/// The lines of `schema_initial.md` for one database.
fn expected(database: &str) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    let mut table = String::new();
    let mut column = 0;
    for line in SCHEMA_INITIAL.lines() {
        if let Some(heading) = line.strip_prefix("#### `") {
            let (owner, name) = heading.trim_end_matches('`').split_once("`.`").unwrap();
            table = if owner == database {
                name.to_owned()
            } else {
                String::new()
            };
            column = 0;
        } else if let Some(enums) = line.strip_prefix("Enums: ") {
            if database == "artstore_admin" {
                let names = enums
                    .split("; ")
                    .map(|one| format!("enum {}", one.replace('`', "")));
                lines.extend(names);
            }
        } else if table.is_empty() {
        } else if let Some(list) = line.strip_prefix("Constraints: `") {
            let each = list.split("; `");
            lines.extend(each.map(|one| format!("{table} constraint {}", one.replace('`', ""))));
        } else if let Some(list) = line.strip_prefix("Indexes: `") {
            lines.extend(
                list.split("; `")
                    .map(|one| format!("{table} index {}", one.replace('`', ""))),
            );
        } else if line.starts_with("| ") && !line.starts_with("| column ") {
            column += 1;
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            lines.insert(format!("{table} #{column} {}", cells.join(" | ")));
        }
    }
    lines
}

#[test]
fn version_1_is_the_initial_schema_to_the_letter() {
    run(async {
        let databases = ["artstore_admin", "artstore", "artstore_storage_01"];
        let sizes = [(6, 7), (4, 0), (4, 0)];
        for ((module, database), (tables, enums)) in modules().iter().zip(databases).zip(sizes) {
            let mut conn = fresh("letter").await;
            up(&mut conn, module, Some(1)).await.unwrap();
            let version_table = module.version_table();
            let found: BTreeSet<String> = texts(&mut conn, LETTER)
                .await
                .into_iter()
                .filter(|line| !line.starts_with(&format!("{version_table} ")))
                .collect();
            let expected = expected(database);
            let missing: Vec<_> = expected.difference(&found).collect();
            let extra: Vec<_> = found.difference(&expected).collect();
            assert!(
                missing.is_empty() && extra.is_empty(),
                "{module}: {missing:#?} {extra:#?}"
            );

            let counted = text(
                &mut conn,
                "select count(*)::text from pg_tables where schemaname = 'public'",
            )
            .await;
            assert_eq!(counted, tables.to_string(), "{module}");
            assert_eq!(
                found
                    .iter()
                    .filter(|line| line.starts_with("enum "))
                    .count(),
                enums
            );
        }
    });
}

#[test]
fn every_step_down_restores_the_catalogue_and_version_0_leaves_nothing() {
    run(async {
        for module in modules() {
            let mut conn = fresh("up_down").await;
            let nothing = catalogue(&mut conn).await;
            let mut at = vec![nothing];
            for version in 1..=latest(&module) {
                let done = up(&mut conn, &module, Some(version)).await.unwrap();
                assert_eq!(
                    done.iter().map(|step| step.version).collect::<Vec<_>>(),
                    [version]
                );
                at.push(catalogue(&mut conn).await);
                assert_ne!(
                    at[at.len() - 1],
                    at[at.len() - 2],
                    "{module} {version} does nothing"
                );
            }
            assert!(up(&mut conn, &module, None).await.unwrap().is_empty());

            for version in (0..latest(&module)).rev() {
                let done = down(&mut conn, &module, version).await.unwrap();
                assert_eq!(
                    done.iter().map(|step| step.version).collect::<Vec<_>>(),
                    [version + 1]
                );
                let found = catalogue(&mut conn).await;
                let expected = &at[version as usize];
                let missing: Vec<_> = expected.difference(&found).collect();
                let extra: Vec<_> = found.difference(expected).collect();
                assert!(
                    missing.is_empty() && extra.is_empty(),
                    "{module} {version}: {missing:#?} {extra:#?}"
                );
            }

            let done = up(&mut conn, &module, None).await.unwrap();
            assert_eq!(done.len(), latest(&module) as usize);
            assert_eq!(&catalogue(&mut conn).await, at.last().unwrap());
            let status = status(&mut conn, &module).await.unwrap();
            assert_eq!(status.version, latest(&module));
            assert!(status.steps.iter().all(|step| step.applied_at.is_some()));
            assert_eq!(
                down(&mut conn, &module, 0).await.unwrap().len(),
                latest(&module) as usize
            );
            assert_eq!(catalogue(&mut conn).await, at[0]);
        }
    });
}

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

        for (spoil, mend, variant, words) in [
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
                "insert into {v} values (7, 'x', 'x')",
                "delete from {v} where version = 7",
                "TooNew",
                "version 7",
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
            exec(&mut conn, &mend.replace("{v}", "storage_elem_01_version")).await;
            exec(&mut conn, "truncate storage_elem_01_version; insert into storage_elem_01_version select * from saved; drop table saved").await;
        }

        for (to, wrong) in [
            (Some(0), true),
            (Some(4), true),
            (Some(1), true),
            (Some(2), false),
        ] {
            assert_eq!(up(&mut conn, &module, to).await.is_err(), wrong, "{to:?}");
        }
        for (to, wrong) in [(4, true), (3, true), (2, false)] {
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
        assert_eq!((status.version, status.latest), (2, 3));
        let applied: Vec<bool> = status
            .steps
            .iter()
            .map(|step| step.applied_at.is_some())
            .collect();
        assert_eq!(applied, [true, true, false]);
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
        down(&mut conn, &module, 0).await.unwrap();
        assert_eq!(catalogue(&mut conn).await, before);
    });
}

#[test]
fn two_migrators_at_once_wait_for_each_other() {
    run(async {
        let url = database("two").await;
        let module = storage(ELEMENT);
        let (mut watcher, mut blocker) = (connect(&url).await, connect(&url).await);
        up(&mut watcher, &module, Some(1)).await.unwrap();
        exec(
            &mut blocker,
            "begin; lock table storage_elem_01_wal in access share mode",
        )
        .await;

        let migrate = |module: Module, mut conn: PgConnection| {
            tokio::spawn(async move { up(&mut conn, &module, None).await })
        };
        let (mut first, mut second) = (connect(&url).await, connect(&url).await);
        let first_pid = text(&mut first, "select pg_backend_pid()::text").await;
        let second_pid = text(&mut second, "select pg_backend_pid()::text").await;

        // The first holds the migration lock and waits for the table ...
        let first = migrate(module.clone(), first);
        until(
            &mut watcher,
            &format!(
                "select (count(*) > 0)::text from pg_locks where pid = {first_pid} and not granted"
            ),
        )
        .await;
        // ... the second has asked for the migration lock and did not get it.
        let second = migrate(module.clone(), second);
        until(
            &mut watcher,
            &format!(
                "select (state = 'idle' and query like '%pg_try_advisory_lock%')::text
             from pg_stat_activity where pid = {second_pid}"
            ),
        )
        .await;
        assert_eq!(status(&mut watcher, &module).await.unwrap().version, 1);
        exec(&mut blocker, "rollback").await;

        let done: Vec<u32> = first
            .await
            .unwrap()
            .unwrap()
            .iter()
            .map(|step| step.version)
            .collect();
        assert_eq!(done, [2, 3]);
        assert!(
            second.await.unwrap().unwrap().is_empty(),
            "read its version before the lock"
        );
        let left = text(&mut watcher, "select count(*)::text from pg_locks join pg_database on oid = database where locktype = 'advisory' and datname = current_database()").await;
        assert_eq!(left, "0");
    });
}

#[test]
fn a_step_that_gets_no_lock_says_who_holds_it_and_keeps_nothing() {
    run(async {
        let url = database("blocked").await;
        let module = storage(ELEMENT);
        let (mut conn, mut upload) = (connect(&url).await, connect(&url).await);
        up(&mut conn, &module, Some(1)).await.unwrap();
        let before = catalogue(&mut conn).await;
        let pid = text(&mut upload, "select pg_backend_pid()::text").await;
        exec(
            &mut upload,
            "begin; select count(*) from storage_elem_01_wal",
        )
        .await;
        exec(&mut conn, "set lock_timeout = '20ms'").await;
        let error = up(&mut conn, &module, None).await.unwrap_err();
        assert!(matches!(error, MigrateError::Blocked { .. }), "{error}");
        assert!(
            error
                .to_string()
                .contains(&format!("pid {pid} (idle in transaction")),
            "{error}"
        );
        assert_eq!(catalogue(&mut conn).await, before);
        exec(&mut upload, "rollback").await;
        assert_eq!(up(&mut conn, &module, None).await.unwrap().len(), 2);
    });
}

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

/// A finished row in short. `{}` would be taken for a placeholder by `format!`.
fn finished(extra_column: &str, extra_value: &str) -> String {
    let id = Uuid::new_v4();
    format!(
        "insert into storage_elem_01_wal (transaction_id, operation_type, status, operation_data{extra_column})
         values ('{id}', 'file_create', 'committed', '{{}}'{extra_value})"
    )
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
        exec(
            &mut conn,
            "update storage_elem_01_wal set position = 55, error_message = 'x'",
        )
        .await;
        assert_eq!(texts(&mut conn, all).await, ["1", "-", "2", "3"]);
        exec(&mut conn, "update storage_elem_01_wal set status = 'committed', position = 55 where user_id = 'b'").await;
        assert_eq!(texts(&mut conn, all).await, ["1", "4", "2", "3"]);

        // The status of a finished row stays; everything else of it may change.
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
        exec(&mut conn, "update storage_elem_01_wal set status = 'committed', completed_at = now() where user_id = 'a'").await;
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

fn outbox(entity: &str, action: &str) -> String {
    let id = Uuid::new_v4();
    format!(
        "insert into event_outbox (event_id, entity, action, data, actor, position)
         values ('{id}', '{entity}', '{action}', '{{}}', '{{}}', 1000)"
    )
}

#[test]
fn the_outbox_takes_inserts_only_and_numbers_them() {
    run(async {
        for module in [Module::Admin, Module::Query] {
            let mut conn = fresh("outbox").await;
            up(&mut conn, &module, None).await.unwrap();
            exec(&mut conn, "set synchronous_commit = off; begin").await;
            exec(&mut conn, &outbox("user", "created")).await;
            assert_eq!(
                text(&mut conn, "select current_setting('synchronous_commit')").await,
                "local"
            );
            exec(&mut conn, "commit").await;
            exec(&mut conn, "set session_replication_role = replica").await;
            exec(&mut conn, &outbox("jwt-key", "rotated")).await;
            for change in [
                "update event_outbox set subject = 'x'",
                "delete from event_outbox",
                "truncate event_outbox",
            ] {
                let (code, message) = refusal(&mut conn, change).await;
                assert_eq!(code, "23001");
                assert!(
                    message.starts_with("event_outbox is insert only"),
                    "{message}"
                );
            }
            exec(&mut conn, "reset session_replication_role").await;
            for (entity, action) in [
                ("User", "created"),
                ("user", "a.b"),
                ("", "created"),
                ("user", ">"),
                ("user", "a\n"),
            ] {
                assert_eq!(
                    refusal(&mut conn, &outbox(entity, action)).await.0,
                    "23514",
                    "{entity} {action}"
                );
            }
            let positions = texts(
                &mut conn,
                "select position::text from event_outbox order by position",
            )
            .await;
            assert_eq!(positions, ["1", "2"]);

            // The end of the sequence: two rows, and five refused ones that drew a number each.
            exec(
                &mut conn,
                "alter sequence event_outbox_position_seq maxvalue 7",
            )
            .await;
            exec(&mut conn, "begin; savepoint s").await;
            let (_, message) = refusal(&mut conn, &outbox("user", "created")).await;
            assert!(message.contains("reached maximum value"), "{message}");
            exec(&mut conn, "rollback to savepoint s").await;
            assert_ne!(
                text(&mut conn, "select pg_current_xact_id_if_assigned()::text").await,
                "null"
            );
        }
    });
}

/// A file as the product inserts it: with an explicit NULL for the vector.
fn file(name: &str, description: &str, metadata: &str) -> String {
    let id = Uuid::new_v4();
    format!(
        "insert into storage_elem_01_files (file_id, original_filename, storage_filename, file_size, content_type,
             created_by_id, created_by_username, description, storage_path, checksum, search_vector, metadata_json)
         values ('{id}', '{name}', '{id}', 1, 'text/plain', '1', 'u', {description}, '/', 'x', null, {metadata})"
    )
}

async fn found(conn: &mut PgConnection, table: &str, column: &str, words: &str) -> Vec<String> {
    texts(conn, &format!(
        "select {column} from {table} where search_vector @@ plainto_tsquery('russian', '{words}') order by 1"
    )).await
}

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

/// A cache row as the product inserts it, without our columns.
fn cached(name: &str, description: &str) -> String {
    let id = Uuid::new_v4();
    format!(
        "insert into file_metadata_cache (id, filename, storage_filename, file_size, sha256_hash, username, tags,
             description, storage_element_id, storage_element_url, created_at, updated_at, search_vector)
         values ('{id}', '{name}', 's', 1, 'same', 'u', array['Budgets'], '{description}', 'e', 'http://e', now(), now(), null)"
    )
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
                .starts_with("down step 0002 cache_widened of query failed: "),
            "{error}"
        );
        assert_eq!(status(&mut conn, &Module::Query).await.unwrap().version, 2);
        exec(
            &mut conn,
            "delete from file_metadata_cache where length(filename) > 255",
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
            error.to_string().contains("integer out of range"),
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
