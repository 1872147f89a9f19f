//! A wrong configuration gives one clear error at the start: what is wrong, where, what to do. No
//! secret is in it, the exit code distinguishes usage (2) from everything else (1), and nothing is changed.

mod databases;
mod encodings;
mod hidden_rows;
mod odd_settings;
mod pooler;
mod servers;
mod settings;
mod streams;

use sqlx::{AssertSqlSafe, PgConnection};

use crate::support::*;

/// In every URL that is given as a wrong one: it must not be said again.
const SECRET: &str = "verborgen";

/// Runs it to its end: the exit code, and one error that says all this, once.
async fn refused(program: Program, code: i32, says: &[&str]) {
    let (status, log) = program.finish().await;
    assert_eq!(status.code(), Some(code), "{log}");
    let errors: Vec<&str> = log
        .lines()
        .filter(|line| !line.contains(" INFO "))
        .collect();
    let [error] = errors[..] else {
        panic!("one error, not: {log}");
    };
    assert!(error.starts_with("artstore: "), "{error}");
    // PostgreSQL's own source, and the client's frame.
    assert!(!error.contains(" at line "), "{error}");
    assert!(!error.contains("error returned from database"), "{error}");
    let cause = error.rsplit(": ").next().unwrap();
    assert_eq!(error.matches(cause).count(), 1, "said twice: {error}");
    for text in says {
        assert!(error.contains(text), "{text:?} is not in: {error}");
    }
    assert!(!log.contains(SECRET), "a secret: {log}");
}

/// Refused by clap, with its own words and usage.
async fn usage(program: Program, says: &[&str]) {
    let (status, log) = program.finish().await;
    assert_eq!(status.code(), Some(2), "{log}");
    for text in says {
        assert!(log.contains(text), "{text:?} is not in: {log}");
    }
    assert!(!log.contains(SECRET), "a secret: {log}");
}

/// Everything that a database holds: what there is, and what is in it.
async fn content(connection: &mut PgConnection) -> Vec<String> {
    let mut found: Vec<String> = sqlx::query_scalar(
        "select relkind::text || ' ' || relname from pg_class \
         where relnamespace = 'public'::regnamespace order by 1",
    )
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    let tables: Vec<String> = sqlx::query_scalar(
        "select quote_ident(relname) from pg_class \
         where relnamespace = 'public'::regnamespace and relkind in ('r', 'S') order by 1",
    )
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    for table in tables {
        let sql = format!(
            "select coalesce(string_agg(row(t.*)::text, ';' order by row(t.*)::text), '') from public.{table} t"
        );
        let rows: String = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(&mut *connection)
            .await
            .unwrap();
        found.push(format!("{table}: {rows}"));
    }
    found
}

/// Every stream of a world: its settings, and what is in it.
async fn streams(world: &World) -> Vec<String> {
    let mut names = world.bus.stream_names().await.unwrap();
    names.sort();
    let mut infos = Vec::new();
    for name in &names {
        infos.push(world.bus.stream_info(name).await.unwrap());
    }
    infos
        .into_iter()
        .map(|info| {
            let state = info.state;
            // Its fields in order: those of a map in memory have none.
            let config = serde_json::to_value(&info.config).unwrap();
            format!(
                "{config} {} {} {}",
                info.created, state.messages, state.last_sequence
            )
        })
        .collect()
}

/// A world before and after.
struct Unchanged {
    databases: Vec<(String, Vec<String>)>,
    streams: Vec<String>,
}

impl Unchanged {
    async fn of(world: &World, more: &[&String]) -> Self {
        let own = world.elements.iter().map(|(_, url)| url);
        let urls = own
            .chain([&world.query_url, &world.admin_url])
            .chain(more.iter().copied());
        let mut databases = Vec::new();
        for url in urls {
            databases.push((url.clone(), content(&mut pg(url).await).await));
        }
        Self {
            databases,
            streams: streams(world).await,
        }
    }

    async fn check(self, world: &World) {
        for (url, before) in self.databases {
            same(&before, &content(&mut pg(&url).await).await);
        }
        same(&self.streams, &streams(world).await);
    }
}

/// Shows only what differs.
fn same(before: &[String], now: &[String]) {
    let gone: Vec<&String> = before.iter().filter(|line| !now.contains(line)).collect();
    let new: Vec<&String> = now.iter().filter(|line| !before.contains(line)).collect();
    assert!(
        gone.is_empty() && new.is_empty(),
        "gone: {gone:#?}\nnew: {new:#?}"
    );
}

/// Elements that tests here add.
const ACCOUNTS: [&str; 10] = [
    "elem", "fresh", "repaired", "other", "missing", "aged", "fleeting", "limited", "dropping",
    "narrow",
];

/// A world with a finished row that a relay would publish, and a message that a projector would
/// apply.
async fn tempting() -> World {
    let world = World::with_accounts_for(&ACCOUNTS, &["elem"]).await;
    finished_rows(&mut world.element(0).await, 1).await;
    let relay = world.relay(0).start();
    world.published(0).await;
    relay.kill().await;
    finished_rows(&mut world.element(0).await, 1).await;
    world
}

async fn finished_rows(connection: &mut PgConnection, count: u32) {
    execute(
        connection,
        format!(
            "insert into elem_wal (transaction_id, operation_type, status, operation_data) \
             select gen_random_uuid(), 'cache_rebuild', 'committed', '{{}}' \
             from generate_series(1, {count})"
        ),
    )
    .await;
}

/// The same server, another user, password or database.
fn other(url: &str, change: impl FnOnce(&mut url::Url)) -> String {
    let mut url: url::Url = url.parse().unwrap();
    change(&mut url);
    url.to_string()
}

fn name_of(url: &str) -> String {
    let url: url::Url = url.parse().unwrap();
    url.path().trim_start_matches('/').to_owned()
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
