//! Secrets from files and from systemd credentials, each read in the same way; files that others can read; and
//! passwords that everybody knows.

use std::collections::BTreeMap;
use std::path::PathBuf;

use artstore::commands::definition::definition;
use artstore_projectors::audit_log::note::SignerKey;
use clap::Command;
use url::Url;

use super::{file, give, keys, signed, text};
use crate::support::signed::user;
use crate::support::{Program, World, folder, run};

/// In every value that is given as a wrong one: it must not be said again.
const SECRET: &str = "verborgen";

/// All settings that are secrets: no help shows their values.
fn secrets(command: &Command, found: &mut BTreeMap<String, String>) {
    for argument in command.get_arguments() {
        if argument.is_hide_env_values_set() {
            let variable = argument.get_env().unwrap().to_str().unwrap();
            found.insert(
                variable.to_owned(),
                argument.get_help().unwrap().to_string(),
            );
        }
    }
    for below in command.get_subcommands() {
        secrets(below, found);
    }
}

fn signing_key() -> PathBuf {
    let key = SignerKey::generate("test.example/audit").unwrap();
    file("signing.key", &key.to_private_text())
}

/// A command that needs this secret, with all else that it needs. It reaches no server.
fn needing(variable: &str) -> Program {
    let relay = ["run", "relay"];
    match variable {
        "NATS_URL" => Program::new(&["bus", "init"]),
        "SECURITY_AUDIT_HMAC_SECRET" => {
            Program::new(&["run", "projector", "--projection", "audit-log"])
                .env("ADMIN_DATABASE_URL", "postgres://x@127.0.0.1:1/x")
                .env("SECURITY_AUDIT_SIGNING_KEY_PATH", text(&signing_key()))
        }
        "ARTSTORE_TOKEN" => {
            Program::new(&["token", "check"]).env("AUTH_PUBLIC_KEY_PATH", text(&keys()))
        }
        _ => Program::new(&relay).env("ARTSTORE_WAIT_SECONDS", "0"),
    }
}

async fn refused(program: Program, says: &[&str]) {
    let (status, said) = program.finish().await;
    assert_eq!(status.code(), Some(2), "{said}");
    for text in says {
        assert!(said.contains(text), "{text:?} is not in: {said}");
    }
    assert!(!said.contains(SECRET), "a secret: {said}");
}

#[test]
fn each_secret_can_come_from_a_file_and_from_one_place_alone() {
    run(async {
        let mut all = BTreeMap::new();
        secrets(&definition(), &mut all);
        assert_eq!(all.len(), 9, "{:?}", all.keys());
        let credentials = folder("credentials");
        for (name, help) in &all {
            let variable = format!("{name}_FILE");
            assert!(
                name == "ARTSTORE_TOKEN" || help.contains(&variable),
                "{help}"
            );
            let from = |path: &str| needing(name).env(&variable, path);
            refused(
                from("/no/such/file"),
                &[&variable, "/no/such/file", "can't be read"],
            )
            .await;
            let empty = file("empty", "");
            refused(
                from(text(&empty)),
                &[&variable, text(&empty), "it is empty"],
            )
            .await;
            let bytes = file("bytes", "");
            std::fs::write(&bytes, [SECRET.as_bytes(), b"\xff"].concat()).unwrap();
            refused(from(text(&bytes)), &[&variable, text(&bytes), "no text"]).await;
            // The secret in the place of its file.
            refused(from(SECRET), &[&variable, "of 9 characters"]).await;
            let given = file("given", SECRET);
            let twice = from(text(&given)).env(name, SECRET);
            refused(twice, &[&format!("{name} and {variable} are both set")]).await;
            std::fs::write(credentials.join(name), SECRET).unwrap();
            let by_systemd =
                |program: Program| program.env("CREDENTIALS_DIRECTORY", text(&credentials));
            refused(
                by_systemd(from(text(&given))),
                &[&variable, "the credential", "both set"],
            )
            .await;
            refused(
                by_systemd(needing(name).env(name, SECRET)),
                &["the credential", "both set"],
            )
            .await;
            std::fs::remove_file(credentials.join(name)).unwrap();
        }
        // An empty variable beside a file says nothing.
        let given = file("given", "nats://[");
        let program = needing("NATS_URL")
            .env("NATS_URL", "")
            .env("NATS_URL_FILE", text(&given));
        refused(program, &["no server URL"]).await;
    });
}

#[test]
fn what_a_file_or_a_credential_holds_is_used() {
    run(async {
        let world = World::new(&["one"]).await;
        let credentials = folder("credentials");
        let credential =
            |name: &str, value: &str| std::fs::write(credentials.join(name), value).unwrap();
        credential("QUERY_DATABASE_URL", &world.query_url);
        let list = format!("one={}", world.elements[0].1);
        let status = world
            .command(&["migrate", "status"])
            .without("ADMIN_DATABASE_URL")
            .without("QUERY_DATABASE_URL")
            .without("ARTSTORE_ELEMENTS")
            .env(
                "ADMIN_DATABASE_URL_FILE",
                text(&file("admin", &world.admin_url)),
            )
            .env("ARTSTORE_ELEMENTS_FILE", text(&file("elements", &list)))
            .env("CREDENTIALS_DIRECTORY", text(&credentials));
        let (status, said) = status.output().await;
        assert!(status.success(), "{said}");
        for module in ["admin", "query", "one"] {
            assert!(said.contains(module), "{said}");
        }

        // By its parts, the password alone in a file; an option wins over everything.
        let url: Url = world.admin_url.parse().unwrap();
        let parts = |password: &str| {
            Program::new(&["migrate", "status", "--module", "admin"])
                .env("DB_HOST", "127.0.0.1")
                .env("DB_PORT", &url.port().unwrap().to_string())
                .env("DB_USERNAME", url.username())
                .env("DB_DATABASE", url.path().trim_start_matches('/'))
                .env("DB_PASSWORD_FILE", text(&file("password", password)))
        };
        let password = url.password().unwrap();
        let (status, said) = parts(password).output().await;
        assert!(status.success(), "{said}");
        let (status, said) = parts("another").finish().await;
        assert!(!status.success() && !said.contains("another"), "{said}");
        let option = parts("another")
            .argument("--db-password")
            .argument(password);
        let (status, said) = option.output().await;
        assert!(status.success(), "{said}");

        let nats = world
            .command(&["bus", "init"])
            .without("NATS_URL")
            .env("NATS_URL_FILE", text(&file("nats", &world.nats_url)));
        let (status, said) = nats.finish().await;
        assert!(status.success(), "{said}");

        credential("ARTSTORE_TOKEN", &signed(&user(serde_json::json!({}))));
        let check = Program::new(&["token", "check"])
            .env("AUTH_PUBLIC_KEY_PATH", text(&keys()))
            .env("CREDENTIALS_DIRECTORY", text(&credentials));
        let (status, said) = check.output().await;
        assert!(status.success(), "{said}");
    });
}

#[test]
fn a_secret_file_that_others_can_read_is_warned_about_once() {
    run(async {
        let world = World::new(&[]).await;
        let token = file("token", &signed(&user(serde_json::json!({}))));
        let url = file("url", &world.admin_url);
        let nkey = folder("nkey").join("operator.nk");
        let own = world.nats_keys.as_ref().unwrap().join("operator.nk");
        std::fs::copy(own, &nkey).unwrap();
        let signing = signing_key();
        let old = file("old", "Qw8eRt5yUi2oPa7sDf4gHj1kLz9xCv6b");
        let tag = uuid::Uuid::new_v4().simple().to_string();
        let prefix = format!("s{}", &tag[..12]);
        let password = file(&format!("{prefix}_console"), &tag);
        let passwords = text(password.parent().unwrap()).to_owned();
        let tail = || {
            world.command(&["audit", "tail"]).env(
                "SECURITY_AUDIT_HMAC_SECRET",
                "k3Jq8vX1mZ0wR7tY5uB2nC6dF9gH4sLa",
            )
        };
        let roles = ["migrate", "roles", "--module", "query", "--duty", "console"];
        type Made<'a> = Box<dyn Fn() -> Program + 'a>;
        let cases: [(&PathBuf, &str, Made<'_>); 6] = [
            (
                &token,
                "--token-file",
                Box::new(|| {
                    Program::new(&["token", "check", "--token-file", text(&token)])
                        .env("AUTH_PUBLIC_KEY_PATH", text(&keys()))
                }),
            ),
            (
                &url,
                "ADMIN_DATABASE_URL_FILE",
                Box::new(|| {
                    let status = world.command(&["migrate", "status"]);
                    status
                        .without("ADMIN_DATABASE_URL")
                        .env("ADMIN_DATABASE_URL_FILE", text(&url))
                }),
            ),
            (
                &nkey,
                "NATS_CREDENTIALS",
                Box::new(|| {
                    let init = world.command(&["bus", "init"]);
                    init.env("NATS_CREDENTIALS", text(&nkey))
                }),
            ),
            (
                &signing,
                "SECURITY_AUDIT_SIGNING_KEY_PATH",
                Box::new(|| tail().env("SECURITY_AUDIT_SIGNING_KEY_PATH", text(&signing))),
            ),
            (
                &old,
                "SECURITY_AUDIT_HMAC_OLD_SECRETS_PATH",
                Box::new(|| tail().env("SECURITY_AUDIT_HMAC_OLD_SECRETS_PATH", text(&old))),
            ),
            (
                &password,
                "--passwords",
                Box::new(|| {
                    let make = [
                        &roles[..],
                        &["--prefix", &prefix, "--passwords", &passwords],
                    ];
                    world.command(&make.concat())
                }),
            ),
        ];
        for (path, setting, program) in cases {
            for (mode, warnings) in [(0o600, 0), (0o400, 0), (0o640, 1), (0o604, 1)] {
                give(path, mode);
                let (status, said) = program().finish().await;
                assert!(status.success(), "{setting}: {said}");
                let advice = format!("chmod go-rwx {}", path.display());
                assert_eq!(
                    said.matches(&advice).count(),
                    warnings,
                    "{setting} {mode:o}: {said}"
                );
                assert!(warnings == 0 || said.contains(setting), "{said}");
            }
            // What it advises ends it.
            let mut chmod = tokio::process::Command::new("chmod");
            assert!(
                chmod
                    .args(["go-rwx", text(path)])
                    .status()
                    .await
                    .unwrap()
                    .success()
            );
            let (_, said) = program().finish().await;
            assert!(!said.contains("chmod"), "{said}");
        }
    });
}

#[test]
fn a_password_that_everybody_knows_is_refused_for_another_machine() {
    run(async {
        let url = |password: &str, host: &str| format!("postgres://artstore:{password}@{host}/x");
        let relay = |variable: &str, value: &str| {
            Program::new(&["run", "relay"])
                .env("ARTSTORE_WAIT_SECONDS", "0")
                .env("NATS_URL", "nats://127.0.0.1:1")
                .env(variable, value)
        };
        let well_known = "well-known default";
        for password in ["postgres", "PASSWORD", "artstore", "chang%65me"] {
            let value = url(password, "db.invalid");
            for (variable, value) in [
                ("ADMIN_DATABASE_URL", value.clone()),
                ("QUERY_DATABASE_URL", value.clone()),
                ("STORAGE_DATABASE_URL", value.clone()),
                ("ARTSTORE_ELEMENTS", format!("one={value}")),
            ] {
                refused(
                    relay(variable, &value),
                    &[variable, well_known, "db.invalid"],
                )
                .await;
                // On this machine it is up to its owner.
                let here = value.replace("db.invalid", "127.0.0.1:1");
                let (_, said) = relay(variable, &here).finish().await;
                assert!(!said.contains(well_known), "{said}");
            }
        }
        for (password, host) in [
            ("DB_PASSWORD", "DB_HOST"),
            ("DATABASE_PASSWORD", "DATABASE_HOST"),
        ] {
            let program = relay(password, "changeme").env(host, "db.invalid");
            refused(program, &[password, well_known]).await;
        }
        let nats = relay("STORAGE_DATABASE_URL", &url("x7Rk2mPq", "127.0.0.1:1")).env(
            "NATS_URL",
            "nats://h:4222,nats://ann:changeme@nats.invalid:4222",
        );
        refused(nats, &["NATS_URL", well_known, "nats.invalid"]).await;
        let short =
            needing("SECURITY_AUDIT_HMAC_SECRET").env("SECURITY_AUDIT_HMAC_SECRET", "verborgen");
        refused(
            short,
            &["SECURITY_AUDIT_HMAC_SECRET", "9 characters; at least 32"],
        )
        .await;
    });
}
