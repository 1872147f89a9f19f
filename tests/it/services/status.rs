//! `artstore status`: what it reports is true, what is wrong is named with what to do, and whatever
//! hangs, it ends.

use std::time::{Duration, Instant};

use artstore_schemas::element::ElementName;
use artstore_schemas::source::Source;
use artstore_stack::{Stack, StackOptions};
use futures::StreamExt as _;
use serde_json::Value;

use crate::services::frozen::{Frozen, postgres_pids};
use crate::support::load::{Load, create, new_file};
use crate::support::*;

/// A look ends within this, whatever hangs; a start of the program and a busy machine are in it.
const BOUND: Duration = Duration::from_secs(8);

/// As long as an element's name may be.
const LONG: &str = "storage_elem_with_a_name_so_long_1";

/// Exit code and what `--json` says.
async fn look(program: Program) -> (i32, Value) {
    let begun = Instant::now();
    let (status, said) = program.argument("--json").output().await;
    assert!(begun.elapsed() < BOUND, "{:?}: {said}", begun.elapsed());
    let code = status.code().unwrap();
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["well"], code == 0, "{said}");
    assert_eq!(said["troubles"].as_array().unwrap().is_empty(), code == 0);
    (code, said)
}

/// The screen without a terminal: no colour, 80 columns.
async fn screen(program: Program) -> (i32, String) {
    let (status, said) = program.output().await;
    println!("{said}");
    assert!(!said.contains('\u{1b}'));
    for line in said.lines() {
        assert!(line.chars().count() <= 80, "{line:?}");
    }
    (status.code().unwrap(), said)
}

/// Looks until it sees this.
async fn sees(what: &str, world: &World, seen: impl Fn(i32, &Value) -> bool) -> Value {
    let last = std::cell::RefCell::new(Value::Null);
    let found = eventually_or(what, || async {
        let (code, said) = look(world.command(&["status"])).await;
        let seen = seen(code, &said);
        *last.borrow_mut() = said.clone();
        seen.then_some(said)
    })
    .await;
    found.unwrap_or_else(|| panic!("never seen: {what}; last: {:#}", last.borrow()))
}

async fn eventually_or<T, F: Future<Output = Option<T>>>(
    _what: &str,
    mut condition: impl FnMut() -> F,
) -> Option<T> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Some(value) = condition().await {
            return Some(value);
        }
    }
    None
}

/// The item of a list about this source.
fn of<'a>(list: &'a Value, source: &str) -> &'a Value {
    let found = list.as_array().unwrap().iter();
    let mut found = found.filter(|item| item["source"] == source);
    found
        .next()
        .unwrap_or_else(|| panic!("no {source}: {list:#}"))
}

/// What is wrong, about this.
fn trouble<'a>(said: &'a Value, about: &str) -> Option<&'a Value> {
    let troubles = said["troubles"].as_array().unwrap();
    troubles.iter().find(|trouble| trouble["about"] == about)
}

async fn file(world: &World, element: usize) {
    let name = world.elements[element].0.clone();
    let mut element = (name, world.element(element).await);
    create(&mut element, &new_file("a.pdf")).await.unwrap();
}

/// Everything is published and applied.
async fn settled(world: &World) {
    for element in 0..world.elements.len() {
        world.published(element).await;
    }
    world.projected().await;
}

#[test]
fn what_it_says_agrees_with_the_databases_and_all_is_well() {
    run(async {
        let world = World::new(&["elem_a", LONG]).await;
        let relays = [
            world.command(&["run", "relay"]).start(),
            world.command(&["run", "relay"]).start(),
        ];
        let projector = world.projector().start();
        for _ in 0..3 {
            file(&world, 0).await;
            file(&world, 1).await;
        }
        // A gap that is not aborted yet: nothing is wrong with that.
        let mut open = world.element(0).await;
        execute(
            &mut open,
            "begin; insert into elem_a_wal (transaction_id, operation_type, status, operation_data) \
             values (gen_random_uuid(), 'cache_rebuild', 'committed', '{}')",
        )
        .await;
        file(&world, 0).await;
        execute(
            &mut world.element(1).await,
            format!(
                "insert into {LONG}_wal (transaction_id, operation_type, status, operation_data, \
                     started_at) \
                 values (gen_random_uuid(), 'cache_rebuild', 'pending', '{{}}', \
                     now() - interval '10 minutes')"
            ),
        )
        .await;
        settled(&world).await;
        let said = sees("all is well, with two relays", &world, |code, said| {
            code == 0
                && ["elem_a", LONG, "admin", "query"].iter().all(|source| {
                    let relay = &of(&said["sources"], source)["relay"];
                    relay["state"] == "active" && relay["standby"] == 1
                })
        })
        .await;
        let a = of(&said["sources"], "elem_a");
        let mut element = world.element(0).await;
        let position: i64 = value(
            &mut element,
            "select last_value from elem_a_wal_position_seq",
        )
        .await;
        assert_eq!(a["position"], position);
        assert_eq!(a["high_water_mark"], position);
        assert_eq!(
            (&a["gap_positions"], &a["gaps"]),
            (&1.into(), &serde_json::json!([[4, 4]]))
        );
        assert_eq!(a["unpublished"]["rows"], 0);
        assert_eq!(a["pending"]["rows"], 0);
        assert_eq!(a["relay"]["lock_held"], true);
        assert_eq!(a["proven"], Value::Null);
        let answers = a["relay"]["answers"].as_array().unwrap();
        for relay in &relays {
            assert!(
                answers.iter().any(|answer| answer["pid"] == relay.pid()),
                "{a:#}"
            );
        }
        let long = of(&said["sources"], LONG);
        assert_eq!(long["pending"]["rows"], 1);
        let oldest = long["pending"]["oldest_seconds"].as_f64().unwrap();
        assert!((600.0..700.0).contains(&oldest), "{oldest}");

        for source in world.sources() {
            let info = world.bus.stream_info(&source.stream()).await.unwrap();
            let stream = of(&said["streams"], &source.to_string());
            assert_eq!(stream["stream"], source.stream());
            assert_eq!(stream["messages"], info.state.messages);
            assert_eq!(stream["last_sequence"], info.state.last_sequence);
            assert_eq!(stream["bytes"], info.state.bytes);
            assert_eq!(stream["replicas_current"], 1);
            let since = stream["last_seconds"].as_f64();
            assert_eq!(since.is_some(), info.state.messages > 0, "{stream:#}");
            assert!(since.is_none_or(|since| (0.0..60.0).contains(&since)));
        }
        let projection = &said["projections"][0];
        assert_eq!(projection["projection"], "query-cache");
        assert_eq!(projection["version"], 1);
        assert_eq!(
            projection["streams"].as_array().unwrap().len(),
            3,
            "admin is not read"
        );
        for element in 0..2 {
            let source = world.source(element);
            let place = of(&projection["streams"], &source.to_string());
            assert_eq!(
                place["sequence"],
                checkpoint(&world.query_url, &source).await
            );
            assert_eq!(place["lag_events"], 0);
            assert_eq!(place["state"], "up-to-date");
            assert_eq!(place["workers"]["sessions"], 1);
            assert_eq!(place["workers"]["lock_held"], true);
            assert_eq!(place["workers"]["active"]["pid"], projector.pid());
        }

        let (code, shown) = screen(world.command(&["status"])).await;
        assert_eq!(code, 0);
        for words in [
            "All is well.",
            "active +1",
            "nothing new for",
            "not verified",
            "gaps 4",
            "10 min",
        ] {
            assert!(shown.contains(words), "{words}");
        }
        // An answer goes to whoever asks, and never into a stream.
        let before = world.last_sequence(&world.source(0)).await;
        let client = &world.bus.client;
        let mut inbox = client.subscribe("_INBOX.test").await.unwrap();
        for reply in ["artstore.wal.elem_a.p00.file.created", "_INBOX.test"] {
            let asked = client.publish_with_reply("artstore.status.elem_a", reply, "".into());
            asked.await.unwrap();
        }
        // Questions are answered one after the other, by both relays.
        for _ in &relays {
            let answer = tokio::time::timeout(PATIENCE, inbox.next()).await.unwrap();
            let answer: Value = serde_json::from_slice(&answer.unwrap().payload).unwrap();
            assert_eq!(answer["source"], "elem_a");
        }
        assert_eq!(world.last_sequence(&world.source(0)).await, before);
        execute(&mut open, "rollback").await;
        projector.kill().await;
        for relay in relays {
            relay.kill().await;
        }
    });
}

#[test]
fn nobody_who_works_is_told_from_silence_and_a_halt_is_shown_with_its_reason() {
    run(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        // Nothing runs.
        file(&world, 0).await;
        let (code, said) = look(world.command(&["status"])).await;
        assert_eq!(code, 1);
        let elem = of(&said["sources"], "elem");
        assert_eq!(elem["relay"]["state"], "none");
        assert_eq!(elem["unpublished"]["rows"], 1);
        let found = trouble(&said, "elem").unwrap();
        assert_eq!(found["command"], "artstore run relay --source elem");
        let found = trouble(&said, "query-cache of elem").unwrap();
        assert_eq!(found["command"], "artstore run projector");

        // The projector is ended, with a backlog.
        let mut relay = world.command(&["run", "relay"]).start();
        let projector = world.projector().start();
        settled(&world).await;
        sees("all is well", &world, |code, _| code == 0).await;
        projector.kill().await;
        for _ in 0..5 {
            file(&world, 0).await;
        }
        let said = sees("the backlog", &world, |_, said| {
            of(&said["projections"][0]["streams"], "elem")["lag_events"] == 5
        })
        .await;
        let said = match trouble(&said, "query-cache of elem") {
            Some(_) => said,
            // Its sessions end a moment after it.
            None => sees("nobody works", &world, |code, _| code == 1).await,
        };
        let found = trouble(&said, "query-cache of elem").unwrap();
        assert_eq!(found["command"], "artstore run projector");
        let place = of(&said["projections"][0]["streams"], "elem");
        assert_eq!(place["workers"]["state"], "none");
        assert!(place["lag_seconds"].as_f64().unwrap() > 0.0);
        assert!(
            trouble(&said, "elem").is_none(),
            "the relay is well: {said:#}"
        );

        // A projector that has work and can't do it: stuck, and not silent.
        let projector = world.projector().start();
        settled(&world).await;
        let mut query = world.query().await;
        execute(&mut query, "begin; lock table file_metadata_cache").await;
        file(&world, 0).await;
        let said = sees("it is stuck", &world, |_, said| {
            of(&said["projections"][0]["streams"], "elem")["state"] == "stuck"
        })
        .await;
        let found = trouble(&said, "query-cache of elem").unwrap();
        let what = found["what"].as_str().unwrap();
        assert!(
            what.contains("1 event behind and no progress for"),
            "{what}"
        );
        assert!(
            what.contains(&format!("(process {})", projector.pid())),
            "{what}"
        );
        let (_, shown) = screen(world.command(&["status"])).await;
        assert!(shown.contains("STUCK for"), "{shown}");
        execute(&mut query, "rollback").await;
        settled(&world).await;

        // A relay whose table is locked reads nothing: stuck as well.
        let mut element = world.element(0).await;
        execute(&mut element, "begin; lock table elem_wal").await;
        let said = sees("the relay is stuck", &world, |_, said| {
            !of(&said["sources"], "elem")["relay"]["stuck_seconds"].is_null()
        })
        .await;
        let elem = of(&said["sources"], "elem");
        assert_eq!(
            elem["unpublished"],
            Value::Null,
            "not known, and not nothing"
        );
        assert!(elem["relay"]["stuck_seconds"].as_f64().unwrap() >= 10.0);
        // It answers otherwise.
        let problem = elem["database"]["problem"].as_str().unwrap();
        assert_eq!(problem, "a question was not answered in time");
        execute(&mut element, "rollback").await;
        sees("all is well again", &world, |code, _| code == 0).await;

        // Something else writes into the stream: the relay and the projection halt.
        let subject = format!("{}.p00.file.created", source.subject_prefix());
        let foreign = world.bus.jetstream.publish(subject, "{}".into()).await;
        foreign.unwrap().await.unwrap();
        file(&world, 0).await;
        let said = sees("both have halted", &world, |code, said| {
            let place = of(&said["projections"][0]["streams"], "elem");
            code == 1
                && of(&said["sources"], "elem")["relay"]["state"] == "halted"
                && place["state"] == "halted"
        })
        .await;
        let first = &said["troubles"][0];
        assert_eq!(first["about"], "elem");
        assert_eq!(
            first["command"], "artstore relay republish --source elem",
            "as its text says: {first:#}"
        );
        let problem = &of(&said["sources"], "elem")["relay"]["problem"];
        assert_eq!(problem["halted"], true);
        assert!(
            problem["text"]
                .as_str()
                .unwrap()
                .contains("was not written by a relay")
        );
        let (_, shown) = screen(world.command(&["status"])).await;
        assert!(
            shown.contains("NOT WELL: elem: ") && shown.contains("HALTED"),
            "{shown}"
        );
        for words in [
            &["projection", "list"][..],
            &["projection", "status", "query-cache"],
        ] {
            let (status, shown) = world.command(words).output().await;
            assert_eq!(status.code(), Some(1), "{shown}");
            assert!(shown.contains("HALTED at elem"), "{shown}");
        }

        // A checkpoint beyond its stream.
        execute(
            &mut query,
            "update projection_checkpoints set last_sequence = 1000 \
             where stream = 'ARTSTORE_QUERY' or stream = 'ARTSTORE_WAL_elem'",
        )
        .await;
        let (_, said) = look(world.command(&["status"])).await;
        let place = of(&said["projections"][0]["streams"], "elem");
        assert_eq!(place["state"], "off-the-stream");
        assert_eq!(place["lag_events"], Value::Null, "not nothing");
        projector.kill().await;
        relay.signal("-TERM").await;
        relay.ended().await;
    });
}

#[test]
fn one_database_is_down_and_the_rest_is_shown() {
    run(async {
        let world = World::new(&["elem_a", "elem_b"]).await;
        let relay = world.command(&["run", "relay"]).start();
        let projector = world.projector().start();
        file(&world, 0).await;
        settled(&world).await;
        sees("all is well", &world, |code, _| code == 0).await;
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = gone.local_addr().unwrap().port();
        // This one accepts and never answers; once it is dropped, nobody listens.
        let elements = |port: u16| {
            format!(
                "elem_a={},elem_b=postgres://u:secret@127.0.0.1:{port}/b",
                world.elements[0].1
            )
        };
        for (listener, problem) in [
            (Some(gone), "does not answer within 2 s"),
            (None, "can't be reached"),
        ] {
            let program = world
                .command(&["status"])
                .env("ARTSTORE_ELEMENTS", &elements(port));
            let (code, said) = look(program).await;
            assert_eq!(code, 1);
            let b = of(&said["sources"], "elem_b");
            assert!(
                b["database"]["problem"].as_str().unwrap().contains(problem),
                "{b:#}"
            );
            assert_eq!(b["database"]["name"], format!("b at 127.0.0.1:{port}"));
            assert_eq!(
                (&b["position"], &b["unpublished"]),
                (&Value::Null, &Value::Null)
            );
            // Its relay answers, and its stream is there.
            assert_eq!(
                (&b["relay"]["state"], &b["high_water_mark"]),
                (&"active".into(), &0.into())
            );
            assert_eq!(said["troubles"].as_array().unwrap().len(), 1, "{said:#}");
            let a = of(&said["sources"], "elem_a");
            assert_eq!(
                (&a["position"], &a["unpublished"]["rows"]),
                (&1.into(), &0.into())
            );
            assert_eq!(
                of(&said["projections"][0]["streams"], "elem_a")["state"],
                "up-to-date"
            );
            assert!(!said.to_string().contains("secret"));
            let program = world
                .command(&["status"])
                .env("ARTSTORE_ELEMENTS", &elements(port));
            let (_, shown) = screen(program).await;
            assert!(shown.contains("NOT WELL: elem_b: database b at") && shown.contains(problem));
            drop(listener);
        }
        relay.kill().await;
        projector.kill().await;
    });
}

#[test]
fn frozen_servers_do_not_keep_it_and_the_rest_is_shown() {
    run(async {
        let stack = Stack::start(StackOptions::default()).await.unwrap();
        let world = World::on(&stack, 0, &["elem"], 1).await;
        let relay = world.command(&["run", "relay"]).start();
        let projector = world.projector().start();
        let registry = ["run", "projector", "--projection", "element-registry"];
        let registry = world.command(&registry).start();
        file(&world, 0).await;
        settled(&world).await;
        let mut watch = world.command(&["status", "--watch", "--json"]).start();
        sees("all is well", &world, |code, _| code == 0).await;
        let looks = |process: &Process| -> Vec<Value> {
            let said = process.output();
            // The last line may be half written.
            let whole = &said[..said.rfind('\n').map_or(0, |end| end + 1)];
            whole
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        };

        let frozen = Frozen::new(vec![stack.nats_pid(0)]);
        let (code, said) = look(world.command(&["status"])).await;
        assert_eq!(code, 1);
        assert_eq!(said["troubles"][0]["about"], "NATS");
        assert!(
            said["nats"]["problem"]
                .as_str()
                .unwrap()
                .contains("does not answer")
        );
        let elem = of(&said["sources"], "elem");
        assert_eq!(
            (&elem["position"], &elem["high_water_mark"]),
            (&1.into(), &Value::Null)
        );
        assert_eq!(elem["relay"]["state"], "active", "by its lock");
        assert_eq!(elem["unpublished"], Value::Null);
        let place = of(&said["projections"][0]["streams"], "elem");
        assert_eq!(
            (&place["sequence"], &place["lag_events"]),
            (&1.into(), &Value::Null)
        );
        assert_eq!(place["state"], "not-known");
        let (_, shown) = screen(world.command(&["status"])).await;
        assert!(shown.contains("NOT WELL: NATS"), "{shown}");
        eventually("the one that watches sees it too", || async {
            let looks = looks(&watch);
            let last = looks.last()?;
            (last["troubles"][0]["about"] == "NATS").then_some(())
        })
        .await;
        drop(frozen);
        eventually("and that it is over", || async {
            let looks = looks(&watch);
            (looks.last()?["well"] == true).then_some(())
        })
        .await;

        let frozen = Frozen::new(postgres_pids(&stack));
        let (code, said) = look(world.command(&["status"])).await;
        assert_eq!(code, 1);
        for source in ["elem", "query", "admin"] {
            let problem = &of(&said["sources"], source)["database"]["problem"];
            assert!(
                problem
                    .as_str()
                    .unwrap()
                    .contains("does not answer within 2 s")
            );
        }
        assert!(
            said["read_model"]["problem"]
                .as_str()
                .unwrap()
                .contains("does not answer")
        );
        let stream = of(&said["streams"], "elem");
        assert_eq!(
            (&stream["messages"], &stream["problem"]),
            (&1.into(), &Value::Null)
        );
        // One server, one trouble: whatever follows from it is none of its own.
        let [trouble] = &said["troubles"].as_array().unwrap()[..] else {
            panic!("{said:#}");
        };
        let about = trouble["about"].as_str().unwrap();
        assert!(about.starts_with("PostgreSQL at 127.0.0.1:"), "{said:#}");
        // The registry's projector runs, and its database says nothing: it is shown all the same.
        let all = said["projections"].as_array().unwrap().iter();
        let mut shown = all.filter(|p| p["projection"] == "element-registry");
        let shown = shown.next().unwrap_or_else(|| panic!("{said:#}"));
        assert_eq!(of(&shown["streams"], "elem")["state"], "not-known");
        let (_, shown) = screen(world.command(&["status"])).await;
        assert!(shown.contains("NOT WELL: PostgreSQL at "), "{shown}");
        assert!(shown.contains("ELEMENT-REGISTRY"), "{shown}");
        eventually("the one that watches sees it too", || async {
            let looks = looks(&watch);
            let last = looks.last()?;
            last["read_model"]["problem"].is_string().then_some(())
        })
        .await;
        drop(frozen);
        eventually("and that it is over", || async {
            let looks = looks(&watch);
            (looks.last()?["well"] == true).then_some(())
        })
        .await;
        let asked = Instant::now();
        watch.signal("-INT").await;
        assert_eq!(watch.ended().await.code(), Some(0));
        assert!(
            asked.elapsed() < Duration::from_secs(2),
            "{:?}",
            asked.elapsed()
        );
        relay.kill().await;
        projector.kill().await;
        registry.kill().await;
        drop(world);
        stack.stop().await.unwrap();
    });
}

/// Under load a lag is no trouble as long as it is worked on, and rates are shown.
#[test]
fn under_load_all_is_well_and_the_rate_is_seen() {
    run(async {
        let world = World::new(&["elem"]).await;
        let relay = world.command(&["run", "relay"]).start();
        let projector = world.projector().start();
        let load = Load::start(&world, 2, false);
        sees("a rate", &world, |code, said| {
            let rate = &of(&said["projections"][0]["streams"], "elem")["rate"];
            code == 0 && rate.as_f64().is_some_and(|rate| rate > 1.0)
        })
        .await;
        for _ in 0..3 {
            let (code, said) = look(world.command(&["status"])).await;
            assert_eq!(code, 0, "{said:#}");
        }
        load.stop().await;
        relay.kill().await;
        projector.kill().await;
    });
}

/// A disk that takes long to flush: what NATS is asked about a busy stream is answered late, and then is.
#[test]
fn a_stream_that_is_busy_is_asked_again_and_all_is_well() {
    run(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        let relay = world.command(&["run", "relay"]).start();
        let projector = world.projector().start();
        file(&world, 0).await;
        settled(&world).await;
        sees("all is well", &world, |code, _| code == 0).await;
        let proxy = Proxy::to(&world.nats_url).await;
        let flush = Duration::from_millis(2_500);
        proxy.slow_publishes(&format!("$JS.API.STREAM.INFO.{}", source.stream()), flush);
        let slow = || {
            let status = world.command(&["status"]);
            status.env("NATS_URL", &proxy.way(&world.nats_url))
        };
        sees("nothing was published lately", &world, |_, said| {
            let since = of(&said["streams"], "elem")["last_seconds"].as_f64();
            since.is_some_and(|since| since > 3.0)
        })
        .await;
        // It is not waited for twice.
        let (code, said) = look(slow()).await;
        assert_eq!(code, 1, "{said:#}");
        let found = trouble(&said, "elem").unwrap();
        assert_eq!(found["what"], "does not answer within 2 s");

        let load = Load::start(&world, 2, false);
        sees("events are published", &world, |_, said| {
            let rate = &of(&said["projections"][0]["streams"], "elem")["rate"];
            rate.as_f64().is_some_and(|rate| rate > 1.0)
        })
        .await;
        for _ in 0..3 {
            let before = world.last_sequence(&source).await;
            let (code, said) = look(slow()).await;
            assert_eq!(code, 0, "{said:#}");
            let stream = of(&said["streams"], "elem");
            assert!(
                stream["last_sequence"].as_u64().unwrap() > before,
                "{said:#}"
            );
        }
        load.stop().await;
        relay.kill().await;
        projector.kill().await;
    });
}

/// Answers for a relay of `elem` that is none; what it says, and what happens to the lock before it
/// does, is `said` with the number of the question.
async fn answers_for_a_relay(
    world: &World,
    standby_seconds: f64,
    mut said: impl AsyncFnMut(usize) -> &'static str,
) {
    let client = &world.bus.client;
    let mut questions = client.subscribe("artstore.status.elem").await.unwrap();
    client.flush().await.unwrap();
    let mut number = 0;
    while let Some(question) = questions.next().await {
        number += 1;
        let stage = said(number).await;
        let answer = serde_json::json!({
            "source": "elem", "host": "alpha", "pid": 1, "program": "0.1.0", "stage": stage,
            "sequence": 0, "high_water_mark": 0, "gap_positions": 0, "published": 0, "backlog": 0,
            "stage_seconds": standby_seconds, "other_holder_seconds": standby_seconds,
        });
        let answer = answer.to_string().into();
        client
            .publish(question.reply.unwrap(), answer)
            .await
            .unwrap();
    }
}

/// Relays answer before their lock is checked, and have it a moment later.
#[test]
fn a_lock_that_changes_hands_during_a_look_is_no_trouble() {
    run(async {
        let world = World::new(&["elem"]).await;
        let (mut one, mut other) = (world.element(0).await, world.element(0).await);
        let key =
            "('x' || encode(substr(sha256('artstore/relay/elem'), 1, 8), 'hex'))::bit(64)::bigint";
        let lock = format!("select pg_advisory_lock({key})");
        let unlock = "select pg_advisory_unlock_all()";
        for (case, state) in [
            ("it has the lock", "active"),
            ("the lock is free", "taking-over"),
            ("yet another one has it", "taking-over"),
            ("the one that had it is silent", "silent"),
        ] {
            let answers = answers_for_a_relay(&world, 0.1, async |number| {
                match (number, case) {
                    (1, _) => execute(&mut one, &*lock).await,
                    (2, "it has the lock") => return "active",
                    (2, "the lock is free") => execute(&mut one, unlock).await,
                    (2, "yet another one has it") => {
                        execute(&mut one, unlock).await;
                        execute(&mut other, &*lock).await;
                    }
                    _ => {}
                }
                "standby"
            });
            let (_, said) = tokio::select! {
                said = look(world.command(&["status"])) => said,
                () = answers => unreachable!("the connection is closed"),
            };
            let relay = &of(&said["sources"], "elem")["relay"];
            assert_eq!(relay["state"], state, "{case}: {said:#}");
            let trouble = trouble(&said, "elem");
            assert_eq!(trouble.is_some(), state == "silent", "{case}: {said:#}");
            for connection in [&mut one, &mut other] {
                execute(connection, unlock).await;
            }
        }
    });
}

/// Relays that answer and do not take the lock: none of ours does that, so one is played.
#[test]
fn relays_that_do_not_take_the_lock_are_named_until_one_does() {
    run(async {
        let world = World::new(&["elem"]).await;
        let answers = answers_for_a_relay(&world, 30.0, async |_| "standby");
        let (code, said) = tokio::select! {
            said = look(world.command(&["status"])) => said,
            () = answers => unreachable!("the connection is closed"),
        };
        assert_eq!(code, 1);
        assert_eq!(of(&said["sources"], "elem")["relay"]["state"], "waiting");
        let trouble = trouble(&said, "elem").unwrap();
        let what = trouble["what"].as_str().unwrap();
        assert!(
            what.starts_with("no relay is active, though some run"),
            "{what}"
        );
        let todo = trouble["todo"].as_str().unwrap();
        assert!(todo.ends_with("then look at their logs"), "{todo}");
        // It is gone, as after a restart.
        let relay = world.command(&["run", "relay"]).start();
        let projector = world.projector().start();
        sees("all is well", &world, |code, _| code == 0).await;
        relay.kill().await;
        projector.kill().await;
    });
}

/// A relay that is frozen says nothing, and its lock stays where it is: that is named at the first look.
#[test]
fn a_relay_that_is_frozen_with_its_lock_is_named() {
    run(async {
        let world = World::new(&["elem"]).await;
        let first = world.relay(0).start();
        first.says("relay active").await;
        let second = world.relay(0).start();
        second.says("standby: another relay is active").await;
        let pid: i32 = value(
            &mut world.element(0).await,
            "select l.pid from pg_locks l join pg_database d on d.oid = l.database \
             where l.locktype = 'advisory' and d.datname = current_database()",
        )
        .await;
        // The server would end the session after five seconds, however busy this machine is.
        let session = Frozen::new(vec![u32::try_from(pid).unwrap()]);
        first.signal("-STOP").await;
        let (code, said) = look(world.command(&["status"])).await;
        assert_eq!(code, 1);
        let relay = &of(&said["sources"], "elem")["relay"];
        assert_eq!(relay["state"], "silent", "{said:#}");
        assert_eq!(relay["holder"]["pid"], pid);
        let found = trouble(&said, "elem").unwrap();
        let what = found["what"].as_str().unwrap();
        assert!(what.contains("it is frozen"), "{what}");
        drop(session);
        second.says("relay active").await;
        sees("the other one is active", &world, |_, said| {
            of(&said["sources"], "elem")["relay"]["state"] == "active"
                && trouble(said, "elem").is_none()
        })
        .await;
        first.kill().await;
        second.kill().await;
    });
}

#[test]
fn without_a_database_there_is_nothing_to_look_at() {
    run(async {
        let (status, said) = Program::new(&["status"]).finish().await;
        assert_eq!(status.code(), Some(2), "{said}");
        assert!(said.contains("ARTSTORE_ELEMENTS"), "{said}");
        let (status, _) = Program::new(&["status", "--wacth"]).finish().await;
        assert_eq!(status.code(), Some(2));
        let name: Result<ElementName, _> = LONG.parse();
        assert_eq!(Source::Element(name.unwrap()).to_string().len(), 34);
    });
}
