//! Services that start while a server is down: they report it, wait, and continue when it is up. A wrong
//! setting still ends them at once.

use artstore_stack::{PostgresStop, Stack, StackOptions};
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};

use super::watched::Watched;
use super::*;
use crate::audit::Audited;

/// An address that nobody listens on, and that nobody else gets while its socket is kept.
fn nowhere() -> (String, TcpSocket) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    (socket.local_addr().unwrap().to_string(), socket)
}

/// The same URL at another address.
fn at(url: &str, place: &str) -> String {
    let mut url: url::Url = url.parse().unwrap();
    let (host, port) = place.split_once(':').unwrap();
    url.set_host(Some(host)).unwrap();
    url.set_port(Some(port.parse().unwrap())).unwrap();
    url.to_string()
}

fn password(url: &str) -> String {
    let url: url::Url = url.parse().unwrap();
    url.password().unwrap().to_owned()
}

fn name_of(url: &str) -> String {
    let url: url::Url = url.parse().unwrap();
    url.path().trim_start_matches('/').to_owned()
}

/// Where the server of a URL is.
fn place(url: &str) -> String {
    let url: url::Url = url.parse().unwrap();
    format!("127.0.0.1:{}", url.port().unwrap())
}

/// Alive, not ready because of this, which the log reports once, when it begins.
async fn waits(service: &Watched, reason: &str) {
    service.becomes_unready(reason).await;
    assert!(service.live().await, "{}", service.process.log());
    let log = service.process.log();
    let begins = format!(" WARN {reason}");
    assert_eq!(log.matches(&begins).count(), 1, "{log}");
}

/// The wait is over, and the log reports for what it was.
async fn goes_on(service: &Watched, waited_for: &str, server: &str) {
    let over = format!("no longer waiting for {waited_for}: {server}");
    service.process.says(&over).await;
    service.becomes_ready().await;
}

async fn starts_without(stack: &Stack, account: usize, nats: bool, postgres: bool) {
    let world = World::on(stack, account, &["elem_a", "elem_b"], 1).await;
    for element in [0, 1] {
        file(&world, element).await;
    }
    if nats {
        stack.kill_nats(0).await.unwrap();
    }
    if postgres {
        stack.stop_postgres(PostgresStop::Fast).await.unwrap();
    }
    let mut relay = Watched::start(world.command(&["run", "relay"])).await;
    let mut projector = Watched::start(world.projector()).await;
    let servers = place(&world.nats_url);
    let for_nats = format!("waiting for NATS: NATS at nats://{servers}");
    if nats {
        for service in [&relay, &projector] {
            waits(service, &for_nats).await;
        }
        stack.start_nats(0).await.unwrap();
    }
    let databases = place(&world.query_url);
    let for_source = "waiting for source elem_b: database ";
    let for_projection = "waiting for projection query-cache: database ";
    if postgres {
        waits(&relay, for_source).await;
        waits(&projector, for_projection).await;
        for service in [&relay, &projector] {
            let log = service.process.log();
            assert!(log.contains(&format!("at {databases} ")), "{log}");
        }
        stack.start_postgres().await.unwrap();
    }
    for element in [0, 1] {
        world.published(element).await;
    }
    world.projected().await;
    if nats {
        for service in [&relay, &projector] {
            goes_on(service, "NATS", &format!("nats://{servers}")).await;
        }
    }
    if postgres {
        let database = |url: &str| format!("database {} at {databases}", name_of(url));
        goes_on(&relay, "source elem_b", &database(&world.elements[1].1)).await;
        goes_on(
            &projector,
            "projection query-cache",
            &database(&world.query_url),
        )
        .await;
    }
    for service in [&mut relay, &mut projector] {
        service.process.signal("-TERM").await;
        ends(&mut service.process, 0).await;
        let log = service.process.log();
        for url in [&world.nats_url, &world.query_url] {
            assert!(!log.contains(&password(url)), "a password: {log}");
        }
    }
}

#[test]
fn a_service_that_starts_while_servers_are_down_waits_for_them() {
    run(async {
        let stack = Stack::start(StackOptions {
            accounts: 3,
            ..StackOptions::default()
        })
        .await
        .unwrap();
        for (account, (nats, postgres)) in [(true, true), (true, false), (false, true)]
            .into_iter()
            .enumerate()
        {
            starts_without(&stack, account, nats, postgres).await;
        }
        stack.stop().await.unwrap();
    });
}

/// Answers at an address what the server of a database answers.
async fn serve(place: TcpSocket, url: &str) -> tokio::task::JoinHandle<()> {
    let (listener, server) = (place.listen(64).unwrap(), self::place(url));
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let server = server.clone();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(server).await.unwrap();
                // Either side ends it.
                drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
            });
        }
    })
}

/// What it reports about a source.
fn part(said: &Value, source: &str) -> Value {
    let mut parts = said["parts"].as_array().unwrap().iter();
    parts.find(|part| part["source"] == source).unwrap().clone()
}

#[test]
fn a_source_that_cannot_be_reached_is_waited_for_and_the_others_are_relayed() {
    run(async {
        let world = World::new(&["elem_a", "elem_b"]).await;
        let (nowhere, socket) = nowhere();
        let [a, b] = [&world.elements[0].1, &world.elements[1].1];
        let elements = format!("elem_a={a},elem_b={}", at(b, &nowhere));
        let relay = world
            .command(&["run", "relay"])
            .env("ARTSTORE_ELEMENTS", &elements);
        let mut relay = Watched::start(relay).await;
        file(&world, 0).await;
        file(&world, 1).await;
        world.published(0).await;
        waits(&relay, "waiting for source elem_b: database ").await;
        eventually("only the other source is ready", || async {
            let (_, said) = relay.readiness().await;
            let [a, b] = ["elem_a", "elem_b"].map(|source| part(&said, source));
            let reason = b["reason"].as_str().unwrap_or_default();
            (a["ready"] == true && b["ready"] == false && reason.contains(&nowhere)).then_some(())
        })
        .await;
        assert_eq!(world.last_sequence(&world.source(1)).await, 0);
        // Who looks from outside sees why, and one trouble, also when it lasts: the database.
        let said: Value = eventually("it has been waiting for six seconds", async || {
            let status = world.command(&["status", "--json"]);
            let (_, said) = status.env("ARTSTORE_ELEMENTS", &elements).output().await;
            let said: Value = serde_json::from_str(&said).unwrap();
            let mut sources = said["sources"].as_array().unwrap().iter();
            let waiting = sources.find(|source| source["source"] == "elem_b").unwrap();
            let answer = &waiting["relay"]["answers"][0];
            let problem = answer["problem"]["text"].as_str()?;
            assert!(problem.starts_with("waiting for source elem_b: "), "{said}");
            (answer["problem_seconds"].as_f64()? > 6.0).then_some(said)
        })
        .await;
        let troubles = said["troubles"].as_array().unwrap().iter();
        let about: Vec<&Value> = troubles.filter(|t| t["about"] == "elem_b").collect();
        assert_eq!(about.len(), 1, "{said}");
        assert!(
            about[0]["what"].as_str().unwrap().contains(&nowhere),
            "{said}"
        );

        let server = serve(socket, b).await;
        world.published(1).await;
        goes_on(&relay, "source elem_b", "database ").await;
        relay.process.signal("-TERM").await;
        ends(&mut relay.process, 0).await;
        server.abort();
    });
}

#[test]
fn a_projection_that_cannot_be_reached_is_waited_for_and_the_others_are_built() {
    run(async {
        let world = World::new(&["elem"]).await;
        let audited = Audited::new(&world).await;
        file(&world, 0).await;
        let relay = world.relay(0).start();
        world.published(0).await;
        let (nowhere, socket) = nowhere();
        let both = [
            "run",
            "projector",
            "--projection",
            "query-cache",
            "--projection",
            "audit-log",
        ];
        let projector = audited
            .command(&both)
            .env(
                "SECURITY_AUDIT_SIGNING_KEY_PATH",
                audited.key.to_str().unwrap(),
            )
            .env("SECURITY_AUDIT_HEAD_SECONDS", "1")
            .env("QUERY_DATABASE_URL", &at(&world.query_url, &nowhere));
        let mut projector = Watched::start(projector).await;
        waits(&projector, "waiting for projection query-cache: database ").await;
        audited.caught_up().await;
        assert_eq!(checkpoint(&world.query_url, &world.source(0)).await, 0);

        let server = serve(socket, &world.query_url).await;
        world.projected().await;
        goes_on(&projector, "projection query-cache", "database ").await;
        projector.process.signal("-TERM").await;
        ends(&mut projector.process, 0).await;
        server.abort();
        relay.kill().await;
    });
}

#[test]
fn a_source_without_a_free_connection_is_waited_for() {
    run(async {
        let world = World::new(&["elem"]).await;
        let mut owner = world.element(0).await;
        let role = format!("crowded_{}", std::process::id());
        execute(
            &mut owner,
            format!("create role {role} login password 'free' connection limit 0"),
        )
        .await;
        let mut url: url::Url = world.elements[0].1.parse().unwrap();
        url.set_username(&role).unwrap();
        url.set_password(Some("free")).unwrap();
        let relay = world
            .relay(0)
            .env("ARTSTORE_ELEMENTS", &format!("elem={url}"));
        let relay = Watched::start(relay).await;
        waits(&relay, "waiting for source elem: database ").await;
        relay.becomes_unready("too many connections").await;
        file(&world, 0).await;
        execute(
            &mut owner,
            format!("alter role {role} superuser connection limit -1"),
        )
        .await;
        world.published(0).await;
        goes_on(&relay, "source elem", "database ").await;
        relay.process.kill().await;
        execute(&mut owner, format!("alter role {role} nologin")).await;
    });
}

#[test]
fn a_service_that_waits_is_stopped_at_once() {
    run(async {
        let world = World::new(&["elem"]).await;
        let (nowhere, _socket) = nowhere();
        let [nats, element, query] =
            [&world.nats_url, &world.elements[0].1, &world.query_url].map(|url| at(url, &nowhere));
        let element = format!("elem={element}");
        for program in [
            world.relay(0).env("NATS_URL", &nats),
            world.projector().env("NATS_URL", &nats),
            world.relay(0).env("ARTSTORE_ELEMENTS", &element),
            world.projector().env("QUERY_DATABASE_URL", &query),
        ] {
            let mut service = Watched::start(program).await;
            service.becomes_unready("waiting for ").await;
            service.process.signal("-TERM").await;
            ends(&mut service.process, 0).await;
            let log = service.process.log();
            assert!(!log.contains("ERROR"), "{log}");
        }
    });
}

/// Also one that is found out later, when its server is there.
#[test]
fn a_wrong_setting_ends_a_relay_that_waits_for_another_source() {
    run(async {
        let world = World::new(&["elem_a", "elem_b"]).await;
        file(&world, 0).await;
        let (nowhere, socket) = nowhere();
        let [a, b] = [&world.elements[0].1, &world.elements[1].1];
        let wrong = |url: &str| url.replace(&password(url), "wrong");
        let relay = |a: &str, b: &str| {
            world
                .command(&["run", "relay"])
                .env("ARTSTORE_ELEMENTS", &format!("elem_a={a},elem_b={b}"))
        };
        let refused = "password authentication failed";
        let (status, log) = relay(&wrong(a), &at(b, &nowhere)).finish().await;
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(
            log.contains("source elem_a") && log.contains(refused),
            "{log}"
        );
        assert_eq!(world.last_sequence(&world.source(0)).await, 0);

        let mut relay = Watched::start(relay(a, &at(&wrong(b), &nowhere))).await;
        waits(&relay, "waiting for source elem_b: database ").await;
        world.published(0).await;
        let server = serve(socket, b).await;
        ends(&mut relay.process, 1).await;
        let log = relay.process.log();
        assert!(
            log.contains("source elem_b") && log.contains(refused),
            "{log}"
        );
        server.abort();
    });
}

/// As long as the operator says, and with 0 not at all.
#[test]
fn the_wait_has_an_end_where_it_is_given_one() {
    run(async {
        let world = World::new(&["elem"]).await;
        let (nowhere, _socket) = nowhere();
        for seconds in ["0", "1"] {
            let (status, log) = world
                .relay(0)
                .argument("--wait")
                .argument(seconds)
                .env("NATS_URL", &at(&world.nats_url, &nowhere))
                .finish()
                .await;
            assert_eq!(status.code(), Some(1), "{log}");
            let ended = log.lines().last().unwrap();
            assert!(ended.starts_with("artstore: NATS at "), "{log}");
            assert_eq!(log.contains("waiting for NATS"), seconds == "1", "{log}");
            let (status, log) = world
                .projector()
                .env("QUERY_DATABASE_URL", &at(&world.query_url, &nowhere))
                .env("ARTSTORE_WAIT_SECONDS", seconds)
                .finish()
                .await;
            assert_eq!(status.code(), Some(1), "{log}");
            let waited = log.contains("waiting for projection query-cache");
            assert_eq!(waited, seconds == "1", "{log}");
        }
    });
}

/// It takes no connection until it is promoted, as one that recovers after a crash.
#[test]
fn a_server_that_is_starting_up_is_waited_for() {
    run(async {
        let stack = Stack::start(StackOptions::default()).await.unwrap();
        let world = World::on(&stack, 0, &["elem"], 1).await;
        file(&world, 0).await;
        let data = stack.postgres_data().with_file_name("recovering");
        let backup = stack
            .postgres_command("pg_basebackup")
            .args(["--checkpoint", "fast", "--no-sync", "--pgdata"])
            .arg(&data)
            .status()
            .await
            .unwrap();
        assert!(backup.success());
        // Whoever it belongs to: it is only looked for.
        std::fs::write(data.join("standby.signal"), "").unwrap();
        let (place, socket) = nowhere();
        drop(socket);
        let port = place.split(':').nth(1).unwrap();
        // `-D` and a folder of the stack's: it ends with the stack, whatever becomes of us.
        let _recovering = stack
            .postgres_command("postgres")
            .arg("-D")
            .arg(&data)
            .args(["-c", &format!("port={port}"), "-c", "hot_standby=off"])
            .args(["-c", "unix_socket_directories="])
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let element = at(&world.elements[0].1, &place);
        let relay = world
            .relay(0)
            .env("ARTSTORE_ELEMENTS", &format!("elem={element}"));
        let relay = Watched::start(relay).await;
        waits(&relay, "waiting for source elem: database ").await;
        relay.becomes_unready("not accepting connections").await;
        let promoted = stack
            .postgres_command("pg_ctl")
            .args(["promote", "--pgdata"])
            .arg(&data)
            .stdout(std::process::Stdio::null())
            .status();
        assert!(promoted.await.unwrap().success());
        goes_on(&relay, "source elem", "database ").await;
        assert_eq!(world.last_sequence(&world.source(0)).await, 1);
        relay.process.kill().await;
        drop(world);
        stack.stop().await.unwrap();
    });
}
