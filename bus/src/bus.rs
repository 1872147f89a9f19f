//! The connection to NATS and the streams of the bus. `artstore bus init` creates the streams; relay
//! and projectors only find them.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{
    Compression, Config, DiscardPolicy, Info, RetentionPolicy, StorageType,
};
use async_nats::jetstream::{self, ErrorCode};
use async_nats::{ConnectErrorKind, ConnectOptions, ServerAddr, Subscriber};

use crate::link::{Link, Lost};
use crate::refusals::{Refusal, Refusals};
use artstore_schemas::size::MAX_MESSAGE_BYTES;
use artstore_schemas::source::Source;

/// The oldest server that does all that is needed (atomic publishing, fixed expected sequences).
pub const OLDEST_SERVER: (i64, i64, i64) = (2, 12, 1);

/// How many messages a subscription of ours may hold unread: above every pull batch, because the
/// client drops what does not fit.
const SUBSCRIPTION_CAPACITY: usize = 64 * 1024;

/// How often the server is asked whether it is there, while it sends nothing by itself. Three questions
/// without an answer, and the connection is lost: a network that swallows packets gives no error.
const PING: Duration = Duration::from_millis(1_500);

/// How long it may take to connect to a server.
const CONNECT: Duration = Duration::from_secs(4);

/// How long an answer of JetStream may take.
const ANSWER: Duration = Duration::from_secs(5);

/// How long the connection may take to accept what is to be sent.
pub(crate) const SEND: Duration = Duration::from_secs(5);

const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// How to reach NATS.
#[derive(Debug, Clone)]
pub struct BusOptions {
    /// One or more server URLs, separated by commas.
    pub url: String,
    /// A credentials file.
    pub credentials: Option<PathBuf>,
    /// The name of the connection on the server.
    pub name: String,
}

/// A connection to NATS whose server was checked.
#[derive(Debug, Clone)]
pub struct Bus {
    /// The connection: reconnects by itself, for ever.
    pub client: async_nats::Client,
    /// JetStream on it.
    pub jetstream: jetstream::Context,
    /// What the server has refused.
    pub refusals: Refusals,
    /// Whether the connection is up.
    pub link: Link,
    /// How long an answer of JetStream may take.
    pub(crate) patience: Duration,
}

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
    /// A server's URL can't be read.
    #[error(
        "NATS_URL: {url} is no server URL ({reason}); expected nats://[USER:PASSWORD@]HOST:PORT"
    )]
    Url {
        /// The URL, without a password.
        url: String,
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
    /// Whether a setting is wrong, so that nothing was tried.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Url { .. } | Self::Credentials { .. })
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

impl Bus {
    /// Connects and checks the server.
    pub async fn connect(options: &BusOptions) -> Result<Self, BusError> {
        let servers = servers(&options.url)?;
        // The client does not take user and password from the URL by itself.
        let login = servers.iter().find_map(|server| {
            Some((server.username()?.to_owned(), server.password()?.to_owned()))
        });
        let credentials = options.credentials.as_ref();
        let refusals = Refusals::of(&match (&login, credentials) {
            (_, Some(path)) => format!("of {}", path.display()),
            (Some((user, _)), None) => format!("{user:?}"),
            (None, None) => "without a name".to_owned(),
        });
        let link = Link::default();
        let (heard, state) = (refusals.clone(), link.clone());
        let mut connect = ConnectOptions::new()
            .name(&options.name)
            .subscription_capacity(SUBSCRIPTION_CAPACITY)
            .request_timeout(Some(ANSWER))
            .ping_interval(PING)
            .connection_timeout(CONNECT)
            .reconnect_delay_callback(|tries| {
                Duration::from_millis(u64::try_from(tries).unwrap_or(20).min(20) * 50)
            })
            .event_callback(move |event| {
                heard.hear(&event);
                state.hear(&event);
                async move { tracing::info!(%event, "NATS connection") }
            });
        if let Some(path) = &options.credentials {
            connect =
                connect
                    .credentials_file(path)
                    .await
                    .map_err(|cause| BusError::Credentials {
                        path: path.display().to_string(),
                        cause,
                    })?;
        }
        if let Some((user, password)) = login {
            connect = connect.user_and_password(user, password);
        }
        let client = connect
            .connect(servers)
            .await
            .map_err(|cause| BusError::Connect {
                url: without_password(&options.url),
                cause,
            })?;
        let bus = Self {
            jetstream: jetstream::new(client.clone()),
            client,
            refusals,
            link,
            patience: ANSWER,
        };
        bus.check_server()?;
        Ok(bus)
    }

    /// For commands that read for a long time: a server that is busy for some seconds is not one
    /// that is gone.
    #[must_use]
    pub fn patient(mut self) -> Self {
        self.patience = Duration::from_secs(30);
        self.jetstream.set_timeout(self.patience);
        self
    }

    /// For how long there has been no connection; none while there is one.
    pub fn lost_for(&self) -> Option<Duration> {
        match self.client.connection_state() {
            State::Connected => None,
            State::Pending | State::Disconnected => Some(self.link.lost_for().unwrap_or_default()),
        }
    }

    fn check_server(&self) -> Result<(), BusError> {
        let (major, minor, patch) = OLDEST_SERVER;
        let info = self.client.server_info();
        if !self.client.is_server_compatible(major, minor, patch) {
            return Err(BusError::TooOld {
                version: info.version,
            });
        }
        if info.max_payload < MAX_MESSAGE_BYTES {
            return Err(BusError::SmallMessages {
                max_payload: info.max_payload,
            });
        }
        Ok(())
    }

    /// Subscribes to a subject. The connection accepts nothing while its buffer is full: it has no server, or
    /// one that accepts nothing.
    pub async fn subscribe(&self, subject: String) -> Result<Subscriber, BusError> {
        let subscribed = self.client.subscribe(subject.clone());
        match tokio::time::timeout(SEND, subscribed).await {
            Ok(Ok(subscription)) => Ok(subscription),
            Ok(Err(error)) => Err(BusError::JetStream(format!("subject {subject}: {error}"))),
            Err(_) => Err(BusError::JetStream(format!(
                "subject {subject}: the connection takes nothing more"
            ))),
        }
    }

    /// A stream's present state, as its leader knows it.
    // The one place where it is allowed: a refusal is named here.
    #[allow(clippy::disallowed_methods)]
    pub async fn stream_info(&self, stream: &str) -> Result<Info, BusError> {
        let call = self.jetstream.get_stream(stream);
        match self.permitted("STREAM.INFO", stream, call).await? {
            Ok(handle) => Ok(handle.cached_info().clone()),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(e)
                    if e.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                {
                    Err(BusError::NoStream(stream.to_owned()))
                }
                _ => Err(BusError::JetStream(format!("stream {stream}: {error}"))),
            },
        }
    }

    /// Refuses where one of the streams exists and is unfit, before any of them is touched.
    pub async fn check_streams(
        &self,
        streams: &[StreamName],
        replicas: usize,
        limits: Limits,
    ) -> Result<(), BusError> {
        for stream in streams {
            match self.stream_info(stream.as_str()).await {
                Ok(info) => refuse_unfit(&info.config, &stream_config(stream, replicas), limits)?,
                Err(BusError::NoStream(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Creates a source's stream, or repairs an existing one where that loses nothing.
    /// Calling it again changes nothing.
    pub async fn ensure_stream(
        &self,
        source: &Source,
        replicas: usize,
    ) -> Result<StreamChange, BusError> {
        self.ensure(&StreamName::of(source), replicas).await
    }

    /// The same for any stream of ours.
    pub async fn ensure(
        &self,
        stream: &StreamName,
        replicas: usize,
    ) -> Result<StreamChange, BusError> {
        self.ensure_with(stream, replicas, Limits::Refuse).await
    }

    /// The same, and what to do about limits.
    pub async fn ensure_with(
        &self,
        stream: &StreamName,
        replicas: usize,
        limits: Limits,
    ) -> Result<StreamChange, BusError> {
        let name = stream.as_str();
        let wanted = stream_config(stream, replicas);
        let failed =
            |error: &dyn std::fmt::Display| BusError::JetStream(format!("stream {name}: {error}"));
        let (existing, state) = match self.stream_info(name).await {
            Ok(info) => (info.config, info.state),
            Err(BusError::NoStream(_)) => {
                let call = self.jetstream.create_stream(wanted.clone());
                let made = self.permitted("STREAM.CREATE", name, call).await?;
                let made = made.map_err(|e| failed(&e))?;
                refuse_unfit(&made.cached_info().config, &wanted, Limits::Refuse)?;
                return Ok(StreamChange::Created);
            }
            Err(error) => return Err(error),
        };
        refuse_unfit(&existing, &wanted, limits)?;
        let limited = refuse_unfit(&existing, &wanted, Limits::Refuse).is_err();
        if !limited && fits(&existing, &wanted) {
            return Ok(StreamChange::Unchanged);
        }
        let call = self.jetstream.update_stream(wanted);
        let update = self.permitted("STREAM.UPDATE", name, call).await?;
        update.map_err(|e| failed(&e))?;
        if limited {
            return Ok(StreamChange::LimitsRemoved {
                missing: state.last_sequence.saturating_sub(state.messages),
            });
        }
        Ok(StreamChange::Updated)
    }
}

fn servers(urls: &str) -> Result<Vec<ServerAddr>, BusError> {
    urls.split(',')
        .map(|url| {
            url.trim()
                .parse()
                .map_err(|error: std::io::Error| BusError::Url {
                    url: without_password(url),
                    reason: error.to_string(),
                })
        })
        .collect()
}

/// What [`Bus::ensure_stream`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamChange {
    /// The stream was created.
    Created,
    /// Settings that lose nothing were changed.
    Updated,
    /// Limits that remove messages were removed.
    LimitsRemoved {
        /// How many messages the stream lacks, whatever removed them.
        missing: u64,
    },
    /// It was as it should be.
    Unchanged,
}

/// What [`Bus::ensure_with`] does about limits at which a stream removes or refuses messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limits {
    /// Leave the stream as it is, with an error.
    Refuse,
    /// Remove them, which loses nothing.
    Remove,
}

/// A stream of ours: one of a source, or the one of signed audit heads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamName {
    name: String,
    subjects: String,
}

impl StreamName {
    /// The stream that holds a source's events.
    pub fn of(source: &Source) -> Self {
        Self {
            name: source.stream(),
            subjects: format!("{}.>", source.subject_prefix()),
        }
    }

    /// The stream of signed audit heads, which the audit log's database can't rewrite.
    pub fn audit_heads() -> Self {
        Self {
            name: AUDIT_HEADS.to_owned(),
            subjects: format!("{AUDIT_HEAD_PREFIX}.>"),
        }
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.name
    }
}

/// The stream of signed audit heads.
pub const AUDIT_HEADS: &str = "ARTSTORE_AUDIT_HEADS";

const AUDIT_HEAD_PREFIX: &str = "artstore.audit.head";

/// The command that names the messages that a stream lost.
fn lost_by(stream: &str) -> &'static str {
    match stream {
        AUDIT_HEADS => "`artstore audit verify`",
        _ => "`artstore verify`",
    }
}

/// The subject of the heads of a stream's log.
pub fn audit_head_subject(stream: &str) -> String {
    format!("{AUDIT_HEAD_PREFIX}.{stream}")
}

fn stream_config(stream: &StreamName, replicas: usize) -> Config {
    Config {
        name: stream.name.clone(),
        subjects: vec![stream.subjects.clone()],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        discard: DiscardPolicy::New,
        max_messages: -1,
        max_bytes: -1,
        max_messages_per_subject: -1,
        max_message_size: -1,
        max_consumers: -1,
        num_replicas: replicas,
        duplicate_window: DUPLICATE_WINDOW,
        deny_delete: true,
        deny_purge: true,
        allow_direct: true,
        allow_atomic_publish: true,
        compression: Some(Compression::S2),
        ..Config::default()
    }
}

impl Bus {
    /// Why a stream removes messages, or will; none where it does not.
    pub async fn limit(&self, stream: &str) -> Result<Option<String>, BusError> {
        let info = self.stream_info(stream).await?;
        Ok(check_limits(&info.config)
            .err()
            .map(|error| error.to_string()))
    }
}

/// Whether a stream that is in use removes messages, or will: somebody has given it a limit.
pub fn check_limits(found: &Config) -> Result<(), BusError> {
    let wanted = limits(&Config {
        max_messages: -1,
        max_bytes: -1,
        max_messages_per_subject: -1,
        ..Config::default()
    });
    let found_limits = limits(found);
    if found_limits == wanted {
        return Ok(());
    }
    Err(BusError::Limited {
        stream: found.name.clone(),
        found: format!("{LIMITS} {found_limits}"),
        wanted,
    })
}

/// Refuses a stream whose settings may have lost messages, or would when they were changed.
fn refuse_unfit(found: &Config, wanted: &Config, on_limits: Limits) -> Result<(), BusError> {
    let checks = [
        (
            "subjects",
            format!("{:?}", found.subjects),
            format!("{:?}", wanted.subjects),
        ),
        (
            "retention",
            format!("{:?}", found.retention),
            format!("{:?}", wanted.retention),
        ),
        (
            "storage",
            format!("{:?}", found.storage),
            format!("{:?}", wanted.storage),
        ),
        ("seal", found.sealed.to_string(), wanted.sealed.to_string()),
    ];
    for (what, found_value, wanted_value) in checks {
        if found_value != wanted_value {
            return Err(BusError::Unfit {
                stream: found.name.clone(),
                found: format!("{what} {found_value}"),
                wanted: wanted_value,
            });
        }
    }
    if on_limits == Limits::Remove {
        return Ok(());
    }
    let (found_value, wanted_value) = (
        format!("{:?}", found.discard),
        format!("{:?}", wanted.discard),
    );
    if found_value != wanted_value {
        return Err(BusError::Limited {
            stream: found.name.clone(),
            found: format!("discard {found_value}"),
            wanted: wanted_value,
        });
    }
    check_limits(found)
}

const LIMITS: &str = "limits (messages, bytes, per subject, age)";

fn limits(config: &Config) -> String {
    let none = |limit: i64| if limit <= 0 { -1 } else { limit };
    format!(
        "{}, {}, {}, {:?}",
        none(config.max_messages),
        none(config.max_bytes),
        none(config.max_messages_per_subject),
        config.max_age
    )
}

fn fits(found: &Config, wanted: &Config) -> bool {
    found.num_replicas == wanted.num_replicas
        && found.duplicate_window == wanted.duplicate_window
        && found.deny_delete
        && found.deny_purge
        && found.allow_direct
        && found.allow_atomic_publish
        && found.compression == wanted.compression
        && found.max_message_size <= 0
        && !found.no_ack
}

/// A URL list as it may be shown: without passwords.
pub fn without_password(urls: &str) -> String {
    urls.split(',')
        .map(|url| {
            // The scheme may be left out.
            let login = url.find("://").map_or(0, |scheme| scheme + 3);
            match url.rfind('@') {
                Some(at) if at >= login => format!("{}{}", &url[..login], &url[at + 1..]),
                _ => url.to_owned(),
            }
        })
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_url_has_no_password() {
        assert_eq!(
            without_password("nats://a:b@h:1,nats://h:2,a:b@h"),
            "nats://h:1,nats://h:2,h"
        );
    }
}
