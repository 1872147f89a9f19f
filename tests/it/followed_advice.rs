//! What `artstore status` advises, followed until all is well: for each state that a person has to end,
//! in one world, one after the other.

use artstore_bus::bus::AUDIT_HEADS;
use artstore_schemas::source::Source;
use serde_json::Value;

use crate::audit::Audited;
use crate::parking::{MEND as REPAIR, parked, passed, poison};
use crate::support::*;

/// Follows what status advises, the most important first, until all is well. What has to run is started
/// and kept in `services`.
async fn follow(world: &World, state: &str, services: &mut Vec<Process>) -> Vec<String> {
    follow_with(|words| world.command(words), state, services).await
}

/// The same with commands that have other settings.
pub async fn follow_with(
    program: impl Fn(&[&str]) -> Program,
    state: &str,
    services: &mut Vec<Process>,
) -> Vec<String> {
    let mut done: Vec<String> = Vec::new();
    loop {
        let name = format!("{state}: all is well, or other advice than {done:?}");
        let advice = eventually(&name, async || {
            let (status, said) = program(&["status", "--json"]).output().await;
            if status.success() {
                return Some(None);
            }
            let said: Value = serde_json::from_str(&said).unwrap();
            let troubles = said["troubles"].as_array().unwrap().iter();
            let mut commands = troubles.filter_map(|trouble| trouble["command"].as_str());
            // What was done just now takes a moment.
            let new = commands.find(|command| !done.iter().any(|done| done == command));
            new.map(|command| Some(command.to_owned()))
        })
        .await;
        let Some(command) = advice else { return done };
        let words: Vec<&str> = command.split_whitespace().skip(1).collect();
        if words[0] == "run" {
            services.push(program(&words).start());
        } else {
            act(&program, &words).await;
        }
        done.push(command);
    }
}

/// Runs a command, and what it says has to follow.
async fn act(program: impl Fn(&[&str]) -> Program, words: &[&str]) {
    if words[..2] == ["audit", "accept-stream"] {
        // It asks for the relay first, which may still be publishing.
        eventually("the stream is accepted", async || {
            program(words).finish().await.0.success().then_some(())
        })
        .await;
        return;
    }
    let mut process = program(words).start();
    let status = process.ended().await;
    let (said, log) = (process.output(), process.log());
    assert_ne!(status.code(), Some(2), "{words:?} is no command: {log}");
    let next: Vec<&str> = match words[..2] {
        // They show first what they would do.
        ["relay", "republish" | "accept-source"] => {
            assert!(format!("{said}{log}").contains("--yes"), "{said}{log}");
            [words, &["--yes", "--reason", "a test"]].concat()
        }
        ["parked", "list"] => vec!["parked", "retry"],
        ["wal", "pending"] => {
            assert!(said.contains("artstore wal resolve"), "{said}");
            vec!["wal", "resolve", "--proposed", "--yes"]
        }
        _ => {
            assert!(status.success(), "{words:?}: {said}{log}");
            return;
        }
    };
    let mut process = program(&next).start();
    let status = process.ended().await;
    let (said, log) = (process.output(), process.log());
    assert!(status.success(), "{next:?}: {said}{log}");
}

#[test]
fn what_status_advises_ends_in_all_is_well() {
    run(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        let mut element = world.element(0).await;
        let mut query = world.query().await;
        let row = "insert into elem_wal (transaction_id, operation_type, status, operation_data) \
             values (gen_random_uuid(), 'cache_rebuild', 'committed', '{}')";
        let mut services = Vec::new();

        execute(&mut element, row).await;
        let done = follow(&world, "nothing runs", &mut services).await;
        for command in [
            "artstore run relay --source elem",
            "artstore run relay --source query",
            "artstore run projector",
        ] {
            assert!(done.iter().any(|done| done == command), "{done:?}");
        }

        let pause = ["projection", "pause", "query-cache", "--reason", "a test"];
        let (status, said) = world.command(&pause).output().await;
        assert!(status.success(), "{said}");
        let done = follow(&world, "paused", &mut services).await;
        assert_eq!(done, ["artstore projection resume query-cache"]);

        poison(&world, 1).await;
        passed(&world).await;
        assert_eq!(parked(&world).await.len(), 2);
        // Its cause is repaired.
        execute(&mut query, REPAIR).await;
        let done = follow(&world, "parked", &mut services).await;
        assert_eq!(done, ["artstore parked list"]);

        let subject = format!("{}.p00.file.created", source.subject_prefix());
        let foreign = world.bus.jetstream.publish(subject, "{}".into()).await;
        foreign.unwrap().await.unwrap();
        execute(&mut element, row).await;
        let done = follow(&world, "a foreign message", &mut services).await;
        assert_eq!(done, ["artstore relay republish --source elem"]);

        let beyond = "update projection_checkpoints set last_sequence = 1000000 \
             where stream = 'ARTSTORE_WAL_elem'";
        execute(&mut query, beyond).await;
        let done = follow(&world, "a checkpoint beyond its stream", &mut services).await;
        assert_eq!(done, ["artstore projection repair query-cache"]);

        execute(&mut element, row).await;
        let position: i64 = value(&mut element, "select max(position) from elem_wal").await;
        eventually("the last row is published", async || {
            let (_, said) = world.command(&["status", "--json"]).output().await;
            let said: Value = serde_json::from_str(&said).unwrap();
            let mut sources = said["sources"].as_array()?.iter();
            let elem = sources.find(|source| source["source"] == "elem")?;
            (elem["high"].as_i64() == Some(position)).then_some(())
        })
        .await;
        let set_back = "delete from elem_wal \
                 where position = (select max(position) from elem_wal); \
             select setval('elem_wal_position_seq', max(position)) from elem_wal";
        execute(&mut element, set_back).await;
        let done = follow(&world, "a source that was set back", &mut services).await;
        assert_eq!(done, ["artstore relay accept-source --source elem"]);

        let left_behind = "insert into elem_wal (transaction_id, operation_type, status, file_id, \
                 operation_data, started_at) \
             values (gen_random_uuid(), 'file_create', 'pending', gen_random_uuid(), '{}', \
                 now() - interval '2 hours')";
        execute(&mut element, left_behind).await;
        let done = follow(&world, "an operation that was left behind", &mut services).await;
        assert_eq!(done, ["artstore wal pending --element elem"]);

        for service in services {
            service.kill().await;
        }
    });
}

#[test]
fn what_status_advises_of_an_audit_log_ends_in_all_is_well() {
    run(async {
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
            eventually(&format!("status advises {command}"), async || {
                let (_, said) = program(&["status", "--json"]).output().await;
                let said: Value = serde_json::from_str(&said).unwrap();
                let mut troubles = said["troubles"].as_array().unwrap().iter();
                let named = |trouble: &Value| trouble["command"].as_str() == Some(command);
                troubles.any(named).then_some(())
            })
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
        audited.level_with(&Source::Query, 1).await;

        projector.kill().await;
        execute(&mut world.query().await, event).await;
        follows(
            "artstore run projector --projection audit-log",
            &mut services,
        )
        .await;
        audited.level_with(&Source::Query, 2).await;

        let pause = ["projection", "pause", "audit-log", "--reason", "a test"];
        let (status, said) = program(&pause).output().await;
        assert!(status.success(), "{said}");
        follows("artstore projection resume audit-log", &mut services).await;

        let heads = world.bus.stream_info(AUDIT_HEADS).await.unwrap();
        let mut config = heads.config;
        config.max_messages = 1_000;
        world.bus.jetstream.update_stream(&config).await.unwrap();
        // The projector looks at it when it publishes.
        execute(&mut world.query().await, event).await;
        follows("artstore bus init --remove-limits", &mut services).await;
        audited.level_with(&Source::Query, 3).await;

        let stream = Source::Query.stream();
        world.bus.jetstream.delete_stream(&stream).await.unwrap();
        let done = follows("artstore bus init", &mut services).await;
        let accept = format!("artstore audit accept-stream --stream {stream} --reason REASON");
        assert!(done.contains(&accept), "{done:?}");
        execute(&mut world.query().await, event).await;
        audited.level_with(&Source::Query, 4).await;
        let verdict = audited.verify(&["--against-stream"]).await;
        assert!(verdict.is_clean(), "{}", verdict.0);
        for service in services {
            service.kill().await;
        }
    });
}
