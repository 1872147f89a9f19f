//! A check whose servers are restarted in the middle begins the part again; one whose servers stay away names
//! the parts that were not checked, and shows the others.

use artstore_stack::{PostgresStop, Stack, StackOptions};
use serde_json::Value;

use super::command::bulk;
use super::*;
use crate::audit::Audited;

const ROWS: usize = 3_000;

/// What happens to the servers while the check stands still.
#[derive(Debug, Clone, Copy)]
enum Restarted {
    Postgres,
    Nats,
    Both,
}

/// A world of its own servers whose rows are published, applied and in the audit log.
async fn whole(stack: &Stack) -> World {
    let world = World::on(stack, 0, &["elem", "elem_b"], 1).await;
    bulk(&world, ROWS).await;
    let mut element = (world.elements[1].0.clone(), world.element(1).await);
    for n in 0..20 {
        let file = load::new_file(&format!("report {n}.pdf"));
        load::create(&mut element, &file).await.unwrap();
    }
    world
}

/// Freezes the check at this point, does that to the servers, and lets it continue.
async fn frozen_meanwhile(
    stack: &Stack,
    program: Program,
    (point, times): (&str, usize),
    restarted: Restarted,
) -> Process {
    let check = program.stop_at(point, times).start();
    check.frozen().await;
    if let Restarted::Postgres | Restarted::Both = restarted {
        stack.stop_postgres(PostgresStop::Fast).await.unwrap();
        stack.start_postgres().await.unwrap();
    }
    if let Restarted::Nats | Restarted::Both = restarted {
        stack.kill_nats(0).await.unwrap();
        stack.start_nats(0).await.unwrap();
    }
    check.signal("-CONT").await;
    check
}

#[test]
fn a_check_whose_servers_are_restarted_begins_the_part_again() {
    run(async {
        let stack = Stack::start(StackOptions::default()).await.unwrap();
        let world = whole(&stack).await;
        let audited = Audited::new(&world).await;
        let relay = world.command(&["run", "relay"]).start();
        let projector = world.projector().start();
        let audit = audited.projector().start();
        world.published(0).await;
        world.published(1).await;
        world.projected().await;
        audited.caught_up().await;
        for process in [relay, projector, audit] {
            process.kill().await;
        }
        let verify = || audited.command(&["verify", "--wait", "60"]);
        // In the middle of a source, of the cache, of the audit log.
        for (point, times) in [
            ("verify.read", 2),
            ("verify.compared", 2),
            ("audit.checked", 1),
        ] {
            for restarted in [Restarted::Postgres, Restarted::Nats, Restarted::Both] {
                let what = format!("{point}, {restarted:?}");
                let program = verify().argument("--json");
                let mut check = frozen_meanwhile(&stack, program, (point, times), restarted).await;
                let code = check.ended().await.code();
                let (said, log) = (check.output(), check.log());
                assert_eq!(code, Some(0), "{what}: {said}{log}");
                let said: Value = serde_json::from_str(&said).unwrap();
                assert_eq!(said["agree"], true, "{what}: {said}");
                assert_eq!(said["problems"], serde_json::json!([]), "{what}: {said}");
                let sources = said["sources"].as_array().unwrap();
                let sources: Vec<(&str, u64)> = sources
                    .iter()
                    .map(|s| {
                        (
                            s["source"].as_str().unwrap(),
                            s["messages"].as_u64().unwrap(),
                        )
                    })
                    .collect();
                let expected = [
                    ("elem", ROWS as u64),
                    ("elem_b", 20),
                    ("admin", 0),
                    ("query", 0),
                ];
                assert_eq!(sources, expected, "{what}: each once, and whole");
                assert!(said["audit"].is_object(), "{what}: {said}");
            }
        }
        // One line reports it to people.
        let program = verify();
        let at = ("verify.read", 2);
        let mut check = frozen_meanwhile(&stack, program, at, Restarted::Postgres).await;
        assert_eq!(check.ended().await.code(), Some(0), "{}", check.log());
        let log = check.log();
        let again: Vec<&str> = log
            .lines()
            .filter(|l| l.contains("starting again"))
            .collect();
        assert!(
            again.len() == 1 && again[0].starts_with("source elem: "),
            "{log}"
        );
        assert!(check.output().contains("streams and query cache agree"));

        for restarted in [Restarted::Postgres, Restarted::Both] {
            let program = audited.command(&["audit", "verify", "--against-stream", "--json"]);
            let at = ("audit.checked", 1);
            let mut check = frozen_meanwhile(&stack, program, at, restarted).await;
            let code = check.ended().await.code();
            let said = check.output();
            assert_eq!(code, Some(0), "{said}{}", check.log());
            let said: Value = serde_json::from_str(&said).unwrap();
            assert_eq!(said["ok"], true, "{said}");
        }
        drop(world);
        stack.stop().await.unwrap();
    });
}

#[test]
fn a_server_that_stays_away_is_a_problem_of_each_part_that_needs_it() {
    run(async {
        let stack = Stack::start(StackOptions::default()).await.unwrap();
        let world = whole(&stack).await;
        let relay = world.command(&["run", "relay"]).start();
        world.published(0).await;
        world.published(1).await;
        relay.kill().await;
        let verify = || world.command(&["verify", "--wait", "2", "--json"]);
        let ended = async |check: &mut Process| -> Value {
            let code = check.ended().await.code();
            assert_eq!(code, Some(1), "{}", check.log());
            serde_json::from_str(&check.output()).unwrap()
        };
        let parts = |said: &Value| -> Vec<String> {
            let problems = said["problems"].as_array().unwrap().iter();
            problems
                .map(|problem| problem["part"].as_str().unwrap().to_owned())
                .collect()
        };
        for postgres in [true, false] {
            let mut check = verify().stop_at("verify.checked", 1).start();
            check.frozen().await;
            match postgres {
                true => stack.stop_postgres(PostgresStop::Fast).await.unwrap(),
                false => stack.kill_nats(0).await.unwrap(),
            }
            check.signal("-CONT").await;
            let said = ended(&mut check).await;
            assert_eq!(said["agree"], false, "{said}");
            let first = &said["sources"][0];
            assert_eq!(first["source"], "elem", "{said}");
            assert_eq!(first["messages"], ROWS, "{said}");
            assert_eq!(said["sources"].as_array().unwrap().len(), 1, "{said}");
            let named = [
                "source elem_b",
                "source admin",
                "source query",
                "query cache",
            ];
            let parts = parts(&said);
            for part in named {
                assert!(parts.iter().any(|named| named == part), "{part}: {said}");
            }
            match postgres {
                true => stack.start_postgres().await.unwrap(),
                false => stack.start_nats(0).await.unwrap(),
            }
        }
        drop(world);
        stack.stop().await.unwrap();
    });
}
