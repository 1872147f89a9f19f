//! Streams that are missing or unfit, and streams that `bus init` makes or repairs.

use std::time::Duration;

use artstore_migrations::Module;
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};

use super::*;
use crate::support::*;

/// A stream as somebody else may have made it.
fn stream(name: &str) -> Config {
    Config {
        name: format!("ARTSTORE_WAL_{name}"),
        subjects: vec![format!("artstore.wal.{name}.>")],
        storage: StorageType::File,
        discard: DiscardPolicy::New,
        ..Config::default()
    }
}

#[test]
fn a_stream_that_is_missing_or_unfit_is_refused_and_left_alone() {
    run(async {
        let world = tempting().await;
        let url = database("missing").await;
        migrate(&url, Module::Storage("missing".parse().unwrap())).await;
        let with = |list: &str, arguments: &[&str]| {
            world
                .command(arguments)
                .env("ARTSTORE_ELEMENTS", &list.replace("URL", &url))
        };
        let before = Unchanged::of(&world, &[&url]).await;
        let relay = with("missing=URL", &["run", "relay", "--source", "missing"]);
        let says = [
            "source missing",
            "ARTSTORE_WAL_missing",
            "artstore bus init",
        ];
        refused(relay, 1, &says).await;
        before.check(&world).await;

        let hour = Duration::from_secs(3_600);
        let aged = Config {
            max_age: hour,
            ..stream("aged")
        };
        let fleeting = Config {
            storage: StorageType::Memory,
            ..stream("fleeting")
        };
        let limited = Config {
            max_bytes: 1 << 20,
            ..stream("limited")
        };
        let dropping = Config {
            discard: DiscardPolicy::Old,
            ..stream("dropping")
        };
        let part = "artstore.wal.narrow.p00.>".to_owned();
        let narrow = Config {
            subjects: vec![part.clone()],
            ..stream("narrow")
        };
        let unfit = [
            ("aged", aged, "3600s"),
            ("fleeting", fleeting, "storage Memory"),
            ("limited", limited, "1048576"),
            ("dropping", dropping, "discard Old"),
            ("narrow", narrow, &part),
        ];
        for (_, config, _) in &unfit {
            world.bus.jetstream.create_stream(config).await.unwrap();
        }
        let before = Unchanged::of(&world, &[&url]).await;
        for (name, config, found) in &unfit {
            // Also the stream before it in the list is not made.
            let init = with(&format!("fresh=URL,{name}=URL"), &["bus", "init"]);
            refused(init, 1, &[&config.name, found, "nothing was changed"]).await;
        }
        before.check(&world).await;
    });
}

#[test]
fn streams_are_made_once_and_repaired_where_that_loses_nothing() {
    run(async {
        let world = tempting().await;
        let made = world
            .bus
            .stream_info("ARTSTORE_WAL_elem")
            .await
            .unwrap()
            .config;
        let narrow = Config {
            max_message_size: 1_000,
            no_ack: true,
            name: "ARTSTORE_WAL_repaired".to_owned(),
            subjects: vec!["artstore.wal.repaired.>".to_owned()],
            ..made
        };
        world.bus.jetstream.create_stream(narrow).await.unwrap();
        let publish = world
            .bus
            .client
            .publish("artstore.wal.repaired.p00.a.b", "kept".into());
        publish.await.unwrap();
        let init = || {
            let url = &world.elements[0].1;
            let elements = format!("elem={url},fresh={url},repaired={url}");
            world
                .command(&["bus", "init"])
                .env("ARTSTORE_ELEMENTS", &elements)
        };
        let lines = |said: String| -> Vec<String> {
            let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
            said.lines().map(words).collect()
        };
        let (status, said) = init().output().await;
        assert!(status.success());
        let expected = [
            "ARTSTORE_WAL_elem unchanged",
            "ARTSTORE_WAL_fresh created",
            "ARTSTORE_WAL_repaired updated",
            "ARTSTORE_ADMIN unchanged",
            "ARTSTORE_QUERY unchanged",
            "ARTSTORE_AUDIT_HEADS unchanged",
        ];
        assert_eq!(lines(said), expected);
        let info = world
            .bus
            .stream_info("ARTSTORE_WAL_repaired")
            .await
            .unwrap();
        assert_eq!(info.state.messages, 1);
        let config = info.config;
        assert_eq!((config.max_message_size, config.no_ack), (-1, false));

        let before = Unchanged::of(&world, &[]).await;
        let (status, said) = init().output().await;
        assert!(status.success());
        assert!(lines(said).iter().all(|line| line.ends_with(" unchanged")));
        before.check(&world).await;
    });
}
