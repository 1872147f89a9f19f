//! Why the bus can't be used.

use std::error::Error as _;

use async_nats::ConnectErrorKind;

use artstore_schemas::size::MAX_MESSAGE_BYTES;

use crate::link::Lost;
use crate::refusals::Refusal;
use crate::stream_name::AUDIT_HEADS;

/// Why the bus can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// No connection.
    #[error(
        "NATS at {url} can't be reached: {cause}; check NATS_URL, NATS_CREDENTIALS and the server"
    )]
    Connect {
        /// The server, without a password.
        url: String,
        /// The client's message.
        cause: async_nats::ConnectError,
    },
    /// No encrypted connection: of the server or of the client a certificate is refused.
    #[error(
        "no TLS connection to NATS at {url}: {cause}; check NATS_CA, NATS_CERT, NATS_KEY and the server's certificate"
    )]
    Tls {
        /// The server, without a password.
        url: String,
        /// The client's message.
        cause: async_nats::ConnectError,
    },
    /// A file with a certificate or its key can't be read.
    #[error("{variable}: {path}: {cause}")]
    TlsFile {
        /// The setting.
        variable: &'static str,
        /// The file.
        path: String,
        /// What is wrong with it.
        cause: std::io::Error,
    },
    /// A server's URL can't be read.
    #[error(
        "NATS_URL: a text of {length} characters is no server URL ({reason}); expected \
         nats://[USER:PASSWORD@]HOST:PORT or tls://…"
    )]
    Url {
        /// Its length in characters: the text may be a password.
        length: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The credentials file can't be read.
    #[error("NATS_CREDENTIALS: {path} can't be read: {cause}")]
    Credentials {
        /// The file.
        path: String,
        /// What is wrong with it.
        cause: std::io::Error,
    },
    /// The server is too old.
    #[error("nats-server {version} is too old: 2.12.1 or newer is needed; upgrade the server")]
    TooOld {
        /// The server's version.
        version: String,
    },
    /// The server's message limit is below the size of our messages.
    #[error(
        "the NATS server takes messages of at most {max_payload} bytes, {MAX_MESSAGE_BYTES} are \
         needed: raise max_payload in its configuration"
    )]
    SmallMessages {
        /// The server's limit.
        max_payload: usize,
    },
    /// A stream does not exist.
    #[error(
        "stream {0} does not exist: run `artstore bus init`, or where it was lost `artstore bus restore \
         FOLDER` with the folder of a backup"
    )]
    NoStream(String),
    /// A stream exists, but not as it must be, and changing it could lose data.
    #[error(
        "stream {stream} exists with {found}, which must be {wanted}: nothing was changed; move or remove that stream first"
    )]
    Unfit {
        /// The stream.
        stream: String,
        /// What it has.
        found: String,
        /// What it must have.
        wanted: String,
    },
    /// The server refused a publish or a request.
    #[error(transparent)]
    NotPermitted(#[from] Refusal),
    /// A stream removes messages, or refuses new ones, at some limit.
    #[error(
        "stream {stream} exists with {found}, which must be {wanted}: it removes messages or \
         refuses new ones there, and nothing was changed; to take the limits away, run `artstore \
         bus init --remove-limits`, then {} to see what was lost",
        lost_by(.stream)
    )]
    Limited {
        /// The stream.
        stream: String,
        /// What it has.
        found: String,
        /// What it must have.
        wanted: String,
    },
    /// JetStream did not do what it was asked.
    #[error("JetStream: {0}")]
    JetStream(String),
}

impl From<Lost> for BusError {
    fn from(lost: Lost) -> Self {
        Self::JetStream(lost.to_string())
    }
}

impl BusError {
    /// Why there is no connection. `url` is without its password.
    pub(crate) fn of_connection(url: String, cause: async_nats::ConnectError) -> Self {
        match is_of_tls(&cause) {
            true => Self::Tls { url, cause },
            false => Self::Connect { url, cause },
        }
    }

    /// Whether a setting is wrong, so that nothing was tried.
    pub fn is_configuration(&self) -> bool {
        matches!(
            self,
            Self::Url { .. } | Self::Credentials { .. } | Self::TlsFile { .. }
        )
    }

    /// Whether another try may succeed without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { cause, .. } => match cause.kind() {
                ConnectErrorKind::Dns
                | ConnectErrorKind::TimedOut
                | ConnectErrorKind::Io
                | ConnectErrorKind::MaxReconnects => true,
                ConnectErrorKind::ServerParse
                | ConnectErrorKind::Authentication
                | ConnectErrorKind::AuthorizationViolation
                | ConnectErrorKind::Tls => false,
            },
            Self::JetStream(_) => true,
            Self::Url { .. }
            | Self::Tls { .. }
            | Self::TlsFile { .. }
            | Self::Credentials { .. }
            | Self::TooOld { .. }
            | Self::SmallMessages { .. }
            | Self::NoStream(_)
            | Self::NotPermitted(_)
            | Self::Unfit { .. }
            | Self::Limited { .. } => false,
        }
    }
}

/// TLS reports what it refuses as invalid data, which a network never is.
fn is_of_tls(cause: &async_nats::ConnectError) -> bool {
    let source = cause.source().and_then(|source| source.downcast_ref());
    let invalid = |error: &std::io::Error| error.kind() == std::io::ErrorKind::InvalidData;
    cause.kind() == ConnectErrorKind::Tls || source.is_some_and(invalid)
}

/// The command that names the messages that a stream lost.
fn lost_by(stream: &str) -> &'static str {
    match stream {
        AUDIT_HEADS => "`artstore audit verify`",
        _ => "`artstore verify`",
    }
}
