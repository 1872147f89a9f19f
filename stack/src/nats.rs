//! The nats-server nodes: one, or a cluster of three, each with its configuration, store and log in a folder of its own.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use artstore_bus::accounts::configuration;
use artstore_bus::accounts::key::{self, Login, User};
use artstore_bus::accounts::role::Role;
use artstore_schemas::source::Source;
use async_nats::jetstream::{self, stream};

use artstore_runtime::secret::Secret;

use super::folder::{Folder, Secrets, write_private};
use super::ports;
use super::process::Process;

/// How often other ports are tried where somebody was faster.
const TRIES: usize = 5;

/// The folder of the keys, below the stack's.
pub(super) const KEYS: &str = "nats-keys";

/// Reads as everybody with the key of [`Role::Reader`] does, for clients that take a login from the URL.
const READER: &str = "reader";

/// What accounts there are.
#[derive(Debug, Clone)]
pub(super) struct Accounts {
    /// Those with one user who may do everything.
    pub(super) plain: usize,
    /// Those of an installation with these sources; none where there are none.
    pub(super) sources: Vec<Source>,
}

#[derive(Debug)]
pub(super) struct Nats {
    program: PathBuf,
    /// The passwords of the plain accounts.
    accounts: Vec<Secret>,
    /// That of the reader who has no key.
    reader: Secret,
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    name: String,
    folder: PathBuf,
    port: u16,
    process: Mutex<Arc<Process>>,
}

impl Nats {
    /// Starts `count` nodes and waits until each of them answers every account.
    pub(super) async fn start(
        folder: &Folder,
        secrets: &Secrets,
        program: PathBuf,
        accounts: Accounts,
        port: Option<u16>,
    ) -> anyhow::Result<Nats> {
        let roles = match accounts.sources.is_empty() {
            true => None,
            false => Some(accounts_of(folder, secrets, &accounts.sources)?),
        };
        let mut tries = TRIES;
        loop {
            let plain = accounts.plain;
            let nats = Nats::spawn(
                folder,
                secrets,
                program.clone(),
                plain,
                roles.as_deref(),
                port,
            )?;
            let Err(error) = nats.until_ready().await else {
                return Ok(nats);
            };
            let taken = nats
                .nodes
                .iter()
                .any(|node| ports::taken(&node.process().log_tail()));
            tries -= 1;
            if !taken || tries == 0 {
                return Err(error);
            }
            for node in &nats.nodes {
                node.process().kill().await?;
            }
        }
    }

    fn spawn(
        folder: &Folder,
        secrets: &Secrets,
        program: PathBuf,
        accounts: usize,
        roles: Option<&str>,
        port: Option<u16>,
    ) -> anyhow::Result<Nats> {
        let count = secrets.nats_nodes;
        let clients = ports::of(folder, "nats", count, port)?;
        let routes = ports::free(count)?;
        let all_accounts =
            plain_accounts(&secrets.accounts[..accounts]) + roles.unwrap_or_default();
        let mut nodes = Vec::with_capacity(count);
        for (number, port) in clients.iter().copied().enumerate() {
            let name = node_name(number);
            let folder = folder.private(&format!("nats/{number}"), None)?;
            let text = configuration(
                &name,
                port,
                &folder,
                &all_accounts,
                secrets,
                &routes,
                number,
            );
            write_private(&folder.join("server.conf"), text.as_bytes())?;
            let process = Mutex::new(Arc::new(spawn(&program, &name, &folder)?));
            nodes.push(Node {
                name,
                folder,
                port,
                process,
            });
        }
        Ok(Nats {
            program,
            accounts: secrets.accounts[..accounts]
                .iter()
                .map(|password| Secret::from(password.as_str()))
                .collect(),
            reader: Secret::from(secrets.reader.as_str()),
            nodes,
        })
    }

    /// All nodes' addresses with the account's credentials, separated by commas.
    pub(super) fn url(&self, account: usize) -> String {
        let password = self.accounts[account].expose();
        let urls = self
            .nodes
            .iter()
            .map(|node| format!("nats://account{account}:{password}@127.0.0.1:{}", node.port));
        urls.collect::<Vec<_>>().join(",")
    }

    /// All nodes' addresses with a reader's login.
    pub(super) fn reader_url(&self) -> String {
        let urls = self.nodes.iter().map(|node| {
            let (password, port) = (self.reader.expose(), node.port);
            format!("nats://{READER}:{password}@127.0.0.1:{port}")
        });
        urls.collect::<Vec<_>>().join(",")
    }

    pub(super) fn pid(&self, node: usize) -> u32 {
        self.nodes[node].process().pid()
    }

    pub(super) fn node_named(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.name == name)
    }

    pub(super) async fn kill(&self, node: usize) -> anyhow::Result<()> {
        self.nodes[node].process().kill().await
    }

    pub(super) async fn restart(&self, number: usize) -> anyhow::Result<()> {
        let node = &self.nodes[number];
        if !node.process().has_ended() {
            bail!("{} is still running", node.name);
        }
        let process = spawn(&self.program, &node.name, &node.folder)?;
        *node.process.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(process);
        self.until_node_ready(node).await
    }

    pub(super) fn have_ended(&self) -> bool {
        self.nodes.iter().all(|node| node.process().has_ended())
    }

    /// The node that has ended, though nobody has killed it, in words.
    pub(super) fn ended(&self) -> Option<String> {
        let ended = |node: &Node| node.process().ended();
        self.nodes.iter().find_map(ended)
    }

    async fn until_ready(&self) -> anyhow::Result<()> {
        for node in &self.nodes {
            self.until_node_ready(node).await?;
        }
        if self.nodes.len() > 1 {
            // Nodes that answer are not a cluster yet: a replicated stream needs the leader and all its peers.
            self.nodes[0]
                .process()
                .until_answered(async || self.replicate().await)
                .await?;
        }
        Ok(())
    }

    // Of a server of our own, on which we may do everything.
    #[allow(clippy::disallowed_methods)]
    async fn until_node_ready(&self, node: &Node) -> anyhow::Result<()> {
        let process = node.process();
        for account in 0..self.accounts.len() {
            let answer = process.until_answered(async || {
                let context = self.connect(node, account).await?;
                Ok(context.query_account().await?)
            });
            answer.await.with_context(|| format!("account{account}"))?;
        }
        Ok(())
    }

    async fn replicate(&self) -> anyhow::Result<()> {
        let context = self.connect(&self.nodes[0], 0).await?;
        let probe = stream::Config {
            name: "STACK_PROBE".to_owned(),
            subjects: vec!["stack.probe".to_owned()],
            storage: stream::StorageType::Memory,
            num_replicas: self.nodes.len(),
            ..Default::default()
        };
        context.create_stream(probe).await?;
        context.delete_stream("STACK_PROBE").await?;
        Ok(())
    }

    async fn connect(&self, node: &Node, account: usize) -> anyhow::Result<jetstream::Context> {
        let (user, password) = (
            format!("account{account}"),
            self.accounts[account].expose().to_owned(),
        );
        let options = async_nats::ConnectOptions::with_user_and_password(user, password)
            .connection_timeout(Duration::from_secs(2))
            .ignore_discovered_servers();
        let client = options.connect(format!("127.0.0.1:{}", node.port)).await?;
        let mut context = jetstream::new(client);
        // A cluster without a leader doesn't answer at all: better asked again soon.
        context.set_timeout(Duration::from_millis(500));
        Ok(context)
    }
}

impl Node {
    fn process(&self) -> Arc<Process> {
        Arc::clone(&self.process.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The accounts of an installation with these sources; the keys that are missing are made.
fn accounts_of(folder: &Folder, secrets: &Secrets, sources: &[Source]) -> anyhow::Result<String> {
    let keys = folder.private(KEYS, None)?;
    let users = key::of_folder(&keys, &Role::all(sources));
    let mut users = users.with_context(|| format!("the keys in {}", keys.display()))?;
    users.push(User {
        role: Role::Reader,
        login: Login::Password(READER.to_owned(), secrets.reader.clone()),
    });
    Ok(configuration::accounts(sources, &users))
}

fn node_name(number: usize) -> String {
    format!("artstore-{number}")
}

/// `-c FOLDER/...` is also how the guard knows the process.
fn spawn(program: &Path, name: &str, folder: &Path) -> anyhow::Result<Process> {
    let mut command = Command::new(program);
    command
        .arg("-c")
        .arg(folder.join("server.conf"))
        .current_dir(folder);
    Process::start(
        &format!("nats-server {name}"),
        &mut command,
        &folder.join("server.log"),
    )
}

/// Accounts in which one user may do everything.
fn plain_accounts(passwords: &[String]) -> String {
    let mut accounts = String::new();
    for (account, password) in passwords.iter().enumerate() {
        let user = format!("{{ user: \"account{account}\", password: \"{password}\" }}");
        // Writing to a string can't fail.
        let _ = writeln!(
            accounts,
            "    account{account} {{ jetstream: enabled, users: [ {user} ] }}"
        );
    }
    accounts
}

fn configuration(
    name: &str,
    port: u16,
    folder: &Path,
    accounts: &str,
    secrets: &Secrets,
    routes: &[u16],
    number: usize,
) -> String {
    let store = folder.join("store");
    let cluster = if routes.len() == 1 {
        String::new()
    } else {
        let password = &secrets.routes;
        let peers = routes
            .iter()
            .map(|port| format!("\"nats-route://route:{password}@127.0.0.1:{port}\""));
        format!(
            "cluster {{\n    name: artstore\n    host: \"127.0.0.1\"\n    port: {}\n    \
             authorization {{ user: \"route\", password: \"{password}\", timeout: 5 }}\n    routes: [ {} ]\n}}\n",
            routes[number],
            peers.collect::<Vec<_>>().join(", "),
        )
    };
    format!(
        "server_name: \"{name}\"\nhost: \"127.0.0.1\"\nport: {port}\n\
         jetstream {{\n    store_dir: \"{}\"\n    sync_interval: always\n    max_file_store: 1TB\n}}\n\
         accounts {{\n{accounts}    system {{ users: [ {{ user: \"system\", password: \"{}\" }} ] }}\n}}\n\
         system_account: system\n{cluster}",
        store.display(),
        secrets.system,
    )
}
