//! The search for secrets, in everything that was said and stored.

use std::path::{Path, PathBuf};

use artstore_schemas::source::Source;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection};

use super::processes::Said;
use crate::support::{World, shared_stack};

/// What is searched for, each with its name.
#[derive(Default)]
pub(super) struct Secrets(Vec<(String, String)>);

impl Secrets {
    pub(super) fn add(&mut self, name: &str, secret: &str) {
        assert!(secret.len() > 8, "{name} is too short to be searched for");
        self.0.push((name.to_owned(), secret.to_owned()));
        // As PostgreSQL prints bytes.
        let hex = HEXLOWER.encode(secret.as_bytes());
        self.0.push((format!("{name}, in hex"), hex));
    }

    /// Those that are in some bytes, with the place.
    fn found_in(&self, place: &str, bytes: &[u8]) -> Vec<String> {
        let text = String::from_utf8_lossy(bytes);
        let mut found: Vec<String> = self
            .0
            .iter()
            .filter(|(_, secret)| text.contains(secret))
            .map(|(name, _)| format!("{name} in {place}"))
            .collect();
        if has_token(&text) {
            found.push(format!("a token in {place}"));
        }
        found
    }
}

/// `eyJ`, with which each token begins. What comes behind it has to be JSON: a signature in Base64 may have the same
/// three letters.
fn has_token(text: &str) -> bool {
    let starts = text.match_indices("eyJ");
    starts
        .filter_map(|(at, _)| {
            BASE64URL_NOPAD
                .decode(text.get(at..at + 12)?.as_bytes())
                .ok()
        })
        .any(|decoded| decoded.iter().all(|byte| (b' '..=b'~').contains(byte)))
}

/// Every row of every table, as text.
pub(super) async fn tables(connection: &mut PgConnection) -> Vec<(String, String)> {
    let names: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', schemaname, tablename) from pg_tables \
         where schemaname not in ('pg_catalog', 'information_schema') order by 1",
    )
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    assert!(names.len() > 2, "{names:?}");
    let mut all = Vec::new();
    for name in names {
        let sql = format!("select coalesce(string_agg(t::text, e'\\n'), '') from {name} t");
        let rows: String = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(&mut *connection)
            .await
            .unwrap();
        all.push((format!("table {name}"), rows));
    }
    all
}

/// Every file below a folder, but where the secrets are at home.
pub(super) fn files(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    // A private server has the passwords of its users in its configuration.
    const HOMES: &[&str] = &["nats-keys", "secrets.json", "server.conf"];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if HOMES.contains(&name) {
            continue;
        }
        if path.is_dir() {
            files(&path, found);
        } else if let Ok(bytes) = std::fs::read(&path) {
            // A temporary file may be gone again.
            found.push((path.display().to_string(), bytes));
        }
    }
}

pub(super) async fn server_log() -> PathBuf {
    shared_stack().await.directory().join("postgres/server.log")
}

/// Where any of the secrets is. `exports`: what commands wrote.
pub(super) async fn search(
    world: &World,
    said: &Said,
    exports: &Path,
    secrets: &Secrets,
) -> Vec<String> {
    let mut found = Vec::new();
    for (place, text) in &said.0 {
        found.extend(secrets.found_in(place, text.as_bytes()));
    }
    let mut streams: Vec<String> = world.sources().iter().map(Source::stream).collect();
    streams.push(artstore_bus::stream_name::AUDIT_HEADS.to_owned());
    for stream in streams {
        let info = world.bus.stream_info(&stream).await.unwrap();
        assert!(info.state.messages > 0, "{stream} is empty");
        found.extend(secrets.found_in(&stream, json!(info.config).to_string().as_bytes()));
        for sequence in info.state.first_sequence..=info.state.last_sequence {
            let message = world.bus.message_at(&stream, sequence).await.unwrap();
            let Some(message) = message else { continue };
            let place = format!("message {sequence} of {stream}");
            let headers = format!("{} {:?}", message.subject, message.headers);
            found.extend(secrets.found_in(&place, headers.as_bytes()));
            found.extend(secrets.found_in(&place, &message.body));
        }
    }
    for mut connection in [
        world.element(0).await,
        world.query().await,
        world.admin().await,
    ] {
        for (place, rows) in tables(&mut connection).await {
            found.extend(secrets.found_in(&place, rows.as_bytes()));
        }
    }
    let mut all = Vec::new();
    files(exports, &mut all);
    files(world.nats_folder(), &mut all);
    let server = server_log().await;
    all.push((
        server.display().to_string(),
        std::fs::read(&server).unwrap(),
    ));
    assert!(all.len() > 10, "{} files", all.len());
    for (place, bytes) in &all {
        found.extend(secrets.found_in(place, bytes));
    }
    found
}
