//! `artstore status`: what it reports is true, what is wrong is named with what to do, and whatever
//! hangs, it ends.
//!
//! - `work`: who works, who is stuck, who has halted
//! - `unanswered`: servers that are away, frozen or slow
//! - `locks`: a relay's lock that changes hands, is not taken, or is held by a frozen relay

mod locks;
mod unanswered;
mod work;

use std::time::{Duration, Instant};

use artstore_schemas::element::ElementName;
use artstore_schemas::source::Source;
use serde_json::Value;

use crate::support::load::{create, new_file};
use crate::support::*;

/// A look ends within this, whatever hangs; a start of the program and a busy machine are in it.
const BOUND: Duration = Duration::from_secs(8);

/// As long as an element's name may be.
const LONG: &str = "storage_elem_with_a_name_so_long_1";

/// Exit code and what `--json` says.
async fn look(program: Program) -> (i32, Value) {
    let begun = Instant::now();
    let (status, said) = program.argument("--json").output().await;
    assert!(begun.elapsed() < BOUND, "{:?}: {said}", begun.elapsed());
    let code = status.code().unwrap();
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["well"], code == 0, "{said}");
    assert_eq!(said["troubles"].as_array().unwrap().is_empty(), code == 0);
    (code, said)
}

/// The screen without a terminal: no colour, 80 columns.
async fn screen(program: Program) -> (i32, String) {
    let (status, said) = program.output().await;
    println!("{said}");
    assert!(!said.contains('\u{1b}'));
    for line in said.lines() {
        assert!(line.chars().count() <= 80, "{line:?}");
    }
    (status.code().unwrap(), said)
}

/// Looks until it sees this.
async fn sees(what: &str, world: &World, seen: impl Fn(i32, &Value) -> bool) -> Value {
    let last = std::cell::RefCell::new(Value::Null);
    let found = eventually_or(what, || async {
        let (code, said) = look(world.command(&["status"])).await;
        let seen = seen(code, &said);
        *last.borrow_mut() = said.clone();
        seen.then_some(said)
    })
    .await;
    found.unwrap_or_else(|| panic!("never seen: {what}; last: {:#}", last.borrow()))
}

async fn eventually_or<T, F: Future<Output = Option<T>>>(
    _what: &str,
    mut condition: impl FnMut() -> F,
) -> Option<T> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Some(value) = condition().await {
            return Some(value);
        }
    }
    None
}

/// The item of a list about this source.
fn of<'a>(list: &'a Value, source: &str) -> &'a Value {
    let found = list.as_array().unwrap().iter();
    let mut found = found.filter(|item| item["source"] == source);
    found
        .next()
        .unwrap_or_else(|| panic!("no {source}: {list:#}"))
}

/// What is wrong, about this.
fn trouble<'a>(said: &'a Value, about: &str) -> Option<&'a Value> {
    let troubles = said["troubles"].as_array().unwrap();
    troubles.iter().find(|trouble| trouble["about"] == about)
}

async fn file(world: &World, element: usize) {
    let name = world.elements[element].0.clone();
    let mut element = (name, world.element(element).await);
    create(&mut element, &new_file("a.pdf")).await.unwrap();
}

/// Everything is published and applied.
async fn settled(world: &World) {
    for element in 0..world.elements.len() {
        world.published(element).await;
    }
    world.projected().await;
}

#[test]
fn without_a_database_there_is_nothing_to_look_at() {
    run(async {
        let (status, said) = Program::new(&["status"]).finish().await;
        assert_eq!(status.code(), Some(2), "{said}");
        assert!(said.contains("ARTSTORE_ELEMENTS"), "{said}");
        let (status, _) = Program::new(&["status", "--wacth"]).finish().await;
        assert_eq!(status.code(), Some(2));
        let name: Result<ElementName, _> = LONG.parse();
        assert_eq!(Source::Element(name.unwrap()).to_string().len(), 34);
    });
}
