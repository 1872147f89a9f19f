//! A projector of your own: how many files each user has. Its test is `tests/it/projector/kit.rs`.
//!
//! Make its table in the query module's database, then
//! `QUERY_DATABASE_URL=… NATS_URL=… cargo run -p artstore-projectors --example files_per_user`,
//! and ask: `select username, count(distinct file_id) from user_files group by username`.

use std::collections::HashMap;
use std::path::PathBuf;

use artstore_bus::accounts::role::Role;
use artstore_bus::connection::{Bus, BusOptions};
use artstore_bus::tls::TlsFiles;
use artstore_projectors::projector::{Projector, Received, Rejection};
use artstore_projectors::runtime::progress::ProjectorProgress;
use artstore_projectors::runtime::workers;
use artstore_schemas::event::Event;
use artstore_schemas::source::Source;
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

/// A row for each file on each element: so it makes no difference how their streams interleave.
pub const TABLE: &str = "create table if not exists public.user_files (
    element text not null, file_id uuid not null, username text not null,
    primary key (element, file_id))";

/// How many files each user has.
pub struct FilesPerUser;

impl Projector for FilesPerUser {
    const NAME: &'static str = "files-per-user";
    const VERSION: u32 = 1;
    const TABLES: &'static [&'static str] = &["user_files"];
    const MODULE: &'static str = "query";
    const VARIABLE: &'static str = "QUERY_DATABASE_URL";
    const DURABLE: bool = false;
    type Message = Received;

    fn reads(&self, source: &Source) -> bool {
        matches!(source, Source::Element(_))
    }

    async fn apply(
        &self,
        transaction: &mut PgConnection,
        source: &Source,
        batch: &[Received],
    ) -> Result<(), Rejection> {
        // Every event has its file's whole state: the last one counts.
        let mut files = HashMap::new();
        for received in batch {
            if let Event::Wal(wal) = &received.event
                && let Some(id) = wal.operation.file_id
            {
                let user = wal
                    .file
                    .as_ref()
                    .map(|file| file.created_by_username.clone());
                files.insert(id, user);
            }
        }
        let (ids, users): (Vec<_>, Vec<_>) = files.into_iter().unzip();
        let element = source.to_string();
        sqlx::query("delete from user_files where element = $1 and file_id = any($2)")
            .bind(&element)
            .bind(&ids)
            .execute(&mut *transaction)
            .await?;
        sqlx::query(
            "insert into user_files (element, file_id, username) \
             select $1, * from unnest($2::uuid[], $3::text[]) as f (file_id, username) \
             where username is not null",
        )
        .bind(&element)
        .bind(&ids)
        .bind(&users)
        .execute(transaction)
        .await?;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let database = std::env::var("QUERY_DATABASE_URL")?.parse()?;
    let bus = Bus::connect(&BusOptions {
        url: std::env::var("NATS_URL")?,
        credentials: std::env::var_os("NATS_CREDENTIALS").map(PathBuf::from),
        tls: TlsFiles {
            authority: std::env::var_os("NATS_CA").map(PathBuf::from),
            ..TlsFiles::default()
        },
        role: Role::Projector,
        name: "files-per-user".to_owned(),
    })
    .await?;
    // Until the process is ended: a batch is committed with its checkpoint, or not at all.
    let stop = CancellationToken::new();
    workers::run(
        FilesPerUser,
        bus,
        database,
        ProjectorProgress::default(),
        stop,
    )
    .await?;
    Ok(())
}
