//! How a running part of the system shows itself: its health and its numbers, over HTTP. The data
//! comes from the parts' `progress` and from measurements made from outside; nothing here
//! changes what a part does.
//!
//! - `metrics`: the text format of numbers
//! - `readiness`: whether a part is caught up and able to write
//! - `projection`: the projections that can be run
//! - `relay`, `projector`: what each part shows
//! - [`waiting`]: waiting for a server at the start
//! - [`answer`]: what it answers to `artstore status`, over NATS
//! - `http`: the server

pub mod answer;
mod http;
mod metrics;
mod projection;
mod projector;
mod readiness;
mod relay;
pub mod waiting;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Instant, SystemTime};

use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

pub use self::http::Page;
use self::metrics::{Kind, Text};
pub use self::projection::Projection;
pub use self::projector::ProjectorRole;
pub use self::readiness::{Limits, Part, Readiness};
pub use self::relay::{RelayRole, ShownRelay};
use crate::config::{ConfigError, ServiceSettings};

/// The paths that are answered.
pub(crate) const PATHS: [&str; 3] = ["/health/live", "/health/ready", "/metrics"];

/// What a part of the system shows of itself.
pub trait Role: Send + Sync {
    /// Whether it is caught up and able to write, part by part.
    fn readiness(&self) -> Readiness;
    /// Its numbers.
    fn metrics(&self, text: &mut Text);
}

/// A running part of the system, as it is seen from outside.
pub struct Service {
    name: &'static str,
    started: (Instant, SystemTime),
    stop: CancellationToken,
    /// What is waited for before there is a role.
    waiting: Mutex<Option<String>>,
    role: OnceLock<Arc<dyn Role>>,
    tasks: Mutex<Vec<(String, AbortHandle)>>,
}

impl Service {
    /// Starts to answer, where an address is given; the part itself may still be on its way.
    pub async fn start(
        name: &'static str,
        settings: &ServiceSettings,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, ConfigError> {
        let service = Arc::new(Self::new(name, stop));
        if let Some(address) = settings.listen {
            let (listener, address) = bind(address).await?;
            tracing::info!(%address, "listening: {}", PATHS.join(", "));
            let pages = Arc::clone(&service);
            let server = tokio::spawn(http::serve(listener, move |path| pages.page(path)));
            service.watch("the HTTP server", server.abort_handle());
        }
        Ok(service)
    }

    fn new(name: &'static str, stop: CancellationToken) -> Self {
        Self {
            name,
            started: (Instant::now(), SystemTime::now()),
            stop,
            waiting: Mutex::default(),
            role: OnceLock::new(),
            tasks: Mutex::new(Vec::new()),
        }
    }

    /// Shows why the part has not begun yet; none: it begins now.
    pub fn waits(&self, why: Option<String>) {
        *self.waiting() = why;
    }

    fn waiting(&self) -> MutexGuard<'_, Option<String>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is shown from now on.
    pub fn show(&self, role: Arc<dyn Role>) {
        // There is one part in a process, and it is set once.
        if self.role.set(role).is_err() {
            tracing::debug!("a part is shown already");
        }
    }

    /// A task that has to run for as long as the process is alive.
    pub fn watch(&self, what: impl Into<String>, task: AbortHandle) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.push((what.into(), task));
    }

    fn page(&self, path: &str) -> Page {
        match path {
            "/health/live" => self.live(),
            "/health/ready" => self.ready(),
            "/metrics" => Page {
                status: 200,
                content_type: metrics::CONTENT_TYPE,
                body: self.metrics(),
            },
            _ => Page::text(
                404,
                format!("There is no {path:?} here, only:\n{}\n", PATHS.join("\n")),
            ),
        }
    }

    /// Alive: it answers, and none of its tasks has ended but those that were asked to.
    fn live(&self) -> Page {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let ended: Vec<&str> = tasks
            .iter()
            .filter(|(_, task)| task.is_finished() && !self.stop.is_cancelled())
            .map(|(what, _)| what.as_str())
            .collect();
        let status = if ended.is_empty() { 200 } else { 503 };
        Page::json(status, &json!({"live": ended.is_empty(), "ended": ended}))
    }

    fn ready(&self) -> Page {
        let readiness = self.readiness();
        let status = if readiness.ready { 200 } else { 503 };
        Page::json(status, &json!(readiness))
    }

    fn readiness(&self) -> Readiness {
        if self.stop.is_cancelled() {
            return Readiness::not("stopping");
        }
        match self.role.get() {
            Some(role) => role.readiness(),
            None => {
                let waiting = self.waiting().clone();
                let starting = || "starting: servers and settings are being checked".to_owned();
                Readiness::not(waiting.unwrap_or_else(starting))
            }
        }
    }

    fn metrics(&self) -> String {
        let mut text = Text::default();
        text.family(
            "artstore_build_info",
            Kind::Gauge,
            "Always 1: the program's version and what it runs as.",
        )
        .sample(
            &[("version", env!("CARGO_PKG_VERSION")), ("role", self.name)],
            1,
        );
        let since = self.started.1.duration_since(SystemTime::UNIX_EPOCH);
        text.family(
            "process_start_time_seconds",
            Kind::Gauge,
            "When the process started, as Unix time.",
        )
        .sample(&[], since.unwrap_or_default().as_secs_f64());
        text.family(
            "artstore_ready",
            Kind::Gauge,
            "1 while /health/ready says so.",
        )
        .sample(&[], u8::from(self.readiness().ready));
        if let Some(role) = self.role.get() {
            role.metrics(&mut text);
        }
        text.into_string()
    }
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ConfigError> {
    let refuse = |error: std::io::Error| {
        ConfigError(format!(
            "--listen (ARTSTORE_LISTEN): {address} can't be listened on: {error}; give each \
             service an address of this host and a free port of its own"
        ))
    };
    let listener = TcpListener::bind(address).await.map_err(refuse)?;
    let bound = listener.local_addr().map_err(refuse)?;
    Ok((listener, bound))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn alive_until_a_task_ends_that_was_not_asked_to() {
        let stop = CancellationToken::new();
        let service = Service::new("test", stop.clone());
        let task = tokio::spawn(std::future::pending::<()>());
        service.watch("source a", task.abort_handle());
        assert_eq!(service.page("/health/live").status, 200);
        task.abort();
        assert!(task.await.is_err());
        let page = service.page("/health/live");
        assert_eq!(page.status, 503);
        assert!(page.body.contains("source a"), "{}", page.body);
        stop.cancel();
        assert_eq!(service.page("/health/live").status, 200, "it was asked to");
    }

    #[tokio::test]
    async fn not_ready_before_there_is_a_part_and_once_it_stops() {
        let stop = CancellationToken::new();
        let service = Service::new("test", stop.clone());
        let page = service.page("/health/ready");
        assert!(
            page.status == 503 && page.body.contains("starting"),
            "{}",
            page.body
        );
        stop.cancel();
        let page = service.page("/health/ready");
        assert!(
            page.status == 503 && page.body.contains("stopping"),
            "{}",
            page.body
        );
        assert!(
            service
                .page("/metrics")
                .body
                .contains("\nartstore_ready 0\n")
        );
        let page = service.page("/health");
        assert!(page.status == 404 && PATHS.iter().all(|path| page.body.contains(path)));
    }
}
