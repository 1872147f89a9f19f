//! States of an audit log that a command ends, in one world, one after the other.

use artstore_bus::stream_name::AUDIT_HEADS;
use artstore_schemas::source::Source;
use serde_json::Value;

use super::*;
use crate::audit::Audited;

#[test]
fn what_status_advises_of_an_audit_log_ends_in_all_is_well() {
    run_waiting(async {
        let world = World::new(&[]).await;
        let audited = Audited::new(&world).await;
        let program = |words: &[&str]| {
            let key = audited.key.to_str().unwrap();
            let command = audited.command(words);
            let command = command.env("SECURITY_AUDIT_SIGNING_KEY_PATH", key);
            command.env("SECURITY_AUDIT_HEAD_SECONDS", "1")
        };
        let mut services = vec![
            program(&["run", "relay"]).start(),
            world.projector().start(),
        ];
        let event = "insert into event_outbox (event_id, entity, action, subject, data, actor, occurred_at) \
             values (gen_random_uuid(), 'thing', 'seen', 'one', '{}', '{}', now())";
        // Not just any trouble: what has just started or ended passes by itself.
        let advises = async |command: &str| {
            let last = std::cell::RefCell::new(Value::Null);
            eventually_or(
                || format!("status advises {command}; it says:\n{:#}", last.borrow()),
                async || {
                    let (_, said) = program(&["status", "--json"]).output().await;
                    let said: Value = serde_json::from_str(&said).unwrap();
                    let mut troubles = said["troubles"].as_array().unwrap().iter();
                    let named = |trouble: &Value| trouble["command"].as_str() == Some(command);
                    let found = troubles.any(named).then_some(());
                    last.replace(said["troubles"].clone());
                    found
                },
            )
            .await;
        };
        let follows = async |command: &str, services: &mut Vec<Process>| {
            advises(command).await;
            let done = follow_with(program, command, services).await;
            assert!(done.iter().any(|done| done == command), "{done:?}");
            done
        };
        let projector = audited.projector().start();
        execute(&mut world.query().await, event).await;
        audited.caught_up_with(&Source::Query, 1).await;

        projector.kill().await;
        execute(&mut world.query().await, event).await;
        follows(
            "artstore run projector --projection audit-log",
            &mut services,
        )
        .await;
        audited.caught_up_with(&Source::Query, 2).await;

        let pause = ["projection", "pause", "audit-log", "--reason", "a test"];
        let (status, said) = program(&pause).output().await;
        assert!(status.success(), "{said}");
        follows("artstore projection resume audit-log", &mut services).await;

        // Beyond the stream, within it, and gone.
        let stream = Source::Query.stream();
        let accept = format!("artstore audit accept-stream --stream {stream} --reason REASON");
        let of = format!("where projection = 'audit-log' and stream = '{stream}'");
        let mut admin = world.admin().await;
        for (change, command) in [
            (
                "update projection_checkpoints set last_sequence = 1000000",
                accept.as_str(),
            ),
            // The stream could as well be another one: it names the next command.
            (
                "update projection_checkpoints set last_sequence = 1",
                "artstore relay republish --source query",
            ),
            ("delete from projection_checkpoints", accept.as_str()),
        ] {
            execute(&mut admin, format!("{change} {of}")).await;
            let verdict = audited.verify(&[]).await;
            assert!(!verdict.is_clean(), "{}", verdict.0);
            follows(command, &mut services).await;
            let verdict = audited.verify(&["--against-stream"]).await;
            assert!(verdict.is_clean(), "{}", verdict.0);
        }

        let heads = world.bus.stream_info(AUDIT_HEADS).await.unwrap();
        let mut config = heads.config;
        config.max_messages = 1_000;
        world.bus.jetstream.update_stream(&config).await.unwrap();
        // The projector looks at it when it publishes.
        execute(&mut world.query().await, event).await;
        follows("artstore bus init --remove-limits", &mut services).await;
        audited.caught_up_with(&Source::Query, 3).await;

        world.bus.jetstream.delete_stream(&stream).await.unwrap();
        let done = follows("artstore bus init", &mut services).await;
        assert!(done.contains(&accept), "{done:?}");
        execute(&mut world.query().await, event).await;
        audited.caught_up_with(&Source::Query, 4).await;
        let verdict = audited.verify(&["--against-stream"]).await;
        assert!(verdict.is_clean(), "{}", verdict.0);
        for service in services {
            service.kill().await;
        }
    });
}
