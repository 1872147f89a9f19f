//! One dump: pg_dump in a snapshot in which the rows are counted too, then read back by pg_restore,
//! table by table and row by row. The password goes through the environment of the child alone.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, bail, ensure};
use artstore_runtime::connection;
use aws_lc_rs::digest::{Context as Digest, SHA256};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use artstore_stack::binaries;

/// A dump that was proved to hold these rows.
#[derive(Debug)]
pub(super) struct Dump {
    pub(super) bytes: u64,
    pub(super) sha256: String,
    /// Of each table, as they were in the dump's snapshot.
    pub(super) rows: BTreeMap<String, u64>,
    pub(super) server: String,
    pub(super) tool: String,
}

/// Makes a file that only we can read; refuses one that exists.
pub(super) fn new_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Dumps a database into `path` and checks that each of these tables is in it, with every row.
pub(super) async fn make(
    database: &PgConnectOptions,
    tables: &[String],
    path: &Path,
) -> anyhow::Result<Dump> {
    let mut connection = connection::open(database).await?;
    let (number, server, encoding): (i32, String, String) = sqlx::query_as(
        "select current_setting('server_version_num')::int, current_setting('server_version'), \
             current_setting('server_encoding')",
    )
    .fetch_one(&mut connection)
    .await?;
    let (folder, tool) = binaries::postgres_clients(u32::try_from(number / 10_000)?)?;
    new_file(path).with_context(|| format!("{} can't be made", path.display()))?;

    // The dump shows what this transaction shows, so the rows can be counted here.
    let mut tx = connection
        .begin_with("begin isolation level repeatable read read only")
        .await?;
    let snapshot: String = sqlx::query_scalar("select pg_export_snapshot()")
        .fetch_one(&mut *tx)
        .await?;
    let mut pg_dump = program(&folder.join("pg_dump"), database);
    // A table that somebody rebuilds is not waited for without end. Texts as they are, whatever
    // `client_encoding` the role has.
    pg_dump
        .arg(format!("--encoding={encoding}"))
        .args([
            "--format=custom",
            "--no-password",
            "--lock-wait-timeout=60s",
            "--snapshot",
        ])
        .arg(snapshot)
        .arg("--file")
        .arg(path);
    let (counted, ()) = tokio::try_join!(count(&mut tx, tables), finish(pg_dump, "pg_dump"))?;
    tx.rollback().await?;

    let restore = folder.join("pg_restore");
    verify_list(&restore, path, tables).await?;
    verify_rows(&restore, path, &counted).await?;
    let (bytes, sha256) = digest(path.to_owned()).await?;
    Ok(Dump {
        bytes,
        sha256,
        rows: counted,
        server,
        tool,
    })
}

async fn count(
    connection: &mut PgConnection,
    tables: &[String],
) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut counted = BTreeMap::new();
    for table in tables {
        let sql = format!("select count(*) from public.{table}");
        let rows: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(&mut *connection)
            .await
            .with_context(|| format!("counting the rows of {table}"))?;
        counted.insert(table.clone(), u64::try_from(rows)?);
    }
    Ok(counted)
}

/// Every table is listed, with an entry for its rows.
async fn verify_list(restore: &Path, path: &Path, tables: &[String]) -> anyhow::Result<()> {
    let mut list = Command::new(restore);
    list.arg("--list").arg(path);
    let output = output(list, "pg_restore --list").await?;
    let listed: Vec<Vec<&str>> = output
        .lines()
        .filter(|line| !line.starts_with(';'))
        // `217; 1259 16390 TABLE public users owner`
        .map(|line| line.split_whitespace().skip(3).collect())
        .collect();
    for table in tables {
        let has = |words: &[&str]| listed.iter().any(|entry| entry.starts_with(words));
        ensure!(
            has(&["TABLE", "public", table]) && has(&["TABLE", "DATA", "public", table]),
            "the dump does not hold table {table}: pg_restore does not list it with its rows"
        );
    }
    Ok(())
}

/// Reads the whole dump as a restore would, and counts.
async fn verify_rows(
    restore: &Path,
    path: &Path,
    counted: &BTreeMap<String, u64>,
) -> anyhow::Result<()> {
    let mut command = Command::new(restore);
    command
        .args(["--data-only", "--file=-"])
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true);
    let mut child = command.spawn().context("pg_restore can't be started")?;
    let stdout = child.stdout.take().expect("it is piped");
    let mut lines = BufReader::with_capacity(1 << 20, stdout);
    let (mut line, mut table) = (Vec::new(), None);
    let mut held: BTreeMap<String, u64> = BTreeMap::new();
    while lines.read_until(b'\n', &mut line).await? > 0 {
        match &table {
            None => table = copied(&line),
            Some(_) if line.as_slice() == b"\\.\n" => table = None,
            // A line break in a value is written as two other characters.
            Some(table) => *held.entry(String::clone(table)).or_default() += 1,
        }
        line.clear();
    }
    let status = child.wait().await?;
    ensure!(
        status.success(),
        "pg_restore can't read the dump ({status})"
    );
    for (table, rows) in counted {
        let there = held.get(table).copied().unwrap_or(0);
        ensure!(
            there == *rows,
            "rows of table {table}: {there} in the dump, {rows} in the database"
        );
    }
    Ok(())
}

/// The table of `COPY public.users (…) FROM stdin;`.
fn copied(line: &[u8]) -> Option<String> {
    let line = std::str::from_utf8(line).ok()?;
    let rest = line.strip_prefix("COPY ")?;
    let (name, _) = rest
        .trim_end()
        .strip_suffix("FROM stdin;")?
        .split_once(' ')?;
    Some(name.strip_prefix("public.").unwrap_or(name).to_owned())
}

async fn digest(path: std::path::PathBuf) -> anyhow::Result<(u64, String)> {
    tokio::task::spawn_blocking(move || {
        let mut file = File::open(&path)?;
        // A backup that a power failure takes with it is none.
        file.sync_all()?;
        let (mut digest, mut bytes) = (Digest::new(&SHA256), 0);
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            digest.update(&buffer[..read]);
            bytes += read as u64;
        }
        let hex = digest
            .finish()
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok((bytes, hex))
    })
    .await?
}

/// A client program that connects to this database and to no other.
fn program(path: &Path, database: &PgConnectOptions) -> Command {
    let mut command = Command::new(path);
    for (name, _) in std::env::vars_os() {
        let name_bytes = name.as_encoded_bytes();
        if name_bytes.starts_with(b"PG") && name_bytes != b"PGPASSFILE" {
            command.env_remove(name);
        }
    }
    let host = database.get_socket().map_or_else(
        || database.get_host().into(),
        |socket| socket.as_os_str().to_owned(),
    );
    command
        .env("PGHOST", host)
        .env("PGPORT", database.get_port().to_string())
        .env("PGUSER", database.get_username())
        .env(
            "PGDATABASE",
            database.get_database().unwrap_or(database.get_username()),
        )
        .env("PGCONNECT_TIMEOUT", "10");
    if let Some(options) = database.get_options() {
        command.env("PGOPTIONS", options);
    }
    // The options show neither the password nor the certificates otherwise.
    // Host and user stand above; not each of them can be part of a URL.
    let url = database.clone().host("localhost").username("user");
    let url = url.to_url_lossy();
    if let Some(password) = url.password() {
        let decoded = url::form_urlencoded::parse(password.as_bytes()).next();
        command.env(
            "PGPASSWORD",
            decoded.map_or_else(String::new, |(text, _)| text.into_owned()),
        );
    }
    for (name, value) in url.query_pairs() {
        let variable = match name.as_ref() {
            "sslmode" => "PGSSLMODE",
            "sslrootcert" => "PGSSLROOTCERT",
            "sslcert" => "PGSSLCERT",
            "sslkey" => "PGSSLKEY",
            _ => continue,
        };
        command.env(variable, value.strip_prefix("file: ").unwrap_or(&value));
    }
    command
}

async fn finish(command: Command, name: &str) -> anyhow::Result<()> {
    output(command, name).await.map(drop)
}

/// Runs it to its end; what it said is in the error.
async fn output(mut command: Command, name: &str) -> anyhow::Result<String> {
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("{name} can't be started"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{name} failed ({}): {}", output.status, said.trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
