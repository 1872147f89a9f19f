//! `artstore migrate roles`: each duty does its work with its role, and can do nothing else.

use std::path::Path;

use sqlx::postgres::PgConnectOptions;

use super::*;

/// What the names of this test's roles begin with: roles are the server's, which tests share.
fn prefix(letter: char) -> String {
    let tag = Uuid::new_v4().simple().to_string();
    format!("{letter}{}", &tag[..12])
}

/// A URL as another role, whose password is its name.
fn login(url: &str, role: &str) -> String {
    let (_, place) = url.split_once('@').unwrap();
    format!("postgres://{role}:{role}@{place}")
}

/// A file for each role, with its password.
fn passwords(prefix: &str) -> std::path::PathBuf {
    let folder = folder("passwords");
    for duty in [
        "migrator",
        "relay",
        "publisher_admin",
        "publisher_query",
        "publisher_roles",
        "projector",
        "audit",
        "auditor",
        "console",
    ] {
        let role = format!("{prefix}_{duty}");
        std::fs::write(folder.join(&role), format!("{role}\n")).unwrap();
    }
    folder
}

async fn settings(conn: &mut PgConnection, prefix: &str) -> Vec<String> {
    texts(
        conn,
        &format!(
            "select format('%s %s %s %s', replace(rolname, '{prefix}', ''), rolconnlimit, rolconfig, \
                 array[rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls, not rolcanlogin]) \
             from pg_roles where starts_with(rolname, '{prefix}_') order by rolname"
        ),
    )
    .await
}

#[test]
fn each_duty_works_with_its_role_and_can_do_nothing_else() {
    run(async {
        let world = World::new(&["roles"]).await;
        let prefix = prefix('p');
        let folder = passwords(&prefix).display().to_string();
        let make = [
            "migrate",
            "roles",
            "--prefix",
            &prefix,
            "--passwords",
            &folder,
        ];
        let mut admin = connect(&world.admin_url).await;
        let mut before = Vec::new();
        // A second time it changes nothing.
        for _ in 0..2 {
            let (status, said) = world.command(&make).finish().await;
            assert!(status.success(), "{said}");
            let now = settings(&mut admin, &prefix).await;
            assert!(before.is_empty() || before == now, "{before:#?} {now:#?}");
            before = now;
        }
        assert_eq!(before.len(), 9, "{before:#?}");
        for role in &before {
            assert!(
                role.contains("idle_in_transaction_session_timeout="),
                "{role}"
            );
            assert!(role.contains("lock_timeout="), "{role}");
            assert!(role.ends_with("{f,f,f,f,f,f}"), "{role}");
            assert!(!role.contains(" -1 "), "no limit of sessions: {role}");
        }
        let role = |duty: &str| format!("{prefix}_{duty}");
        exec(&mut admin, "
            insert into jwt_keys (version, private_key, public_key, algorithm, created_at, expires_at, is_active, rotation_count)
            values ('a', 'secret', 'p', 'RS256', now(), now(), true, 0)").await;

        // The services and a publisher work.
        let elements = format!("roles={}", login(&world.elements[0].1, &role("relay")));
        let relay = world
            .command(&["run", "relay"])
            .env("ARTSTORE_ELEMENTS", &elements)
            .env(
                "QUERY_DATABASE_URL",
                &login(&world.query_url, &role("relay")),
            )
            .env(
                "ADMIN_DATABASE_URL",
                &login(&world.admin_url, &role("relay")),
            )
            .start();
        let projector = world
            .projector()
            .env(
                "QUERY_DATABASE_URL",
                &login(&world.query_url, &role("projector")),
            )
            .start();
        let mut element = connect(&login(&world.elements[0].1, &role("publisher_roles"))).await;
        let insert = file("f.txt", "null", "null").replace(ELEMENT, "roles");
        let wal = "insert into roles_wal (transaction_id, operation_type, status, file_id, operation_data)
             select gen_random_uuid(), 'file_create', 'committed', file_id, '{}' from roles_files";
        exec(&mut element, &format!("begin; {insert}; {wal}; commit")).await;
        world.published(0).await;
        world.projected().await;
        let search = world.command(&["search", "f.txt", "--json"]).env(
            "QUERY_DATABASE_URL",
            &login(&world.query_url, &role("console")),
        );
        let (status, said) = search.output().await;
        assert!(status.success() && said.contains("f.txt"), "{said}");
        let console = format!("roles={}", login(&world.elements[0].1, &role("console")));
        let look = world
            .command(&["status", "--json"])
            .env("ARTSTORE_ELEMENTS", &console)
            .env(
                "QUERY_DATABASE_URL",
                &login(&world.query_url, &role("console")),
            )
            .env(
                "ADMIN_DATABASE_URL",
                &login(&world.admin_url, &role("console")),
            );
        let (_, said) = look.output().await;
        assert!(!said.contains("permission denied"), "{said}");

        // What must fail, role by role, in each database.
        let (here, query, there) = (&world.elements[0].1, &world.query_url, &world.admin_url);
        let key = "select private_key from jwt_keys";
        for (duty, url, attack) in [
            ("relay", here, "update roles_wal set user_id = 'x'"),
            ("relay", here, "delete from roles_files"),
            ("relay", here, "select nextval('roles_wal_position_seq')"),
            (
                "relay",
                here,
                "begin; lock table roles_wal in exclusive mode",
            ),
            (
                "relay",
                query,
                "insert into event_outbox (event_id, entity, action, data, actor) values (gen_random_uuid(), 'a', 'b', '{}', '{}')",
            ),
            ("relay", query, "select * from file_metadata_cache"),
            ("relay", query, "update projection_locks set key = 1"),
            ("relay", there, key),
            ("relay", there, "select * from users"),
            ("publisher_roles", here, "delete from roles_wal"),
            ("publisher_roles", here, "truncate roles_wal"),
            (
                "publisher_roles",
                here,
                "alter table roles_wal disable trigger all",
            ),
            (
                "publisher_roles",
                here,
                "select setval('roles_wal_position_seq', 1)",
            ),
            ("publisher_roles", here, "select key from roles_relay_lock"),
            (
                "publisher_roles",
                here,
                "update roles_wal_pruned set floor = 1000",
            ),
            ("publisher_query", query, "delete from event_outbox"),
            (
                "publisher_query",
                query,
                "select * from file_metadata_cache",
            ),
            ("publisher_admin", there, key),
            (
                "publisher_admin",
                there,
                "insert into audit_logs default values",
            ),
            (
                "projector",
                query,
                "insert into event_outbox (event_id, entity, action, data, actor) values (gen_random_uuid(), 'a', 'b', '{}', '{}')",
            ),
            ("projector", query, "drop table file_metadata_cache"),
            (
                "projector",
                query,
                "update event_outbox_relay_lock set key = 1",
            ),
            ("audit", there, "update audit_logs set severity = 'info'"),
            ("audit", there, "delete from audit_logs"),
            ("audit", there, "delete from audit_heads"),
            ("audit", there, key),
            ("auditor", there, key),
            ("auditor", there, "select hashed_password from users"),
            ("auditor", there, "delete from audit_logs"),
            (
                "auditor",
                there,
                "insert into projection_locks values ('x', 1)",
            ),
            ("console", there, key),
            ("console", there, "select * from audit_logs"),
            ("console", here, "update roles_files set description = 'x'"),
            ("console", here, "select key from roles_relay_lock"),
            (
                "console",
                query,
                "update file_metadata_cache set filename = 'x'",
            ),
            ("console", query, "create table mine (a int)"),
        ] {
            let mut conn = connect(&login(url, &role(duty))).await;
            assert_eq!(
                refusal(&mut conn, attack).await.0,
                "42501",
                "{duty}: {attack}"
            );
        }

        // A transaction that is forgotten ends: the setting is the session's.
        let mut publisher = connect(&login(here, &role("publisher_roles"))).await;
        let idle = "show idle_in_transaction_session_timeout";
        assert_eq!(text(&mut publisher, idle).await, "15min");
        // No more sessions than that.
        let mut sessions = Vec::new();
        for _ in 0..5 {
            sessions.push(connect(&login(there, &role("auditor"))).await);
        }
        let refused = PgConnection::connect(&login(there, &role("auditor")))
            .await
            .unwrap_err();
        let code = refused.as_database_error().and_then(|error| error.code());
        assert_eq!(code.as_deref(), Some("53300"), "{refused}");
        relay.kill().await;
        projector.kill().await;
    });
}

/// A server that logs its statements has nothing to log in with.
#[test]
fn a_password_is_not_sent() {
    run(async {
        let world = World::new(&["roles"]).await;
        let prefix = prefix('v');
        let role = format!("{prefix}_auditor");
        // The soft hyphen is nothing to SASLprep, and the ligature two letters.
        let password = "ﬁne \u{ad}Pä'ss\"%";
        let folder = folder("passwords");
        std::fs::write(folder.join(&role), format!("{password}\r\n")).unwrap();
        let mut admin = connect(&world.admin_url).await;
        let database = text(&mut admin, "select current_database()").await;
        let log_all = format!("alter database \"{database}\" set log_statement = 'all'");
        exec(&mut admin, &log_all).await;
        let folder = folder.display().to_string();
        let make = [
            "migrate",
            "roles",
            "--prefix",
            &prefix,
            "--passwords",
            &folder,
            "--module",
            "admin",
        ];
        let (status, said) = world.command(&make).finish().await;
        assert!(status.success(), "{said}");

        // As it was typed, and as another keyboard types it.
        let options: PgConnectOptions = world.admin_url.parse().unwrap();
        for typed in [password, "fine Pa\u{308}'ss\"%"] {
            let options = options.clone().username(&role).password(typed);
            let mut session = PgConnection::connect_with(&options).await.unwrap();
            assert_eq!(text(&mut session, "select session_user::text").await, role);
        }
        let options = options.username(&role).password("fine Pä'ss%");
        let refused = PgConnection::connect_with(&options).await.unwrap_err();
        let code = refused.as_database_error().and_then(|error| error.code());
        assert_eq!(code.as_deref(), Some("28P01"), "{refused}");

        let data = text(&mut admin, "show data_directory").await;
        let log = Path::new(&data).parent().unwrap().join("server.log");
        let log = std::fs::read(log).unwrap();
        let log = String::from_utf8_lossy(&log);
        let logged: Vec<&str> = log.lines().filter(|line| line.contains(&role)).collect();
        let sent = format!("alter role {role} password 'SCRAM-SHA-256$4096:");
        assert!(
            logged.iter().any(|line| line.contains(&sent)),
            "{logged:#?}"
        );
        for secret in [password, &password.replace('\'', "''"), "Pä"] {
            let found = logged.iter().any(|line| line.contains(secret));
            assert!(!found, "{logged:#?}");
        }
    });
}

#[test]
fn the_printed_statements_make_the_same_roles() {
    run(async {
        let world = World::new(&["roles"]).await;
        let (run, printed) = (prefix('r'), prefix('s'));
        let make = ["migrate", "roles", "--prefix", &run];
        let (status, said) = world.command(&make).finish().await;
        assert!(status.success(), "{said}");
        let (status, sql) = world
            .command(&["migrate", "roles", "--prefix", &printed, "--sql"])
            .output()
            .await;
        assert!(status.success(), "{sql}");
        let mut admin = connect(&world.admin_url).await;
        let none = settings(&mut admin, &printed).await;
        assert!(none.is_empty(), "printing makes none: {none:#?}");
        // A part for each database.
        let urls = [&world.admin_url, &world.query_url, &world.elements[0].1];
        let parts: Vec<&str> = sql.split("-- ").filter(|part| !part.is_empty()).collect();
        assert_eq!(parts.len(), urls.len(), "{sql}");
        let rights =
            "select string_agg(format('%s %s', c.relname, a), ' ' order by c.relname, a::text)
             from pg_class c, unnest(c.relacl) a where a::text like 'PREFIX\\_%'";
        for (part, url) in parts.iter().zip(urls) {
            let (_, statements) = part.split_once('\n').unwrap();
            let mut conn = connect(url).await;
            exec(&mut conn, statements).await;
            let of = async |conn: &mut PgConnection, prefix: &str| {
                let found = text(conn, &rights.replace("PREFIX", prefix)).await;
                found.replace(prefix, "")
            };
            assert_eq!(of(&mut conn, &run).await, of(&mut conn, &printed).await);
        }
        assert_eq!(
            settings(&mut admin, &run).await,
            settings(&mut admin, &printed).await
        );

        // Whoever owns the tables and may make no roles gives the rights to those that are there.
        let owner = prefix('o');
        exec(
            &mut admin,
            &format!("create role {owner} login password '{owner}'"),
        )
        .await;
        let refused = world
            .command(&[
                "migrate", "roles", "--prefix", "nobody", "--module", "admin",
            ])
            .env("ADMIN_DATABASE_URL", &login(&world.admin_url, &owner));
        let (status, said) = refused.finish().await;
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("migrate roles --sql"), "{said}");
        let refused = ["migrate", "roles", "--prefix", "no-body"];
        let (status, said) = world.command(&refused).finish().await;
        assert_eq!(status.code(), Some(2), "{said}");
    });
}
