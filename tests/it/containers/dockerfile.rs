//! The Dockerfile without an engine: it passes its linter, and its build finds in its folder
//! what it needs.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use crate::support::compose::{filled, is_pinned};
use crate::support::repository::{repository, succeeded, text, tool};
use crate::support::*;

/// A stage of the Dockerfile.
pub struct Stage {
    pub name: String,
    pub image: String,
    instructions: Vec<(String, String)>,
}

impl Stage {
    /// All of them, in order.
    pub fn all() -> Vec<Self> {
        let dockerfile = text("Dockerfile");
        let lines = dockerfile.lines().filter(|line| !line.starts_with('#'));
        let joined = lines.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
        let mut stages: Vec<Self> = Vec::new();
        for line in joined.lines().filter(|line| !line.trim().is_empty()) {
            let (instruction, rest) = line.split_once(' ').unwrap();
            if instruction == "FROM" {
                let (image, name) = rest.split_once(" AS ").unwrap();
                stages.push(Self {
                    name: name.to_owned(),
                    image: image.to_owned(),
                    instructions: Vec::new(),
                });
            } else if let Some(stage) = stages.last_mut() {
                let instruction = (instruction.to_owned(), rest.trim().to_owned());
                stage.instructions.push(instruction);
            }
        }
        stages
    }

    pub fn named(name: &str) -> Self {
        let stage = Self::all().into_iter().find(|stage| stage.name == name);
        stage.unwrap_or_else(|| panic!("the Dockerfile has no stage {name}"))
    }

    /// What the last instruction of this name says.
    pub fn last(&self, name: &str) -> Option<&str> {
        let mut found = self.instructions.iter();
        let found = found.rfind(|(instruction, _)| instruction == name);
        found.map(|(_, rest)| rest.as_str())
    }

    pub fn has(&self, name: &str, rest: &str) -> bool {
        self.instructions
            .contains(&(name.to_owned(), rest.to_owned()))
    }
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

        for stage in Stage::all() {
            let name = &stage.name;
            assert!(is_pinned(&stage.image), "{name}: {}", stage.image);
            let entry = ["artstore", "tools"]
                .contains(&name.as_str())
                .then_some("[\"artstore\"]");
            assert_eq!(stage.last("ENTRYPOINT"), entry, "{name}");
            let signal = entry.map(|_| "SIGTERM");
            assert_eq!(stage.last("STOPSIGNAL"), signal, "{name}");
        }
        let image = |stage: &str| Stage::named(stage).image;
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

        build(&Stage::named("build")).await;
    });
}

/// Goes through the instructions of the build in an empty folder, with a cargo that only looks
/// whether the workspace is complete there. The list of what is linked in is made by the real one.
async fn build(stage: &Stage) {
    let folder = tempfile::tempdir().unwrap();
    let (work, bin) = (folder.path().join("build"), folder.path().join("bin"));
    std::fs::create_dir_all(&work).unwrap();
    std::fs::create_dir_all(&bin).unwrap();
    let cargo = format!(
        "#!/bin/sh\n[ \"$1\" != tree ] || exec {0} \"$@\"\necho \"$@\" >> {1}\nmkdir -p target/release && touch target/release/artstore\n\
         exec {0} metadata --locked --offline --format-version 1 \
         --filter-platform {2}-unknown-linux-gnu\n",
        env!("CARGO"),
        folder.path().join("built").display(),
        std::env::consts::ARCH,
    );
    for (program, text) in [("cargo", cargo.as_str()), ("strip", "#!/bin/sh\n")] {
        std::fs::write(bin.join(program), text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(bin.join(program), mode).unwrap();
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    for (instruction, rest) in &stage.instructions {
        match instruction.as_str() {
            "WORKDIR" => assert_eq!(rest, "/build"),
            "COPY" if rest == ". ." => copy_context(&work).await,
            "COPY" => {
                let mut files: Vec<&str> = rest.split(' ').collect();
                let target = work.join(files.pop().unwrap());
                std::fs::create_dir_all(&target).unwrap();
                for file in files {
                    let from = repository(file);
                    let mut copy = Command::new("cp");
                    match from.is_dir() {
                        true => copy.arg("-r").arg(from.join(".")),
                        false => copy.arg(from),
                    };
                    succeeded(copy.arg(&target)).await;
                }
            }
            "RUN" => {
                let mut shell = Command::new("sh");
                shell
                    .args(["-euc", rest])
                    .current_dir(&work)
                    .env("CARGO_NET_OFFLINE", "true")
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
    let lines = ignored.lines().filter(|line| !line.starts_with('#'));
    let (kept, ignored): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.starts_with('!'));
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
    for exception in kept {
        let file = exception.trim_start_matches('!');
        let copy = target.join(file);
        std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
        std::fs::copy(repository(file), copy).unwrap();
    }
    assert!(!target.join(".git").exists() && !target.join("target/debug").exists());
    for needed in [
        "src/config.rs",
        // A source includes it.
        "docs/troubleshooting.md",
        "producers/src/relay/sql/wal_poll.sql",
        "migrations/query",
    ] {
        assert!(target.join(needed).exists(), "{needed}");
    }
}
