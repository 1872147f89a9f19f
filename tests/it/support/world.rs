//! A world: elements, a query module and an admin module with their databases, and a NATS server with the accounts of
//! an installation.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use artstore_bus::accounts::role::Role;
use artstore_bus::connection::Bus;
use artstore_bus::stream_name::StreamName;
use artstore_migrations::Module;
use artstore_schemas::element::ElementName;
use artstore_schemas::envelope::Envelope;
use artstore_schemas::source::Source;
use artstore_stack::{Stack, StackOptions};
use sqlx::PgConnection;

use super::migrated::migrated_on;
use super::{
    ACCOUNTS, Program, checkpoint, connect_as, eventually, finished, fits_its_schema, pg,
    shared_stack,
};

/// Elements, a query module and an admin module, migrated, with their streams.
pub struct World {
    pub nats_url: String,
    /// The folder with the keys of all roles; none where the URL has a user.
    pub nats_keys: Option<PathBuf>,
    pub bus: Bus,
    pub elements: Vec<(ElementName, String)>,
    pub query_url: String,
    pub admin_url: String,
    /// A NATS server of its own, where it has one.
    _nats: Option<Stack>,
}

/// The sources of an installation with these elements.
fn sources_with(elements: &[&str]) -> Vec<Source> {
    let elements = elements
        .iter()
        .map(|name| Source::Element(name.parse().unwrap()));
    elements.chain([Source::Admin, Source::Query]).collect()
}

impl World {
    /// On the shared PostgreSQL, with a NATS server of its own that has the accounts of an installation.
    pub async fn new(elements: &[&str]) -> Self {
        Self::with_accounts_for(elements, elements).await
    }

    /// The same, where NATS has accounts for more elements than there are.
    pub async fn with_accounts_for(accounts: &[&str], elements: &[&str]) -> Self {
        // `bus init` makes the stream of this one where none is configured.
        let accounts = match accounts {
            [] => &["storage_elem_01"],
            accounts => accounts,
        };
        let options = StackOptions {
            postgres: false,
            sources: sources_with(accounts),
            ..StackOptions::default()
        };
        let nats = Stack::start(options).await.unwrap();
        let login = (nats.nats_reader_url(), Some(nats.nats_keys()));
        let mut world = Self::at(login, shared_stack().await, elements, 1).await;
        world._nats = Some(nats);
        world
    }

    /// On the shared stack, in an account of NATS in which one user may do everything: for attacks that the rights of
    /// an installation do not allow.
    pub async fn without_rights(elements: &[&str]) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let account = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(account < ACCOUNTS, "more worlds than accounts");
        let stack = shared_stack().await;
        Self::at((stack.nats_url(account), None), stack, elements, 1).await
    }

    /// The same servers, with other ways to the databases.
    pub fn with_databases(
        &self,
        elements: Vec<(ElementName, String)>,
        query_url: String,
        admin_url: String,
    ) -> Self {
        Self {
            nats_url: self.nats_url.clone(),
            nats_keys: self.nats_keys.clone(),
            bus: self.bus.clone(),
            elements,
            query_url,
            admin_url,
            _nats: None,
        }
    }

    /// On a stack of the test's own: in its accounts for sources, where it has them, else in a plain one.
    pub async fn on(stack: &Stack, account: usize, elements: &[&str], replicas: usize) -> Self {
        let login = match stack.nats_keys() {
            keys if keys.exists() => (stack.nats_reader_url(), Some(keys)),
            _ => (stack.nats_url(account), None),
        };
        Self::at(login, stack, elements, replicas).await
    }

    async fn at(
        (nats_url, nats_keys): (String, Option<PathBuf>),
        stack: &Stack,
        elements: &[&str],
        replicas: usize,
    ) -> Self {
        let bus = connect_as(Role::Administrator, &nats_url, nats_keys.as_deref()).await;
        let mut world = Self {
            nats_url,
            nats_keys,
            bus,
            _nats: None,
            elements: Vec::new(),
            query_url: migrated_on(stack, "query", Module::Query).await,
            admin_url: migrated_on(stack, "admin", Module::Admin).await,
        };
        for name in elements {
            let element: ElementName = name.parse().unwrap();
            let url = migrated_on(stack, name, Module::Storage(element.clone())).await;
            world.elements.push((element, url));
        }
        for source in world.sources() {
            world.bus.ensure_stream(&source, replicas).await.unwrap();
        }
        let heads = StreamName::audit_heads();
        world.bus.ensure(&heads, replicas).await.unwrap();
        world
    }

    /// The folder of its NATS server, where it has one of its own.
    pub fn nats_folder(&self) -> &Path {
        self._nats.as_ref().unwrap().directory()
    }

    /// Another connection to NATS.
    pub async fn connect(&self, role: Role) -> Bus {
        connect_as(role, &self.nats_url, self.nats_keys.as_deref()).await
    }

    pub fn sources(&self) -> Vec<Source> {
        let elements = self
            .elements
            .iter()
            .map(|(name, _)| Source::Element(name.clone()));
        elements.chain([Source::Admin, Source::Query]).collect()
    }

    pub fn source(&self, element: usize) -> Source {
        Source::Element(self.elements[element].0.clone())
    }

    /// A connection to an element's database.
    pub async fn element(&self, element: usize) -> PgConnection {
        pg(&self.elements[element].1).await
    }

    /// A connection to the query module's database.
    pub async fn query(&self) -> PgConnection {
        pg(&self.query_url).await
    }

    /// A connection to the admin module's database.
    pub async fn admin(&self) -> PgConnection {
        pg(&self.admin_url).await
    }

    /// The program with this world's settings, and a clean environment otherwise.
    pub fn command(&self, arguments: &[&str]) -> Program {
        let elements: Vec<String> = self
            .elements
            .iter()
            .map(|(name, url)| format!("{name}={url}"))
            .collect();
        let program = match &self.nats_keys {
            None => Program::new(arguments),
            Some(keys) => {
                Program::new(arguments).env("NATS_CREDENTIALS", &keys.display().to_string())
            }
        };
        program
            // `verify` is about the check beside a relay; here it would only take time.
            .env("ARTSTORE_VERIFY", "false")
            .env("NATS_URL", &self.nats_url)
            .env("ARTSTORE_ELEMENTS", &elements.join(","))
            .env("QUERY_DATABASE_URL", &self.query_url)
            .env("ADMIN_DATABASE_URL", &self.admin_url)
    }

    /// A relay of one element only.
    pub fn relay(&self, element: usize) -> Program {
        let name = self.elements[element].0.to_string();
        self.command(&["run", "relay", "--source", &name])
    }

    pub fn projector(&self) -> Program {
        self.command(&["run", "projector"])
    }

    pub async fn last_sequence(&self, source: &Source) -> u64 {
        let info = self.bus.stream_info(&source.stream()).await.unwrap();
        info.state.last_sequence
    }

    /// All messages of a source, contiguous and chained.
    pub async fn messages(&self, source: &Source) -> Vec<Envelope> {
        let last = self.last_sequence(source).await;
        let mut reader = artstore_verification::reader::Reader::new(&self.bus, source, 0);
        let mut envelopes: Vec<Envelope> = Vec::new();
        while (envelopes.len() as u64) < last {
            let batch = reader.batch(1_000, Duration::from_secs(30)).await.unwrap();
            assert!(!batch.is_empty(), "{source}: its messages do not come");
            for message in batch {
                fits_its_schema(&message.headers, &message.body);
                let envelope = Envelope::from_headers(&message.headers).unwrap();
                assert_eq!(message.sequence, envelopes.len() as u64 + 1);
                assert_eq!(envelope.previous, envelopes.last().map(|before| before.id));
                envelopes.push(envelope);
            }
        }
        envelopes
    }

    /// Waits until an element's stream has a message for each finished row, and checks that each
    /// is there once, as it should be, in order.
    pub async fn published(&self, element: usize) {
        let source = self.source(element);
        let mut connection = self.element(element).await;
        self.caught_up(element).await;
        let report = self.checked(&source, &mut connection).await;
        assert!(report.is_clean(), "{report:?}");
        // Writers in tests hold the file's row until they commit, whatever API they use.
        assert_eq!(report.overtaken, 0, "{report:?}");
        assert_eq!(report.rows, report.messages);
    }

    /// Waits until an element's stream has as many messages as it has finished rows.
    pub async fn caught_up(&self, element: usize) {
        let source = self.source(element);
        let rows = finished(&mut self.element(element).await, &source).await;
        // A backlog takes its time: what must not be is a standstill.
        let mut before = self.last_sequence(&source).await;
        while before < rows {
            before = eventually("one more finished row is published", || async {
                let last = self.last_sequence(&source).await;
                (last > before).then_some(last)
            })
            .await;
        }
    }

    /// A source against its stream.
    pub async fn checked(
        &self,
        source: &Source,
        connection: &mut PgConnection,
    ) -> artstore_verification::source::Report {
        artstore_verification::source::compare(
            connection,
            &self.bus,
            source,
            Duration::from_secs(10),
        )
        .await
        .unwrap()
    }

    /// Waits until the projector has applied every message.
    pub async fn applied(&self) {
        for source in self.sources() {
            if source == Source::Admin {
                continue;
            }
            let last = self.last_sequence(&source).await;
            let url = self.query_url.clone();
            eventually(&format!("{source} is projected up to {last}"), || async {
                (checkpoint(&url, &source).await >= last).then_some(())
            })
            .await;
        }
    }

    /// Waits for that, and checks the cache against the elements' files.
    pub async fn projected(&self) {
        self.applied().await;
        let mut query = self.query().await;
        let mut elements = Vec::new();
        for (index, (name, _)) in self.elements.iter().enumerate() {
            elements.push((name.clone(), self.element(index).await));
        }
        let report = artstore_verification::cache::compare(&mut elements, &mut query)
            .await
            .unwrap();
        assert!(report.is_clean(), "{report:?}");
    }
}
