//! `artstore parked list`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use artstore_projectors::parking::store::{self, Parked};
use chrono::Utc;
use clap::Args;
use serde_json::Value;
use sqlx::PgConnection;

use super::choice::{Filter, name, object};
use crate::status::lines::{age, events};

/// So many are listed.
const MOST: i64 = 100_000;

/// So many lines are shown to people.
const SHOWN: usize = 50;

/// All that are parked.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    pub(super) filter: Filter,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Lists what is parked, a key at a time.
pub(super) async fn list(
    connection: &mut PgConnection,
    command: &List,
) -> anyhow::Result<ExitCode> {
    command.filter.check(connection).await?;
    let parked = store::list(connection, &command.filter.which(), MOST).await?;
    let code = match parked.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    };
    if command.json {
        let all: Vec<Value> = parked.iter().map(object).collect();
        println!("{:#}", Value::Array(all));
        return Ok(code);
    }
    let mut keys = BTreeMap::new();
    for event in &parked {
        // A key at a time; what has no key by itself.
        let alone = event.key.is_none().then_some(event.sequence);
        let waiting = keys.entry((&event.stream, event.key, alone));
        waiting.or_insert((event, 0_usize)).1 += 1;
    }
    let mut heads: Vec<_> = keys.values().collect();
    heads.sort_by_key(|(event, _)| (&event.stream, event.sequence));
    for (event, all) in heads.iter().take(SHOWN) {
        show_head(event, all - 1);
    }
    if heads.len() > SHOWN {
        println!("and {} more: --json lists them", heads.len() - SHOWN);
    }
    let projection = command.filter.of.projection.name();
    match parked.len() {
        0 => println!("Nothing is parked."),
        count => println!(
            "{} of {} {} parked. When the cause is removed: artstore parked retry --projection \
             {projection}",
            events(count as u64),
            keys.len(),
            match (keys.len(), count) {
                (1, 1) => "key is",
                (1, _) => "key are",
                (_, _) => "keys are",
            }
        ),
    }
    Ok(code)
}

/// The first one of a key: it says why the others wait.
fn show_head(event: &Parked, behind: usize) {
    let waiting = match behind {
        0 => String::new(),
        behind => format!(", {behind} behind it"),
    };
    let about = match (name(event), event.key) {
        (Some(name), Some(key)) => format!("{key} {name:?}"),
        (Some(name), None) => format!("{name:?}"),
        (None, Some(key)) => key.to_string(),
        (None, None) => "no key".to_owned(),
    };
    let old = (Utc::now() - event.parked_at).num_seconds();
    // What only waited was not tried.
    let tried = match event.attempts + i32::from(event.reason.is_some()) {
        1 => "tried once".to_owned(),
        times => format!("tried {times} times"),
    };
    println!(
        "{} {}  {about}{waiting}  parked {} ago ({}), {tried}",
        event.stream,
        event.sequence,
        age(old as f64),
        event.parked_at.format("%Y-%m-%d %H:%M:%S UTC"),
    );
    let reason = event.reason.as_deref();
    println!(
        "    {}",
        reason.unwrap_or("those before it were discarded: it waits for a retry")
    );
}
