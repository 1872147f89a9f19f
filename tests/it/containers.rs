//! compose.yaml and the Dockerfile where no engine runs: they have the form that their own
//! specifications ask for, and what they start is started here as plain processes.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Output, Stdio};

use artstore::stack::{Stack, StackOptions};
use artstore_schemas::element::ElementName;
use serde_json::Value;
use sqlx::PgConnection;
use tokio::process::Command;

use crate::compose::{self, Variables, repository, text, words};
use crate::load::{create, new_file};
use crate::support::*;

/// Whether `run relay` and `run projector` answer on ARTSTORE_LISTEN.
const LISTENS: bool = false;

/// What the program's image has.
const ARTSTORE: &str = env!("CARGO_BIN_EXE_artstore");

/// A file that `scripts/setup --tests` has left, of whatever version.
fn tool(prefix: &str, file: &str) -> std::path::PathBuf {
    let setup = text("scripts/setup");
    let variable = if prefix == "hadolint" {
        "hadolint_pinned="
    } else {
        "compose_schema_in="
    };
    let version = setup
        .lines()
        .find_map(|line| line.strip_prefix(variable))
        .unwrap();
    let version = version.split(' ').next().unwrap();
    let path = repository(&format!(".tools/{prefix}-{version}/{file}"));
    assert!(
        path.exists(),
        "{} is not there: run scripts/setup --tests",
        path.display()
    );
    path
}

fn filled() -> Value {
    compose::filled(&compose::some_variables()).unwrap()
}

fn services(root: &Value) -> impl Iterator<Item = (&str, &Value)> {
    root["services"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, service)| (name.as_str(), service))
}

#[test]
fn compose_yaml_has_the_form_of_the_compose_specification() {
    let schema = std::fs::read_to_string(tool("compose-spec", "compose-spec.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors = |root: &Value| {
        let errors = validator.iter_errors(root);
        let errors = errors.map(|error| format!("{}: {error}", error.instance_path()));
        errors.collect::<Vec<_>>()
    };
    let root = filled();
    assert_eq!(errors(&root), [""; 0]);
    // It does see mistakes.
    for (path, wrong) in [
        ("/services/relay/restarts", Value::from("always")),
        ("/services/relay/healthcheck/test", Value::from(5)),
        (
            "/services/relay/depends_on/nats",
            serde_json::json!({"condition": "healthy"}),
        ),
        ("/service", Value::Null),
    ] {
        let mut broken = root.clone();
        let (parent, field) = path.rsplit_once('/').unwrap();
        broken.pointer_mut(parent).unwrap()[field] = wrong;
        assert!(!errors(&broken).is_empty(), "{path}");
    }

    // What a schema can't say: names lead somewhere.
    for (name, service) in services(&root) {
        for (other, how) in service["depends_on"].as_object().into_iter().flatten() {
            let other = &root["services"][other];
            match how["condition"].as_str().unwrap() {
                "service_healthy" => assert!(!other["healthcheck"].is_null(), "{name}: {how}"),
                "service_completed_successfully" => {
                    assert_eq!(other["restart"], "on-failure:5", "{name}: it has to end");
                }
                other => panic!("{name}: {other}"),
            }
        }
        for network in words(&service["networks"]) {
            assert!(
                !root["networks"][&network].is_null(),
                "{name}: network {network}"
            );
        }
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let source = volume.as_str().unwrap().split(':').next().unwrap();
            if source.starts_with('.') {
                assert!(repository(source).is_file(), "{name}: {source}");
            } else {
                assert!(
                    !root["volumes"][source].is_null(),
                    "{name}: volume {source}"
                );
            }
        }
    }
}

#[test]
fn no_secret_has_a_default_and_each_that_is_missing_is_named() {
    let (needed, defaults) = compose::example();
    let known: BTreeSet<String> = needed.iter().chain(defaults.keys()).cloned().collect();
    assert_eq!(
        compose::used(),
        known,
        ".env.example has what compose.yaml uses"
    );
    for name in &needed {
        for value in [None, Some("")] {
            let mut variables = compose::some_variables();
            variables.remove(name);
            variables.extend(value.map(|value| (name.clone(), value.to_owned())));
            let refused = compose::filled(&variables).unwrap_err();
            assert_eq!(refused, format!("{name}: set it in .env"));
        }
    }
    let compose = text("compose.yaml");
    for (name, value) in &defaults {
        assert!(!name.contains("PASSWORD"), "{name} has a default");
        let default = format!("${{{name}:-{value}}}");
        assert!(
            compose.contains(&default),
            "{name}: {value:?} is not its default"
        );
    }
    // No password stands in a file.
    for file in ["compose.yaml", "Dockerfile", "deploy/nats/nats.conf"] {
        for line in text(file)
            .lines()
            .filter(|line| !line.trim().starts_with('#'))
        {
            let url = line
                .split_once("://")
                .and_then(|(_, rest)| rest.split_once('@'));
            if let Some((login, _)) = url {
                let (_, password) = login.split_once(':').unwrap();
                assert!(
                    password.starts_with("${") && password.contains(":?"),
                    "{line}"
                );
            }
            if let Some((_, password)) = line.split_once("password:") {
                assert!(password.trim().starts_with('$'), "{line}");
            }
        }
    }
    let ignored = text(".dockerignore") + &text(".gitignore");
    assert_eq!(ignored.matches(".env").count(), 3, "{ignored}");
}

/// The stages of the Dockerfile: name, image, instructions.
fn stages() -> Vec<(String, String, Vec<(String, String)>)> {
    let dockerfile = text("Dockerfile");
    let lines = dockerfile.lines().filter(|line| !line.starts_with('#'));
    let joined = lines.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    let mut stages: Vec<(String, String, Vec<(String, String)>)> = Vec::new();
    for line in joined.lines().filter(|line| !line.trim().is_empty()) {
        let (instruction, rest) = line.split_once(' ').unwrap();
        if instruction == "FROM" {
            let (image, name) = rest.split_once(" AS ").unwrap();
            stages.push((name.to_owned(), image.to_owned(), Vec::new()));
        } else if let Some((_, _, instructions)) = stages.last_mut() {
            instructions.push((instruction.to_owned(), rest.trim().to_owned()));
        }
    }
    stages
}

fn last<'a>(instructions: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = instructions
        .iter()
        .rfind(|(instruction, _)| instruction == name);
    found.map(|(_, rest)| rest.as_str())
}

/// `name:version`, with a number in the version.
fn is_pinned(image: &str) -> bool {
    let version = image.split_once(':').map_or("", |(_, version)| version);
    version.starts_with(|c: char| c.is_ascii_digit()) && version.contains('.')
}

#[test]
fn every_container_is_confined_and_says_how_it_starts_and_ends() {
    let root = filled();
    let stages = stages();
    for (name, service) in services(&root) {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(words(&service["cap_drop"]), ["ALL"], "{name}");
        assert_eq!(
            words(&service["security_opt"]),
            ["no-new-privileges:true"],
            "{name}"
        );
        let limits = &service["deploy"]["resources"]["limits"];
        for limit in ["cpus", "memory", "pids"] {
            assert!(!limits[limit].is_null(), "{name}: {limit}");
        }
        assert_eq!(service["logging"]["options"]["max-file"], "5", "{name}");
        assert!(
            service["privileged"].is_null() && service["cap_add"].is_null(),
            "{name}"
        );
        for port in service["ports"].as_array().into_iter().flatten() {
            assert!(
                port.as_str().unwrap().starts_with("127.0.0.1:"),
                "{name}: {port}"
            );
        }
        assert!(is_pinned(service["image"].as_str().unwrap()), "{name}");
        let user = match service["build"]["target"].as_str() {
            Some(target) => {
                let stage = stages.iter().find(|(stage, _, _)| stage == target).unwrap();
                last(&stage.2, "USER")
            }
            None => service["user"].as_str(),
        };
        let (user, group) = user.and_then(|user| user.split_once(':')).unwrap();
        let (user, group): (u32, u32) = (user.parse().unwrap(), group.parse().unwrap());
        assert!(user > 0 && group > 0, "{name}");
        let stays = !matches!(name, "migrate" | "tools");
        assert_eq!(service["restart"] == "unless-stopped", stays, "{name}");
        assert_eq!(!service["healthcheck"]["test"].is_null(), stays, "{name}");
        assert_eq!(!service["stop_grace_period"].is_null(), stays, "{name}");
    }
    let after = |service: &str| {
        let on = root["services"][service]["depends_on"].as_object().unwrap();
        on.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(after("migrate"), ["nats", "postgres"]);
    assert_eq!(after("relay"), ["migrate", "nats", "postgres"]);
    assert_eq!(after("projector"), ["migrate", "nats", "postgres"]);
}

/// A program's output, with what it said where it failed.
async fn succeeded(command: &mut Command) -> Output {
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let said = [output.stdout.clone(), output.stderr.clone()].concat();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&said)
    );
    output
}

#[test]
fn the_dockerfile_passes_its_linter_and_copies_what_the_build_needs() {
    run(async {
        let linted = succeeded(
            Command::new(tool("hadolint", "hadolint"))
                .args(["--no-color", "--failure-threshold", "style"])
                .arg(repository("Dockerfile")),
        )
        .await;
        assert_eq!(String::from_utf8_lossy(&linted.stdout), "");

        let stages = stages();
        for (name, image, instructions) in &stages {
            assert!(is_pinned(image), "{name}: {image}");
            let entry = ["artstore", "tools"]
                .contains(&name.as_str())
                .then_some("[\"artstore\"]");
            assert_eq!(last(instructions, "ENTRYPOINT"), entry, "{name}");
            let signal = entry.map(|_| "SIGTERM");
            assert_eq!(last(instructions, "STOPSIGNAL"), signal, "{name}");
        }
        let image = |stage: &str| {
            let stage = stages.iter().find(|(name, _, _)| name == stage).unwrap();
            stage.1.clone()
        };
        // The same versions everywhere: pg_dump, the NATS server, the compiler.
        let root = filled();
        assert_eq!(root["services"]["postgres"]["image"], image("tools"));
        let nats = text("scripts/setup");
        let nats = nats
            .lines()
            .find_map(|line| line.strip_prefix("nats_pinned="))
            .unwrap();
        assert_eq!(image("nats"), format!("nats:{nats}-alpine"));
        assert_eq!(
            root["services"]["nats"]["image"],
            format!("artstore-nats:{nats}")
        );
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            root["services"]["relay"]["image"],
            format!("artstore:{version}")
        );
        assert!(text("Dockerfile").contains(&format!("ARG ARTSTORE_VERSION={version}\n")));
        let minor = |text: &str| text.split('.').nth(1).unwrap().parse::<u32>().unwrap();
        assert!(minor(&image("build")) >= minor(env!("CARGO_PKG_RUST_VERSION")));

        build(&stages[0].2).await;
    });
}

/// Goes through the instructions of the build in an empty folder, with a cargo that only looks
/// whether the workspace is complete there.
async fn build(instructions: &[(String, String)]) {
    let folder = tempfile::tempdir().unwrap();
    let (work, bin) = (folder.path().join("build"), folder.path().join("bin"));
    std::fs::create_dir_all(&work).unwrap();
    std::fs::create_dir_all(&bin).unwrap();
    let cargo = format!(
        "#!/bin/sh\necho \"$@\" >> {}\nmkdir -p target/release && touch target/release/artstore\n\
         exec {} metadata --locked --offline --format-version 1\n",
        folder.path().join("built").display(),
        env!("CARGO"),
    );
    for (program, text) in [("cargo", cargo.as_str()), ("strip", "#!/bin/sh\n")] {
        std::fs::write(bin.join(program), text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(bin.join(program), mode).unwrap();
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    for (instruction, rest) in instructions {
        match instruction.as_str() {
            "WORKDIR" => assert_eq!(rest, "/build"),
            "COPY" if rest == ". ." => copy_context(&work).await,
            "COPY" => {
                let mut files: Vec<&str> = rest.split(' ').collect();
                let target = work.join(files.pop().unwrap());
                std::fs::create_dir_all(&target).unwrap();
                for file in files {
                    let name = Path::new(file).file_name().unwrap();
                    std::fs::copy(repository(file), target.join(name)).unwrap();
                }
            }
            "RUN" => {
                let mut shell = Command::new("sh");
                shell
                    .args(["-euc", rest])
                    .current_dir(&work)
                    .env("PATH", &path);
                succeeded(&mut shell).await;
            }
            other => panic!("{other}: not known"),
        }
    }
    let built = std::fs::read_to_string(folder.path().join("built")).unwrap();
    assert_eq!(
        built,
        "build --release --locked --workspace\nbuild --release --locked --bin artstore\n"
    );
}

/// What `.dockerignore` leaves of the repository.
async fn copy_context(target: &Path) {
    let ignored = text(".dockerignore");
    let ignored: Vec<&str> = ignored
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    let mut left = Command::new("tar");
    left.arg("--create").arg("--file=-");
    left.args(
        ignored
            .iter()
            .map(|pattern| format!("--exclude=./{pattern}")),
    );
    left.arg("--directory").arg(repository(".")).arg(".");
    let mut tar = left
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let stream: Stdio = tar.stdout.take().unwrap().try_into().unwrap();
    let mut unpack = Command::new("tar");
    unpack
        .arg("--extract")
        .arg("--directory")
        .arg(target)
        .stdin(stream)
        .kill_on_drop(true);
    assert!(unpack.status().await.unwrap().success());
    assert!(tar.wait().await.unwrap().success());
    assert!(!target.join(".git").exists() && !target.join("target/debug").exists());
    for needed in [
        "src/config.rs",
        "producers/src/sql/wal_poll.sql",
        "migrations/query",
    ] {
        assert!(target.join(needed).exists(), "{needed}");
    }
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// nats-server with the very configuration of deploy/nats, elsewhere on this machine.
struct Nats {
    _process: tokio::process::Child,
    folder: tempfile::TempDir,
    port: u16,
    monitor: u16,
}

impl Nats {
    async fn start(root: &Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, monitor) = (free_port(), free_port());
        let mut configuration = text("deploy/nats/nats.conf");
        let store = folder.path().join("data").display().to_string();
        for (there, here) in [
            ("\"0.0.0.0:4222\"", format!("\"127.0.0.1:{port}\"")),
            ("\"127.0.0.1:8222\"", format!("\"127.0.0.1:{monitor}\"")),
            ("\"/data\"", format!("\"{store}\"")),
        ] {
            assert_eq!(configuration.matches(there).count(), 1, "{there}");
            configuration = configuration.replace(there, &here);
        }
        let path = folder.path().join("nats.conf");
        std::fs::write(&path, configuration).unwrap();
        // As the image starts it.
        let stage = stages()
            .into_iter()
            .find(|(name, _, _)| name == "nats")
            .unwrap();
        let command: Vec<String> = serde_json::from_str(last(&stage.2, "CMD").unwrap()).unwrap();
        assert_eq!(command, ["nats-server", "-c", "/etc/nats/nats.conf"]);
        assert!(stage.2.contains(&(
            "COPY".to_owned(),
            "deploy/nats/nats.conf /etc/nats/nats.conf".to_owned()
        )));
        let ours = repository(".tools/bin/nats-server");
        let server = if ours.exists() {
            ours
        } else {
            "nats-server".into()
        };
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(server)
            .arg("-c")
            .arg(&path)
            .env_clear()
            .envs(compose::environment(&root["services"]["nats"]))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.path().join("log")).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let nats = Self {
            _process: process,
            folder,
            port,
            monitor,
        };
        // The health check of compose.yaml, with our own program in the place of wget.
        let check = words(&root["services"]["nats"]["healthcheck"]["test"]);
        let url = check
            .last()
            .unwrap()
            .replace(":8222/", &format!(":{monitor}/"));
        eventually("the NATS server is healthy", || async {
            let (status, _) = Program::new(&["health", "--url", &url]).output().await;
            assert!(!nats.log().contains("[FTL]"), "{}", nats.log());
            status.success().then_some(())
        })
        .await;
        nats
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    fn url(&self, user: &str, variables: &Variables) -> String {
        let password = &variables[&format!("NATS_{}_PASSWORD", user.to_uppercase())];
        format!("nats://{user}:{password}@127.0.0.1:{}", self.port)
    }

    async fn asked(&self, path: &str) -> Value {
        let url = format!("http://127.0.0.1:{}/{path}", self.monitor);
        let (status, said) = Program::new(&["health", "--url", &url]).output().await;
        assert!(status.success());
        serde_json::from_str(&said).unwrap()
    }
}

#[test]
fn the_nats_configuration_syncs_always_and_lets_only_the_relay_publish() {
    run(async {
        let variables = compose::some_variables();
        let nats = Nats::start(&filled()).await;
        let server = nats.asked("varz").await;
        assert_eq!(server["auth_required"], true);
        assert!(server["max_payload"].as_u64().unwrap() >= 921_600);
        let jetstream = &server["jetstream"]["config"];
        assert_eq!(jetstream["sync_always"], true, "{jetstream}");
        let store = jetstream["store_dir"].as_str().unwrap();
        assert!(
            store.starts_with(nats.folder.path().to_str().unwrap()),
            "{store}"
        );

        let init = |url: &str| Program::new(&["bus", "init"]).env("NATS_URL", url);
        let (status, said) = init(&nats.url("setup", &variables)).output().await;
        assert!(status.success(), "{said}");
        for wrong in [
            format!("nats://127.0.0.1:{}", nats.port),
            format!("nats://setup:wrong@127.0.0.1:{}", nats.port),
        ] {
            let (status, said) = init(&wrong).finish().await;
            assert_eq!(status.code(), Some(1), "{said}");
            assert!(said.contains("authorization violation"), "{said}");
        }

        // A message that the relay did not write would stop it.
        let subject = "artstore.wal.storage_elem_01.p00.file.created";
        for user in ["setup", "reader"] {
            let bus = connect(&nats.url(user, &variables)).await;
            bus.client.publish(subject, "forged".into()).await.unwrap();
            bus.client.flush().await.unwrap();
            eventually("the server refuses it", || async {
                let refused = |line: &str| {
                    line.contains("Publish Violation")
                        && line.contains(subject)
                        && line.contains(&format!("user:{user}\""))
                };
                nats.log().lines().any(refused).then_some(())
            })
            .await;
        }
        let relay = connect(&nats.url("relay", &variables)).await;
        let source = artstore_schemas::source::Source::Element("storage_elem_01".parse().unwrap());
        let info = relay.stream_info(&source.stream()).await.unwrap();
        assert_eq!(info.state.messages, 0);
    });
}

/// A value of compose.yaml with the addresses that its services have here.
fn here(value: &str, stack: &Stack, nats: &Nats, listen: u16) -> String {
    value
        .replace(
            "@postgres:5432/",
            &format!("@127.0.0.1:{}/", stack.postgres_port()),
        )
        .replace("@nats:4222", &format!("@127.0.0.1:{}", nats.port))
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
    let settings = psql.as_std().get_envs();
    let bin = stack.postgres_bin().display().to_string();
    let mut shell = Command::new(repository(script));
    shell
        .env_clear()
        .env("PATH", format!("{bin}:{}", std::env::var("PATH").unwrap()))
        .envs(settings.filter_map(|(name, value)| Some((name, value?))))
        .envs(compose::environment(postgres))
        // The private server's superuser.
        .env("POSTGRES_USER", "artstore");
    succeeded(&mut shell).await;

    let check = words(&postgres["healthcheck"]["test"]);
    assert_eq!(&check[..2], ["CMD", "pg_isready"]);
    let mut check_here = stack.postgres_command("pg_isready");
    succeeded(check_here.args(&check[2..])).await;
}

/// Every variable that a service is given is one that its command reads.
async fn reads_what_it_is_given(service: &Value, arguments: &[&str]) {
    let (status, help) = Program::new(arguments).argument("--help").output().await;
    assert!(status.success(), "{arguments:?}");
    for name in compose::environment(service).keys() {
        let known = help.contains(&format!("[env: {name}"));
        let known = known || (name == "ARTSTORE_LISTEN" && !LISTENS);
        assert!(known, "{arguments:?} does not read {name}");
    }
    let listens = help.contains("[env: ARTSTORE_LISTEN");
    assert!(
        LISTENS || !listens,
        "set LISTENS to true: the health checks can be tried now"
    );
}

/// A service of ours as a process: its command with its environment.
fn process(service: &Value, stack: &Stack, nats: &Nats, listen: u16) -> Program {
    let command = words(&service["command"]);
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    compose::environment(service)
        .iter()
        .fold(Program::new(&command), |program, (name, value)| {
            program.env(name, &here(value, stack, nats, listen))
        })
}

async fn cached(query: &mut PgConnection, file: uuid::Uuid) -> Option<Option<String>> {
    sqlx::query_scalar("select storage_element_url from file_metadata_cache where id = $1")
        .bind(file.to_string())
        .fetch_optional(query)
        .await
        .unwrap()
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
            reads_what_it_is_given(migrate, arguments).await;
        }
        let entry = words(&migrate["entrypoint"]);
        for _ in 0..2 {
            let mut shell = Command::new(&entry[0]);
            let program = Path::new(ARTSTORE).parent().unwrap().display().to_string();
            let environment = compose::environment(migrate);
            let environment = environment.iter();
            shell
                .args(&entry[1..])
                .args(words(&migrate["command"]))
                .env_clear()
                .env(
                    "PATH",
                    format!("{program}:{}", std::env::var("PATH").unwrap()),
                )
                .envs(environment.map(|(name, value)| (name, here(value, &stack, &nats, 0))));
            succeeded(&mut shell).await;
        }

        let mut running = Vec::new();
        for name in ["relay", "projector"] {
            let service = &root["services"][name];
            reads_what_it_is_given(service, &["run", name]).await;
            let listen = free_port();
            running.push((
                service,
                listen,
                process(service, &stack, &nats, listen).start(),
            ));
        }
        reads_what_it_is_given(&root["services"]["tools"], &["migrate", "status"]).await;

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
        let refused = try_pg(&url(role, "STORAGE_01_DB_PASSWORD", "artstore_admin")).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("permission denied"), "{refused}");

        for (service, listen, _) in &running {
            let check = words(&service["healthcheck"]["test"]);
            assert_eq!(&check[..3], ["CMD", "artstore", "health"]);
            let check: Vec<String> = check[2..]
                .iter()
                .map(|word| here(word, &stack, &nats, *listen))
                .collect();
            let check: Vec<&str> = check.iter().map(String::as_str).collect();
            if LISTENS {
                eventually("the service is ready", || async {
                    let (status, _) = Program::new(&check).output().await;
                    status.success().then_some(())
                })
                .await;
            } else {
                let (status, _) = Program::new(&check).output().await;
                assert_eq!(status.code(), Some(1));
            }
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
