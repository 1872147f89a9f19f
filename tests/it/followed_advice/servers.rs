//! Servers that are unavailable: a database that takes no connections, a node of a NATS cluster, the origin
//! of a mirror.

use std::path::Path;

use artstore_schemas::source::Source;
use artstore_stack::{Stack, StackOptions};
use async_nats::jetstream::stream::{Config, External, Source as Origin};

use super::*;
use crate::services::frozen::Frozen;

#[test]
fn a_database_that_takes_no_connections_is_named_until_it_does() {
    run(async {
        let world = World::new(&["elem"]).await;
        let mut services = Vec::new();
        follow(&world, "nothing runs", &mut services).await;
        let program = |words: &[&str]| world.command(words);
        let mut query = world.query().await;
        let database: String = value(
            &mut world.element(0).await,
            "select current_database()::text",
        )
        .await;
        let allow =
            |allowed: bool| format!("alter database {database} allow_connections {allowed}");
        execute(&mut query, allow(false)).await;
        let what = "refuses the connection: ";
        told(
            program,
            "elem",
            what,
            "check the server, its rights and the URL",
        )
        .await;
        execute(&mut query, allow(true)).await;
        well(program, "connections are allowed").await;
        for service in services {
            service.kill().await;
        }
    });
}

/// Its database has no tables yet, and NATS no stream for it.
#[test]
fn an_element_that_was_not_prepared_is_prepared_as_advised() {
    run(async {
        let world = World::with_accounts_for(&["fresh"], &[]).await;
        let url = database("fresh").await;
        let program = |words: &[&str]| {
            world
                .command(words)
                .env("ARTSTORE_ELEMENTS", &format!("fresh={url}"))
        };
        told(
            program,
            "fresh",
            "is it the right database?",
            "check the server",
        )
        .await;
        let mut services = Vec::new();
        let done = follow_with(program, "a new element", &mut services).await;
        for command in [
            "artstore migrate up",
            "artstore bus init",
            "artstore run relay",
        ] {
            assert!(done.iter().any(|done| done == command), "{done:?}");
        }
        for service in services {
            service.kill().await;
        }
    });
}

#[test]
fn replicas_that_are_not_up_to_date_are_named_until_their_server_is_back() {
    run_waiting(async {
        let options = StackOptions {
            nats_nodes: 3,
            ..StackOptions::default()
        };
        let stack = Stack::start(options).await.unwrap();
        let world = World::on(&stack, 0, &["elem"], 3).await;
        let mut services = Vec::new();
        follow(&world, "nothing runs", &mut services).await;
        let program = |words: &[&str]| world.command(words);
        let info = world
            .bus
            .stream_info(&world.source(0).stream())
            .await
            .unwrap();
        let replica = &info.cluster.unwrap().replicas[0].name;
        let node = stack.nats_node_named(replica).unwrap();
        stack.kill_nats(node).await.unwrap();
        let what = "stream ARTSTORE_WAL_elem: 2 of 3 replicas are up to date";
        let advice = "look at the NATS server that is down or behind";
        told(program, "elem", what, advice).await;
        execute(&mut world.element(0).await, ROW).await;
        world.published(0).await;
        stack.start_nats(node).await.unwrap();
        well(program, "the server is back").await;
        for service in services {
            service.kill().await;
        }
        drop(world);
        stack.stop().await.unwrap();
    });
}

/// A stream with one replica is on one server of the cluster. The others answer.
#[test]
fn a_stream_that_does_not_answer_is_named_until_its_server_is_restarted() {
    run(async {
        let options = StackOptions {
            nats_nodes: 3,
            ..StackOptions::default()
        };
        let stack = Stack::start(options).await.unwrap();
        let world = World::on(&stack, 0, &["elem"], 1).await;
        let mut services = Vec::new();
        follow(&world, "nothing runs", &mut services).await;
        let program = |words: &[&str]| world.command(words);
        let stream = world.source(0).stream();
        let info = world.bus.stream_info(&stream).await.unwrap();
        let leader = info.cluster.unwrap().leader.unwrap();
        let node = stack.nats_node_named(&leader).unwrap();
        let frozen = Frozen::new(vec![stack.nats_pid(node)]);
        let advice = "restart the NATS server that has the stream";
        told(program, "elem", "does not answer within 2 s", advice).await;
        stack.kill_nats(node).await.unwrap();
        stack.start_nats(node).await.unwrap();
        drop(frozen);
        well(program, "the server was restarted").await;
        execute(&mut world.element(0).await, ROW).await;
        world.published(0).await;
        for service in services {
            service.kill().await;
        }
        drop(world);
        stack.stop().await.unwrap();
    });
}

/// A server at another site, which keeps a mirror of an element's stream and reaches its origin by way of
/// a leaf node connection.
#[test]
fn a_mirror_that_hears_nothing_of_its_origin_is_named_until_it_does() {
    run_waiting(async {
        let (hub, site) = tokio::join!(
            Stack::start(StackOptions::default()),
            Stack::start(StackOptions::default())
        );
        let (hub, site) = (hub.unwrap(), site.unwrap());
        let leaves = tokio::net::TcpSocket::new_v4().unwrap();
        leaves.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listen = leaves.local_addr().unwrap();
        drop(leaves);
        let accept = format!("leafnodes {{ listen: \"{listen}\" }}");
        restarted_with(&hub, "hub", &accept).await;
        let hub_url = hub.nats_url(0);
        let (user, _) = hub_url.rsplit_once('@').unwrap();
        let url = format!("{user}@{listen}").replace("nats://", "nats-leaf://");
        let remote =
            format!("leafnodes {{ remotes: [ {{ url: \"{url}\", account: account0 }} ] }}");
        restarted_with(&site, "site", &remote).await;

        let origin = World::on(&hub, 0, &["elem"], 1).await;
        let world = World::on(&site, 0, &[], 1).await;
        let stream = Source::Element("elem".parse().unwrap()).stream();
        let mirror = Config {
            name: stream.clone(),
            mirror: Some(Origin {
                name: stream.clone(),
                external: Some(External {
                    api_prefix: "$JS.hub.API".to_owned(),
                    delivery_prefix: None,
                }),
                ..Origin::default()
            }),
            ..Config::default()
        };
        world.bus.jetstream.create_stream(mirror).await.unwrap();
        let relay = origin.relay(0).start();
        let mut element = origin.element(0).await;
        let program = |words: &[&str]| world.command(words);
        let mut services = Vec::new();
        let mirrored = async |rows: u64| {
            eventually("the mirror has it", async || {
                let info = world.bus.stream_info(&stream).await.unwrap();
                (info.state.last_sequence == rows).then_some(())
            })
            .await;
        };
        execute(&mut element, ROW).await;
        mirrored(1).await;
        follow(&world, "nothing runs", &mut services).await;

        // It was not behind, as far as it knows.
        let frozen = Frozen::new(vec![hub.nats_pid(0)]);
        execute(&mut element, ROW).await;
        let advice = "check the connection to the server of the origin";
        let what = "the mirror ARTSTORE_WAL_elem has heard nothing of ARTSTORE_WAL_elem for 1";
        told(program, "elem", what, advice).await;
        drop(frozen);
        mirrored(2).await;
        well(program, "its server answers").await;
        relay.kill().await;
        for service in services {
            service.kill().await;
        }
        drop((origin, world));
        hub.stop().await.unwrap();
        site.stop().await.unwrap();
    });
}

/// A JetStream domain of its own, and more; a connection that is cut is found dead within seconds.
async fn restarted_with(stack: &Stack, domain: &str, more: &str) {
    let path = stack.directory().join("nats/0/server.conf");
    let path: &Path = &path;
    let text = std::fs::read_to_string(path).unwrap();
    let text = text.replace(
        "jetstream {",
        &format!("jetstream {{\n    domain: {domain}"),
    );
    std::fs::write(path, format!("{text}ping_interval: \"1s\"\n{more}\n")).unwrap();
    stack.kill_nats(0).await.unwrap();
    stack.start_nats(0).await.unwrap();
}
