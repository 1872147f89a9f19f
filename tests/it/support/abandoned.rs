//! Operations as the product's service does them, in three transactions, abandoned by
//! a process that is killed, or by a connection that ends.

use std::process::Stdio;

use sqlx::PgConnection;
use tokio::io::AsyncWriteExt as _;
use uuid::Uuid;

use crate::support::*;

/// How far an operation of the product's service came.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Killed {
    /// The pending row is there.
    BeforeTheChange,
    /// The change is in an open transaction.
    InTheChange,
    /// The change is there.
    AfterTheChange,
    /// The finish is in an open transaction.
    InTheFinish,
}

pub use Killed::{AfterTheChange, BeforeTheChange, InTheChange, InTheFinish};

pub const EVERYWHERE: [Killed; 4] = [BeforeTheChange, InTheChange, AfterTheChange, InTheFinish];

/// The statements of an operation in the product's way: three transactions.
pub struct Product {
    pub id: Uuid,
    pub begin: String,
    pub change: String,
    pub finish: String,
}

impl Product {
    pub fn new(kind: &str, file: Uuid) -> Self {
        let id = Uuid::new_v4();
        let names = format!(
            "'original_filename', 'report.pdf', 'storage_filename', '{file}.pdf', \
             'relative_path', '2026/01/02/03'"
        );
        let (data, change) = match kind {
            "file_create" => (
                format!("{names}, 'content_type', 'application/pdf'"),
                insert_file(file),
            ),
            "file_update" => (
                format!("'description', '{id}', 'version', null, 'metadata', null"),
                format!(
                    "update elem_files set description = '{id}', updated_at = clock_timestamp() \
                     where file_id = '{file}'"
                ),
            ),
            _ => (
                names,
                format!("delete from elem_files where file_id = '{file}'"),
            ),
        };
        Self {
            id,
            begin: format!(
                "insert into elem_wal (transaction_id, operation_type, status, file_id, \
                     operation_data, user_id, started_at) \
                 values ('{id}', '{kind}', 'pending', '{file}', jsonb_build_object({data}), '17', \
                     clock_timestamp())"
            ),
            change,
            finish: format!(
                "update elem_wal set status = 'committed', completed_at = clock_timestamp(), \
                     duration_ms = 12, operation_data = operation_data \
                         || jsonb_build_object('result', jsonb_build_object('file_id', '{file}')) \
                 where transaction_id = '{id}'"
            ),
        }
    }

    /// What was sent to the database when the process was killed: statement by statement, or an
    /// open transaction would take in those before it.
    fn until(&self, killed: Killed) -> Vec<&str> {
        let Self {
            begin,
            change,
            finish,
            ..
        } = self;
        match killed {
            BeforeTheChange => vec![begin],
            InTheChange => vec![begin, "begin", change],
            AfterTheChange => vec![begin, change],
            InTheFinish => vec![begin, change, "begin", finish],
        }
    }

    /// Left behind by a connection that ends.
    pub async fn abandon(&self, url: &str, killed: Killed) {
        let mut connection = pg(url).await;
        execute(&mut connection, "set application_name = 'abandoned'").await;
        for statement in self.until(killed) {
            execute(&mut connection, statement).await;
        }
        drop(connection);
        gone(url, "abandoned").await;
    }

    /// Left behind by a process that is killed.
    pub async fn kill(&self, url: &str, killed: Killed) {
        let mut process = shared_stack()
            .await
            .postgres_command("psql")
            .args([
                "--no-psqlrc",
                "--quiet",
                "--set",
                "ON_ERROR_STOP=1",
                "--dbname",
                url,
            ])
            .env("PGAPPNAME", "the product")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut input = process.stdin.take().unwrap();
        // The last line reports how far it is.
        let text = format!(
            "{};\nset application_name = 'the product, there';\n",
            self.until(killed).join(";\n")
        );
        input.write_all(text.as_bytes()).await.unwrap();
        input.flush().await.unwrap();
        eventually("the process is there", || async {
            let sql = "select count(*) from pg_stat_activity \
                       where application_name = 'the product, there' \
                         and state like 'idle%' and datname = current_database()";
            (value::<i64>(&mut pg(url).await, sql).await == 1).then_some(())
        })
        .await;
        process.kill().await.unwrap();
        gone(url, "the product, there").await;
    }
}

fn insert_file(file: Uuid) -> String {
    format!(
        "insert into elem_files (file_id, original_filename, storage_filename, file_size, \
             content_type, created_at, updated_at, created_by_id, created_by_username, \
             storage_path, checksum, search_vector, metadata_json) \
         values ('{file}', 'report.pdf', '{file}.pdf', 5, 'application/pdf', clock_timestamp(), \
             clock_timestamp(), '17', 'ann', '/data/{file}.pdf', repeat('c', 64), null, '{{}}')"
    )
}

/// Waits until the server has taken back what a dead session left open.
pub async fn gone(url: &str, application: &str) {
    eventually("the dead session is gone", || async {
        let sql = format!(
            "select count(*) from pg_stat_activity where application_name = '{application}' \
             and datname = current_database()"
        );
        (value::<i64>(&mut pg(url).await, sql).await == 0).then_some(())
    })
    .await;
}

/// A finished create in the product's way.
pub async fn file(connection: &mut PgConnection) -> Uuid {
    let file = Uuid::new_v4();
    let create = Product::new("file_create", file);
    execute(connection, create.begin).await;
    execute(connection, create.change).await;
    execute(connection, create.finish).await;
    file
}

/// A file for an operation of this kind.
pub async fn file_for(kind: &str, connection: &mut PgConnection) -> Uuid {
    match kind {
        "file_create" => Uuid::new_v4(),
        _ => file(connection).await,
    }
}

pub const KINDS: [&str; 3] = ["file_create", "file_update", "file_delete"];
