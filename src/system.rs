//! The whole system in one process, on a private stack: what `dev`, `demo` and `bench` run.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use artstore_bus::accounts::role::Role;
use artstore_bus::connection::{Bus, BusOptions};
use artstore_bus::stream_name::StreamName;
use artstore_bus::tls::TlsFiles;
use artstore_migrations::Module;
use artstore_producers::relay::api_url;
use artstore_producers::relay::progress::RelayProgress;
use artstore_producers::relay::publish::PublishMode;
use artstore_producers::relay::{self, RelayOptions};
use artstore_projectors::audit_log::chain::{ChainKey, Keyring};
use artstore_projectors::audit_log::note::SignerKey;
use artstore_projectors::audit_log::{AuditLog, Keys};
use artstore_projectors::projector::Projector;
use artstore_projectors::query_cache::QueryCache;
use artstore_projectors::runtime::workers;
use artstore_runtime::connection;
use artstore_runtime::secret::Secret;
use artstore_schemas::element::ElementName;
use artstore_schemas::source::Source;
use sqlx::postgres::PgConnectOptions;
use tokio::task::JoinHandle;

use crate::service::{ShownRelay, answer};
use artstore_stack::{Stack, StackOptions};
use tokio_util::sync::CancellationToken;

/// A private stack with migrated databases and streams.
#[derive(Debug)]
pub struct System {
    /// The servers.
    pub stack: Stack,
    /// A connection to NATS.
    pub bus: Bus,
    /// The elements, each in a database of its own.
    pub elements: Vec<ElementName>,
    /// What the audit log is signed with.
    pub audit: AuditFiles,
}

/// Relays and projector, running.
#[derive(Debug)]
pub struct Running {
    stop: CancellationToken,
    tasks: Vec<JoinHandle<anyhow::Result<()>>>,
}

/// What the audit log is signed with here; made at the first start, and kept beside the data.
#[derive(Debug, Clone)]
pub struct AuditFiles {
    /// The chain's secret.
    pub secret: Secret,
    /// The file of the key that signs heads.
    pub signing_key: PathBuf,
    /// The file of its public key.
    pub verifier_keys: PathBuf,
}

impl AuditFiles {
    fn in_folder(folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let files = Self {
            secret: Secret::from(""),
            signing_key: folder.join("signing.key"),
            verifier_keys: folder.join("verifier.keys"),
        };
        let secret = folder.join("hmac.secret");
        if !secret.exists() {
            let key = SignerKey::generate("artstore/audit")?;
            std::fs::write(&files.verifier_keys, key.verifier().to_string())?;
            write_private(&files.signing_key, &key.to_private_text())?;
            // Last: what is there is whole.
            write_private(&secret, &hex_of(rand::random::<[u8; 32]>()))?;
        }
        let secret = std::fs::read_to_string(secret)?;
        let secret = secret.into();
        Ok(Self { secret, ..files })
    }

    /// Everything that writing the log needs.
    pub fn keys(&self) -> anyhow::Result<Keys> {
        Ok(Keys {
            ring: Keyring::new(ChainKey::of(self.secret.expose())?, Vec::new()),
            signer: SignerKey::parse(&std::fs::read_to_string(&self.signing_key)?)?,
            old: Vec::new(),
            head_after: Duration::from_secs(1),
        })
    }
}

fn hex_of(bytes: [u8; 32]) -> String {
    data_encoding::HEXLOWER.encode(&bytes)
}

fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    Ok(())
}

/// The admin module's database.
pub(crate) const ADMIN_DATABASE: &str = "artstore_admin";
/// The query module's database.
pub(crate) const QUERY_DATABASE: &str = "artstore";

impl System {
    /// Starts the servers, migrates every database, makes every stream.
    pub async fn start(options: StackOptions, elements: usize) -> anyhow::Result<Self> {
        let elements: Vec<ElementName> = (1..=elements)
            .map(|n| format!("storage_elem_{n:02}").parse())
            .collect::<Result<_, _>>()?;
        let stack = Stack::start(StackOptions {
            sources: sources_with(&elements),
            ..options
        })
        .await?;
        let bus = connect(&stack, Role::Administrator).await?;
        let audit = AuditFiles::in_folder(&stack.directory().join("audit"))?;
        let system = Self {
            stack,
            bus,
            elements,
            audit,
        };
        system.migrate(ADMIN_DATABASE, &Module::Admin).await?;
        system.migrate(QUERY_DATABASE, &Module::Query).await?;
        for element in &system.elements {
            let module = Module::Storage(element.clone());
            system.migrate(&database(element), &module).await?;
            let options = system.database(&database(element))?;
            let mut connection = connection::open(&options).await?;
            let url = Self::api_url(element);
            api_url::store(&mut connection, element, Some(&url)).await?;
        }
        for source in system.sources() {
            system.bus.ensure_stream(&source, 1).await?;
        }
        system.bus.ensure(&StreamName::audit_heads(), 1).await?;
        Ok(system)
    }

    /// All sources.
    pub fn sources(&self) -> Vec<Source> {
        sources_with(&self.elements)
    }

    /// How to reach a source's database.
    pub(crate) fn source_database(&self, source: &Source) -> anyhow::Result<PgConnectOptions> {
        self.database(&match source {
            Source::Element(element) => database(element),
            Source::Admin => ADMIN_DATABASE.to_owned(),
            Source::Query => QUERY_DATABASE.to_owned(),
        })
    }

    /// How to reach the read model.
    pub(crate) fn query_database(&self) -> anyhow::Result<PgConnectOptions> {
        self.database(QUERY_DATABASE)
    }

    fn database(&self, name: &str) -> anyhow::Result<PgConnectOptions> {
        Ok(self.stack.database_url(name).parse()?)
    }

    async fn migrate(&self, database: &str, module: &Module) -> anyhow::Result<()> {
        self.stack.create_database(database).await?;
        let mut connection = connection::open(&self.database(database)?).await?;
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
    pub(crate) async fn start_relays(&self, running: &mut Running) -> anyhow::Result<()> {
        for source in self.sources() {
            self.start_relay(source, running).await?;
        }
        Ok(())
    }

    /// Where an element's API would be.
    pub fn api_url(element: &ElementName) -> String {
        format!("http://{element}.localhost")
    }

    /// Starts a relay for one source.
    pub(crate) async fn start_relay(
        &self,
        source: Source,
        running: &mut Running,
    ) -> anyhow::Result<()> {
        let bus = connect(&self.stack, Role::Relay(source.clone())).await?;
        let options = RelayOptions {
            database: self.source_database(&source)?,
            source,
            // The element's own table states it.
            api_url: None,
            mode: PublishMode::Auto,
            poll_interval: Duration::from_millis(200),
        };
        let stop = running.stop.clone();
        let progress = RelayProgress::default();
        let shown = ShownRelay {
            bus: bus.clone(),
            source: options.source.clone(),
            progress: progress.clone(),
        };
        let answering = answer::for_relays(vec![shown], |_| None);
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

    /// How to reach the admin module's database.
    pub(crate) fn admin_database(&self) -> anyhow::Result<PgConnectOptions> {
        self.database(ADMIN_DATABASE)
    }

    /// Starts the projector of the query cache.
    pub(crate) async fn start_projector(&self, running: &mut Running) -> anyhow::Result<()> {
        let bus = connect(&self.stack, Role::Projector).await?;
        project(bus, QueryCache, self.query_database()?, running);
        Ok(())
    }

    /// Starts the projector of the audit log.
    pub(crate) async fn start_audit_log(&self, running: &mut Running) -> anyhow::Result<()> {
        let bus = connect(&self.stack, Role::AuditLog).await?;
        let publisher = connect(&self.stack, Role::AuditHeads).await?;
        let audit_log = AuditLog::new(self.audit.keys()?).publishing_on(publisher);
        project(bus, audit_log, self.admin_database()?, running);
        Ok(())
    }
}

fn project<P: Projector>(
    bus: Bus,
    projector: P,
    database: PgConnectOptions,
    running: &mut Running,
) {
    let stop = running.stop.clone();
    let progress = artstore_projectors::runtime::progress::ProjectorProgress::default();
    let answering = answer::for_projector(bus.clone(), P::NAME, P::VERSION, progress.clone());
    let task = async move {
        tokio::select! {
            ended = workers::run(projector, bus, database, progress, stop) => Ok(ended?),
            never = async { answering.await; std::future::pending().await } => never,
        }
    };
    running.tasks.push(tokio::spawn(task));
}

fn sources_with(elements: &[ElementName]) -> Vec<Source> {
    let elements = elements.iter().cloned().map(Source::Element);
    elements.chain([Source::Admin, Source::Query]).collect()
}

/// A connection with the key of a role.
async fn connect(stack: &Stack, role: Role) -> anyhow::Result<Bus> {
    let options = BusOptions {
        url: stack.nats_reader_url(),
        credentials: Some(stack.nats_keys()),
        tls: TlsFiles::default(),
        name: role.to_string(),
        role,
    };
    Ok(Bus::connect(&options).await?)
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
            stop: CancellationToken::new(),
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

    /// Stops all parts, and returns what went wrong with them.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        for task in self.tasks {
            task.await??;
        }
        Ok(())
    }
}
