//! The program as people use it: `demo` proves itself, `dev` keeps its data.

use artstore_schemas::element::ElementName;
use serde_json::Value;

use crate::support::load::{create, new_file};
use crate::support::*;

#[test]
fn the_demo_counts_everything_and_ends_with_one_object() {
    run(async {
        let demo = Program::new(&["demo", "--events", "300", "--json", "--path"]);
        let (status, output) = demo.argument(env!("CARGO_MANIFEST_DIR")).output().await;
        assert!(status.success(), "{output}");
        let report: Value = serde_json::from_str(output.lines().last().unwrap()).unwrap();
        for (field, expected) in [
            ("operations", 300),
            ("finished", 300),
            ("published", 300),
            ("missing", 0),
            ("extra", 0),
            ("different", 0),
            ("audit_rows", 300),
            ("audit_verified", 300),
        ] {
            assert_eq!(report[field], expected, "{field}: {report}");
        }
        assert_eq!(report["cache_rows"], report["live_files"]);
        assert!(report["cache_rows"].as_u64().unwrap() > 20);
        assert!(report["heads"].as_u64().unwrap() >= 3);
        assert!(report["p50_ms"].as_f64().unwrap() > 0.0);
        assert!(report["p99_ms"].as_f64() >= report["p50_ms"].as_f64());
    });
}

/// What `dev` prints is what a shell needs to connect.
fn exported(output: &str, name: &str) -> Option<String> {
    let line = output
        .lines()
        .find_map(|line| line.strip_prefix(&format!("export {name}='")))?;
    line.strip_suffix('\'').map(str::to_owned)
}

#[test]
fn dev_says_how_to_connect_and_keeps_its_data() {
    run(async {
        // Below /tmp: the server's own user has to come in.
        let folder = tempfile::Builder::new()
            .prefix("artstore-dev-")
            .tempdir()
            .unwrap();
        let state = folder.path().join("state");
        std::fs::set_permissions(
            folder.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        let mut known: Option<(uuid::Uuid, [String; 2])> = None;
        for start in ["first", "second"] {
            let mut dev = Program::new(&["dev", "--element-count", "1", "--state"])
                .argument(state.to_str().unwrap())
                .start();
            eventually("dev runs", || async {
                dev.output().contains("Press Ctrl-C").then_some(())
            })
            .await;
            let query = exported(&dev.output(), "QUERY_DATABASE_URL").unwrap();
            let nats = exported(&dev.output(), "NATS_URL").unwrap();
            let elements = exported(&dev.output(), "ARTSTORE_ELEMENTS").unwrap();
            let file = std::fs::read_to_string(state.join("env")).unwrap();
            for name in ["QUERY_DATABASE_URL", "NATS_URL", "ARTSTORE_ELEMENTS"] {
                assert_eq!(exported(&file, name), exported(&dev.output(), name));
            }
            let (name, url) = elements.split_once('=').unwrap();
            let name: ElementName = name.parse().unwrap();
            let file = new_file(start);
            create(&mut (name, pg(url).await), &file).await.unwrap();
            let before = known.as_ref().map(|(id, _)| *id);
            for id in before.into_iter().chain([file.id]) {
                eventually("the file is in the cache", || async {
                    let mut query = pg(&query).await;
                    let sql = format!("select count(*) from file_metadata_cache where id = '{id}'");
                    (value::<i64>(&mut query, sql).await == 1).then_some(())
                })
                .await;
            }
            let urls = [query, nats];
            if let Some((_, before)) = &known {
                assert_eq!(
                    before, &urls,
                    "what was copied from the first start still leads there"
                );
            }
            known = Some((file.id, urls));
            dev.signal("-INT").await;
            assert!(dev.ended().await.success(), "{}", dev.log());
        }
    });
}

/// Three ports in a row that nobody listens on.
fn free_ports() -> u16 {
    let listen = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).ok();
    let mut first = 20_000;
    loop {
        let row: Option<Vec<_>> = (first..first + 3).map(listen).collect();
        match row {
            Some(_) => return first,
            None => first += rand::random_range(1..100),
        }
    }
}

#[test]
fn dev_takes_the_port_that_it_is_given_and_names_one_that_is_taken() {
    run(async {
        let before = free_ports();
        let (nats, postgres) = (before + 1, before + 2);
        let dev = |port: u16| {
            let port = port.to_string();
            Program::new(&["dev", "--element-count", "1", "--port"]).argument(&port)
        };
        let mut first = dev(nats).start();
        eventually("dev runs", || async {
            first.output().contains("Press Ctrl-C").then_some(())
        })
        .await;
        let url = exported(&first.output(), "NATS_URL").unwrap();
        assert!(url.ends_with(&format!("@127.0.0.1:{nats}")), "{url}");
        let url = exported(&first.output(), "QUERY_DATABASE_URL").unwrap();
        assert!(url.contains(&format!("@127.0.0.1:{postgres}/")), "{url}");

        // Its first port, and then the one behind it.
        for port in [nats, before] {
            let (status, said) = dev(port).finish().await;
            assert_eq!(status.code(), Some(1), "{said}");
            let named = format!("port {nats} of 127.0.0.1 is in use: choose another --port");
            assert!(said.contains(&named), "{said}");
        }
        eventually("no server is left on the port before", || async {
            std::net::TcpListener::bind(("127.0.0.1", before)).ok()
        })
        .await;
        first.signal("-INT").await;
        assert!(first.ended().await.success(), "{}", first.log());
    });
}

/// The first searches find something, and a server that dies is named.
#[test]
fn a_sample_is_found_and_a_server_that_died_is_named() {
    run(async {
        let folder = tempfile::Builder::new()
            .prefix("artstore-dev-")
            .tempdir()
            .unwrap();
        let state = folder.path().join("state");
        std::fs::set_permissions(
            folder.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        let mut dev = Program::new(&["dev", "--sample", "--state"])
            .argument(state.to_str().unwrap())
            .start();
        eventually("dev runs", || async {
            dev.output().contains("Press Ctrl-C").then_some(())
        })
        .await;
        let said = dev.output();
        let query = exported(&said, "QUERY_DATABASE_URL").unwrap();
        let (_, last) = said.split_once("--at-least ").unwrap();
        let last = last.lines().next().unwrap();
        let search = |arguments: &[&str]| {
            let arguments = [&["search", "--json"], arguments].concat();
            Program::new(&arguments).env("QUERY_DATABASE_URL", &query)
        };
        // Each element has its own order: the last one of the other may still be on its way.
        eventually("all is in the cache", || async {
            let mut query = pg(&query).await;
            let sql = "select count(*) from file_metadata_cache";
            (value::<i64>(&mut query, sql).await == 8).then_some(())
        })
        .await;
        let searches: [(&[&str], i64); 4] = [
            (&["отчёт", "--extension", "pdf", "--username", "ivanova"], 2),
            (&["50%_off", "--mode", "partial", "--sort", "created_at"], 1),
            (
                &[
                    "--tag",
                    "urgent",
                    "--min-size",
                    "10M",
                    "--created-from",
                    "2026-01-01",
                ],
                2,
            ),
            (&["annual report", "--at-least", last], 1),
        ];
        for (arguments, total) in searches {
            let (status, said) = search(arguments).output().await;
            assert!(status.success(), "{arguments:?}: {said}");
            let found: Value = serde_json::from_str(&said).unwrap();
            assert!(
                found["total"].as_i64() >= Some(total),
                "{arguments:?}: {said}"
            );
        }

        let server = state.canonicalize().unwrap().join("nats/0/server.conf");
        let is_it = |folder: &std::path::Path| {
            let line = std::fs::read(folder.join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line)
                .split('\0')
                .any(|word| *word == *server.to_string_lossy())
        };
        let processes = std::fs::read_dir("/proc").unwrap();
        let process = processes
            .map(|entry| entry.unwrap().path())
            .find(|path| is_it(path));
        let pid = process
            .unwrap()
            .file_name()
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let killed = std::process::Command::new("kill")
            .args(["-KILL", &pid])
            .status();
        assert!(killed.unwrap().success());
        assert_eq!(dev.ended_late().await.code(), Some(1));
        let log = dev.log();
        assert!(
            log.contains("artstore: nats-server artstore-0 has ended; its log ("),
            "{log}"
        );
    });
}

/// `artstore … | head`: no panic, and no success that somebody could take for a verdict.
#[test]
fn where_nobody_reads_any_more_it_ends_quietly() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ended = std::process::Command::new(env!("CARGO_BIN_EXE_artstore"))
        .args(["projection", "list"])
        .env_clear()
        .stdout(writer)
        .output()
        .unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!((ended.status.code(), said.as_str()), (Some(141), ""));
}
