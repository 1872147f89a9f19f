//! The least rights: a relay, a projector and a publisher work with them, and none sees a key.

use artstore_migrations::{GrantError, Purpose, grant};

use super::*;

/// A URL as another role, whose password is its name.
fn login(url: &str, role: &str) -> String {
    let (_, place) = url.split_once('@').unwrap();
    format!("postgres://{role}:{role}@{place}")
}

#[test]
fn roles_with_the_least_rights_do_their_work_and_none_sees_a_private_key() {
    run(async {
        let world = World::new(&["granted"]).await;
        let mut admin = connect(&world.admin_url).await;
        exec(&mut admin, "
            insert into jwt_keys (version, private_key, public_key, algorithm, created_at, expires_at, is_active, rotation_count)
            values ('a', 'secret', 'p', 'RS256', now(), now(), true, 0)").await;
        let tag = Uuid::new_v4().simple().to_string();
        let roles = ["relay", "projector", "publisher"]
            .map(|purpose| (purpose, format!("{purpose}_{tag}")));
        for (purpose, role) in &roles {
            exec(
                &mut admin,
                &format!("create role {role} login password '{role}'"),
            )
            .await;
            for _ in 0..2 {
                let (ended, log) = world
                    .command(&["migrate", "grant", "--role", role, "--for", purpose])
                    .finish()
                    .await;
                assert!(ended.success(), "{log}");
            }
        }
        let [(_, relay), (_, projector), (_, publisher)] = &roles;
        let elements = format!("granted={}", login(&world.elements[0].1, relay));
        let _relay = world
            .command(&["run", "relay"])
            .env("ARTSTORE_ELEMENTS", &elements)
            .env("QUERY_DATABASE_URL", &login(&world.query_url, relay))
            .env("ADMIN_DATABASE_URL", &login(&world.admin_url, relay))
            .start();
        let _projector = world
            .projector()
            .env("QUERY_DATABASE_URL", &login(&world.query_url, projector))
            .start();

        // A publisher's work: files that come, change and go, and events of both outboxes.
        let mut element = connect(&login(&world.elements[0].1, publisher)).await;
        for n in 0..20 {
            let id = Uuid::new_v4();
            let insert = file(&format!("f{n}.txt"), "null", "null").replace(ELEMENT, "granted");
            let wal = format!(
                "insert into granted_wal (transaction_id, operation_type, status, file_id, operation_data)
                 select '{id}', 'file_create', 'committed', file_id, '{{}}' from granted_files where original_filename = 'f{n}.txt'"
            );
            exec(&mut element, &format!("begin; {insert}; {wal}; commit")).await;
        }
        let mut query = connect(&login(&world.query_url, publisher)).await;
        exec(
            &mut query,
            &outbox("thing", "seen").replace(
                "'{}', '{}', 1000)",
                "'{}', '{\"type\": \"system\"}', 1000) returning position",
            ),
        )
        .await;
        world.published(0).await;
        world.projected().await;
        let mut cache = world.query().await;
        assert_eq!(
            text(&mut cache, "select count(*)::text from file_metadata_cache").await,
            "20"
        );

        for (_, role) in &roles {
            let mut conn = connect(&login(&world.admin_url, role)).await;
            for theft in [
                "select private_key from jwt_keys",
                "select * from users",
                "update audit_logs set severity = 'info'",
            ] {
                assert_eq!(
                    refusal(&mut conn, theft).await.0,
                    "42501",
                    "{role}: {theft}"
                );
            }
        }
        let mut conn = connect(&login(&world.elements[0].1, relay)).await;
        for change in [
            "update granted_wal set user_id = 'x'",
            "delete from granted_files",
            "select nextval('granted_wal_position_seq')",
        ] {
            assert_eq!(refusal(&mut conn, change).await.0, "42501", "{change}");
        }

        // Rights from elsewhere: refused, and nothing is granted.
        let seeing = format!("seeing_{tag}");
        exec(
            &mut admin,
            &format!(
                "create role {seeing} login; grant select (private_key) on jwt_keys to {seeing}"
            ),
        )
        .await;
        let error = grant(&mut admin, &Module::Admin, &seeing, Purpose::Relay)
            .await
            .unwrap_err();
        assert!(matches!(error, GrantError::SeesKeys { .. }), "{error}");
        let had = format!("select has_table_privilege('{seeing}', 'event_outbox', 'select')::text");
        assert_eq!(text(&mut admin, &had).await, "false");
        let error = grant(&mut admin, &Module::Admin, "nobody at all", Purpose::Relay)
            .await
            .unwrap_err();
        assert!(matches!(error, GrantError::NoRole { .. }), "{error}");
        let mut empty = fresh("granted_empty").await;
        let error = grant(&mut empty, &Module::Query, relay, Purpose::Relay)
            .await
            .unwrap_err();
        assert!(matches!(error, GrantError::NotMigrated { .. }), "{error}");

        // Roles outlive a database, and the servers of the tests are shared.
        drop((_relay, _projector));
    });
}
