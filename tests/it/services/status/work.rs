//! What `status` reports about work: it agrees with the databases, and what stands still is named.

use futures::StreamExt as _;

use super::*;
use crate::support::load::Load;

#[test]
fn what_it_says_agrees_with_the_databases_and_all_is_well() {
    run(async {
        let world = World::without_rights(&["elem_a", LONG]).await;
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
        // Once for all sources, and once for all streams of a projection.
        let found = trouble(&said, "all sources").unwrap();
        assert_eq!(found["command"], "artstore run relay");
        assert!(trouble(&said, "elem").is_none(), "{said:#}");
        let found = trouble(&said, "query-cache").unwrap();
        assert_eq!(found["command"], "artstore run projector");
        assert!(trouble(&said, "query-cache of elem").is_none(), "{said:#}");

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
        let said = match trouble(&said, "query-cache") {
            Some(_) => said,
            // Its sessions end a moment after it, one after another.
            None => {
                sees("nobody works", &world, |_, said| {
                    trouble(said, "query-cache").is_some()
                })
                .await
            }
        };
        let found = trouble(&said, "query-cache").unwrap();
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
        // Another one's own table, locked for longer, is not in the way.
        let mut other = world.element(0).await;
        execute(&mut other, "create table mine (id int)").await;
        execute(&mut other, "begin; lock table mine").await;
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
        let locked =
            "a question was not answered in time: table elem_wal is locked by PostgreSQL process";
        assert!(problem.starts_with(locked), "{problem}");
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
