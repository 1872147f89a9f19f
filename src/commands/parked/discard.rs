//! `artstore parked discard`.

use std::process::ExitCode;

use artstore_projectors::parking::{discarded, store};
use clap::Args;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};

use super::choice::{Of, not_parked, one};
use crate::config::ConfigError;
use crate::operator::record;
use crate::{names, operator};

/// What is discarded.
#[derive(Debug, Args)]
pub struct Discard {
    #[command(flatten)]
    pub(super) of: Of,
    /// Its stream, or its source: an element's name, query
    #[arg(value_parser = names::stream)]
    stream: String,
    /// Its sequence there
    sequence: u64,
    /// Why, in words: it goes into the audit log
    #[arg(long)]
    reason: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Gives one up.
pub(super) async fn discard(
    connection: &mut PgConnection,
    command: &Discard,
) -> anyhow::Result<ExitCode> {
    if command.reason.trim().is_empty() {
        return Err(ConfigError("--reason: say why, in words".to_owned()).into());
    }
    let projection = command.of.projection.name();
    let mut transaction = connection.begin().await?;
    // A retry or another discard is over, or waits and finds what is left.
    if !store::renew(&mut transaction, projection, &command.stream).await? {
        return Err(ConfigError(format!(
            "projection {projection} has no checkpoint of stream {}: nothing of it is parked",
            command.stream
        ))
        .into());
    }
    let event = one(
        &mut transaction,
        command.of,
        &command.stream,
        command.sequence,
    )
    .await?;
    if !discarded::discard(&mut transaction, &event, &command.reason).await? {
        return Err(not_parked(command.of, &command.stream, command.sequence).into());
    }
    let operator = operator::operator(&mut transaction).await?;
    let facts = json!({
        "stream": event.stream,
        "sequence": event.sequence,
        "key": event.key,
        "event_id": event.event_id,
        "was": event.reason,
        "reason": command.reason,
        "operator": operator,
    });
    record(&mut transaction, projection, "discard", facts.clone()).await?;
    transaction.commit().await?;
    let (stream, sequence) = (&event.stream, event.sequence);
    match command.json {
        true => println!("{facts:#}"),
        false => println!(
            "message {sequence} of {stream} is discarded: {} stays as it was without it. Those behind it still wait: \
             `artstore parked retry --projection {projection}`. To take it back: `artstore parked \
             undiscard --projection {projection} {stream} {sequence} --reason TEXT`",
            event
                .key
                .map_or_else(|| "the read model".to_owned(), |key| format!("file {key}")),
        ),
    }
    Ok(ExitCode::SUCCESS)
}
