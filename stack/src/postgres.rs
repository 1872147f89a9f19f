//! The PostgreSQL cluster: created once per folder, started on a port of its own.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, bail};
use artstore_runtime::connection;
use artstore_runtime::secret::Secret;
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};

use super::folder::{Folder, User, write_private};
use super::ports;
use super::process::Process;

/// How often another port is tried where somebody was faster.
const TRIES: usize = 5;
const SUPERUSER: &str = "artstore";
/// A socket's address has room for 107 bytes; the file's name in the folder takes up to
/// `/.s.PGSQL.65535.lock`.
const LONGEST_SOCKET_FOLDER: usize = 107 - "/.s.PGSQL.65535".len();

/// In the data folder's own configuration, so that a copy of it (a standby) runs with the same.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
max_connections = 300
shared_buffers = '256MB'
fsync = on
wal_level = replica
max_wal_senders = 10
max_prepared_transactions = 100
track_commit_timestamp = on
log_min_messages = warning
";

/// How PostgreSQL ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostgresStop {
    /// In order: transactions are rolled back, everything is written.
    Fast,
    /// At once, as in a crash: the next start recovers from the write-ahead log.
    Immediate,
}

#[derive(Debug)]
pub(super) struct Postgres {
    bin: PathBuf,
    /// Holds data, socket and log, and belongs to the user that PostgreSQL runs as.
    folder: PathBuf,
    user: Option<User>,
    password: Secret,
    port: u16,
    process: Mutex<Arc<Process>>,
}

impl Postgres {
    /// Makes the cluster where it is missing, starts it and waits until it takes connections.
    pub(super) async fn start(
        folder: &Folder,
        password: &str,
        port: Option<u16>,
    ) -> anyhow::Result<Postgres> {
        let bin = super::binaries::postgres()?;
        let home = folder.private("postgres", folder.user.as_ref())?;
        let user = folder.user.clone();
        if !home.join("data").exists() {
            initialise(&bin, &home, user.as_ref(), password, folder.temporary).await?;
        }
        let mut tries = TRIES;
        loop {
            let port = ports::of(folder, "postgres", 1, port)?[0];
            let process = Arc::new(spawn(&bin, &home, user.as_ref(), port)?);
            let postgres = Postgres {
                bin: bin.clone(),
                folder: home.clone(),
                user: user.clone(),
                password: password.into(),
                port,
                process: Mutex::new(Arc::clone(&process)),
            };
            let Err(error) = process
                .until_answered(async || postgres.connect().await)
                .await
            else {
                return Ok(postgres);
            };
            let taken = process.has_ended() && ports::taken(&process.log_tail());
            tries -= 1;
            if !taken || tries == 0 {
                return Err(error);
            }
        }
    }

    /// That it has ended, though nobody has stopped it, in words.
    pub(super) fn ended(&self) -> Option<String> {
        self.process().ended()
    }

    pub(super) fn bin(&self) -> &Path {
        &self.bin
    }

    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn url(&self, database: &str) -> String {
        format!(
            "postgres://{SUPERUSER}:{}@127.0.0.1:{}/{database}",
            self.password.expose(),
            self.port
        )
    }

    pub(super) async fn create_database(&self, name: &str) -> anyhow::Result<()> {
        let mut connection = self.connect().await?;
        let exists = sqlx::query_scalar::<_, bool>(
            "select exists (select from pg_database where datname = $1)",
        );
        if !exists.bind(name).fetch_one(&mut connection).await? {
            // template0 because nobody can be connected to it, which would be refused.
            let quoted = name.replace('"', "\"\"");
            let create =
                sqlx::AssertSqlSafe(format!("create database \"{quoted}\" template template0"));
            let created = sqlx::raw_sql(create).execute(&mut connection).await;
            created.with_context(|| format!("can't create the database {name}"))?;
        }
        Ok(connection.close().await?)
    }

    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = command(&self.bin, program, &self.folder, self.user.as_ref());
        command
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", SUPERUSER)
            .env("PGPASSWORD", self.password.expose());
        command
    }

    pub(super) async fn stop(&self, how: PostgresStop) -> anyhow::Result<()> {
        let process = self.process();
        if process.has_ended() {
            return Ok(());
        }
        let mode = match how {
            PostgresStop::Fast => "fast",
            PostgresStop::Immediate => "immediate",
        };
        let mut stop = command(&self.bin, "pg_ctl", &self.folder, self.user.as_ref());
        stop.args(["stop", "--no-wait", "--mode", mode, "--pgdata"])
            .arg(self.data());
        run(stop).await?;
        process.until_ended().await
    }

    pub(super) async fn restart(&self) -> anyhow::Result<()> {
        if !self.has_ended() {
            bail!("PostgreSQL is still running");
        }
        let process = Arc::new(spawn(
            &self.bin,
            &self.folder,
            self.user.as_ref(),
            self.port,
        )?);
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&process);
        process
            .until_answered(async || self.connect().await)
            .await?;
        Ok(())
    }

    pub(super) fn has_ended(&self) -> bool {
        self.process().has_ended()
    }

    fn process(&self) -> Arc<Process> {
        Arc::clone(&self.process.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn connect(&self) -> anyhow::Result<PgConnection> {
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username(SUPERUSER)
            .password(self.password.expose())
            .database("postgres")
            .ssl_mode(PgSslMode::Disable);
        Ok(connection::open(&options).await?)
    }
}

/// Under another name first: an `initdb` that did not finish leaves nothing that looks like data.
async fn initialise(
    bin: &Path,
    home: &Path,
    user: Option<&User>,
    password: &str,
    temporary: bool,
) -> anyhow::Result<()> {
    let (new, secret) = (home.join("data.new"), home.join("password"));
    if new.exists() {
        std::fs::remove_dir_all(&new)?;
    }
    write_private(&secret, password.as_bytes())?;
    if let Some(user) = user {
        std::os::unix::fs::chown(&secret, Some(user.uid), Some(user.gid))?;
    }
    let mut initdb = command(bin, "initdb", home, user);
    initdb
        .args([
            "--username",
            SUPERUSER,
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
        ])
        .arg("--pwfile")
        .arg(&secret)
        .args(temporary.then_some("--no-sync"))
        // Short on purpose: `-D FOLDER/...` is how the guard knows a PostgreSQL program.
        .arg("-D")
        .arg(&new);
    let made = run(initdb).await;
    std::fs::remove_file(&secret)?;
    made?;
    let mut settings = OpenOptions::new()
        .append(true)
        .open(new.join("postgresql.conf"))?;
    settings.write_all(SETTINGS.as_bytes())?;
    Ok(std::fs::rename(&new, home.join("data"))?)
}

fn spawn(bin: &Path, home: &Path, user: Option<&User>, port: u16) -> anyhow::Result<Process> {
    let mut postgres = command(bin, "postgres", home, user);
    // What differs from start to start stands here, not in the data folder's configuration.
    postgres
        .arg("-D")
        .arg(home.join("data"))
        .arg("-c")
        .arg(format!("port={port}"))
        .arg("-c");
    if home.as_os_str().len() <= LONGEST_SOCKET_FOLDER {
        postgres.arg(format!("unix_socket_directories=\"{}\"", home.display()));
    } else {
        tracing::warn!(folder = %home.display(), "the path is too long for a socket: PostgreSQL listens on 127.0.0.1 only");
        postgres.arg("unix_socket_directories=");
    }
    Process::start("PostgreSQL", &mut postgres, &home.join("server.log"))
}

/// A PostgreSQL program as the right user, untouched by settings for another server.
fn command(bin: &Path, program: &str, home: &Path, user: Option<&User>) -> Command {
    let mut command = Command::new(bin.join(program));
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"PG") {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C.UTF-8").current_dir(home);
    if let Some(user) = user {
        command.gid(user.gid).uid(user.uid);
    }
    command
}

/// Runs a program to its end; its output is in the error.
async fn run(mut command: Command) -> anyhow::Result<()> {
    let program = command.get_program().display().to_string();
    command.stdin(Stdio::null()).process_group(0);
    let output = tokio::process::Command::from(command).output().await;
    let output = output.with_context(|| format!("can't start {program}"))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!(
            "{program} failed ({}):\n{}",
            output.status,
            String::from_utf8_lossy(&said).trim_end()
        );
    }
    Ok(())
}
