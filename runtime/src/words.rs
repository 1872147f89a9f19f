//! PostgreSQL's messages, as people are shown them: the message alone, without the client's frame around it
//! and without the line of PostgreSQL's source that it names.

use std::fmt::Display;

use sqlx::Error;

use crate::server::TO_UTF8;

/// `untranslatable_character`.
const UNTRANSLATABLE_CHARACTER: &str = "22P05";

/// An error in words.
pub fn words(error: &Error) -> String {
    match error {
        Error::Database(said) => said.message().to_owned(),
        Error::Tls(cause) if cause.to_string().contains("does not support TLS") => format!(
            "{cause}; switch it on there, or set sslmode=disable where nobody else is on the network in between"
        ),
        Error::Io(cause) if is_of_tls(cause) => {
            format!("{cause}; check sslrootcert, sslcert and sslkey, and the server's certificate")
        }
        other => other.to_string(),
    }
}

/// TLS reports what it refuses as invalid data, which a network never is.
fn is_of_tls(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::InvalidData
}

/// Why a statement that writes was refused, with what to do.
pub fn refused(error: &Error) -> String {
    match is_untranslatable(error) {
        true => format!(
            "{}; without that character it works, or {TO_UTF8}",
            words(error)
        ),
        false => words(error),
    }
}

/// Whether a text has a character that another encoding has not: one that is read is none in UTF-8, or one
/// that is written is none in the database's.
pub fn is_untranslatable(error: &Error) -> bool {
    let code = error.as_database_error().and_then(|said| said.code());
    code.as_deref() == Some(UNTRANSLATABLE_CHARACTER)
}

/// That there is no connection to a database. A server that answers and refuses is reached: there is
/// nothing to look for in the network.
pub fn not_connected(database: impl Display, error: &Error) -> String {
    match error {
        Error::Database(_) => format!("database {database} refuses the connection"),
        Error::Tls(_) => format!("no TLS connection to database {database}"),
        Error::Io(cause) if is_of_tls(cause) => format!("no TLS connection to database {database}"),
        _ => format!("database {database} can't be reached"),
    }
}

/// The same, with why.
pub fn unreached(database: impl Display, error: &Error) -> String {
    format!("{}: {}", not_connected(database, error), words(error))
}
