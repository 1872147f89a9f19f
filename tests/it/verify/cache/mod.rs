//! `verify` of the read model.
//!
//! - `damage`: each kind is found, named exactly, with the command that repairs it, and nothing else is named
//! - `in_use`: no false alarm, whoever writes

mod damage;
mod in_use;

use std::collections::BTreeSet;
use std::time::Duration;

use artstore_producers::publish::files::NewFile;
use artstore_producers::publish::outbox::{self, OutboxInsert};
use artstore_schemas::actor::Actor;
use artstore_schemas::element::ElementName;
use artstore_verification::cache::{self, Report, Scope};
use artstore_verification::finding::Finding;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::support::load::{create, delete, new_file, update};
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
