//! Each kind of damage is found, named exactly, with the command that repairs it, and nothing else is named.

use std::collections::BTreeMap;

use artstore_verification::finding::Kind;

use super::*;

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
