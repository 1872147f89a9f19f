//! `artstore parked show`.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};
use sqlx::PgConnection;

use super::choice::{Of, object, one};
use crate::names;

/// One event.
#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    pub(super) of: Of,
    /// Its stream, or its source: an element's name, query
    #[arg(value_parser = names::stream)]
    stream: String,
    /// Its sequence there
    sequence: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Shows one with its headers and its body.
pub(super) async fn show(
    connection: &mut PgConnection,
    command: &Show,
) -> anyhow::Result<ExitCode> {
    let event = one(connection, command.of, &command.stream, command.sequence).await?;
    let headers: serde_json::Map<String, Value> = event
        .message
        .headers
        .iter()
        .map(|(name, values)| {
            let values: Vec<&str> = values.iter().map(|value| value.as_str()).collect();
            (name.to_string(), json!(values))
        })
        .collect();
    let body = String::from_utf8_lossy(&event.message.body).into_owned();
    if command.json {
        let mut all = object(&event);
        all["headers"] = headers.into();
        all["body"] = body.into();
        println!("{all:#}");
        return Ok(ExitCode::SUCCESS);
    }
    println!("message   {} of {}", event.sequence, event.stream);
    println!("subject   {}", event.message.subject);
    let reason = event.reason.as_deref();
    println!(
        "reason    {}",
        reason.unwrap_or("it waits behind an earlier event of its key")
    );
    for (name, values) in &headers {
        for value in values.as_array().into_iter().flatten() {
            println!("  {name}: {}", value.as_str().unwrap_or_default());
        }
    }
    match serde_json::from_str::<Value>(&body) {
        Ok(body) => println!("{body:#}"),
        Err(_) => println!("{body:?}"),
    }
    Ok(ExitCode::SUCCESS)
}
