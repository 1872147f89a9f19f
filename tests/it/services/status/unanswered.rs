//! Servers that do not answer do not keep `status`, and the rest is shown.

use artstore_stack::{Stack, StackOptions};

use super::*;
use crate::services::frozen::{Frozen, postgres_pids};
use crate::support::load::Load;

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
