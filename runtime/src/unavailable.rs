//! Whether a server is unavailable for now, so that waiting may help: it can't be reached, is starting up
//! or shutting down, or has no connection left. What it refuses because of a name, a password or a right
//! stays refused.

use std::io::ErrorKind;

use sqlx::Error;

/// Cannot connect now: it is starting up, shutting down or recovering.
const CANNOT_CONNECT_NOW: &str = "57P03";

/// The session was ended because the server is stopped, or because another of its processes crashed.
const SHUTDOWN: [&str; 2] = ["57P01", "57P02"];

/// No connection is left: of the server, the database or the role.
const TOO_MANY_CONNECTIONS: &str = "53300";

/// The connection was lost, as the server reports it.
const CONNECTION: [&str; 4] = ["08000", "08001", "08003", "08006"];

/// Whether another try may succeed without anybody changing anything.
pub fn is_unavailable(error: &Error) -> bool {
    match error {
        // A file for TLS that may not be read, and a certificate that is refused, here or there. A socket's file that
        // is not there belongs to a server that has not started.
        Error::Io(error) => !matches!(
            error.kind(),
            ErrorKind::PermissionDenied | ErrorKind::InvalidData
        ),
        // Nothing came within the time that connecting may take; or the connection is gone.
        Error::PoolTimedOut | Error::PoolClosed | Error::WorkerCrashed => true,
        Error::Database(error) => error.code().is_some_and(|code| is_of_a_server(&code)),
        _ => false,
    }
}

fn is_of_a_server(code: &str) -> bool {
    code == CANNOT_CONNECT_NOW
        || code == TOO_MANY_CONNECTIONS
        || SHUTDOWN.contains(&code)
        || CONNECTION.contains(&code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_starts_up_is_waited_for_and_a_wrong_password_is_not() {
        for code in ["57P01", "57P02", "57P03", "53300", "08006"] {
            assert!(is_of_a_server(code), "{code}");
        }
        // Password, role, database, right, table; a pooler's refusal; a cancelled statement.
        for code in [
            "28P01", "28000", "3D000", "42501", "42P01", "08P01", "57014",
        ] {
            assert!(!is_of_a_server(code), "{code}");
        }
    }

    #[test]
    fn a_connection_that_is_refused_or_cut_is_waited_for() {
        for kind in [
            ErrorKind::ConnectionRefused,
            ErrorKind::ConnectionReset,
            ErrorKind::UnexpectedEof,
        ] {
            assert!(is_unavailable(&Error::Io(kind.into())), "{kind}");
        }
        assert!(is_unavailable(&Error::PoolTimedOut));
        assert!(!is_unavailable(&Error::Io(
            ErrorKind::PermissionDenied.into()
        )));
        assert!(!is_unavailable(&Error::RowNotFound));
    }
}
