//! A private NATS and PostgreSQL: what tests, benches, `dev` and `demo` run on.
//!
//! Both servers are real ones, on free ports of the loopback address, with generated passwords, in a folder of their
//! own: beside other servers, and beside other stacks. Whatever way the stack's owner ends, its servers end too; a
//! temporary folder goes with them.
//!
//! - [`binaries`]: the servers' programs
//! - `folder`: the folder of a stack, and its passwords
//! - `ports`: free ports
//! - `process`: a server process
//! - `nats`, `postgres`: each kind of server
//! - `guard`: the process that ends the servers when their owner ends

pub mod binaries;
mod folder;
mod guard;
mod nats;
mod ports;
mod postgres;
mod process;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use artstore_schemas::source::Source;

pub use self::folder::write_private;
use self::folder::{Folder, Secrets, User};
use self::guard::Guard;
use self::nats::Nats;
use self::postgres::Postgres;
pub use self::postgres::PostgresStop;

/// What kind of stack to start.
#[derive(Debug, Clone)]
pub struct StackOptions {
    /// The folder that keeps the data, for this start and the next; without it a temporary one, removed at the end.
    pub state: Option<PathBuf>,
    /// 1, or 3 for a cluster.
    pub nats_nodes: usize,
    /// How many NATS accounts with JetStream in which one user may do everything, apart from the system account. At
    /// least 1.
    pub accounts: usize,
    /// The sources whose accounts NATS has besides, with a user for each role, as in an installation.
    pub sources: Vec<Source>,
    /// A particular nats-server, of whatever version; without it the one that `scripts/setup` finds.
    pub nats_server: Option<PathBuf>,
    /// Whether PostgreSQL is wanted beside NATS.
    pub postgres: bool,
    /// NATS listens on this port, and PostgreSQL on the one behind it; without it on those of the last start, and
    /// the first time on any.
    pub port: Option<u16>,
}

impl Default for StackOptions {
    fn default() -> StackOptions {
        StackOptions {
            state: None,
            nats_nodes: 1,
            accounts: 1,
            sources: Vec::new(),
            nats_server: None,
            postgres: true,
            port: None,
        }
    }
}

/// Running servers. Dropping it ends them as [`Stack::stop`] does, and blocks until they have ended.
#[derive(Debug)]
pub struct Stack {
    // Fields are dropped in this order: the guard ends the servers before their handles and the lock go.
    guard: Option<Guard>,
    nats: Nats,
    postgres: Option<Postgres>,
    folder: Folder,
}

impl Stack {
    /// Starts the servers and waits until each of them answers. On an error nothing is left running; a kept folder
    /// can be used again.
    pub async fn start(options: StackOptions) -> anyhow::Result<Stack> {
        if !matches!(options.nats_nodes, 1 | 3) || options.accounts == 0 {
            bail!("a stack has 1 or 3 NATS nodes and at least one account");
        }
        let program = match options.nats_server {
            Some(program) => std::path::absolute(program)?,
            None => binaries::nats_server()?,
        };
        let user = if options.postgres {
            User::unprivileged()?
        } else {
            None
        };
        let folder = Folder::open(options.state.as_deref(), user).await?;
        // Before the first server: from here on nothing outlives us.
        let guard = Guard::start(&folder.path, folder.temporary, &folder.lock)?;
        let servers = async {
            let secrets = Secrets::of(&folder, options.nats_nodes, options.accounts)?;
            let behind = options.port.map(|port| port.saturating_add(1));
            let accounts = nats::Accounts {
                plain: options.accounts,
                sources: options.sources,
            };
            let nats = Nats::start(&folder, &secrets, program, accounts, options.port);
            if !options.postgres {
                return Ok((nats.await?, None));
            }
            let (nats, postgres) =
                tokio::try_join!(nats, Postgres::start(&folder, &secrets.postgres, behind))?;
            Ok((nats, Some(postgres)))
        };
        match servers.await {
            Ok((nats, postgres)) => Ok(Stack {
                guard: Some(guard),
                nats,
                postgres,
                folder,
            }),
            Err(error) => match guard.finish(&folder.path, &folder.lock).await {
                Ok(()) => Err(error),
                Err(left) => Err(error.context(left)),
            },
        }
    }

    /// Where an account's user connects: every node as `nats://user:password@127.0.0.1:port`, separated by commas.
    ///
    /// # Panics
    ///
    /// There is no such account.
    pub fn nats_url(&self, account: usize) -> String {
        self.nats.url(account)
    }

    /// Where a reader connects, in the accounts for sources: every node as `nats://reader:password@127.0.0.1:port`,
    /// separated by commas. A key of [`Stack::nats_keys`] takes the place of the login.
    pub fn nats_reader_url(&self) -> String {
        self.nats.reader_url()
    }

    /// The folder with the keys of all roles.
    pub fn nats_keys(&self) -> PathBuf {
        self.folder.path.join(nats::KEYS)
    }

    /// Where the superuser `artstore` connects to a database: `postgres://artstore:password@127.0.0.1:port/database`.
    ///
    /// # Panics
    ///
    /// The stack has no PostgreSQL, as all functions about it.
    pub fn database_url(&self, database: &str) -> String {
        self.postgres().url(database)
    }

    /// Creates an empty UTF-8 database; nothing happens where it exists.
    pub async fn create_database(&self, name: &str) -> anyhow::Result<()> {
        self.postgres().create_database(name).await
    }

    /// The folder with everything of this stack. A server that a test starts itself with `-D` and a folder below this
    /// one is ended with the stack.
    pub fn directory(&self) -> &Path {
        &self.folder.path
    }

    /// Where the programs of this PostgreSQL are.
    pub fn postgres_bin(&self) -> &Path {
        self.postgres().bin()
    }

    /// The data folder. The folder that holds it belongs to the user that PostgreSQL runs as: there is room for a
    /// standby's data.
    pub fn postgres_data(&self) -> PathBuf {
        self.postgres().data()
    }

    /// The port, the same over restarts.
    pub fn postgres_port(&self) -> u16 {
        self.postgres().port()
    }

    /// A PostgreSQL program (`pg_basebackup`, `pg_dump`, `postgres`, …) as the user that PostgreSQL runs as, with this
    /// server's host, port, user and password in its environment.
    pub fn postgres_command(&self, program: &str) -> tokio::process::Command {
        self.postgres().command(program).into()
    }

    /// Stops PostgreSQL and waits until it has ended.
    pub async fn stop_postgres(&self, how: PostgresStop) -> anyhow::Result<()> {
        self.postgres().stop(how).await
    }

    /// Starts a stopped PostgreSQL with the same port and data, and waits until it answers.
    pub async fn start_postgres(&self) -> anyhow::Result<()> {
        self.postgres().restart().await
    }

    /// Kills a node with SIGKILL and waits until it is gone.
    ///
    /// # Panics
    ///
    /// There is no such node, here and below.
    pub async fn kill_nats(&self, node: usize) -> anyhow::Result<()> {
        self.nats.kill(node).await
    }

    /// Starts a killed node with the same port and store, and waits until it answers every account.
    pub async fn start_nats(&self, node: usize) -> anyhow::Result<()> {
        self.nats.restart(node).await
    }

    /// The node's process, or its last one where it was killed.
    pub fn nats_pid(&self, node: usize) -> u32 {
        self.nats.pid(node)
    }

    /// The node of that server name, as a stream's information gives its leader.
    pub fn nats_node_named(&self, server_name: &str) -> Option<usize> {
        self.nats.node_named(server_name)
    }

    /// A server that has ended, though nobody has stopped it: its name, and the end of its log.
    pub fn ended(&self) -> Option<String> {
        let postgres = self.postgres.as_ref();
        let postgres = || postgres.and_then(Postgres::ended);
        self.nats.ended().or_else(postgres)
    }

    /// Ends the servers, in order where the folder is kept, and removes a temporary folder. An error where anything
    /// is left.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let guard = self
            .guard
            .take()
            .expect("only stop takes the guard, and it takes the stack");
        guard
            .finish(&self.folder.path, &self.folder.lock)
            .await
            .context("the private servers did not stop cleanly")?;
        if !self.nats.have_ended()
            || self
                .postgres
                .as_ref()
                .is_some_and(|postgres| !postgres.has_ended())
        {
            bail!(
                "a server in {} is still running",
                self.folder.path.display()
            );
        }
        Ok(())
    }

    fn postgres(&self) -> &Postgres {
        self.postgres
            .as_ref()
            .expect("PostgreSQL is asked for only on a stack that was started with it")
    }
}
