//! Names that people type, at every command: an unknown element, source or stream is
//! refused with those that exist, and an element is also known by its stream. Also what every
//! command prints about itself.

use clap::Command;

use crate::projector::parking::passed;
use crate::support::load::{create, new_file};
use crate::support::*;

const ID: &str = "0191d3a5-7c1e-7b5e-9f00-000000000001";

/// Every command that does something, with what it can't do without.
fn leaves(command: &Command, path: &[String], found: &mut Vec<Vec<String>>) {
    let below: Vec<&Command> = command.get_subcommands().collect();
    for command in &below {
        // Of groups, clap's own.
        if command.get_name() == "help" && !path.is_empty() {
            continue;
        }
        let path = [path, &[command.get_name().to_owned()]].concat();
        leaves(command, &path, found);
    }
    if !below.is_empty() {
        return;
    }
    let mut words = path.to_vec();
    for argument in command.get_arguments().filter(|a| a.is_required_set()) {
        if let Some(long) = argument.get_long() {
            words.push(format!("--{long}"));
        }
        let name = argument.get_id().as_str();
        let values = argument.get_possible_values();
        let value = match values.first() {
            Some(value) => value.get_name(),
            None if ["sequence", "id", "to"].contains(&name) => "1",
            None if ["source", "stream"].contains(&name) => "elem",
            None if name == "before" => "2019-01-01",
            None if name == "older_than" => "90d",
            None => "some",
        };
        words.push(value.to_owned());
    }
    if path == ["wal", "resolve"] {
        words.extend([ID, "--as", "failed"].map(str::to_owned));
    }
    if path == ["element", "set-url"] {
        words.push("http://127.0.0.1:1".to_owned());
    }
    found.push(words);
}

fn all() -> (Command, Vec<Vec<String>>) {
    let mut all = artstore::commands::definition::definition();
    all.build();
    let mut found = Vec::new();
    leaves(&all, &[], &mut found);
    assert!(found.len() > 35, "{found:?}");
    (all, found)
}

#[test]
fn an_element_that_is_not_configured_is_refused_by_every_command() {
    run(async {
        for words in all().1 {
            let arguments: Vec<&str> = words.iter().map(String::as_str).collect();
            let program = Program::new(&arguments)
                .env("ARTSTORE_ELEMENTS", "elem=postgres://x:x@127.0.0.1:1/x")
                .argument("--element")
                .argument("typo");
            let (status, said) = program.finish().await;
            assert_eq!(status.code(), Some(2), "{words:?}: {said}");
            let known = "no database is configured for element typo; configured are: elem";
            assert!(said.contains(known), "{words:?}: {said}");
        }
        // The variable is part of a storage element's own environment, and says nothing of others.
        let health = Program::new(&["health", "--url", "http://127.0.0.1:1/"])
            .env("ARTSTORE_ELEMENTS", "elem=postgres://x:x@127.0.0.1:1/x")
            .env("DB_TABLE_PREFIX", "other");
        let (status, said) = health.finish().await;
        assert_eq!(status.code(), Some(1), "{said}");
    });
}

#[test]
fn a_source_that_is_not_configured_is_refused_with_those_that_are() {
    run(async {
        for command in [
            "verify",
            "run relay",
            "wal number",
            "relay republish",
            "relay accept-source",
        ] {
            let words: Vec<&str> = command.split(' ').collect();
            for (source, said) in [
                (
                    "typo",
                    "--source typo: no database is configured for it; configured are: elem",
                ),
                (
                    "ARTSTORE_WAL_typo",
                    "--source typo: no database is configured for it",
                ),
                ("ADMIN", "element name \"ADMIN\" is not valid"),
            ] {
                let program = Program::new(&words)
                    .env("ARTSTORE_ELEMENTS", "elem=postgres://x:x@127.0.0.1:1/x")
                    .argument("--source")
                    .argument(source);
                let (status, log) = program.finish().await;
                assert_eq!(status.code(), Some(2), "{command}: {log}");
                assert!(log.contains(said), "{command} {source}: {log}");
            }
        }
    });
}

#[test]
fn an_element_is_known_by_its_stream_and_a_search_of_another_is_refused() {
    run(async {
        let world = World::new(&["elem", "other_elem"]).await;
        let relay = world.relay(0).start();
        let projector = world.projector().start();
        let mut element = (world.elements[0].0.clone(), world.element(0).await);
        create(&mut element, &new_file("found")).await.unwrap();
        passed(&world).await;

        let search = |option: &'static str, name: &'static str| {
            let search = ["search", "--filename", "found", "--json", option, name];
            world.command(&search)
        };
        for (option, name) in [
            ("--storage-element", "elem"),
            ("--storage-element", "ARTSTORE_WAL_elem"),
            ("--element", "elem"),
            ("--element", "ARTSTORE_WAL_elem"),
        ] {
            let (status, said) = search(option, name).output().await;
            assert!(status.success(), "{option} {name}: {said}");
            let found: serde_json::Value = serde_json::from_str(&said).unwrap();
            assert_eq!(found["total"], 1, "{option} {name}: {said}");
        }
        let (status, said) = search("--storage-element", "typo").finish().await;
        assert_eq!(status.code(), Some(2), "{said}");
        let known = "the query cache knows no element typo; it has read those of elem";
        assert!(said.contains(known), "{said}");
        let both = search("--storage-element", "elem").argument("--element");
        let (status, said) = both.argument("other_elem").finish().await;
        assert!(
            status.code() == Some(2) && said.contains("on one element"),
            "{said}"
        );

        let table: [(&[&str], &str); 6] = [
            (&["parked", "list", "--stream", "elem"], "Nothing is parked"),
            (&["verify", "--source", "ARTSTORE_WAL_elem"], "elem"),
            (
                &["bus", "init", "--element", "ARTSTORE_WAL_elem"],
                "ARTSTORE_WAL_elem",
            ),
            (
                &["wal", "pending", "--element", "ARTSTORE_WAL_elem"],
                "elem: 0 pending",
            ),
            (
                &["element", "backfill", "ARTSTORE_WAL_elem"],
                "The stream of elem",
            ),
            (
                &[
                    "projection",
                    "rebuild",
                    "query-cache",
                    "--dry-run",
                    "--json",
                ],
                "equal",
            ),
        ];
        for (arguments, wanted) in table {
            let (status, said) = world.command(arguments).output().await;
            assert!(
                status.success() && said.contains(wanted),
                "{arguments:?}: {said}"
            );
            let of_one = arguments
                .iter()
                .any(|word| word.starts_with("ARTSTORE_WAL"));
            assert!(
                !(of_one && said.contains("other_elem")),
                "{arguments:?}: {said}"
            );
        }
        let show = ["parked", "show", "typo", "1"];
        let (status, said) = world.command(&show).finish().await;
        assert!(
            status.code() == Some(2) && said.contains("it has read ARTSTORE_WAL_elem"),
            "{said}"
        );
        let place = ["projection", "rebuild", "query-cache", "--as-of", "typo=1"];
        let (status, said) = world.command(&place).finish().await;
        assert!(
            status.code() == Some(2) && said.contains("; it reads ARTSTORE_"),
            "{said}"
        );
        projector.kill().await;
        relay.kill().await;
    });
}

#[test]
fn a_snapshot_is_removed_by_a_command() {
    run(async {
        let world = World::new(&["elem"]).await;
        let relay = world.relay(0).start();
        let projector = world.projector().start();
        let mut element = (world.elements[0].0.clone(), world.element(0).await);
        create(&mut element, &new_file("one")).await.unwrap();
        passed(&world).await;
        let rebuild = ["projection", "rebuild", "query-cache", "--json"];
        let as_of = world
            .command(&rebuild)
            .argument("--as-of")
            .argument("elem=1");
        let (status, said) = as_of.output().await;
        assert!(status.success(), "{said}");
        let made: serde_json::Value = serde_json::from_str(&said).unwrap();
        let snapshot = made["schema"].as_str().unwrap();
        let (status, said) = world.command(&rebuild).output().await;
        assert!(status.success(), "{said}");
        let previous = "artstore_previous_query_cache";
        let shown = world.command(&["projection", "status", "query-cache"]);
        let (_, shown) = shown.output().await;
        let remove = |schema: &str| {
            let remove = ["projection", "remove", "query-cache"];
            world.command(&remove).argument(schema)
        };
        // What is live, what is another's, and what there is none of.
        for none in [
            "public",
            "pg_catalog",
            "typo",
            "artstore_rebuild_query_cache",
        ] {
            let (status, said) = remove(none).finish().await;
            assert_eq!(status.code(), Some(2), "{said}");
            assert!(said.contains(snapshot) && said.contains(previous), "{said}");
        }
        for schema in [snapshot, previous] {
            let advice = format!("`artstore projection remove query-cache {schema}`");
            assert!(shown.contains(&advice), "{shown}");
            // Of the second one nobody says who gives it.
            let operator = if schema == snapshot { "vera" } else { "" };
            let removed = remove(schema).env("ARTSTORE_OPERATOR", operator);
            let (status, log) = removed.finish().await;
            assert!(status.success(), "{log}");
            assert_eq!(
                log.contains("set ARTSTORE_OPERATOR"),
                operator.is_empty(),
                "{log}"
            );
        }
        let left: i64 = value(
            &mut world.query().await,
            "select count(*) from pg_namespace where nspname like 'artstore%'",
        )
        .await;
        let recorded: i64 = value(
            &mut world.query().await,
            "select count(*) from event_outbox where entity = 'projection' and action = 'remove'",
        )
        .await;
        let named: i64 = value(
            &mut world.query().await,
            "select count(*) from event_outbox where action = 'remove' \
             and data->'operator'->>'name' = 'vera'",
        )
        .await;
        assert_eq!((left, recorded, named), (0, 2, 1));
        projector.kill().await;
        relay.kill().await;
    });
}

#[test]
fn every_command_has_help_a_page_and_completion() {
    run(async {
        let (_, words) = all();
        for words in &words {
            let path = words.iter().take_while(|word| !word.starts_with('-'));
            let mut below = artstore::commands::definition::definition();
            below.build();
            let mut names = Vec::new();
            for word in path {
                match below.find_subcommand(word) {
                    Some(command) => below = command.clone(),
                    None => break,
                }
                names.push(word.clone());
            }
            let help = below.render_long_help().to_string();
            let usage = below.render_usage().to_string();
            assert!(!help.contains("--nats-url"), "{help}");
            assert!(
                usage.contains(&format!("artstore {}", names.join(" "))),
                "{usage}"
            );
            let arguments: Vec<&str> = ["help"]
                .into_iter()
                .chain(names.iter().map(String::as_str))
                .collect();
            if names.len() == 1 {
                let (status, shown) = Program::new(&arguments).output().await;
                assert!(status.success() && shown.contains("Usage: "), "{shown}");
            }
        }
        // An error's usage line names no setting, though its variable is set.
        let wrong = Program::new(&["verify", "--bogus"]).env("NATS_URL", "nats://x");
        let (status, said) = wrong.finish().await;
        assert_eq!(status.code(), Some(2));
        assert!(said.contains("Usage: artstore verify [OPTIONS]"), "{said}");
        let (status, said) = Program::new(&["help", "projection", "typo"]).finish().await;
        assert_eq!(status.code(), Some(2));
        assert!(said.contains("there are: list, status, rebuild"), "{said}");
        let (status, said) = Program::new(&["version"]).output().await;
        assert!(status.success());
        assert_eq!(
            said.trim(),
            format!("artstore {}", env!("CARGO_PKG_VERSION"))
        );

        let folder = tempfile::tempdir().unwrap();
        let pages = folder.path().join("man");
        let (status, said) = Program::new(&["man", pages.to_str().unwrap()])
            .output()
            .await;
        assert!(status.success(), "{said}");
        for (page, text) in [
            ("artstore.1", "artstore"),
            ("artstore-settings.1", "NATS_URL"),
            ("artstore-projection-rebuild.1", "as\\-of"),
        ] {
            let read = std::fs::read_to_string(pages.join(page)).unwrap();
            assert!(
                read.starts_with(".ie") && read.contains(text),
                "{page}: {read}"
            );
        }
        assert!(std::fs::read_dir(&pages).unwrap().count() > words.len());

        for shell in ["bash", "zsh", "fish"] {
            let (status, script) = Program::new(&["completion", shell]).output().await;
            assert!(
                status.success() && script.contains("republish"),
                "{shell}: {script}"
            );
            let file = folder.path().join(shell);
            std::fs::write(&file, &script).unwrap();
            if shell == "bash" {
                let completes = format!(
                    "source {} && COMP_WORDS=(artstore par) COMP_CWORD=1 \
                     && _artstore artstore par artstore && echo \"${{COMPREPLY[@]}}\"",
                    file.display()
                );
                let shell = std::process::Command::new("bash")
                    .args(["-c", &completes])
                    .output();
                let said = String::from_utf8(shell.unwrap().stdout).unwrap();
                assert_eq!(said.trim(), "parked");
            }
        }
    });
}
