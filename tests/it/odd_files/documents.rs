//! Arbitrary JSON in every `jsonb` column that others write, through relay, projectors and checks:
//! nothing stops, and what a check can't accept it names. `SEED=…` runs a failure again.

use artstore_projectors::search::query::{Mode, Search};
use artstore_projectors::search::search;
use artstore_schemas::source::Source;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::*;
use crate::audit::Audited;
use crate::support::*;
use crate::verify::cache;

const DOCUMENTS: usize = 120;

/// What has stopped a check, or could.
const KNOWN: [&str; 12] = [
    r#"{"tags": "urgent"}"#,
    "5",
    "null",
    "{}",
    r#""text""#,
    "[]",
    r#"[{"tags": ["a"]}]"#,
    r#"{"tags": {"0": "a"}}"#,
    r#"{"tags": null}"#,
    r#"{"tags": [["a"], {"b": 1}, null, 5, "kept"]}"#,
    r#"{"artstore": 5, "result": "none"}"#,
    r#"{"type": ["user"], "id": {"a": 1}, "name": 5}"#,
];

const SCALARS: [&str; 18] = [
    "null",
    "true",
    "false",
    "0",
    "-0.0",
    "7",
    "0.10",
    "1e400",
    "-1.5e-30",
    "9007199254740993",
    r#""""#,
    r#""user""#,
    r#""NULL""#,
    r#""a\"b\\c{},""#,
    r#""\u0001\u2028\n""#,
    r#""e\u0301""#,
    r#""0191F1F0-0000-7000-8000-000000000000""#,
    r#""a text that is longer than the fifty characters of a tag""#,
];

const KEYS: [&str; 16] = [
    "tags",
    "artstore",
    "result",
    "type",
    "id",
    "name",
    "file",
    "file_id",
    "file_size",
    "checksum",
    "storage_filename",
    "from",
    "to",
    "_event",
    "",
    "ключ",
];

/// A document as its text.
fn document(random: &mut StdRng, depth: usize) -> String {
    let kind = random.random_range(0..6);
    if depth == 0 || kind < 2 {
        return (*SCALARS.choose(random).unwrap()).to_owned();
    }
    let count = random.random_range(0..5);
    if kind < 4 {
        let items: Vec<String> = (0..count).map(|_| document(random, depth - 1)).collect();
        return format!("[{}]", items.join(","));
    }
    let fields: Vec<String> = (0..count)
        .map(|_| {
            let key = *KEYS.choose(random).unwrap();
            format!("\"{key}\":{}", document(random, depth - 1))
        })
        .collect();
    format!("{{{}}}", fields.join(","))
}

#[test]
fn arbitrary_documents_stop_neither_a_service_nor_a_check() {
    run(async {
        let seed: u64 =
            std::env::var("SEED").map_or_else(|_| rand::random(), |s| s.parse().unwrap());
        println!("seed {seed} (SEED=… runs it again)");
        let mut random = StdRng::seed_from_u64(seed);
        let documents: Vec<String> = KNOWN
            .iter()
            .map(|known| (*known).to_owned())
            .chain((0..DOCUMENTS).map(|_| document(&mut random, 4)))
            .collect();
        let world = World::new(&["elem"]).await;
        let audited = Audited::new(&world).await;
        let relay = world.command(&["run", "relay"]).start();
        let projectors = [world.projector().start(), audited.projector().start()];
        let (mut element, mut query) = (world.element(0).await, world.query().await);
        let mut admin = pg(&world.admin_url).await;
        let mut files = Vec::new();
        for (number, text) in documents.iter().enumerate() {
            let file = Odd {
                name: format!("odd {number}"),
                ..Odd::with_metadata(text)
            };
            file.insert(&mut element).await;
            files.push(file.id);
            let other = documents.choose(&mut random).unwrap();
            let kind = *[
                "file_update",
                "file_delete",
                "mode_change",
                "cache_rebuild",
                "unknown",
            ]
            .choose(&mut random)
            .unwrap();
            let status = *["committed", "rolled_back", "failed"]
                .choose(&mut random)
                .unwrap();
            sqlx::query(
                "insert into elem_wal (transaction_id, operation_type, status, file_id, operation_data) \
                 values (gen_random_uuid(), $1, $2, $3, $4::jsonb)",
            )
            .bind(kind)
            .bind(status)
            .bind(kind.starts_with("file").then_some(file.id))
            .bind(other)
            .execute(&mut element)
            .await
            .unwrap();
            for outbox in [&mut query, &mut admin] {
                sqlx::query(
                    "insert into event_outbox (event_id, entity, action, data, actor) \
                     values (gen_random_uuid(), 'odd-thing', 'seen', $1::jsonb, $2::jsonb)",
                )
                .bind(text)
                .bind(other)
                .execute(outbox)
                .await
                .unwrap();
            }
        }
        world.published(0).await;
        for source in [Source::Query, Source::Admin] {
            eventually("the outbox is published", || async {
                let last = world.last_sequence(&source).await;
                (last == documents.len() as u64).then_some(())
            })
            .await;
        }
        world.projected().await;
        audited.caught_up().await;
        let (status, said) = world
            .command(&["verify", "--wait", "5", "--json"])
            .output()
            .await;
        assert_eq!(status.code(), Some(0), "seed {seed}: {said}");
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["agree"], true, "seed {seed}: {said}");
        let verdict = audited.verify(&["--against-stream"]).await;
        assert!(verdict.is_clean(), "seed {seed}: {}", verdict.0);

        // What nobody has finished, begun at a time that can't be subtracted from.
        let unfinished = &documents[..100];
        for (number, text) in unfinished.iter().enumerate() {
            let started = ["infinity", "-infinity", "2026-01-01", "2199-01-01"][number % 4];
            sqlx::query(
                "insert into elem_wal (transaction_id, operation_type, status, operation_data, started_at) \
                 values (gen_random_uuid(), 'file_create', 'pending', $1::jsonb, $2::timestamptz)",
            )
            .bind(text)
            .bind(started)
            .execute(&mut element)
            .await
            .unwrap();
        }
        let pending = ["wal", "pending", "--older-than", "0s", "--json"];
        let (status, said) = world.command(&pending).output().await;
        assert!(status.success(), "seed {seed}: {said}");
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said.as_array().unwrap().len(), unfinished.len());
        for row in said.as_array().unwrap().iter().take(4) {
            let id = row["transaction_id"].as_str().unwrap();
            let resolve = [
                "wal",
                "resolve",
                id,
                "--as",
                "failed",
                "--older-than",
                "0s",
                "--yes",
            ];
            let (status, said) = world.command(&resolve).finish().await;
            assert!(status.success(), "seed {seed}: {said}");
        }
        execute(
            &mut element,
            "delete from elem_wal where status = 'pending'",
        )
        .await;
        world.published(0).await;

        // Rows of the cache that no projector writes: each is named, and nothing else.
        let damage = [
            "tags = '{{a,b},{c,d}}'",
            "tags = '[0:1]={a,b}'",
            "tags = '{NULL}'",
            "metadata = '[5]'",
            "omitted = '\"all\"'",
            "created_at = 'infinity'",
        ];
        for (file, change) in files.iter().zip(damage) {
            let sql = format!("update file_metadata_cache set {change} where id = '{file}'");
            execute(&mut query, sql).await;
        }
        execute(
            &mut query,
            "insert into file_metadata_cache (id, filename, storage_filename, file_size, sha256_hash, \
                 username, storage_element_id, created_at, updated_at, tags) \
             values ('theirs', 'odd theirs', 's', 1, 'c', 'u', 'elem', '-infinity', 'infinity', \
                 '{{x,NULL},{y,z}}')",
        )
        .await;
        let mut question = Search::new("odd", Mode::Fulltext);
        question.page.limit = 1_000;
        let found = search(&mut query, &question).await.unwrap();
        assert_eq!(found.total, documents.len() as i64 + 1);
        let theirs = found.hits.iter().find(|hit| hit.id == "theirs").unwrap();
        assert_eq!(
            theirs.tags,
            Some(["x", "y", "z"].map(str::to_owned).to_vec())
        );
        let report = cache::verify(&world).await;
        let mut named: Vec<Uuid> = report.findings.iter().filter_map(|f| f.id).collect();
        let mut damaged = files[..damage.len()].to_vec();
        named.sort();
        damaged.sort();
        assert_eq!(named, damaged, "seed {seed}: {:#?}", report.findings);
        cache::repair(&world, &report.findings).await;
        cache::clean(&world).await;
        relay.kill().await;
        for projector in projectors {
            projector.kill().await;
        }
    });
}
