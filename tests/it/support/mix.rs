//! Writers of every kind that a database knows, at the same time: what the relay has to withstand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sqlx::PgConnection;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::support::*;

/// A finished row that belongs to no file, by plain SQL.
pub fn finished_row() -> String {
    format!(
        "insert into elem_wal (transaction_id, operation_type, status, operation_data) \
         values ('{}', 'cache_rebuild', 'committed', '{{}}')",
        Uuid::new_v4()
    )
}

/// Every way to write that a database knows, at the same time.
pub struct Mix {
    url: String,
    other_database: String,
    ordered_files: Vec<Uuid>,
    seed: u64,
    pub synchronous_commit: &'static str,
}

impl Mix {
    pub async fn new(world: &World, ordered_files: usize) -> Self {
        let mut connection = world.element(0).await;
        let mut files = Vec::new();
        for _ in 0..ordered_files {
            let id = Uuid::new_v4();
            execute(&mut connection, insert_file(id)).await;
            files.push(id);
        }
        let seed = rand::random();
        println!("seed {seed}");
        Self {
            url: world.elements[0].1.clone(),
            other_database: world.query_url.clone(),
            ordered_files: files,
            seed,
            synchronous_commit: "on",
        }
    }

    /// Writers that continue until `stop`; each errors only where a crash of the server is allowed.
    pub fn start(
        self: &Arc<Self>,
        writers: usize,
        stop: &Arc<AtomicBool>,
        crashes: bool,
    ) -> JoinSet<()> {
        let mut set = JoinSet::new();
        for writer in 0..writers {
            let (mix, stop) = (Arc::clone(self), Arc::clone(stop));
            set.spawn(async move {
                let mut random = StdRng::seed_from_u64(mix.seed + writer as u64);
                while !stop.load(Ordering::Relaxed) {
                    let ended = mix.write(&mut random, &stop, writer).await;
                    if let Err(error) = ended {
                        assert!(crashes, "writer {writer}: {error}");
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            });
        }
        set
    }

    async fn write(
        &self,
        random: &mut StdRng,
        stop: &AtomicBool,
        writer: usize,
    ) -> sqlx::Result<()> {
        let mut connection = try_pg(&self.url).await?;
        try_execute(
            &mut connection,
            format!("set synchronous_commit = {}", self.synchronous_commit),
        )
        .await?;
        for _ in 0..20 {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            self.transaction(&mut connection, random, writer).await?;
            // Faster than one relay on two cores, but not by a multiple: draining it proves nothing.
            tokio::time::sleep(Duration::from_millis(random.random_range(0..150))).await;
        }
        Ok(())
    }

    async fn transaction(
        &self,
        connection: &mut PgConnection,
        random: &mut StdRng,
        writer: usize,
    ) -> sqlx::Result<()> {
        let row = finished_row;
        match random.random_range(0..12) {
            // Aborted: numbers that nobody will ever see.
            0 => try_execute(connection, format!("begin; {}; {}; rollback", row(), row())).await,
            // A savepoint taken back, and one kept.
            1 => {
                let (a, b, c) = (row(), row(), row());
                try_execute(
                    connection,
                    format!(
                        "begin; {a}; savepoint s; {b}; rollback to s; savepoint k; {c}; \
                         release k; commit"
                    ),
                )
                .await
            }
            // An exception block.
            2 => {
                let (a, b) = (row(), row());
                try_execute(
                    connection,
                    format!(
                        "do $$ begin {a}; begin {b}; perform 1 / 0; exception \
                         when division_by_zero then null; end; end $$"
                    ),
                )
                .await
            }
            // Two-phase commit, held open, then committed or not.
            3 => {
                let id = Uuid::new_v4();
                try_execute(
                    connection,
                    format!("begin; {}; prepare transaction '{id}'", row()),
                )
                .await?;
                self.other_work(connection).await?;
                let end = if random.random_bool(0.7) {
                    "commit"
                } else {
                    "rollback"
                };
                try_execute(connection, format!("{end} prepared '{id}'")).await
            }
            // COPY of rows that are finished already.
            4 => {
                let rows: String = (0..5)
                    .map(|_| format!("{}\tcache_rebuild\tcommitted\t{{}}\n", Uuid::new_v4()))
                    .collect();
                let mut copy = connection
                    .copy_in_raw(
                        "copy elem_wal (transaction_id, operation_type, status, operation_data) \
                         from stdin",
                    )
                    .await?;
                copy.send(rows.as_bytes()).await?;
                copy.finish().await?;
                Ok(())
            }
            // Many rows in one statement.
            5 => {
                try_execute(
                    connection,
                    "insert into elem_wal (transaction_id, operation_type, status, operation_data) \
                     select gen_random_uuid(), 'cache_rebuild', 'committed', '{}' \
                     from generate_series(1, 20)",
                )
                .await
            }
            // Serialisable and repeatable-read writers.
            6 | 7 => {
                let level = ["serializable", "repeatable read"][random.random_range(0..2)];
                let sql = format!("begin isolation level {level}; {}; commit", row());
                tolerate(connection, &sql).await
            }
            // Takes an id long before it draws.
            8 => {
                try_execute(connection, "begin; select pg_current_xact_id()").await?;
                self.other_work(connection).await?;
                try_execute(connection, format!("{}; commit", row())).await
            }
            // A long transaction in another database holds xmin back.
            9 if writer == 0 => {
                let mut other = try_pg(&self.other_database).await?;
                try_execute(
                    &mut other,
                    "begin; select pg_current_xact_id(); select pg_sleep(0.3); rollback",
                )
                .await
            }
            // A change of a file and its finish in one transaction: their order is the file's.
            _ => {
                let file = self.ordered_files[random.random_range(0..self.ordered_files.len())];
                let id = Uuid::new_v4();
                try_execute(
                    connection,
                    format!(
                        "begin; update elem_files set updated_at = clock_timestamp(), \
                             file_size = file_size + 1 where file_id = '{file}'; \
                         insert into elem_wal (transaction_id, operation_type, status, file_id, \
                             operation_data) values ('{id}', 'file_update', 'committed', '{file}', \
                             '{{}}'); commit"
                    ),
                )
                .await
            }
        }
    }

    /// Time passes, by work and not by sleeping.
    async fn other_work(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        try_execute(connection, "select count(*) from generate_series(1, 20000)").await
    }
}

/// Serialisation failures are the writer's business.
async fn tolerate(connection: &mut PgConnection, sql: &str) -> sqlx::Result<()> {
    match try_execute(connection, sql).await {
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("40001") => {
            try_execute(connection, "rollback").await
        }
        ended => ended,
    }
}

fn insert_file(id: Uuid) -> String {
    format!(
        "insert into elem_files (file_id, original_filename, storage_filename, file_size, \
             content_type, created_by_id, created_by_username, storage_path, checksum) \
         values ('{id}', 'a', '{id}', 0, 'text/plain', '1', 'u', '/', 'c')"
    )
}
