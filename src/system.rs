//! The whole system in one process, on a private stack: what `dev`, `demo` and `bench` run.

use std::time::Duration;

use anyhow::Context as _;
use artstore_migrations::Module;
use artstore_producers::progress::Progress;
use artstore_producers::publish::PublishMode;
use artstore_producers::relay::{self, RelayOptions};
use artstore_projectors::projector::Projector as _;
use artstore_projectors::query_cache::QueryCache;
use artstore_projectors::workers;
use artstore_schemas::bus::{Bus, BusOptions, StreamName};
use artstore_schemas::element::ElementName;
use artstore_schemas::source::Source;
use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::service::answer;
use crate::stack::{Stack, StackOptions};

/// A private stack with migrated databases and streams.
#[derive(Debug)]
pub struct System {
    /// The servers.
    pub stack: Stack,
    /// A connection to NATS.
    pub bus: Bus,
    /// The elements, each in a database of its own.
    pub elements: Vec<ElementName>,
}

/// Relays and projector, running.
#[derive(Debug)]
pub struct Running {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<anyhow::Result<()>>>,
}

/// The admin module's database.
pub const ADMIN_DATABASE: &str = "artstore_admin";
/// The query module's database.
pub const QUERY_DATABASE: &str = "artstore";

impl System {
    /// Starts the servers, migrates every database, makes every stream.
    pub async fn start(options: StackOptions, elements: usize) -> anyhow::Result<Self> {
        let stack = Stack::start(options).await?;
        let bus = Bus::connect(&BusOptions {
            url: stack.nats_url(0),
            credentials: None,
            name: "artstore".to_owned(),
        })
        .await?;
        let elements: Vec<ElementName> = (1..=elements)
            .map(|n| format!("storage_elem_{n:02}").parse())
            .collect::<Result<_, _>>()?;
        let system = Self {
            stack,
            bus,
            elements,
        };
        system.migrate(ADMIN_DATABASE, &Module::Admin).await?;
        system.migrate(QUERY_DATABASE, &Module::Query).await?;
        for element in &system.elements {
            let module = Module::Storage(element.clone());
            system.migrate(&database(element), &module).await?;
        }
        for source in system.sources() {
            system.bus.ensure_stream(&source, 1).await?;
        }
        system.bus.ensure(&StreamName::audit_heads(), 1).await?;
        Ok(system)
    }

    /// All sources.
    pub fn sources(&self) -> Vec<Source> {
        let elements = self.elements.iter().cloned().map(Source::Element);
        elements.chain([Source::Admin, Source::Query]).collect()
    }

    /// How to reach a source's database.
    pub fn source_database(&self, source: &Source) -> anyhow::Result<PgConnectOptions> {
        self.database(&match source {
            Source::Element(element) => database(element),
            Source::Admin => ADMIN_DATABASE.to_owned(),
            Source::Query => QUERY_DATABASE.to_owned(),
        })
    }

    /// How to reach the read model.
    pub fn query_database(&self) -> anyhow::Result<PgConnectOptions> {
        self.database(QUERY_DATABASE)
    }

    fn database(&self, name: &str) -> anyhow::Result<PgConnectOptions> {
        Ok(self.stack.database_url(name).parse()?)
    }

    async fn migrate(&self, database: &str, module: &Module) -> anyhow::Result<()> {
        self.stack.create_database(database).await?;
        let mut connection = self.database(database)?.connect().await?;
        artstore_migrations::up(&mut connection, module, None)
            .await
            .with_context(|| format!("database {database}"))?;
        Ok(())
    }

    /// Stops the servers.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.bus.client.drain().await?;
        self.stack.stop().await
    }

    /// Starts a relay for every source.
    pub fn start_relays(&self, running: &mut Running) -> anyhow::Result<()> {
        for source in self.sources() {
            self.start_relay(source, running)?;
        }
        Ok(())
    }

    /// Starts a relay for one source.
    pub fn start_relay(&self, source: Source, running: &mut Running) -> anyhow::Result<()> {
        let api_url = match &source {
            Source::Element(name) => Some(format!("http://{name}.localhost")),
            Source::Admin | Source::Query => None,
        };
        let options = RelayOptions {
            database: self.source_database(&source)?,
            source,
            api_url,
            mode: PublishMode::Auto,
            poll_interval: Duration::from_millis(200),
        };
        let (bus, stop) = (self.bus.clone(), running.stop.subscribe());
        let progress = Progress::default();
        let shown = vec![(options.source.clone(), progress.clone())];
        let answering = answer::for_relays(bus.clone(), shown, |_| None);
        let task = async move {
            // The relay ends when it is asked to, and with it the answers.
            tokio::select! {
                ended = relay::run(bus, options, progress, stop) => Ok(ended?),
                never = async { answering.await; std::future::pending().await } => never,
            }
        };
        running.tasks.push(tokio::spawn(task));
        Ok(())
    }

    /// Starts the projector of the query cache.
    pub fn start_projector(&self, running: &mut Running) -> anyhow::Result<()> {
        let (bus, stop) = (self.bus.clone(), running.stop.subscribe());
        let database = self.query_database()?;
        let progress = artstore_projectors::progress::Progress::default();
        let (name, version) = (QueryCache::NAME, QueryCache::VERSION);
        let answering = answer::for_projector(bus.clone(), name, version, progress.clone());
        let task = async move {
            tokio::select! {
                ended = workers::run(QueryCache, bus, database, progress, stop) => Ok(ended?),
                never = async { answering.await; std::future::pending().await } => never,
            }
        };
        running.tasks.push(tokio::spawn(task));
        Ok(())
    }
}

/// The database of an element: `storage_elem_01` is in `artstore_storage_01`.
pub fn database(element: &ElementName) -> String {
    element
        .as_str()
        .replace("storage_elem_", "artstore_storage_")
}

impl Default for Running {
    fn default() -> Self {
        Self {
            stop: watch::Sender::new(false),
            tasks: Vec::new(),
        }
    }
}

impl Running {
    /// The first error of a part that has ended by itself.
    pub async fn failure(&mut self) -> anyhow::Error {
        loop {
            if let Some(index) = self.tasks.iter().position(JoinHandle::is_finished) {
                return match self.tasks.swap_remove(index).await {
                    Ok(Ok(())) => anyhow::anyhow!("a part of the system has ended by itself"),
                    Ok(Err(error)) => error,
                    Err(error) => error.into(),
                };
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Stops all parts, and tells what went wrong with them.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop.send_replace(true);
        for task in self.tasks {
            task.await??;
        }
        Ok(())
    }
}
