//! What PostgreSQL says, as people are shown it: its message, without the client's frame around it and
//! without the line of its own source that it names.

use std::fmt::Display;

use sqlx::Error;

/// An error in words.
pub fn words(error: &Error) -> String {
    match error {
        Error::Database(said) => said.message().to_owned(),
        other => other.to_string(),
    }
}

/// That there is no connection to a database. A server that answers and refuses is reached: there is
/// nothing to look for in the network.
pub fn not_connected(database: impl Display, error: &Error) -> String {
    match error {
        Error::Database(_) => format!("database {database} refuses the connection"),
        _ => format!("database {database} can't be reached"),
    }
}

/// The same, with why.
pub fn unreached(database: impl Display, error: &Error) -> String {
    format!("{}: {}", not_connected(database, error), words(error))
}
