//! The element registry: the numbers of each element are those of its `_files`, whatever is killed.

use artstore_schemas::source::Source;

use crate::support::load::Load;
use crate::support::*;

pub fn projector(world: &World) -> Program {
    world.command(&["run", "projector", "--projection", "element-registry"])
}

/// As an administrator registers an element.
pub async fn register(world: &World, name: &str) {
    execute(
        &mut pg(&world.admin_url).await,
        format!(
            "insert into storage_elements (name, mode, storage_type, base_path, api_url, status, \
                 capacity_bytes, used_bytes, file_count, is_replicated, replica_count, created_at, \
                 updated_at) \
             values ('{name}', 'EDIT', 'LOCAL', '/data', 'http://{name}', 'ONLINE', 1000000, 77, 7, \
                 false, 0, now(), now())"
        ),
    )
    .await;
}

/// Everything is applied, and the numbers are those of `_files`.
pub async fn exact(world: &World, registered: usize) {
    let mut admin = pg(&world.admin_url).await;
    for (index, (name, _)) in world.elements.iter().enumerate() {
        world.published(index).await;
        let source = Source::Element(name.clone());
        let last = i64::try_from(world.last_sequence(&source).await).unwrap();
        eventually("the registry is caught up", || async {
            let mut admin = pg(&world.admin_url).await;
            let at: Option<i64> = sqlx::query_scalar(
                "select last_sequence from projection_checkpoints \
                 where projection = 'element-registry' and stream = $1",
            )
            .bind(source.stream())
            .fetch_optional(&mut admin)
            .await
            .unwrap();
            (at == Some(last)).then_some(())
        })
        .await;
        let files: (i64, i64) = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select count(*), coalesce(sum(file_size), 0)::bigint from {name}_files"
        )))
        .fetch_one(&mut world.element(index).await)
        .await
        .unwrap();
        let counted: (i64, i64) =
            sqlx::query_as("select files, bytes from registry_elements where element = $1")
                .bind(name.as_str())
                .fetch_one(&mut admin)
                .await
                .unwrap();
        assert_eq!(counted, files, "{name}");
        if index < registered {
            eventually("administrators see it", || async {
                let shown: (i32, i64, Option<chrono::DateTime<chrono::Utc>>) = sqlx::query_as(
                    "select file_count, used_bytes, last_event_at from storage_elements \
                     where name = $1",
                )
                .bind(name.as_str())
                .fetch_one(&mut pg(&world.admin_url).await)
                .await
                .unwrap();
                ((i64::from(shown.0), shown.1) == files && shown.2.is_some()).then_some(())
            })
            .await;
        }
    }
}

#[test]
fn the_registry_equals_the_files_after_kills_and_keeps_what_administrators_own() {
    run(async {
        let world = World::new(&["elem_a", "elem_b"]).await;
        register(&world, "elem_a").await;
        let relay = world.command(&["run", "relay"]).start();
        let load = Load::start(&world, 2, false);
        for (point, times) in [
            ("projector.applied", 1),
            ("projector.advanced", 2),
            ("projector.committed", 3),
            ("projector.received", 5),
        ] {
            let mut killed = projector(&world).crash_at(point, times).start();
            assert_eq!(killed.ended().await.code(), None, "{}", killed.log());
        }
        load.stop().await;
        let running = projector(&world).start();
        exact(&world, 1).await;
        // One that is registered later, and numbers that the product has written over.
        register(&world, "elem_b").await;
        let mut admin = pg(&world.admin_url).await;
        execute(
            &mut admin,
            "update storage_elements set used_bytes = 1, file_count = 1 where name = 'elem_a'",
        )
        .await;
        exact(&world, 2).await;
        let mut element = world.element(0).await;
        execute(
            &mut element,
            "insert into elem_a_wal (transaction_id, operation_type, status, operation_data) \
             values (gen_random_uuid(), 'mode_change', 'failed', '{\"to\": \"ar\"}'), \
                 (gen_random_uuid(), 'mode_change', 'committed', '{\"from\": \"edit\", \"to\": \"rw\"}')",
        )
        .await;
        exact(&world, 2).await;
        let owned: Vec<(String, String, String, String, Option<i64>)> = sqlx::query_as(
            "select name, mode::text, status::text, api_url, capacity_bytes from storage_elements \
             order by name",
        )
        .fetch_all(&mut admin)
        .await
        .unwrap();
        let row = |name: &str, mode: &str| {
            (
                name.to_owned(),
                mode.to_owned(),
                "ONLINE".to_owned(),
                format!("http://{name}"),
                Some(1_000_000),
            )
        };
        assert_eq!(owned, [row("elem_a", "RW"), row("elem_b", "EDIT")]);
        let (_, said) = world.command(&["status"]).output().await;
        assert!(said.contains("ELEMENT-REGISTRY v1"), "{said}");
        running.kill().await;
        relay.kill().await;
    });
}

/// Something of each element is counted.
pub async fn begun(world: &World) {
    eventually("all elements are counted", async || {
        let mut admin = pg(&world.admin_url).await;
        let counted: i64 = value(
            &mut admin,
            "select count(*) from registry_elements where files > 10",
        )
        .await;
        (counted == i64::try_from(world.elements.len()).unwrap()).then_some(())
    })
    .await;
}

/// Whatever administrators do with their table, the streams are counted.
#[test]
fn what_administrators_hold_or_refuse_keeps_no_event_back() {
    run(async {
        let world = World::new(&["elem"]).await;
        register(&world, "elem").await;
        let relay = world.command(&["run", "relay"]).start();
        let running = projector(&world).start();
        let mut element = world.element(0).await;
        crate::projector::parking::insert(&mut element, 10).await;
        exact(&world, 1).await;

        let mut admin = pg(&world.admin_url).await;
        execute(
            &mut admin,
            "begin; update storage_elements set api_url = 'mine' where name = 'elem'",
        )
        .await;
        crate::projector::parking::insert(&mut element, 30).await;
        exact(&world, 0).await;
        execute(&mut admin, "commit").await;
        exact(&world, 1).await;

        execute(
            &mut admin,
            "alter table storage_elements add constraint mine check (file_count < 50)",
        )
        .await;
        crate::projector::parking::insert(&mut element, 30).await;
        exact(&world, 0).await;
        let parked: i64 = value(&mut admin, "select count(*) from projection_parked").await;
        assert_eq!(parked, 0);
        execute(
            &mut admin,
            "alter table storage_elements drop constraint mine",
        )
        .await;
        exact(&world, 1).await;
        let mine: i64 = value(
            &mut admin,
            "select count(*) from storage_elements where api_url = 'mine'",
        )
        .await;
        assert_eq!(mine, 1);
        running.kill().await;
        relay.kill().await;
    });
}
