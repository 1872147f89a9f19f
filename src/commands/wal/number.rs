//! `artstore wal number`: positions for finished rows that have none, because the trigger that
//! assigns them was off. `artstore verify` finds such rows.

use artstore_runtime::count::{by, counted};
use std::process::ExitCode;

use anyhow::Context as _;
use artstore_producers::operations::number;
use artstore_producers::relay::rows;
use artstore_producers::relay::source::SourceTable;
use artstore_runtime::connection;
use artstore_schemas::source::Source;
use clap::Args;
use serde_json::json;

use crate::command_event;
use crate::config::Config;
use crate::names;
use crate::status::database::not_connected;

/// How many rows are listed.
const LISTED: usize = 20;

/// Whose rows.
#[derive(Debug, Args)]
pub struct Number {
    /// The source: an element's name, admin, query, or its stream
    #[arg(long, value_parser = names::source)]
    source: Source,
    /// Do it; without it, only the rows are listed
    #[arg(long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Number {
    /// Whose rows.
    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// Or it only lists.
    pub(super) fn changes(&self) -> bool {
        self.yes
    }
}

/// Runs the command.
pub(super) async fn run(config: &Config, command: &Number) -> anyhow::Result<ExitCode> {
    let sources = config.sources(std::slice::from_ref(&command.source))?;
    for (source, database) in sources {
        let database = database.application_name("artstore wal number");
        let mut connection = connection::open(&database)
            .await
            .map_err(|error| not_connected(&database, "its URL and the server", error))
            .with_context(|| format!("source {source}"))?;
        let table = SourceTable::of(&source);
        let (ids, count) = rows::unnumbered(&mut connection, &table, LISTED).await?;
        let numbered = if command.yes {
            let numbered = number::number(&mut connection, &source).await;
            numbered.with_context(|| {
                format!(
                    "{}: nothing was changed; this needs the table's owner, and the table free \
                     for a moment",
                    table.name()
                )
            })?
        } else {
            0
        };
        if command.yes {
            let facts = json!({"found": count, "numbered": numbered});
            command_event::of_source(config, "wal number", (&source, &database), facts).await;
        }
        if command.json {
            let found = json!({"source": source.to_string(), "found": count, "numbered": numbered});
            println!("{found}");
            continue;
        }
        for id in &ids {
            println!("{id}");
        }
        if count > ids.len() as u64 {
            println!("and {} more", count - ids.len() as u64);
        }
        match (count, command.yes) {
            (_, true) => {
                println!(
                    "{} {} a position now; the relay publishes what has one",
                    counted(numbered, "row"),
                    by(numbered, "has", "have")
                );
                if let (Source::Element(name), true) = (&source, numbered > 0) {
                    // They come after what happened to their files since.
                    println!("then backfill the files: artstore element backfill {name}");
                }
            }
            (0, false) => println!("every finished row has a position"),
            (count, false) => println!(
                "{} {} no position; --yes gives one, above all others",
                counted(count, "finished row"),
                by(count, "has", "have")
            ),
        }
    }
    Ok(ExitCode::SUCCESS)
}
