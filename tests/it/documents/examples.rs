//! The examples that a newcomer runs, as they are on the pages.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::repository::{repository, succeeded, text};
use crate::support::*;

/// The block of a page behind a mark, without its fences.
fn block(page: &str, mark: &str, language: &str) -> String {
    let page = text(page);
    let (_, rest) = page.split_once(mark).unwrap();
    let (_, rest) = rest.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

/// The blocks of the quick start, without the indentation of its list.
fn steps() -> Vec<String> {
    let readme = text("README.md");
    let (_, rest) = readme.split_once("## Quick start\n").unwrap();
    let (section, _) = rest.split_once("\n## ").unwrap();
    let mut steps: Vec<String> = Vec::new();
    let mut is_code = false;
    for line in section.lines().take_while(|line| !line.starts_with("<!--")) {
        match line.trim() {
            "```sh" => steps.push(String::new()),
            "```" => {}
            _ if is_code => {
                let line = line.strip_prefix("   ").unwrap_or(line);
                steps.last_mut().unwrap().push_str(&format!("{line}\n"));
            }
            _ => {}
        }
        is_code ^= line.trim_start().starts_with("```");
    }
    steps
}

/// From a program to an own file that search finds. The first step builds the program, which a test has.
#[test]
fn the_quick_start_runs_as_it_stands() {
    const STATE: &str = "/tmp/artstore-dev";
    run(async {
        let folder = tempfile::Builder::new()
            .prefix("artstore-dev-")
            .tempdir()
            .unwrap();
        let everybody = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), everybody).unwrap();
        let state = folder.path().join("state");
        let state = state.to_str().unwrap();
        let steps = steps();
        let [_, dev, connect, publish, search] = &steps[..] else {
            panic!("the quick start has five steps: {steps:#?}");
        };
        assert!(dev.contains(STATE) && connect.contains(STATE));

        let words = dev.replace(STATE, state);
        let words: Vec<&str> = words.split_whitespace().skip(1).collect();
        let mut dev = Program::new(&words).start();
        eventually("dev runs", || async {
            dev.output().contains("Press Ctrl-C").then_some(())
        })
        .await;
        let script = [connect, publish, search].map(String::as_str).concat();
        let script = script
            .replace(STATE, state)
            .replace("$PWD/target/release", "$PROGRAM");
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_artstore"));
        let mut shell = tokio::process::Command::new("bash");
        shell
            .args(["-e", "-c", &script])
            .env("PROGRAM", program.parent().unwrap());
        let said = String::from_utf8(succeeded(&mut shell).await.stdout).unwrap();
        for part in ["All is well.", "hello.txt", "agree."] {
            assert!(said.contains(part), "{part:?} is not in {said}");
        }
        dev.signal("-INT").await;
        assert!(dev.ended().await.success(), "{}", dev.log());
    });
}

/// Python with the packages that the contract's tests have.
fn python(script: &str) -> tokio::process::Command {
    let folder = repository(".tools/contract-python");
    let program = std::fs::read_to_string(folder.join("program"));
    let program = program.expect("run scripts/setup --tests");
    let mut python = tokio::process::Command::new(program.trim());
    python
        .args(["-B", "-u", "-c", script])
        .env("PYTHONPATH", folder.join("packages"));
    python
}

#[test]
fn a_subscriber_reads_every_event_as_the_pages_say() {
    run(async {
        let world = World::new(&["storage_elem_01"]).await;
        let relay = world.relay(0).start();
        let sql = block("docs/publishing.md", "<!-- first file: sql -->", "sql");
        execute(&mut world.element(0).await, sql).await;
        world.published(0).await;

        let script = block(
            "docs/subscribing.md",
            "<!-- first subscriber: python -->",
            "python",
        );
        let mut first = python(&script);
        first.env("NATS_URL", &world.nats_url);
        let said = String::from_utf8(succeeded(&mut first).await.stdout).unwrap();
        assert_eq!(said, "1 artstore.file.created.v1 hello.txt\n");

        let mut endless = python(&block("README.md", "<!-- subscribe: python -->", "python"));
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let mut endless = endless
            .env("NATS_URL", &world.nats_url)
            .stdout(std::fs::File::create(&out).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        eventually("the subscriber has the event", || async {
            let said = std::fs::read_to_string(&out).unwrap();
            said.starts_with("1 artstore.file.created.v1 {")
                .then_some(())
        })
        .await;
        endless.kill().await.unwrap();
        relay.kill().await;
    });
}

#[test]
fn the_publisher_in_rust_is_the_one_that_is_compiled() {
    let shown = block("docs/publishing.md", "## In Rust", "rust");
    let (_, compiled) = include_str!("store.rs").split_once("\n\n").unwrap();
    assert_eq!(shown, compiled);
}
