//! What `artstore status` advises, followed until all is well: each state is caused on real
//! servers, and ended as the advice says.
//!
//! - `commands`: states that a command ends
//! - `audit_log`: the same, of an audit log
//! - `registry`: the same, of the element registry
//! - `check`: the check of source and stream that runs beside a relay
//! - `stuck`: somebody who has a lock, or holds rows back, and makes no progress
//! - `servers`: databases, a node of a NATS cluster, and a mirror's origin that are unavailable

mod audit_log;
mod check;
mod commands;
mod registry;
mod servers;
mod stuck;

use serde_json::Value;

use crate::support::*;

/// Follows what status advises, the most important first, until all is well. What has to run is started
/// and kept in `services`.
pub async fn follow(world: &World, state: &str, services: &mut Vec<Process>) -> Vec<String> {
    follow_with(|words| world.command(words), state, services).await
}

/// The same with commands that have other settings.
pub async fn follow_with(
    program: impl Fn(&[&str]) -> Program,
    state: &str,
    services: &mut Vec<Process>,
) -> Vec<String> {
    let mut done: Vec<String> = Vec::new();
    loop {
        let name = format!("{state}: all is well, or other advice than {done:?}");
        let advice = eventually(&name, async || {
            let (status, said) = program(&["status", "--json"]).output().await;
            if status.success() {
                return Some(None);
            }
            let said: Value = serde_json::from_str(&said).unwrap();
            let troubles = said["troubles"].as_array().unwrap().iter();
            let mut commands = troubles.filter_map(|trouble| trouble["command"].as_str());
            // What was done just now takes a moment.
            let new = commands.find(|command| !done.iter().any(|done| done == command));
            new.map(|command| Some(command.to_owned()))
        })
        .await;
        let Some(command) = advice else { return done };
        let words: Vec<&str> = command.split_whitespace().skip(1).collect();
        if words[0] == "run" {
            services.push(program(&words).start());
        } else {
            act(&program, &words).await;
        }
        done.push(command);
    }
}

/// Waits until status reports this about that, with the advice that is to be followed.
async fn told(
    program: impl Fn(&[&str]) -> Program,
    about: &str,
    what: &str,
    advice: &str,
) -> Value {
    let last = std::cell::RefCell::new(Value::Null);
    let trouble = eventually_or(
        || {
            format!(
                "status says {what:?} about {about}; it says:\n{:#}",
                last.borrow()
            )
        },
        async || {
            let (_, said) = program(&["status", "--json"]).output().await;
            let said: Value = serde_json::from_str(&said).unwrap();
            let mut troubles = said["troubles"].as_array().unwrap().iter();
            let named = |trouble: &&Value| {
                trouble["about"].as_str().unwrap().contains(about)
                    && trouble["what"].as_str().unwrap().contains(what)
            };
            let found = troubles.find(named).cloned();
            last.replace(said["troubles"].clone());
            found
        },
    )
    .await;
    assert!(
        trouble["todo"].as_str().unwrap().contains(advice),
        "{trouble:#}"
    );
    trouble
}

/// Waits until status reports that all is well.
async fn well(program: impl Fn(&[&str]) -> Program, after: &str) {
    let last = std::cell::RefCell::new(String::new());
    eventually_or(
        || format!("all is well after {after}; status says:\n{}", last.borrow()),
        async || {
            let (status, said) = program(&["status"]).output().await;
            let well = status.success() && said.contains("All is well.");
            last.replace(said);
            well.then_some(())
        },
    )
    .await;
}

/// A finished row that stands for no file.
const ROW: &str = "insert into elem_wal (transaction_id, operation_type, status, operation_data) \
    values (gen_random_uuid(), 'cache_rebuild', 'committed', '{}')";

/// A log goes on where a stream, or its checkpoint, is another one. It asks for the relay first, which may
/// still be publishing.
async fn accept_stream(program: impl Fn(&[&str]) -> Program, words: &[&str]) {
    eventually("the stream is accepted", async || {
        program(words).finish().await.0.success().then_some(())
    })
    .await;
}

/// Runs a command, and what it says has to follow.
async fn act(program: impl Fn(&[&str]) -> Program, words: &[&str]) {
    if words[..2] == ["audit", "accept-stream"] {
        accept_stream(program, words).await;
        return;
    }
    let mut process = program(words).start();
    let status = process.ended().await;
    let (said, log) = (process.output(), process.log());
    assert_ne!(status.code(), Some(2), "{words:?} is no command: {log}");
    let next: Vec<&str> = match words[..2] {
        // Only the checkpoint is wrong.
        ["relay", "republish"] if said.starts_with("nothing to republish") => {
            let (_, named) = said.split_once("`artstore audit accept-stream ").unwrap();
            let (of, _) = named.split_once('`').unwrap();
            let words: Vec<&str> = ["audit", "accept-stream"]
                .into_iter()
                .chain(of.split(' '))
                .collect();
            accept_stream(program, &words).await;
            return;
        }
        // They show first what they would do.
        ["relay", "republish" | "accept-source"] => {
            assert!(format!("{said}{log}").contains("--yes"), "{said}{log}");
            [words, &["--yes", "--reason", "a test"]].concat()
        }
        // It names the retry, of this projection.
        ["parked", "list"] => {
            let (_, named) = said.split_once("artstore parked retry").unwrap();
            let of = named.lines().next().unwrap().split_whitespace();
            ["parked", "retry"].into_iter().chain(of).collect()
        }
        // It lists findings, each with what repairs it.
        ["verify", _] => {
            let (_, named) = said.split_once("artstore relay republish").unwrap();
            let of = named.lines().next().unwrap().split_whitespace();
            let confirmed = ["--yes", "--reason", "a test"];
            ["relay", "republish"]
                .into_iter()
                .chain(of)
                .chain(confirmed)
                .collect()
        }
        ["wal", "pending"] => {
            assert!(said.contains("artstore wal resolve"), "{said}");
            vec!["wal", "resolve", "--proposed", "--yes"]
        }
        _ => {
            assert!(status.success(), "{words:?}: {said}{log}");
            return;
        }
    };
    let mut process = program(&next).start();
    let status = process.ended().await;
    let (said, log) = (process.output(), process.log());
    assert!(status.success(), "{next:?}: {said}{log}");
}
