//! `verify` of the read model: each kind of damage is found, named exactly, with the command that
//! repairs it, and nothing else is named. And no false alarm, whoever writes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use artstore_producers::publish::files::NewFile;
use artstore_producers::publish::outbox::{self, OutboxInsert};
use artstore_schemas::actor::Actor;
use artstore_schemas::element::ElementName;
use artstore_verification::cache::{self, Report, Scope};
use artstore_verification::finding::{Finding, Kind};
use serde_json::json;
use sqlx::PgConnection;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::support::load::{Load, create, delete, new_file, update};
use crate::support::*;

pub async fn verify(world: &World) -> Report {
    verify_of(world, &world.elements).await
}

async fn verify_of(world: &World, elements: &[(ElementName, String)]) -> Report {
    let query = world.query_url.parse().unwrap();
    let elements = elements.iter();
    let elements: Vec<_> = elements
        .map(|(name, url)| (name.clone(), url.parse().unwrap()))
        .collect();
    let scope = Scope {
        bus: &world.bus,
        query: &query,
        elements: &elements,
        history: true,
        unpublished: &BTreeSet::new(),
        unapplied: &BTreeSet::new(),
        patience: Duration::from_secs(10),
    };
    cache::verify(&scope, &mut |_| ()).await.unwrap()
}

pub async fn clean(world: &World) {
    let report = verify(world).await;
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    assert_eq!(report.in_flight, 0);
    assert!(!report.truncated);
}

/// Runs the commands that findings name.
pub async fn repair(world: &World, findings: &[Finding]) {
    for finding in findings {
        let words: Vec<&str> = finding.repair.split(' ').skip(1).collect();
        let (status, log) = world.command(&words).finish().await;
        assert!(status.success(), "{}: {log}", finding.repair);
    }
}

/// Two elements with files of every kind, searches and downloads, rows of the product; everything
/// is projected.
pub struct Filled {
    pub world: World,
    pub relays: Vec<Process>,
    pub projector: Process,
    /// Plain files of the first element.
    pub files: Vec<Uuid>,
}

pub async fn filled(files: usize) -> Filled {
    let world = World::new(&["elem_a", "elem_b"]).await;
    let urls = "elem_a=http://a.example,elem_b=http://b.example";
    let relay = |name| {
        let command = world.command(&["run", "relay", "--source", name]);
        command.env("ARTSTORE_ELEMENT_API_URLS", urls).start()
    };
    let relays = vec![relay("elem_a"), relay("elem_b"), relay("query")];
    let projector = world.projector().start();
    let mut a = (world.elements[0].0.clone(), world.element(0).await);
    let mut b = (world.elements[1].0.clone(), world.element(1).await);
    let mut ids = Vec::new();
    for number in 0..files {
        let file = NewFile {
            description: Some(format!("описание {number}")),
            created_by_fullname: Some("Ann Lee".to_owned()),
            version: Some("v1".to_owned()),
            metadata: Some(json!({"tags": ["a", "\"b, c\"", 5, "x".repeat(51)], "n": number})),
            ..new_file(&format!("report {number}.pdf"))
        };
        create(&mut a, &file).await.unwrap();
        ids.push(file.id);
    }
    // Moved; moved with the old one left behind; moved, then deleted with the old one left behind.
    for (left, deleted) in [(false, false), (true, false), (true, true)] {
        let file = new_file("moved.pdf");
        create(&mut a, &file).await.unwrap();
        create(&mut b, &file).await.unwrap();
        if !left {
            delete(&mut a, file.id).await.unwrap();
        }
        if deleted {
            delete(&mut b, file.id).await.unwrap();
        }
    }
    let gone = new_file("gone.pdf");
    create(&mut a, &gone).await.unwrap();
    update(&mut a, gone.id, "soon").await.unwrap();
    delete(&mut a, gone.id).await.unwrap();
    // By the product's service: too large for a message, and with the checksum lost.
    product_file(&mut a, Uuid::new_v4(), &"я".repeat(600_000), "c").await;
    product_file(&mut a, Uuid::new_v4(), "", "").await;
    let mut query = world.query().await;
    for number in 0..20 {
        search_event(&mut query, number, ids[0]).await;
    }
    execute(
        &mut query,
        "insert into file_metadata_cache (id, filename, storage_filename, file_size, sha256_hash, \
             username, storage_element_id, storage_element_url, created_at, updated_at) \
         values (gen_random_uuid(), 'theirs', 's', 1, 'c', 'u', 'elem_a', 'u', now(), now()); \
         insert into search_history (query_text, search_mode, results_count, response_time_ms) \
         values ('theirs', 'exact', 0, 0)",
    )
    .await;
    let filled = Filled {
        world,
        relays,
        projector,
        files: ids,
    };
    filled.projected().await;
    filled
}

impl Filled {
    /// Waits until everything is published and applied.
    pub async fn projected(&self) {
        for index in 0..2 {
            self.world.published(index).await;
        }
        let outbox = "select count(*) from event_outbox";
        let events: i64 = value(&mut self.world.query().await, outbox).await;
        let source = artstore_schemas::source::Source::Query;
        eventually("searches are published", || async {
            (self.world.last_sequence(&source).await >= u64::try_from(events).unwrap())
                .then_some(())
        })
        .await;
        self.world.applied().await;
    }

    pub async fn end(self) {
        for process in self.relays {
            process.kill().await;
        }
        self.projector.kill().await;
    }
}

async fn product_file(
    (element, connection): &mut (ElementName, PgConnection),
    file: Uuid,
    description: &str,
    checksum: &str,
) {
    execute(
        connection,
        format!(
            "begin; insert into {element}_files (file_id, original_filename, storage_filename, \
                 file_size, content_type, created_by_id, created_by_username, storage_path, \
                 checksum, description, metadata_json) \
             values ('{file}', 'theirs.txt', '{file}', 0, 'text/plain', '1', 'u', '/', \
                 '{checksum}', '{description}', 'null'); \
             insert into {element}_wal (transaction_id, operation_type, status, file_id, \
                 operation_data) \
             values (gen_random_uuid(), 'file_create', 'committed', '{file}', \
                 '{{\"result\": {{\"checksum\": \"told\", \"file_size\": 7}}}}'); commit"
        ),
    )
    .await;
}

async fn search_event(query: &mut PgConnection, number: i32, file: Uuid) {
    let (entity, action, data) = match number % 2 {
        0 => (
            "search",
            "performed",
            json!({"query_text": format!("word {number}"), "search_mode": "exact",
                   "filters_applied": "{}", "results_count": number, "response_time_ms": 3}),
        ),
        _ => (
            "file",
            "downloaded",
            json!({"file_id": file, "bytes_transferred": 5, "download_time_ms": number,
                   "storage_element_id": "elem_a"}),
        ),
    };
    let event = OutboxInsert {
        entity: entity.to_owned(),
        action: action.to_owned(),
        ordering_key: None,
        subject: None,
        data,
        request_id: None,
        traceparent: None,
    };
    let actor = Actor::user("1").named("ann");
    outbox::insert(query, &actor, &event).await.unwrap();
}

/// All rows that the projector wrote, without what a second writing changes.
async fn all_rows(query: &mut PgConnection) -> String {
    let rows = [
        ("file_metadata_cache", "cache_updated_at", "id"),
        ("search_history", "id", "event_id"),
        ("download_statistics", "id", "event_id"),
    ];
    let mut all = String::new();
    for (table, but, order) in rows {
        let text: Option<String> = value(
            query,
            format!(
                "select string_agg((to_jsonb(t) - '{but}')::text, E'\\n' order by t.{order}) \
                 from {table} t where event_id is not null"
            ),
        )
        .await;
        all.push_str(&text.unwrap_or_default());
    }
    all
}

/// One change a field, one file a change.
const CHANGES: &[(&str, &str)] = &[
    ("filename", "'other.pdf'"),
    ("storage_filename", "'other'"),
    ("file_size", "6"),
    ("mime_type", "null"),
    ("sha256_hash", "'d'"),
    ("username", "'bob'"),
    ("tags", "array['\"b, c\"', 'a']"),
    ("tags_dropped", "1"),
    ("description", "''"),
    ("storage_element_id", "'elem_b'"),
    ("storage_element_url", "'http://c.example'"),
    ("created_at", "created_at + interval '1 microsecond'"),
    ("updated_at", "'infinity'"),
    ("search_vector", "'word'::tsvector"),
    ("event_id", "gen_random_uuid()"),
    ("stream", "null"),
    ("stream_sequence", "stream_sequence + 1000000"),
    ("source_position", "source_position + 1"),
    ("content_version", "null"),
    ("created_by_id", "'2'"),
    ("created_by_fullname", "'Ann  Lee'"),
    ("metadata", "'null'"),
    ("omitted", "'[]'"),
];

#[test]
fn a_changed_field_of_a_cache_row_is_found_named_and_repaired() {
    run(async {
        let filled = filled(CHANGES.len()).await;
        let world = &filled.world;
        clean(world).await;
        let mut query = world.query().await;
        let before = all_rows(&mut query).await;
        let mut expected = BTreeMap::new();
        for ((field, new), file) in CHANGES.iter().zip(&filled.files) {
            let sql = format!("update file_metadata_cache set {field} = {new} where id = '{file}'");
            execute(&mut query, sql).await;
            expected.insert(*file, *field);
        }
        let report = verify(world).await;
        let mut found = BTreeMap::new();
        for finding in &report.findings {
            assert_eq!(finding.kind, Kind::RowDifferent, "{finding:?}");
            let id = finding.id.unwrap();
            let command = format!("artstore projection repair query-cache --file {id}");
            assert_eq!(finding.repair, command);
            let fields: Vec<&str> = finding
                .detail
                .split("; ")
                .map(|field| field.split(':').next().unwrap())
                .collect();
            found.insert(id, fields.join(","));
        }
        let expected: BTreeMap<Uuid, String> = expected
            .into_iter()
            .map(|(id, field)| (id, field.to_owned()))
            .collect();
        assert_eq!(found, expected);
        // All at once, from the report.
        let path = std::env::temp_dir().join(format!("report-{}.json", Uuid::new_v4()));
        let text = serde_json::to_string(&json!({"findings": report.findings})).unwrap();
        std::fs::write(&path, text).unwrap();
        let command = ["projection", "repair", "query-cache", "--json", "--from"];
        let command = world.command(&command).argument(path.to_str().unwrap());
        let (status, output) = command.output().await;
        std::fs::remove_file(&path).unwrap();
        assert!(status.success(), "{output}");
        let repaired: serde_json::Value = serde_json::from_str(&output).unwrap();
        assert_eq!(repaired["files"].as_array().unwrap().len(), CHANGES.len());
        clean(world).await;
        assert_eq!(all_rows(&mut query).await, before);
        filled.end().await;
    });
}

#[test]
fn rows_deleted_added_renamed_or_disowned_are_found_named_and_repaired() {
    run(async {
        let filled = filled(6).await;
        let world = &filled.world;
        let mut query = world.query().await;
        let before = all_rows(&mut query).await;
        let [deleted, copied, renamed, disowned, ..] = filled.files[..] else {
            panic!("too few files");
        };
        let (copy, new_name) = (Uuid::new_v4(), Uuid::new_v4());
        execute(
            &mut query,
            format!(
                "delete from file_metadata_cache where id = '{deleted}'; \
                 create temp table copy as select * from file_metadata_cache where id = '{copied}'; \
                 update copy set id = '{copy}'; insert into file_metadata_cache select * from copy; \
                 update file_metadata_cache set id = '{new_name}' where id = '{renamed}'; \
                 update file_metadata_cache set event_id = null where id = '{disowned}'"
            ),
        )
        .await;
        let report = verify(world).await;
        let mut found: Vec<(Kind, Uuid)> = report
            .findings
            .iter()
            .map(|finding| (finding.kind, finding.id.unwrap()))
            .collect();
        let mut expected = vec![
            (Kind::RowMissing, deleted),
            (Kind::RowExtra, copy),
            (Kind::RowExtra, new_name),
            (Kind::RowMissing, renamed),
            (Kind::RowMissing, disowned),
        ];
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
        repair(world, &report.findings).await;
        clean(world).await;
        assert_eq!(all_rows(&mut query).await, before);
        filled.end().await;
    });
}

#[test]
fn searches_and_downloads_are_found_named_and_repaired() {
    run(async {
        let filled = filled(1).await;
        let world = &filled.world;
        let mut query = world.query().await;
        let before = all_rows(&mut query).await;
        let event = |table: &str, skip: i32| {
            let sql = format!(
                "select event_id from {table} where event_id is not null \
                 order by created_at offset {skip} limit 1"
            );
            async { value::<Uuid>(&mut world.query().await, sql).await }
        };
        let changed = event("search_history", 0).await;
        let deleted = event("search_history", 1).await;
        let resumed = event("download_statistics", 0).await;
        let added = Uuid::new_v4();
        execute(
            &mut query,
            format!(
                "update search_history set query_text = null, username = 'x' where event_id = '{changed}'; \
                 delete from search_history where event_id = '{deleted}'; \
                 update download_statistics set was_resumed = true where event_id = '{resumed}'; \
                 insert into search_history (event_id, search_mode, results_count, response_time_ms) \
                 values ('{added}', 'exact', 0, 0)"
            ),
        )
        .await;
        let report = verify(world).await;
        let mut found: Vec<(Kind, Uuid)> = report
            .findings
            .iter()
            .map(|finding| (finding.kind, finding.id.unwrap()))
            .collect();
        found.sort();
        let mut expected = vec![
            (Kind::RowDifferent, changed),
            (Kind::RowMissing, deleted),
            (Kind::RowDifferent, resumed),
            (Kind::RowExtra, added),
        ];
        expected.sort();
        assert_eq!(found, expected);
        let of_changed = report.findings.iter().find(|f| f.id == Some(changed));
        let detail = &of_changed.unwrap().detail;
        assert!(
            detail.contains("query_text: is None, should be Some(\"word "),
            "{detail}"
        );
        assert!(
            detail.contains("username: is Some(\"x\"), should be Some(\"ann\")"),
            "{detail}"
        );
        repair(world, &report.findings).await;
        clean(world).await;
        assert_eq!(all_rows(&mut query).await, before);
        filled.end().await;
    });
}

#[test]
fn files_changed_without_an_operation_are_named_with_the_command_for_their_element() {
    run(async {
        let filled = filled(4).await;
        let world = &filled.world;
        let mut element = world.element(0).await;
        let [changed, deleted, ..] = filled.files[..] else {
            panic!("too few files");
        };
        let added = Uuid::new_v4();
        execute(
            &mut element,
            format!(
                "update elem_a_files set description = 'new' where file_id = '{changed}'; \
                 delete from elem_a_files where file_id = '{deleted}'; \
                 insert into elem_a_files (file_id, original_filename, storage_filename, file_size, \
                     content_type, created_by_id, created_by_username, storage_path, checksum) \
                 values ('{added}', 'a', '{added}', 0, 'text/plain', '1', 'u', '/', 'c')"
            ),
        )
        .await;
        let report = verify(world).await;
        let mut found: Vec<(Kind, Uuid)> = Vec::new();
        for finding in &report.findings {
            assert_eq!(
                finding.repair, "artstore element backfill elem_a",
                "{finding:?}"
            );
            assert_eq!(finding.source, "elem_a");
            found.push((finding.kind, finding.id.unwrap()));
        }
        found.sort();
        let mut expected = vec![
            (Kind::RowDifferent, changed),
            (Kind::RowExtra, deleted),
            (Kind::RowMissing, added),
        ];
        expected.sort();
        assert_eq!(found, expected);
        filled.end().await;
    });
}

/// Its rows have nothing to be compared with; its stream still decides whose file it is.
#[test]
fn rows_of_an_element_whose_database_is_not_known_are_left_out() {
    run(async {
        let filled = filled(3).await;
        let world = &filled.world;
        for index in 0..2 {
            let report = verify_of(world, &world.elements[index..=index]).await;
            assert!(report.findings.is_empty(), "{:#?}", report.findings);
            assert_eq!(report.in_flight, 0);
        }
        let file = filled.files[0];
        let sql = format!("delete from file_metadata_cache where id = '{file}'");
        execute(&mut world.query().await, sql).await;
        let report = verify_of(world, &world.elements[1..]).await;
        assert!(report.findings.is_empty(), "{:#?}", report.findings);
        let report = verify_of(world, &world.elements[..1]).await;
        assert_eq!(report.findings.len(), 1, "{:#?}", report.findings);
        filled.end().await;
    });
}

/// Writers through the publishers' API and writers as the product's service is, who take three
/// transactions for an operation and leave some pending: no finding while they write, and none
/// after.
#[test]
fn nothing_is_found_while_everybody_writes() {
    run(async {
        let filled = filled(20).await;
        let world = &filled.world;
        let load = Load::start(world, 2, false);
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = JoinSet::new();
        for writer in 0..3 {
            let url = world.elements[0].1.clone();
            let stop = Arc::clone(&stop);
            writers.spawn(async move {
                let mut connection = pg(&url).await;
                let mut turn = writer;
                while !stop.load(Ordering::Relaxed) {
                    turn += 3;
                    product_life(&mut connection, turn).await;
                }
            });
        }
        let started = Instant::now();
        let mut looked_at = 0;
        let mut rounds = 0;
        while started.elapsed() < Duration::from_secs(25) || rounds < 3 {
            let report = verify(world).await;
            assert!(report.findings.is_empty(), "{:#?}", report.findings);
            looked_at += report.candidates;
            rounds += 1;
        }
        load.stop().await;
        stop.store(true, Ordering::Relaxed);
        while let Some(ended) = writers.join_next().await {
            ended.unwrap();
        }
        println!("{rounds} rounds, {looked_at} candidates");
        assert!(looked_at > 0, "nothing was ever in flight");
        let report = verify(world).await;
        assert!(report.findings.is_empty(), "{:#?}", report.findings);
        filled.end().await;
    });
}

/// Creates, updates and deletes as the product's service does; every tenth operation is never
/// finished.
async fn product_life(connection: &mut PgConnection, turn: i32) {
    let file = Uuid::new_v4();
    let changes = [
        (
            "file_create",
            format!(
                "insert into elem_a_files (file_id, original_filename, storage_filename, file_size, \
                     content_type, created_by_id, created_by_username, storage_path, checksum, \
                     created_at, updated_at) \
                 values ('{file}', 'p', '{file}', 0, 'text/plain', '1', 'u', '/', 'c', \
                     clock_timestamp(), clock_timestamp())"
            ),
        ),
        (
            "file_update",
            format!(
                "update elem_a_files set description = 'turn {turn}', \
                     updated_at = clock_timestamp() where file_id = '{file}'"
            ),
        ),
        (
            "file_delete",
            format!("delete from elem_a_files where file_id = '{file}'"),
        ),
    ];
    let steps = if turn % 2 == 0 { 3 } else { 2 };
    for (number, (kind, change)) in changes.into_iter().take(steps).enumerate() {
        let id = Uuid::new_v4();
        execute(
            connection,
            format!(
                "insert into elem_a_wal (transaction_id, operation_type, status, file_id, \
                     operation_data) values ('{id}', '{kind}', 'pending', '{file}', '{{}}')"
            ),
        )
        .await;
        execute(connection, change).await;
        if turn % 10 == 0 && number == steps - 1 {
            return;
        }
        let status = if turn % 7 == 0 {
            "rolled_back"
        } else {
            "committed"
        };
        execute(
            connection,
            format!("update elem_a_wal set status = '{status}' where transaction_id = '{id}'"),
        )
        .await;
    }
}
