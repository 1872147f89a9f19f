//! Rows that differ from the streams: shown with their events, and repaired. Rows of the product's own
//! services, and parked events, are copied.

use super::*;
use crate::projector::parking::{self, REPAIR, parked, poison};
use crate::support::load::update;

#[test]
fn rows_changed_removed_and_added_by_hand_are_shown_with_their_events_and_repaired() {
    run(async {
        let (world, processes) = built(&["elem"], 100).await;
        let mut query = world.query().await;
        let ids: Vec<String> = sqlx::query_scalar(
            "select id from file_metadata_cache order by stream_sequence limit 3",
        )
        .fetch_all(&mut query)
        .await
        .unwrap();
        let added = "00000000-0000-4000-8000-000000000001";
        execute(
            &mut query,
            format!(
                "update file_metadata_cache set filename = 'by hand' where id = '{}'; \
                 delete from file_metadata_cache where id = '{}'; \
                 insert into file_metadata_cache (id, filename, storage_filename, file_size, \
                     sha256_hash, username, storage_element_id, created_at, updated_at, event_id, \
                     stream, stream_sequence) \
                 select '{added}', filename, storage_filename, file_size, sha256_hash, username, \
                     storage_element_id, created_at, updated_at, event_id, stream, stream_sequence \
                 from file_metadata_cache where id = '{}'",
                ids[0], ids[1], ids[2]
            ),
        )
        .await;
        for more in [&["--dry-run"][..], &[][..]] {
            let (code, said) = rebuild(&world, more).await;
            assert_eq!(code, Some(1), "{said:#}");
            assert_eq!(said["outcome"], "different");
            let mut found: Vec<_> = said["comparison"]["differences"]
                .as_array()
                .unwrap()
                .iter()
                .map(|difference| {
                    (
                        difference["key"].as_str().unwrap(),
                        difference["change"].as_str().unwrap(),
                        difference["event"]["sequence"].as_i64().unwrap(),
                    )
                })
                .collect();
            found.sort_by_key(|difference| difference.2);
            assert_eq!(
                found,
                [
                    (ids[0].as_str(), "changed", 1),
                    (ids[1].as_str(), "added", 2),
                    (added, "removed", 3),
                ]
            );
            let changed = &said["comparison"]["differences"];
            let changed = changed.as_array().unwrap().iter();
            let changed = changed.filter(|difference| difference["change"] == "changed");
            for difference in changed {
                let fields = difference["fields"].as_object().unwrap();
                let names: Vec<&String> = fields.keys().collect();
                assert_eq!(names, ["filename", "search_vector"]);
                assert_eq!(fields["filename"][0], "by hand");
            }
        }
        // What people see.
        let (status, said) = command(&world, &["--dry-run", "--keep"]).output().await;
        assert_eq!(status.code(), Some(1));
        let event = format!("last touched by {} 2, event", world.source(0).stream());
        for text in [
            "Different: 3 rows. Nothing was swapped",
            "filename: \"by hand\" -> \"report 1.pdf\"",
            "added: the live table does not have it",
            "removed: no event is about it",
            &event,
            "--accept-differences",
        ] {
            assert!(said.contains(text), "{text}: {said}");
        }
        let (code, said) = rebuild(&world, &["--accept-differences"]).await;
        assert_eq!(code, Some(0), "{said:#}");
        assert_eq!(said["outcome"], "swapped with differences");
        crate::verify::cache::clean(&world).await;
        let (code, said) = rebuild(&world, &["--dry-run"]).await;
        assert_eq!((code, said["outcome"].as_str()), (Some(0), Some("equal")));
        // Rolled back, the damage is there again: these are the previous tables.
        let rollback = world.command(&["projection", "rollback", "query-cache"]);
        let (status, said) = rollback.output().await;
        assert!(status.success(), "{said}");
        let (code, _) = rebuild(&world, &["--dry-run"]).await;
        assert_eq!(code, Some(1));
        for process in processes {
            process.kill().await;
        }
    });
}

#[test]
fn rows_of_the_product_survive_with_their_ids_and_new_ids_are_new() {
    run(async {
        let (world, processes) = built(&["elem"], 100).await;
        let mut query = world.query().await;
        let product = |text: &str| {
            format!(
                "insert into search_history (query_text, search_mode, results_count, \
                     response_time_ms, created_at) values ('{text}', 'exact', 1, 1, now())"
            )
        };
        execute(&mut query, product("before")).await;
        execute(
            &mut query,
            "insert into file_metadata_cache (id, filename, storage_filename, file_size, \
                 sha256_hash, username, storage_element_id, storage_element_url, created_at, updated_at) \
             values ('of the product', 'Годовой отчёт', 's', 1, 'h', 'ann', 'e', 'u', now(), now())",
        )
        .await;
        for element in 0..3 {
            let file = uuid::Uuid::from_u128(element);
            crate::support::load::downloaded(&mut query, file, &world.elements[0].0)
                .await
                .unwrap();
        }
        all_applied(&world).await;
        let rows = "select id || query_text from search_history order by id";
        let before: Vec<String> = sqlx::query_scalar(rows)
            .fetch_all(&mut query)
            .await
            .unwrap();
        // The product writes, changes and deletes rows while it is built.
        let rebuild = command(&world, &["--json"])
            .stop_at("rebuild.copied", 1)
            .start();
        rebuild.frozen().await;
        execute(&mut query, product("meanwhile")).await;
        execute(&mut query, product("gone")).await;
        execute(
            &mut query,
            "delete from search_history where query_text = 'gone'",
        )
        .await;
        execute(
            &mut query,
            "update search_history set results_count = 7 where query_text = 'before'",
        )
        .await;
        rebuild.signal("-CONT").await;
        let mut rebuild = rebuild;
        assert!(rebuild.ended().await.success(), "{}", rebuild.log());
        execute(&mut query, product("after")).await;
        let after: Vec<String> = sqlx::query_scalar(rows)
            .fetch_all(&mut query)
            .await
            .unwrap();
        assert_eq!(after[0], before[0]);
        let texts: Vec<String> = sqlx::query_scalar(
            "select query_text || results_count from search_history order by id",
        )
        .fetch_all(&mut query)
        .await
        .unwrap();
        assert_eq!(texts, ["before7", "meanwhile1", "after1"]);
        let rollback = world.command(&["projection", "rollback", "query-cache"]);
        assert!(rollback.finish().await.0.success());
        execute(&mut query, product("later")).await;
        let texts: Vec<String> =
            sqlx::query_scalar("select query_text from search_history order by id")
                .fetch_all(&mut query)
                .await
                .unwrap();
        assert_eq!(texts, ["before", "meanwhile", "after", "later"]);
        let found: i64 = value(
            &mut query,
            "select count(*) from file_metadata_cache where id = 'of the product' \
             and search_vector is not null",
        )
        .await;
        assert_eq!(found, 1);
        let downloads: i64 = value(&mut query, "select count(*) from download_statistics").await;
        assert_eq!(downloads, 3);
        crate::verify::cache::clean(&world).await;
        for process in processes {
            process.kill().await;
        }
    });
}

#[test]
fn parked_events_are_parked_again_or_applied_and_differences_name_them() {
    run(async {
        let (world, processes) = built(&["elem"], 100).await;
        let poisoned = poison(&world, 2).await;
        passed(&world).await;
        let before = parked(&world).await;
        assert_eq!(before.len(), 3);
        // It still can't be applied: the rebuilt tables have the same parked events, and are equal.
        swaps(&world).await;
        assert_eq!(parked(&world).await, before);
        let mut element = (world.elements[0].0.clone(), world.element(0).await);
        update(&mut element, poisoned, "later").await.unwrap();
        passed(&world).await;
        assert_eq!(parked(&world).await.len(), 4);
        // The cause is repaired, here and in the tables that are built: the events are applied.
        execute(&mut world.query().await, REPAIR).await;
        let (code, said) = rebuild(&world, &[]).await;
        assert_eq!(code, Some(1), "{said:#}");
        // The file, and who owns it.
        assert_eq!(said["count"], 2, "{said:#}");
        assert_eq!(said["explained_by_parked"], 2, "{said:#}");
        let (status, said) = command(&world, &["--accept-differences"]).output().await;
        assert!(status.success(), "{said}");
        assert!(
            said.contains("2 of these are explained by parked events"),
            "{said}"
        );
        parking::caught_up(&world).await;
        // Back: parked again, and a retry lets them catch up.
        let rollback = world.command(&["projection", "rollback", "query-cache"]);
        assert!(rollback.finish().await.0.success());
        update(&mut element, poisoned, "after the rollback")
            .await
            .unwrap();
        passed(&world).await;
        assert_eq!(parked(&world).await.len(), 5);
        let (ok, said) = parking::retry(&world).await;
        assert!(ok, "{said}");
        parking::caught_up(&world).await;
        for process in processes {
            process.kill().await;
        }
    });
}
