//! The connection to NATS, with a server that can do all that is needed.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream;
use async_nats::{ConnectOptions, ServerAddr, Subscriber};

use crate::accounts::role::Role;
use crate::bus_error::BusError;
use crate::credentials::{self, Credentials};
use crate::link::Link;
use crate::refusals::Refusals;
use crate::tls::TlsFiles;
use artstore_schemas::size::MAX_MESSAGE_BYTES;

/// The oldest server that does all that is needed (atomic publishing, fixed expected sequences).
pub(crate) const OLDEST_SERVER: (i64, i64, i64) = (2, 12, 1);

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

/// How to reach NATS. Debug output contains no password.
#[derive(Clone)]
pub struct BusOptions {
    /// One or more server URLs, separated by commas, maybe with passwords.
    pub url: String,
    /// A credentials file, the key of a user, or a folder with keys, where the role's is taken.
    pub credentials: Option<PathBuf>,
    /// How the connection is encrypted.
    pub tls: TlsFiles,
    /// Who connects.
    pub role: Role,
    /// The name of the connection on the server.
    pub name: String,
}

impl fmt::Debug for BusOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BusOptions")
            .field("url", &without_password(&self.url))
            .field("credentials", &self.credentials)
            .field("tls", &self.tls)
            .field("role", &self.role)
            .field("name", &self.name)
            .finish()
    }
}

impl BusOptions {
    /// Host, user and password of each server whose URL has them. A URL that can't be read has none.
    pub fn passwords(&self) -> Vec<(String, String, String)> {
        let servers = servers(&self.url).unwrap_or_default();
        let login = |server: &ServerAddr| {
            let (user, password) = (server.username()?, server.password()?);
            Some((
                server.host().to_owned(),
                user.to_owned(),
                password.to_owned(),
            ))
        };
        servers.iter().filter_map(login).collect()
    }

    /// The file that it logs in with, where there is one.
    pub fn credentials_file(&self) -> Option<PathBuf> {
        let path = self.credentials.as_deref()?;
        Some(credentials::file(path, &self.role))
    }

    /// Whether the role has a key of its own here, so that no other role can use the connection.
    pub fn is_of_role(&self) -> Result<bool, BusError> {
        let Some(path) = &self.credentials else {
            return Ok(false);
        };
        credentials::has_own(path, &self.role).map_err(|cause| BusError::Credentials {
            path: path.display().to_string(),
            cause,
        })
    }
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
    options: Arc<BusOptions>,
}

impl Bus {
    /// Connects and checks the server.
    pub async fn connect(options: &BusOptions) -> Result<Self, BusError> {
        let servers = servers(&options.url)?;
        // The client does not take user and password from the URL by itself.
        let login = servers.iter().find_map(|server| {
            Some((server.username()?.to_owned(), server.password()?.to_owned()))
        });
        let credentials = options.credentials.as_deref();
        let credentials = credentials.map(|path| Credentials::find(path, &options.role));
        let credentials = credentials.transpose()?;
        let refusals = Refusals::of(&match (&login, &credentials) {
            (_, Some(found)) => format!("of {}", found.path().display()),
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
        connect = options.tls.set(connect)?;
        if servers.iter().any(ServerAddr::tls_required) {
            // Also of the servers that this one names.
            connect = connect.require_tls(true);
        }
        connect = match credentials {
            None => connect,
            Some(Credentials::Key(_, key)) => connect
                .nkey(key.seed())
                .custom_inbox_prefix(key.inbox_prefix()),
            Some(Credentials::File(path)) => {
                let read = connect.credentials_file(&path).await;
                read.map_err(|cause| BusError::Credentials {
                    path: path.display().to_string(),
                    cause,
                })?
            }
        };
        if let Some((user, password)) = login
            && options.credentials.is_none()
        {
            connect = connect.user_and_password(user, password);
        }
        let client = connect
            .connect(servers)
            .await
            .map_err(|cause| BusError::of_connection(without_password(&options.url), cause))?;
        let bus = Self {
            jetstream: jetstream::new(client.clone()),
            client,
            refusals,
            link,
            patience: ANSWER,
            options: Arc::new(options.clone()),
        };
        bus.check_server()?;
        Ok(bus)
    }

    /// Another connection of the same user. What others send may end the one that it comes by: the client gives up
    /// where it can't read a message's headers.
    pub async fn another(&self, purpose: &str) -> Result<Self, BusError> {
        let options = &*self.options;
        Self::connect(&BusOptions {
            name: format!("{} ({purpose})", options.name),
            ..options.clone()
        })
        .await
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
}

fn servers(urls: &str) -> Result<Vec<ServerAddr>, BusError> {
    urls.split(',')
        .map(|url| {
            let refused = |reason: String| BusError::Url {
                length: url.chars().count(),
                reason,
            };
            let server: Result<ServerAddr, std::io::Error> = url.trim().parse();
            let server = server.map_err(|error| refused(error.to_string()))?;
            // The client has none built in, and would send plain text.
            match server.is_websocket() {
                true => Err(refused("WebSockets are not supported".to_owned())),
                false => Ok(server),
            }
        })
        .collect()
}

/// A URL list as it may be shown: without passwords, and without what is no URL, which may be a part of one.
pub fn without_password(urls: &str) -> String {
    urls.split(',')
        .map(|url| {
            if url.trim().parse::<ServerAddr>().is_err() {
                return format!("(a text of {} characters)", url.chars().count());
            }
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
    fn debug_output_has_no_password() {
        let options = BusOptions {
            url: "nats://ann:hidden@h:1".to_owned(),
            credentials: None,
            tls: TlsFiles::default(),
            role: Role::Reader,
            name: "test".to_owned(),
        };
        let shown = format!("{options:?}");
        assert!(
            shown.contains("nats://h:1") && !shown.contains("hidden"),
            "{shown}"
        );
        let login = ["h", "ann", "hidden"].map(str::to_owned);
        assert_eq!(options.passwords(), [login.into()]);
    }

    #[test]
    fn a_shown_url_has_no_password() {
        assert_eq!(
            without_password("nats://a:b@h:1,nats://h:2,a:b@h"),
            "nats://h:1,nats://h:2,h"
        );
        assert_eq!(
            without_password("nats://a:hidden,too@h"),
            "(a text of 15 characters),h"
        );
    }
}
