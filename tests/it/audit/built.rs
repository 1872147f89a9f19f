//! The log as it is built: a row for each message, as the catalogue states, and everything verifies.

use super::*;
use crate::support::load::Load;

#[test]
fn every_message_of_every_stream_is_a_row_and_verifies() {
    run(async {
        let world = World::new(&["elem_a", "elem_b"]).await;
        let audited = Audited::new(&world).await;
        let relay = world.command(&["run", "relay"]).start();
        let projector = audited.projector().start();
        let load = Load::start(&world, 2, false);
        admin_events(&world, 60).await;
        let source = world.source(0);
        eventually("three hundred messages", || async {
            (world.last_sequence(&source).await > 300).then_some(())
        })
        .await;
        // Under load there is no false alarm.
        for _ in 0..3 {
            let verdict = audited.verify(&["--against-stream"]).await;
            assert!(verdict.is_clean(), "{}", verdict.0);
        }
        load.stop().await;
        world.published(0).await;
        world.published(1).await;
        audited.caught_up().await;
        let verdict = audited.verify(&["--against-stream"]).await;
        assert!(verdict.is_clean(), "{}\n{}", verdict.0, projector.log());
        // The check of everything includes it.
        let verify = world.command(&["verify", "--json"]).env(
            "SECURITY_AUDIT_VERIFIER_KEYS_PATH",
            audited.keys.to_str().unwrap(),
        );
        let query = world.projector().start();
        let (status, said) = verify.output().await;
        let said: Value = serde_json::from_str(&said).unwrap();
        assert!(status.success() && said["audit"]["ok"] == true, "{said}");
        // Without public keys it is not checked, and that is reported.
        let (_, said) = world.command(&["verify", "--json"]).output().await;
        let said: Value = serde_json::from_str(&said).unwrap();
        assert!(said["audit"].is_null(), "{said}");
        assert_eq!(
            said["audit_not_checked"],
            "SECURITY_AUDIT_VERIFIER_KEYS_PATH is not set"
        );
        query.kill().await;
        // And so does the look at everything.
        let (_, said) = world.command(&["status", "--json"]).output().await;
        let said: Value = serde_json::from_str(&said).unwrap();
        let projections = said["projections"].as_array().unwrap();
        let log = projections
            .iter()
            .find(|p| p["projection"] == "audit-log")
            .unwrap();
        let states: Vec<&Value> = log["streams"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| &s["state"])
            .collect();
        assert_eq!(states.len(), world.sources().len());
        assert!(states.iter().all(|state| *state == "up-to-date"), "{log}");
        let (_, screen) = world.command(&["status"]).output().await;
        assert!(screen.contains("AUDIT-LOG v1"), "{screen}");
        assert!(
            screen.lines().all(|line| line.chars().count() <= 80),
            "{screen}"
        );
        let mut admin = pg(&world.admin_url).await;
        for source in world.sources() {
            let last = i64::try_from(world.last_sequence(&source).await).unwrap();
            let rows: Vec<(i64, i64, i64)> = sqlx::query_as(
                "select count(*), coalesce(min(stream_sequence), 1), coalesce(max(stream_sequence), 0) \
                 from audit_logs where stream = $1",
            )
            .bind(source.stream())
            .fetch_all(&mut admin)
            .await
            .unwrap();
            assert_eq!(rows, [(last, 1, last)], "{source}");
        }
        let kinds: Vec<(String, String, String, bool)> = sqlx::query_as(
            "select distinct event_type, action, severity, success from audit_logs \
             where stream = 'ARTSTORE_ADMIN' or not success order by 1, 2",
        )
        .fetch_all(&mut admin)
        .await
        .unwrap();
        let kinds: Vec<String> = kinds
            .iter()
            .map(|(kind, action, severity, success)| {
                format!("{kind} {action} {severity} {success}")
            })
            .collect();
        assert_eq!(
            kinds,
            [
                "file_update update error false",
                "login_failed login warning false",
                "login_success login info true",
                "permission_denied denied warning false",
                "secret_rotation rotation info true",
                "thing_seen seen info true",
                "user_create create info true",
                "user_delete delete warning true",
            ]
        );
        relay.kill().await;
        projector.kill().await;

        // A log that was emptied is not one that was never written.
        execute(
            &mut admin,
            "alter table audit_logs disable trigger all;
             truncate audit_logs, audit_trees, audit_tiles, audit_heads, audit_boundary;
             delete from projection_checkpoints where projection = 'audit-log'",
        )
        .await;
        let verify = world.command(&["verify", "--json"]).env(
            "SECURITY_AUDIT_VERIFIER_KEYS_PATH",
            audited.keys.to_str().unwrap(),
        );
        let (status, said) = verify.output().await;
        let said: Value = serde_json::from_str(&said).unwrap();
        assert!(!status.success() && said["agree"] == false, "{said}");
        let findings = said["audit"]["findings"].as_array().unwrap();
        let unfit = |finding: &Value| finding["kind"] == "head-unfit";
        assert!(findings.iter().any(unfit), "{said}");
    });
}

#[test]
fn a_role_with_the_least_rights_writes_the_log_and_can_not_change_it() {
    run(async {
        let world = World::new(&[]).await;
        let audited = Audited::new(&world).await;
        let mut admin = pg(&world.admin_url).await;
        let role = format!("audit_{}", uuid::Uuid::new_v4().simple());
        execute(
            &mut admin,
            format!("create role {role} login password '{role}'"),
        )
        .await;
        let grant = world.command(&["migrate", "grant", "--role", &role, "--for", "projector"]);
        let (status, said) = grant.finish().await;
        assert!(status.success(), "{said}");
        let (_, place) = world.admin_url.split_once('@').unwrap();
        let url = format!("postgres://{role}:{role}@{place}");
        let relay = world
            .command(&["run", "relay", "--source", "admin"])
            .start();
        let projector = audited.projector().env("ADMIN_DATABASE_URL", &url).start();
        admin_events(&world, 20).await;
        audited.caught_up_with(&Source::Admin, 20).await;
        assert!(audited.verify(&["--against-stream"]).await.is_clean());
        let mut least = pg(&url).await;
        for change in [
            "update audit_logs set action = 'x'",
            "delete from audit_logs",
            "truncate audit_logs",
            "update audit_heads set note = 'x'",
            "delete from audit_boundary",
            "select private_key from jwt_keys",
        ] {
            assert!(try_execute(&mut least, change).await.is_err(), "{change}");
        }
        // And the owner of the table does not by accident.
        for change in [
            "update audit_logs set action = 'x'",
            "delete from audit_logs",
            "truncate audit_logs",
        ] {
            let refused = try_execute(&mut admin, change)
                .await
                .unwrap_err()
                .to_string();
            assert!(refused.contains("append only"), "{change}: {refused}");
        }
        projector.kill().await;
        relay.kill().await;
    });
}
