//! `artstore parked retry`.

use artstore_runtime::count::{by, counted};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use artstore_bus::accounts::role::Role;
use artstore_bus::breaks;
use artstore_bus::connection::Bus;
use artstore_projectors::element_registry::ElementRegistry;
use artstore_projectors::parking::retry::{Retried, retry};
use artstore_projectors::parking::store::{self, Group, Which};
use artstore_projectors::query_cache::QueryCache;
use artstore_schemas::damage::Damage;
use artstore_schemas::source::Source;
use clap::Args;
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use super::choice::{Filter, Parks};
use crate::config::Config;
use crate::operator;
use crate::operator::record;
use crate::status::lines::events;

/// What is tried again: without a filter, everything.
#[derive(Debug, Args)]
pub struct Retry {
    #[command(flatten)]
    pub(super) filter: Filter,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What happened to one key.
struct Outcome {
    stream: String,
    key: Option<Uuid>,
    retried: Retried,
}

/// Applies them again.
pub(super) async fn again(
    config: &Config,
    connection: &mut PgConnection,
    command: &Retry,
) -> anyhow::Result<ExitCode> {
    command.filter.check(connection).await?;
    let wanted = store::groups(connection, &command.filter.which()).await?;
    let bus = match wanted.is_empty() {
        true => None,
        false => Some(Bus::connect(&config.bus(Role::Reader, "artstore parked retry")?).await?),
    };
    let mut outcomes = Vec::new();
    for Group { stream, key, alone } in wanted {
        let source = Source::of_stream(&stream)
            .ok_or_else(|| anyhow!("stream {stream} is none of a source"))?;
        let projection = command.filter.of.projection;
        let which = Which {
            projection: Some(projection.name()),
            stream: Some(&stream),
            key,
            sequence: alone,
        };
        let damage = match &bus {
            Some(bus) => breaks::damage(bus, &source).await?,
            None => Damage::default(),
        };
        let operator = operator::operator(connection).await?;
        let record = async |transaction: &mut PgConnection, retried: &Retried| {
            let stuck = retried.stuck.as_ref();
            let facts = json!({
                "stream": stream,
                "key": key,
                "applied": retried.applied,
                "passed_over": retried.passed_over,
                "stuck_at": stuck.map(|(event, _)| event.sequence),
                "reason": stuck.map(|(_, reason)| reason),
                "operator": operator,
            });
            record(transaction, projection.name(), "retry", facts).await
        };
        let retried = match projection {
            Parks::QueryCache => {
                retry(&QueryCache, connection, &source, &which, &damage, record).await
            }
            Parks::ElementRegistry => {
                retry(
                    &ElementRegistry,
                    connection,
                    &source,
                    &which,
                    &damage,
                    record,
                )
                .await
            }
        };
        let retried = retried.with_context(|| format!("stream {stream}"))?;
        if !command.json {
            print_outcome(&stream, key, &retried);
        }
        outcomes.push(Outcome {
            stream,
            key,
            retried,
        });
    }
    let stuck = outcomes
        .iter()
        .filter(|one| one.retried.stuck.is_some())
        .count();
    let applied: u64 = outcomes.iter().map(|one| one.retried.applied).sum();
    if command.json {
        let all: Vec<Value> = outcomes
            .iter()
            .map(|one| {
                let stuck = one.retried.stuck.as_ref();
                json!({
                    "stream": one.stream,
                    "key": one.key,
                    "applied": one.retried.applied,
                    "stuck_at": stuck.map(|(event, _)| event.sequence),
                    "reason": stuck.map(|(_, reason)| reason),
                })
            })
            .collect();
        println!(
            "{:#}",
            json!({"applied": applied, "stuck": stuck, "keys": all})
        );
    } else {
        println!(
            "{} applied; {stuck} of {} still {}.",
            events(applied),
            counted(outcomes.len(), "key"),
            by(stuck, "waits", "wait")
        );
    }
    Ok(match stuck {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn print_outcome(stream: &str, key: Option<Uuid>, retried: &Retried) {
    let key = key.map_or_else(|| "no key".to_owned(), |key| key.to_string());
    match &retried.stuck {
        None => println!(
            "{stream}  {key}  caught up: {} applied",
            events(retried.applied)
        ),
        Some((event, reason)) => println!(
            "{stream}  {key}  still waits at {}, {} applied: {reason}",
            event.sequence,
            events(retried.applied)
        ),
    }
}
