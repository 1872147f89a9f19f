//! Settings that can't be used, and what `help settings` prints about all of them.

use serde_json::Value;

use super::*;
use crate::support::*;

#[test]
fn settings_that_cannot_be_used_are_refused_by_name() {
    run(async {
        let world = tempting().await;
        let before = Unchanged::of(&world, &[]).await;
        let relay = || world.relay(0);
        let url = format!("postgres://artstore:{SECRET}@127.0.0.1:1/artstore");
        let elements = |list: &str| relay().env("ARTSTORE_ELEMENTS", &list.replace("URL", &url));

        // An element's name becomes a table prefix, a stream, a subject.
        let allowed = [
            "ARTSTORE_ELEMENTS",
            "start with a-z",
            "at most 34 characters",
        ];
        let long = "e".repeat(35);
        for name in [
            "Elem", "1elem", "el-em", "el.em", "el em", "é", "e\"", "*", "", &long,
        ] {
            refused(elements(&format!("{name}=URL")), 2, &allowed).await;
        }
        let prefix = Program::new(&["migrate", "up", "--module", "storage"])
            .env("STORAGE_DATABASE_URL", &url)
            .env("DB_TABLE_PREFIX", "drop table; --");
        refused(
            prefix,
            2,
            &[
                "--element (DB_TABLE_PREFIX)",
                "\"drop table; --\"",
                "start with a-z",
            ],
        )
        .await;
        let init = world
            .command(&["bus", "init"])
            .env("ARTSTORE_ELEMENTS", "el>=x");
        refused(init, 2, &["ARTSTORE_ELEMENTS", "start with a-z"]).await;

        let form = ["ARTSTORE_ELEMENTS", "NAME=URL"];
        refused(elements("elem"), 2, &form).await;
        refused(
            elements(&format!("elem={}, {url}", world.elements[0].1)),
            2,
            &form,
        )
        .await;
        // Its name forgotten: what stands before the first `=` is a URL with a password.
        refused(elements("URL?sslmode=prefer"), 2, &form).await;
        refused(
            elements(&format!("elem={SECRET}://x")),
            2,
            &["ARTSTORE_ELEMENTS", "postgres://"],
        )
        .await;
        for (variable, command) in [
            ("QUERY_DATABASE_URL", &["run", "projector"][..]),
            ("ADMIN_DATABASE_URL", &["run", "relay"]),
            (
                "STORAGE_DATABASE_URL",
                &["migrate", "up", "--module", "storage"],
            ),
        ] {
            let program = Program::new(command).env(variable, &format!("nats://{SECRET}"));
            refused(
                program,
                2,
                &[variable, "postgres://USER:PASSWORD@HOST:PORT/DATABASE"],
            )
            .await;
        }
        refused(
            relay().env("NATS_URL", &format!("nats://ann:{SECRET}@[")),
            2,
            &["NATS_URL", "nats://"],
        )
        .await;
        refused(
            relay().env("NATS_CREDENTIALS", "/no/such/file"),
            2,
            &["NATS_CREDENTIALS", "/no/such/file"],
        )
        .await;

        refused(
            relay().env("LOG_LEVEL", "loud"),
            2,
            &["LOG_LEVEL", "\"loud\"", "debug or trace"],
        )
        .await;
        // A program reads the log: why it ends is an object as well, whatever is wrong.
        for wrong in [
            ("LOG_LEVEL", "loud"),
            ("ARTSTORE_PUBLISH_MODE", "fast"),
            ("NATS_URL", "nats://127.0.0.1:1"),
        ] {
            let program = relay().env("LOG_FORMAT", "json").env(wrong.0, wrong.1);
            let program = program.env("ARTSTORE_WAIT_SECONDS", "0");
            let (status, said) = program.finish().await;
            assert!(!status.success(), "{said}");
            let lines: Vec<Value> = said
                .lines()
                .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
                .collect();
            assert_eq!(lines.last().unwrap()["level"], "ERROR", "{said}");
        }
        usage(
            relay().env("LOG_FORMAT", "xml"),
            &["LOG_FORMAT", "text, json"],
        )
        .await;
        usage(
            relay().env("ARTSTORE_PUBLISH_MODE", "fast"),
            &["--publish-mode", "pipelined"],
        )
        .await;
        usage(
            world
                .command(&["bus", "init"])
                .env("ARTSTORE_REPLICAS", "9"),
            &["--replicas", "1..=5"],
        )
        .await;

        let source = world.command(&["run", "relay", "--source", "elsewhere"]);
        refused(
            source,
            2,
            &["--source elsewhere", "no database is configured"],
        )
        .await;
        refused(
            Program::new(&["run", "relay"]),
            2,
            &["no source", "ARTSTORE_ELEMENTS"],
        )
        .await;
        refused(
            Program::new(&["run", "projector"]),
            2,
            &["QUERY_DATABASE_URL"],
        )
        .await;
        refused(
            Program::new(&["migrate", "up"]),
            2,
            &["no database", "ADMIN_DATABASE_URL"],
        )
        .await;
        before.check(&world).await;
    });
}

#[test]
fn one_page_lists_every_variable_and_no_help_says_a_secret() {
    const EVERYWHERE: &[&str] = &[
        "NATS_URL",
        "NATS_CREDENTIALS",
        "ADMIN_DATABASE_URL",
        "QUERY_DATABASE_URL",
        "STORAGE_DATABASE_URL",
        "ARTSTORE_ELEMENTS",
        "ARTSTORE_ELEMENT_API_URLS",
        "DB_TABLE_PREFIX",
        "DB_HOST",
        "DB_PORT",
        "DB_USERNAME",
        "DB_PASSWORD",
        "DB_DATABASE",
        "DATABASE_HOST",
        "DATABASE_PORT",
        "DATABASE_USERNAME",
        "DATABASE_PASSWORD",
        "DATABASE_DATABASE",
        "LOG_LEVEL",
        "LOG_FORMAT",
        "ARTSTORE_OPERATOR",
        "AUTH_REQUIRED",
        "AUTH_PUBLIC_KEY_PATH",
        "AUTH_ALGORITHM",
        "AUTH_TOKEN_TYPES",
        "AUTH_ISSUER",
        "AUTH_AUDIENCE",
        "ARTSTORE_TOKEN_FILE",
        "ARTSTORE_TOKEN",
    ];
    const RELAY: &[&str] = &[
        "ARTSTORE_PUBLISH_MODE",
        "ARTSTORE_POLL_INTERVAL_MS",
        "ARTSTORE_WAIT_SECONDS",
    ];
    const SECRETS: &[&str] = &[
        "NATS_URL",
        "ADMIN_DATABASE_URL",
        "QUERY_DATABASE_URL",
        "STORAGE_DATABASE_URL",
        "ARTSTORE_ELEMENTS",
        "DB_PASSWORD",
        "DATABASE_PASSWORD",
        "ARTSTORE_TOKEN",
    ];
    run(async {
        let page: &[&str] = &["help", "settings"];
        let commands: [&[&str]; 6] = [
            page,
            &["--help"],
            &["run", "relay", "--help"],
            &["run", "projector", "--help"],
            &["migrate", "up", "--help"],
            &["bus", "init", "--help"],
        ];
        for arguments in commands {
            let program = SECRETS
                .iter()
                .fold(Program::new(arguments), |program, name| {
                    program.env(name, &format!("x=postgres://x:{SECRET}@x/x"))
                });
            let (status, help) = program.output().await;
            assert!(status.success());
            assert!(!help.contains(SECRET), "{arguments:?}: {help}");
            // However its lines are broken.
            let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
            let said = |name: &&&str| help.contains(&format!("[env: {name}"));
            let own: &[&str] = match arguments {
                ["run", "relay", ..] => RELAY,
                ["bus", "init", ..] => &["ARTSTORE_REPLICAS"],
                _ => &[],
            };
            assert_eq!(own.iter().filter(said).count(), own.len(), "{help}");
            if arguments == page {
                for name in EVERYWHERE.iter().chain(RELAY).chain(&["ARTSTORE_REPLICAS"]) {
                    assert!(said(&name), "{name}: {help}");
                }
                for name in SECRETS {
                    assert!(help.contains(&format!("{name}_FILE")), "{name}: {help}");
                }
            } else {
                // A command's help is about the command.
                assert_eq!(EVERYWHERE.iter().filter(said).count(), 0, "{help}");
                assert!(help.contains("artstore help settings"), "{help}");
            }
        }
    });
}
