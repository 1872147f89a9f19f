//! The command: what it prints, how it ends, and a check that is killed and resumes.

use serde_json::Value;

use super::*;

/// Finished rows in one statement.
pub async fn bulk(world: &World, rows: usize) {
    let mut element = world.element(0).await;
    execute(
        &mut element,
        format!(
            "insert into elem_wal (transaction_id, operation_type, status, operation_data) \
             select gen_random_uuid(), 'cache_rebuild', 'committed', '{{}}' \
             from generate_series(1, {rows})"
        ),
    )
    .await;
}

fn verify(world: &World, more: &[&str]) -> Program {
    let arguments = ["verify", "--source", "elem", "--wait", "1"];
    let arguments: Vec<&str> = arguments.iter().chain(more).copied().collect();
    world.command(&arguments)
}

#[test]
fn the_command_says_what_agrees_what_does_not_and_what_repairs_it() {
    run(async {
        let world = World::new(&["elem"]).await;
        filled(&world).await;
        // All sources; those without a row agree as well.
        let every = ["verify", "--wait", "1"];
        let (status, said) = world.command(&every).output().await;
        assert_eq!(status.code(), Some(0), "{said}");
        let lines: Vec<Vec<&str>> = said
            .lines()
            .map(|l| l.split_whitespace().collect())
            .collect();
        assert_eq!(lines[1], ["elem", "22", "22", "22", "0", "0"], "{said}");
        assert_eq!(lines[2], ["admin", "0", "0", "0", "0", "0"], "{said}");
        // No projector has run yet.
        assert!(said.ends_with("agrees; the rest is in flight.\n"), "{said}");
        let healthy = World::new(&["elem"]).await;
        filled(&healthy).await;
        let projector = healthy.projector().start();
        healthy.projected().await;
        let (_, said) = healthy.command(&every).output().await;
        assert!(
            said.ends_with("\nSources, streams and query cache agree.\n"),
            "{said}"
        );
        projector.kill().await;

        let source = world.source(0);
        let mut messages = all(&world.bus, &source).await;
        messages.remove(6);
        replace(&world, &source, &messages).await;
        let (status, said) = verify(&world, &[]).output().await;
        assert_eq!(status.code(), Some(1), "{said}");
        for part in [
            "elem: 1 message-missing\n",
            "  position 7, event ",
            "  repair: artstore relay republish --source elem\n",
            "\n1 finding.\n",
        ] {
            assert!(said.contains(part), "{part:?} is not in:\n{said}");
        }
        let (status, said) = verify(&world, &["--json"]).output().await;
        assert_eq!(status.code(), Some(1), "{said}");
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["agree"], false);
        let report = &said["sources"][0];
        assert_eq!(report["counts"]["message-missing"], 1);
        assert_eq!(report["findings"][0]["position"], 7);
        assert_eq!(report["proven"], 6);

        let (status, said) = world
            .command(&["verify", "--source", "none"])
            .finish()
            .await;
        assert_eq!(status.code(), Some(2), "{said}");
    });
}

#[test]
fn a_check_that_is_killed_goes_on_where_it_was_and_finds_the_same() {
    run(async {
        let world = World::new(&["elem"]).await;
        bulk(&world, 5_000).await;
        let relay = world.relay(0).start();
        world.published(0).await;
        relay.kill().await;
        let mut element = world.element(0).await;
        // Before and behind the place where it is killed.
        for position in [17, 4_321] {
            let change = format!("update elem_wal set user_id = '7' where position = {position}");
            forge(&mut element, "elem", change).await;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let file = path.to_str().unwrap();

        let mut killed = verify(&world, &["--resume", file])
            .crash_at("verify.kept", 1)
            .start();
        assert_eq!(killed.ended().await.code(), None, "{}", killed.log());
        let state: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let last = &state["sources"]["elem"]["state"]["links"]["last"];
        assert!((1..5_000).contains(&last.as_u64().unwrap()), "{last}");

        // A stream that was recreated is another one; so is one with another history.
        let kept = std::fs::read(&path).unwrap();
        for (field, text) in [("created", "created at"), ("identity", "database")] {
            let mut other = state.clone();
            other["sources"]["elem"]["about"][field] = "1970-01-01".into();
            std::fs::write(&path, other.to_string()).unwrap();
            let (status, said) = verify(&world, &["--resume", file]).finish().await;
            assert_eq!(status.code(), Some(2), "{said}");
            assert!(
                said.contains(text) && said.contains("remove the file"),
                "{said}"
            );
        }
        std::fs::write(&path, kept).unwrap();

        let mut resumed = verify(&world, &["--resume", file, "--json"]).start();
        assert_eq!(resumed.ended().await.code(), Some(1), "{}", resumed.log());
        let said: Value = serde_json::from_str(&resumed.output()).unwrap();
        let report = &said["sources"][0];
        assert_eq!(
            (&report["rows"], &report["messages"]),
            (&5_000.into(), &5_000.into())
        );
        let positions: Vec<&Value> = report["findings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|finding| &finding["position"])
            .collect();
        assert_eq!(positions, [17, 4_321], "{said}");
        assert!(!path.exists(), "all is checked: the next run begins anew");

        // What is accepted meanwhile is no finding any more.
        let mut killed = verify(&world, &["--resume", file])
            .crash_at("verify.kept", 1)
            .start();
        assert_eq!(killed.ended().await.code(), None, "{}", killed.log());
        let accept = ["--yes", "--reason", "a test"];
        let republish = ["relay", "republish", "--source", "elem"];
        let republish = world.command(&[republish.as_slice(), &accept].concat());
        let (status, log) = republish.finish().await;
        assert!(status.success(), "{log}");
        let (status, said) = verify(&world, &["--resume", file]).output().await;
        assert_eq!(status.code(), Some(0), "{said}");
    });
}

#[test]
fn a_check_that_is_stopped_keeps_where_it_was() {
    run(async {
        let world = World::new(&["elem"]).await;
        bulk(&world, 1_500).await;
        let relay = world.relay(0).start();
        world.published(0).await;
        relay.kill().await;
        // A row that nobody publishes: the check waits for the relay.
        bulk(&world, 1).await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let arguments = [
            "verify",
            "--source",
            "elem",
            "--resume",
            path.to_str().unwrap(),
        ];
        let mut stopped = world.command(&arguments).start();
        eventually("it has read all messages", || async {
            let state = std::fs::read(&path).ok()?;
            let state: Value = serde_json::from_slice(&state).ok()?;
            let last = state["sources"]["elem"]["state"]["links"]["last"].as_u64();
            (last == Some(1_500)).then_some(())
        })
        .await;
        stopped.signal("-INT").await;
        assert_eq!(stopped.ended().await.code(), Some(1), "{}", stopped.log());
        let said = stopped.log();
        assert!(said.contains("continues from here"), "{said}");
        let relay = world.relay(0).start();
        let (status, said) = world.command(&arguments).output().await;
        assert!(status.success(), "{said}");
        assert!(said.contains("1501"), "{said}");
        relay.kill().await;
    });
}

/// Files whose state nobody can know yet are counted apart: they do not agree, and are no finding.
#[test]
fn files_with_pending_operations_are_named_apart() {
    run(async {
        let world = World::new(&["elem"]).await;
        filled(&world).await;
        let projector = world.projector().start();
        world.projected().await;
        let mut element = world.element(0).await;
        // A service changed a file and died before it finished the operation.
        let pending = |began: &str| {
            format!(
                "delete from elem_wal where status = 'pending'; \
                 insert into elem_wal (transaction_id, operation_type, status, file_id, operation_data, \
                     started_at) \
                 select gen_random_uuid(), 'file_update', 'pending', file_id, '{{}}', {began} \
                 from elem_files order by file_id limit 1; \
                 update elem_files set description = 'new' \
                 where file_id = (select file_id from elem_wal where status = 'pending')"
            )
        };
        execute(&mut element, pending("now() - interval '27 min'")).await;
        let (status, said) = world.command(&["verify", "--wait", "1"]).output().await;
        assert_eq!(status.code(), Some(0), "{said}");
        for part in [
            "\nelem: 1 file differs because of an operation that is pending, the oldest for 27 min: \
             artstore wal pending\n",
            "\nWhat could be judged agrees; files with pending operations: 1; the rest is in flight.\n",
        ] {
            assert!(said.contains(part), "{part:?} is not in:\n{said}");
        }
        // By the rule of `artstore wal pending`, an hour is too long.
        execute(&mut element, pending("now() - interval '61 min'")).await;
        let (status, said) = world.command(&["verify", "--wait", "1"]).output().await;
        assert_eq!(status.code(), Some(1), "{said}");
        for part in [
            "\nNOT ALL AGREES: 1 of 1 file with pending operations waits for",
            "\nNext: artstore wal pending\n",
        ] {
            assert!(said.contains(part), "{part:?} is not in:\n{said}");
        }
        // A time that is none.
        execute(&mut element, pending("'-infinity'")).await;
        let verify = world.command(&["verify", "--wait", "1", "--json"]);
        let (status, said) = verify.output().await;
        assert_eq!(status.code(), Some(0), "{said}");
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["cache"]["pending"]["elem"]["files"], 1, "{said}");
        assert_eq!(said["cache"]["in_flight"], 0, "{said}");
        projector.kill().await;
    });
}

/// Who does not continue is named first, and nobody waits for it.
#[test]
fn nobody_waits_for_what_is_paused_or_halted() {
    run(async {
        let world = World::new(&["elem"]).await;
        filled(&world).await;
        let projector = world.projector().start();
        world.projected().await;
        let words = ["projection", "pause", "query-cache", "--reason", "a test"];
        let (status, said) = world.command(&words).output().await;
        assert!(status.success(), "{said}");
        let relay = world.command(&["run", "relay"]).start();
        bulk(&world, 3).await;
        world.published(0).await;
        // Somebody else's message halts the relay, with a row to publish.
        let source = world.source(0);
        let subject = format!("{}.p00.file.created", source.subject_prefix());
        let published = world.bus.jetstream.publish(subject, "{}".into()).await;
        published.unwrap().await.unwrap();
        bulk(&world, 1).await;
        relay.says("the relay has halted").await;
        // Patience of an hour, twice: it ends all the same.
        let verify = world.command(&["verify", "--wait", "3600"]);
        let (status, said) = verify.output().await;
        assert_eq!(status.code(), Some(1), "{said}");
        let notes = said.split("SOURCE").next().unwrap();
        for part in [
            "relay of elem: halted: ",
            "query-cache: paused by ",
            "(artstore projection resume query-cache)",
        ] {
            assert!(notes.contains(part), "{part:?} is not in:\n{said}");
        }
        let last = said.lines().last().unwrap();
        assert_eq!(
            last, "Next: artstore relay republish --source elem",
            "{said}"
        );
        relay.kill().await;
        projector.kill().await;
    });
}

/// A part that can't be checked is a problem of that part; what was checked is shown.
#[test]
fn a_server_that_is_down_is_a_problem_of_its_part() {
    run(async {
        let world = World::new(&["elem"]).await;
        filled(&world).await;
        let nobody = "postgres://nobody@127.0.0.1:1/artstore";
        let verify = || {
            let command = world.command(&["verify", "--wait", "1"]);
            command.env("QUERY_DATABASE_URL", nobody)
        };
        let (status, said) = verify().argument("--json").output().await;
        assert_eq!(status.code(), Some(1), "{said}");
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["agree"], false, "{said}");
        assert_eq!(said["sources"][0]["proven"], 22, "{said}");
        // The query module's source is in that database, too.
        let parts: Vec<&Value> = said["problems"].as_array().unwrap().iter().collect();
        let parts: Vec<&Value> = parts.iter().map(|problem| &problem["part"]).collect();
        assert_eq!(parts, ["source query", "query cache"], "{said}");
        let (status, shown) = verify().output().await;
        assert_eq!(status.code(), Some(1), "{shown}");
        assert!(shown.contains("elem"), "{shown}");

        let command = world.command(&["verify", "--wait", "1", "--json"]);
        let command = command.env("NATS_URL", "nats://127.0.0.1:1");
        let (status, said) = command.output().await;
        assert_eq!(status.code(), Some(1), "{said}");
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["problems"][0]["part"], "NATS", "{said}");
    });
}
