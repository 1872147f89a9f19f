//! What compose.yaml starts, as plain processes: the same commands with the same environment and
//! the same configuration, at other addresses. A renamed option or variable breaks this.

use std::path::Path;

use artstore_schemas::element::ElementName;
use artstore_stack::{Stack, StackOptions};
use serde_json::Value;
use sqlx::PgConnection;
use tokio::process::Command;

use super::nats::{Nats, free_port};
use crate::support::compose::{self, filled, words};
use crate::support::load::{create, new_file};
use crate::support::repository::{repository, succeeded};
use crate::support::*;

/// What the program's image has.
const ARTSTORE: &str = env!("CARGO_BIN_EXE_artstore");

/// A value of compose.yaml with the addresses that its services have here.
fn here(value: &str, stack: &Stack, nats: &Nats, listen: u16) -> String {
    value
        .replace(
            "@postgres:5432/",
            &format!("@127.0.0.1:{}/", stack.postgres_port()),
        )
        .replace("//nats:4222", &format!("//127.0.0.1:{}", nats.port))
        .replace("/keys/", &format!("{}/", nats.folder.path().display()))
        .replace("0.0.0.0:8080", &format!("127.0.0.1:{listen}"))
        .replace(
            "http://127.0.0.1:8080/",
            &format!("http://127.0.0.1:{listen}/"),
        )
}

/// deploy/postgres, as the image runs it at the first start.
async fn make_databases(root: &Value, stack: &Stack) {
    let postgres = &root["services"]["postgres"];
    let script = postgres["volumes"][1].as_str().unwrap();
    let (script, place) = script.split_once(':').unwrap();
    assert_eq!(place, "/docker-entrypoint-initdb.d/10-databases.sh:ro");
    let psql = stack.postgres_command("psql");
    let bin = stack.postgres_bin().display().to_string();
    // A second time, as after an element was added: what is there stays.
    for _ in 0..2 {
        let settings = psql.as_std().get_envs();
        let mut shell = Command::new(repository(script));
        shell
            .env_clear()
            .env("PATH", format!("{bin}:{}", std::env::var("PATH").unwrap()))
            .envs(settings.filter_map(|(name, value)| Some((name, value?))))
            .envs(compose::environment(postgres))
            // The private server's superuser.
            .env("POSTGRES_USER", "artstore");
        succeeded(&mut shell).await;
    }

    let check = words(&postgres["healthcheck"]["test"]);
    assert_eq!(&check[..2], ["CMD", "pg_isready"]);
    let mut check_here = stack.postgres_command("pg_isready");
    succeeded(check_here.args(&check[2..])).await;
}

/// Every variable that a service is given is one that its command reads.
fn reads_what_it_is_given(service: &Value, arguments: &[&str]) {
    let mut command = artstore::commands::definition::definition();
    command.build();
    for word in arguments {
        // Options follow.
        let Some(below) = command.find_subcommand(word) else {
            break;
        };
        command = below.clone();
    }
    let read: Vec<_> = command
        .get_arguments()
        .filter_map(|a| a.get_env())
        .collect();
    for name in compose::environment(service).keys() {
        // That of libpq is no option of ours.
        let known = read.iter().any(|variable| *variable == name.as_str()) || name == "PGSSLMODE";
        assert!(known, "{arguments:?} does not read {name}");
    }
}

/// A service's environment with what it has here.
fn environment(
    root: &Value,
    service: &Value,
    stack: &Stack,
    nats: &Nats,
    listen: u16,
) -> Vec<(String, String)> {
    let all = compose::environment(service).into_iter();
    all.map(|(name, value)| {
        let value = match name.as_str() {
            "NATS_CREDENTIALS" => nats.keys_of(root, service).display().to_string(),
            _ => here(&value, stack, nats, listen),
        };
        (name, value)
    })
    .collect()
}

/// What `tools` runs.
fn tools(root: &Value, words: &[&str], stack: &Stack, nats: &Nats) -> Program {
    environment(root, &root["services"]["tools"], stack, nats, 0)
        .iter()
        .fold(Program::new(words), |program, (name, value)| {
            program.env(name, value)
        })
}

/// A service of ours as a process: its command with its environment.
fn process(root: &Value, service: &Value, stack: &Stack, nats: &Nats, listen: u16) -> Program {
    let command = words(&service["command"]);
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    environment(root, service, stack, nats, listen)
        .iter()
        .fold(Program::new(&command), |program, (name, value)| {
            program.env(name, value)
        })
}

async fn cached(query: &mut PgConnection, file: uuid::Uuid) -> Option<Option<String>> {
    sqlx::query_scalar("select storage_element_url from file_metadata_cache where id = $1")
        .bind(file.to_string())
        .fetch_optional(query)
        .await
        .unwrap()
}

/// The script gives roles what `artstore migrate roles` gives them where it may, and no role that logs in can enter the
/// databases that every server has.
async fn roles_are_those_of_migrate_roles(migrate: &Value, stack: &Stack, nats: &Nats) {
    let mut superuser = pg(&stack.database_url("postgres")).await;
    let read = "select string_agg(format('%s %s %s', rolname, rolconnlimit, rolconfig), ' ' order by rolname) \
         from pg_roles where rolname like 'artstore_%'";
    let before: String = value(&mut superuser, read).await;
    let mut roles = Program::new(&[
        "migrate",
        "roles",
        "--duty",
        "relay",
        "--duty",
        "projector",
        "--duty",
        "audit",
        "--duty",
        "auditor",
        "--duty",
        "console",
    ]);
    for (name, value) in &compose::environment(migrate) {
        // Its owners' databases, by the superuser.
        let value = here(value, stack, nats, 0);
        let value = as_superuser(&value, stack);
        roles = roles.env(name, &value);
    }
    let (status, said) = roles.output().await;
    assert!(status.success(), "{said}");
    assert!(!said.contains("left as they are"), "{said}");
    let after: String = value(&mut superuser, read).await;
    assert_eq!(before, after);
    let may: i64 = value(
        &mut superuser,
        "select count(*) from pg_roles, unnest(array['postgres', 'template1']) as d \
         where not rolsuper and rolcanlogin and has_database_privilege(rolname, d, 'connect')",
    )
    .await;
    assert_eq!(may, 0, "roles that may enter databases that are not theirs");
}

/// The URLs in a value, with the private server's superuser instead of their own user.
fn as_superuser(value: &str, stack: &Stack) -> String {
    let superuser = stack.database_url("x");
    let (superuser, _) = superuser.split_once('@').unwrap();
    let mut found = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("postgres://") {
        let (_, place) = after.split_once('@').unwrap();
        found += &format!("{before}{superuser}@");
        rest = place;
    }
    found + rest
}

#[test]
fn what_compose_starts_works_as_plain_processes() {
    run(async {
        let variables = compose::some_variables();
        let root = filled();
        let stack = Stack::start(StackOptions::default()).await.unwrap();
        let nats = Nats::start(&root).await;
        make_databases(&root, &stack).await;

        // Tables and streams, and once more: it changes nothing.
        let migrate = &root["services"]["migrate"];
        for arguments in [&["migrate", "up"][..], &["bus", "init"]] {
            reads_what_it_is_given(migrate, arguments);
        }
        let entry = words(&migrate["entrypoint"]);
        for _ in 0..2 {
            let mut shell = Command::new(&entry[0]);
            let program = Path::new(ARTSTORE).parent().unwrap().display().to_string();
            let environment = environment(&root, migrate, &stack, &nats, 0);
            shell
                .args(&entry[1..])
                .args(
                    words(&migrate["command"])
                        .iter()
                        .map(|word| here(word, &stack, &nats, 0)),
                )
                .env_clear()
                .env(
                    "PATH",
                    format!("{program}:{}", std::env::var("PATH").unwrap()),
                )
                .envs(environment);
            succeeded(&mut shell).await;
        }

        roles_are_those_of_migrate_roles(migrate, &stack, &nats).await;

        let mut running = Vec::new();
        for (name, command) in [
            ("relay", "relay"),
            ("projector", "projector"),
            ("audit", "projector"),
        ] {
            let service = &root["services"][name];
            reads_what_it_is_given(service, &["run", command]);
            let listen = free_port();
            running.push((
                service,
                listen,
                process(&root, service, &stack, &nats, listen).start(),
            ));
        }
        reads_what_it_is_given(&root["services"]["tools"], &["audit", "verify"]);

        // A storage element publishes a file, with the rights of its own role.
        let url = |role: &str, password: &str, database: &str| {
            let (password, port) = (&variables[password], stack.postgres_port());
            format!("postgres://{role}:{password}@127.0.0.1:{port}/{database}")
        };
        let (role, database) = ("artstore_storage_01", "artstore_storage_01");
        let element: ElementName = "storage_elem_01".parse().unwrap();
        let storage = pg(&url(role, "STORAGE_01_DB_PASSWORD", database)).await;
        let file = new_file("from a container");
        create(&mut (element, storage), &file).await.unwrap();
        let query = url("artstore_query", "QUERY_DB_PASSWORD", "artstore");
        let api = eventually("the file is in the cache", || async {
            cached(&mut pg(&query).await, file.id).await
        })
        .await;
        assert_eq!(api.as_deref(), Some("http://storage-element-01:8010"));

        // An operator's command, with what `tools` has.
        let smoke = tools(&root, &["migrate", "smoke"], &stack, &nats);
        let (status, said) = smoke.output().await;
        assert!(status.success(), "{said}");

        // Relay and projector may answer whoever asks how they are, and are who it says.
        let look = tools(&root, &["status", "--json"], &stack, &nats);
        let (status, said) = look.output().await;
        assert!(status.success(), "{said}");
        let said: Value = serde_json::from_str(&said).unwrap();
        let [relay_pid, projector_pid, audit_pid] = [0, 1, 2].map(|index| {
            let (_, _, process): &(_, _, Process) = &running[index];
            process.pid()
        });
        for source in said["sources"].as_array().unwrap() {
            assert_eq!(
                source["relay"]["answers"][0]["pid"], relay_pid,
                "{source:#}"
            );
        }
        let processes = &said["projections"][0]["processes"];
        assert_eq!(processes[0]["pid"], projector_pid, "{processes:#}");
        let processes = &said["projections"][1]["processes"];
        assert_eq!(processes[0]["pid"], audit_pid, "{processes:#}");

        // A file from before the bus, which `tools` backfills: its user may publish, and asks the running
        // relay to step aside.
        let mut storage = pg(&url(role, "STORAGE_01_DB_PASSWORD", database)).await;
        let unknown = uuid::Uuid::new_v4();
        let sql = format!(
            "insert into storage_elem_01_files (file_id, original_filename, storage_filename, \
                 storage_path, file_size, content_type, checksum, created_by_id, created_by_username) \
             values ('{unknown}', 'old.txt', 'old.txt', '/', 1, 'text/plain', '', '1', 'ann')"
        );
        execute(&mut storage, &sql).await;
        let command = ["element", "backfill", "storage_elem_01"];
        let backfill = || tools(&root, &command, &stack, &nats).env("AUTH_REQUIRED", "false");
        // Without the right it reports that, by name, and does not wait for the relay's lock.
        let reader = nats.keys("reader").join("reader.nk").display().to_string();
        let refused = backfill().env("NATS_CREDENTIALS", &reader);
        let (status, said) = refused.finish().await;
        assert_eq!(status.code(), Some(1), "{said}");
        let missing = "may not publish to artstore.control.storage_elem_01";
        assert!(said.contains(missing), "{said}");
        let (status, log) = backfill().finish().await;
        assert!(status.success() && !log.contains("WARN"), "{log}");
        let api = eventually("the file of before is in the cache", || async {
            cached(&mut pg(&query).await, unknown).await
        })
        .await;
        assert_eq!(api.as_deref(), Some("http://storage-element-01:8010"));

        // The audit log is written, and `tools` can check it with the secret and the public key.
        eventually("the audit log has a published head of the file", || async {
            let command = ["audit", "verify", "--against-stream", "--json"];
            let verify = tools(&root, &command, &stack, &nats);
            let (status, said) = verify.output().await;
            assert!(status.success(), "{said}");
            let said: Value = serde_json::from_str(&said).unwrap();
            let logs = said["logs"].as_array().unwrap();
            let ours = |log: &&Value| log["stream"] == "ARTSTORE_WAL_storage_elem_01";
            let log = logs.iter().find(ours)?;
            (log["proven"].as_u64() > Some(0)).then_some(())
        })
        .await;
        let mut audit = pg(&url(
            "artstore_audit",
            "AUDIT_DB_PASSWORD",
            "artstore_admin",
        ))
        .await;
        for sql in [
            "delete from audit_logs",
            "update audit_heads set note = ''",
            "select * from users",
        ] {
            let refused = try_execute(&mut audit, sql).await.unwrap_err().to_string();
            assert!(refused.contains("permission denied"), "{refused}");
        }

        // The relay's role reads and no more; a module's role has no way into another's database.
        let mut relay = pg(&url("artstore_relay", "RELAY_DB_PASSWORD", database)).await;
        for sql in [
            "insert into storage_elem_01_wal (transaction_id, operation_type, status, operation_data) \
             values (gen_random_uuid(), 'cache_rebuild', 'committed', '{}')",
            "delete from storage_elem_01_files",
            "create table public.mine ()",
        ] {
            let refused = try_execute(&mut relay, sql).await.unwrap_err().to_string();
            assert!(refused.contains("permission denied"), "{refused}");
        }
        let mut relay = pg(&url(
            "artstore_relay",
            "RELAY_DB_PASSWORD",
            "artstore_admin",
        ))
        .await;
        for table in ["jwt_keys", "users", "service_accounts"] {
            let sql = format!("select * from {table}");
            let refused = try_execute(&mut relay, &sql).await.unwrap_err().to_string();
            assert!(refused.contains("permission denied"), "{refused}");
        }
        let refused = try_pg(&url(role, "STORAGE_01_DB_PASSWORD", "artstore_admin")).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("permission denied"), "{refused}");

        // Nobody lacked a right, but for the backfill above that was given the wrong user.
        let log = nats.log();
        let mut refused = log.lines().filter(|line| line.contains("Violation"));
        let expected =
            |line: &str| line.contains("\"readers/") && line.contains("artstore.control.");
        assert!(refused.all(expected), "{log}");

        for (service, listen, _) in &running {
            let check = words(&service["healthcheck"]["test"]);
            assert_eq!(&check[..3], ["CMD", "artstore", "health"]);
            let check: Vec<String> = check[2..]
                .iter()
                .map(|word| here(word, &stack, &nats, *listen))
                .collect();
            let check: Vec<&str> = check.iter().map(String::as_str).collect();
            eventually("the service is ready", || async {
                let (status, _) = Program::new(&check).output().await;
                status.success().then_some(())
            })
            .await;
        }
        for (_, _, process) in &mut running {
            process.signal("-TERM").await;
            let ended = process.ended().await;
            assert!(ended.success(), "{}", process.log());
        }
        stack.stop().await.unwrap();
    });
}

#[test]
fn health_is_0_where_a_service_answers_well_and_1_everywhere_else() {
    run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answers = [
            ("HTTP/1.1 200 OK\r\n\r\nready", Some(0), "ready"),
            (
                "HTTP/1.1 503 Service Unavailable\r\n\r\n9 s behind",
                Some(1),
                "status 503",
            ),
            ("INFO {}\r\n", Some(1), "does not speak HTTP"),
        ];
        let server = tokio::spawn(async move {
            for (answer, _, _) in answers {
                use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
                let (mut connection, _) = listener.accept().await.unwrap();
                let mut request = [0; 512];
                let length = connection.read(&mut request).await.unwrap();
                assert!(request[..length].starts_with(b"GET /health/ready HTTP/1.0\r\n"));
                connection.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let url = format!("http://127.0.0.1:{port}/health/ready");
        for (_, code, said) in answers {
            let mut process = Program::new(&["health", "--url", &url]).start();
            assert_eq!(process.ended().await.code(), code);
            let all = process.output() + &process.log();
            assert!(all.contains(said), "{all}");
        }
        server.await.unwrap();
        let (status, said) = Program::new(&["health", "--url", &url]).finish().await;
        assert_eq!(status.code(), Some(1));
        assert!(said.contains("refused") && said.contains(&url), "{said}");
        let (status, said) = Program::new(&["health", "--url", "https://x"])
            .finish()
            .await;
        assert_eq!(status.code(), Some(2), "{said}");
    });
}
