//! A database that is asked again and again, on one connection, each time with a deadline.

use std::time::Duration;

use artstore_migrations::Module;
use artstore_runtime::words::words;
use artstore_runtime::{holder, relation};
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use tokio::time::{Instant, timeout, timeout_at};

use super::database;
use super::reports::{Asked, TO_END, UNANSWERED};

/// How long each part may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// A database, and the connection that is kept from one look to the next.
pub(super) struct AskedDatabase {
    pub(super) options: PgConnectOptions,
    /// The tables that it is asked about, and no others.
    tables: Vec<String>,
    connection: Option<PgConnection>,
}

impl AskedDatabase {
    pub(super) fn new(module: &Module, options: PgConnectOptions) -> Self {
        Self {
            options,
            tables: module.tables(),
            connection: None,
        }
    }

    /// Connects, where there is no connection that still answers.
    pub(super) async fn reach(&mut self, until: Instant) -> Asked<()> {
        if let Some(connection) = &mut self.connection {
            let answer = sqlx::Connection::ping(connection);
            match timeout_at(until, answer).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(_)) => self.connection = None,
                Err(_) => {
                    self.connection = None;
                    return Err(late());
                }
            }
        }
        match timeout_at(until, database::connect(&self.options, PATIENCE)).await {
            Ok(Ok(connection)) => {
                self.connection = Some(connection);
                Ok(())
            }
            Ok(Err(error @ sqlx::Error::Database(_))) => {
                Err(format!("refuses the connection: {}", words(&error)))
            }
            Ok(Err(error)) => Err(format!("can't be reached: {error}")),
            Err(_) => Err(late()),
        }
    }

    /// Asks it something. A connection whose answer did not come is not used again.
    pub(super) async fn ask<T>(
        &mut self,
        until: Instant,
        question: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Asked<T> {
        let Some(connection) = &mut self.connection else {
            return Err(late());
        };
        let answer = match timeout_at(until, question(connection)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => Err(reason(&error)),
            // It was reached a moment ago.
            Err(_) => Err(UNANSWERED.to_owned()),
        };
        self.connection = None;
        match answer {
            Err(problem) if problem == UNANSWERED => Err(self.unanswered().await),
            answer => answer,
        }
    }

    /// A question that was not answered, and who has locked a table that it reads.
    async fn unanswered(&self) -> String {
        let asked = async {
            let mut connection = database::connect(&self.options, PATIENCE).await?;
            holder::of_a_table(&mut connection, &self.tables).await
        };
        match timeout(PATIENCE, asked).await {
            Ok(Ok(Some((table, holder)))) => format!(
                "{UNANSWERED}: table {table} is locked by {holder}{TO_END}{}",
                holder.end()
            ),
            Ok(Ok(None) | Err(_)) | Err(_) => UNANSWERED.to_owned(),
        }
    }
}

/// What a database's error means here.
fn reason(error: &sqlx::Error) -> String {
    let code = error.as_database_error().and_then(|error| error.code());
    match code.as_deref() {
        Some("42P01" | "42703") => {
            format!("{error}: is it the right database? If it is, run `artstore migrate up`")
        }
        Some("57014") => UNANSWERED.to_owned(),
        _ => match (error, relation::advice(error)) {
            (_, Some(advice)) => format!("{error}: {advice}"),
            (sqlx::Error::Configuration(cause), None) => cause.to_string(),
            (_, None) => error.to_string(),
        },
    }
}

/// What is reported about a part that did not answer in time.
pub(super) fn late() -> String {
    format!("does not answer within {} s", PATIENCE.as_secs())
}
