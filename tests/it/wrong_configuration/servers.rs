//! Servers that can't be reached, are too old, or are only standbys.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use artstore_stack::{Stack, StackOptions};
use futures::TryStreamExt as _;

use super::*;
use crate::support::*;

#[test]
fn servers_that_cannot_be_reached_are_named_without_the_password() {
    run(async {
        let world = tempting().await;
        let before = Unchanged::of(&world, &[]).await;
        let element = world.elements[0].1.clone();
        let port = free_port();
        let place = format!("127.0.0.1:{port}");
        let commands = |url: &str| {
            let relay = world
                .relay(0)
                .env("ARTSTORE_ELEMENTS", &format!("elem={url}"));
            let projector = world.projector().env("QUERY_DATABASE_URL", url);
            let migrate = Program::new(&["migrate", "up"]).env("QUERY_DATABASE_URL", url);
            [relay, projector, migrate]
        };

        let nobody = format!("postgres://artstore:{SECRET}@{place}/artstore");
        for program in commands(&nobody) {
            refused(
                program.env("ARTSTORE_WAIT_SECONDS", "0"),
                1,
                &[&place, "artstore", "can't be reached", "refused"],
            )
            .await;
        }
        let server = element.parse::<url::Url>().unwrap();
        let server = format!("127.0.0.1:{}", server.port().unwrap());
        let password = other(&element, |url| url.set_password(Some(SECRET)).unwrap());
        for program in commands(&password) {
            refused(
                program,
                1,
                &[
                    &server,
                    "refuses the connection",
                    "password authentication failed",
                ],
            )
            .await;
        }
        let database = other(&element, |url| url.set_path("/nowhere"));
        for program in commands(&database) {
            refused(program, 1, &[&server, "\"nowhere\" does not exist"]).await;
        }
        let with_relay = world
            .relay(0)
            .env("ARTSTORE_ELEMENTS", &format!("elem={nobody}"))
            .env("ARTSTORE_WAIT_SECONDS", "0");
        refused(with_relay, 1, &["source elem", "ARTSTORE_ELEMENTS"]).await;
        let projector = world
            .projector()
            .env("QUERY_DATABASE_URL", &nobody)
            .env("ARTSTORE_WAIT_SECONDS", "0");
        refused(projector, 1, &["QUERY_DATABASE_URL"]).await;

        // Without a scheme, with one, one of two.
        for nobody in [
            format!("nats://ann:{SECRET}@{place}"),
            format!("ann:{SECRET}@{place}"),
            format!("ann:{SECRET}@{place},nats://ann:{SECRET}@{place}"),
        ] {
            let bus = world.command(&["bus", "init"]);
            for program in [world.relay(0), world.projector(), bus] {
                let says = ["NATS", &place, "can't be reached", "check NATS_URL"];
                let program = program.env("ARTSTORE_WAIT_SECONDS", "0");
                refused(program.env("NATS_URL", &nobody), 1, &says).await;
            }
        }
        let password = other(&world.nats_url, |url| {
            url.set_password(Some(SECRET)).unwrap()
        });
        let says = ["NATS", "authorization violation", "check NATS_URL"];
        let relay = world.relay(0).without("NATS_CREDENTIALS");
        refused(relay.env("NATS_URL", &password), 1, &says).await;
        before.check(&world).await;
    });
}

/// Below the workspace, where `scripts/setup --tests` puts it.
fn nats_server(version: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(format!(".tools/nats-server-{version}/nats-server"));
    assert!(
        program.is_file(),
        "{} is missing: run scripts/setup --tests",
        program.display()
    );
    program
}

#[test]
fn an_old_nats_server_is_refused() {
    run(async {
        let old = Stack::start(StackOptions {
            nats_server: Some(nats_server("2.11.11")),
            postgres: false,
            ..StackOptions::default()
        })
        .await
        .unwrap();
        let world = tempting().await;
        let before = Unchanged::of(&world, &[]).await;
        let url = old.nats_url(0);
        let says = [
            "nats-server 2.11.11 is too old",
            "2.12.1 or newer",
            "upgrade",
        ];
        for program in [
            world.relay(0),
            world.projector(),
            world.command(&["bus", "init"]),
        ] {
            let program = program.without("NATS_CREDENTIALS");
            refused(program.env("NATS_URL", &url), 1, &says).await;
        }
        before.check(&world).await;
        let client = async_nats::ConnectOptions::new();
        let login: url::Url = url.parse().unwrap();
        let client = client
            .user_and_password(
                login.username().to_owned(),
                login.password().unwrap().to_owned(),
            )
            .connect(&url)
            .await
            .unwrap();
        let jetstream = async_nats::jetstream::new(client);
        let streams: Vec<String> = jetstream.stream_names().try_collect().await.unwrap();
        assert_eq!(streams, Vec::<String>::new());
        old.stop().await.unwrap();
    });
}

#[test]
fn the_oldest_supported_nats_server_does_all_that_is_needed() {
    run(async {
        let stack = Stack::start(StackOptions {
            nats_server: Some(nats_server("2.12.1")),
            ..StackOptions::default()
        })
        .await
        .unwrap();
        let world = World::on(&stack, 0, &["elem"], 1).await;
        assert_eq!(world.bus.client.server_info().version, "2.12.1");
        let projector = world.projector().start();
        let mut connection = world.element(0).await;
        for (mode, active) in [("atomic", "mode=Atomic"), ("pipelined", "mode=Pipelined")] {
            finished_rows(&mut connection, 1_500).await;
            let mut relay = world.relay(0).env("ARTSTORE_PUBLISH_MODE", mode).start();
            relay.says(active).await;
            world.published(0).await;
            finished_rows(&mut connection, 1).await;
            world.published(0).await;
            relay.signal("-TERM").await;
            assert!(relay.ended().await.success(), "{}", relay.log());
        }
        world.projected().await;
        assert_eq!(world.last_sequence(&world.source(0)).await, 3_002);
        projector.kill().await;
        // A backup is taken and restored as well.
        let to = folder("oldest").join("backup");
        let to = to.to_str().unwrap();
        let (status, log) = world.command(&["bus", "backup", to]).finish().await;
        assert!(status.success(), "{log}");
        let stream = world.source(0).stream();
        world.bus.jetstream.delete_stream(&stream).await.unwrap();
        let restore = ["bus", "restore", to, "--stream", "elem"];
        let (status, log) = world.command(&restore).finish().await;
        assert!(status.success(), "{log}");
        let state = world.bus.stream_info(&stream).await.unwrap().state;
        assert_eq!((state.messages, state.last_sequence), (3_002, 3_002));
        drop(world);
        stack.stop().await.unwrap();
    });
}

#[test]
fn a_standby_is_refused() {
    run(async {
        let stack = Stack::start(StackOptions::default()).await.unwrap();
        let world = World::on(&stack, 0, &["elem"], 1).await;
        finished_rows(&mut world.element(0).await, 5).await;
        let data = stack.postgres_data().with_file_name("standby");
        let backup = stack
            .postgres_command("pg_basebackup")
            .args([
                "--write-recovery-conf",
                "--checkpoint",
                "fast",
                "--no-sync",
                "--pgdata",
            ])
            .arg(&data)
            .status()
            .await
            .unwrap();
        assert!(backup.success());
        let port = free_port();
        // `-D` and a folder of the stack's: it ends with the stack, whatever becomes of us.
        let _standby = stack
            .postgres_command("postgres")
            .arg("-D")
            .arg(&data)
            .args([
                "-c",
                &format!("port={port}"),
                "-c",
                "unix_socket_directories=",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let there = |url: &str| other(url, |url| url.set_port(Some(port)).unwrap());
        let element = there(&world.elements[0].1);
        eventually("the standby answers", || async {
            try_pg(&element).await.ok()
        })
        .await;
        let before = Unchanged::of(&world, &[]).await;
        let relay = world
            .relay(0)
            .env("ARTSTORE_ELEMENTS", &format!("elem={element}"));
        refused(
            relay,
            1,
            &["source elem", "standby", "point the relay at the primary"],
        )
        .await;
        let query = there(&world.query_url);
        let projector = world.projector().env("QUERY_DATABASE_URL", &query);
        refused(projector, 1, &["standby", "primary", "QUERY_DATABASE_URL"]).await;
        before.check(&world).await;
        drop(world);
        stack.stop().await.unwrap();
    });
}
