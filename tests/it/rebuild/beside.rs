//! Snapshots, the registry and the audit log.

use super::*;
use crate::support::load::{Load, delete};

#[test]
fn a_snapshot_has_the_tables_as_they_were_and_is_for_reading() {
    run(async {
        let (world, processes) = built(&["elem", "other"], 50).await;
        let source = world.source(0);
        let first = world.last_sequence(&source).await;
        let time = chrono::Utc::now();
        let mut query = world.query().await;
        let ids: Vec<uuid::Uuid> =
            sqlx::query_scalar("select id::uuid from file_metadata_cache order by id limit 10")
                .fetch_all(&mut query)
                .await
                .unwrap();
        let mut element = (world.elements[0].0.clone(), world.element(0).await);
        for id in ids {
            delete(&mut element, id).await.unwrap();
        }
        passed(&world).await;
        let place = format!("{}={first}", source.stream());
        for as_of in [place, time.to_rfc3339()] {
            let (code, said) = rebuild(&world, &["--as-of", &as_of]).await;
            assert_eq!(code, Some(0), "{said:#}");
            let schema = said["schema"].as_str().unwrap();
            assert_eq!(said["streams"][source.stream()], first);
            let rows = format!("select count(*) from {schema}.file_metadata_cache");
            assert_eq!(value::<i64>(&mut query, rows).await, 50);
            for sql in [
                format!("delete from {schema}.file_metadata_cache"),
                format!("truncate {schema}.file_ownership"),
            ] {
                let refused = try_execute(&mut query, sql).await.unwrap_err().to_string();
                assert!(refused.contains("is a snapshot, for reading"), "{refused}");
            }
            execute(&mut query, format!("drop schema {schema} cascade")).await;
        }
        let live: i64 = value(&mut query, "select count(*) from file_metadata_cache").await;
        assert_eq!(live, 40);
        for (as_of, text) in [
            (
                "ARTSTORE_WAL_nobody=3",
                "there is no stream ARTSTORE_WAL_nobody",
            ),
            ("ARTSTORE_WAL_elem=99999", "ends at 60, before 99999"),
            ("yesterday", "is neither a time like"),
        ] {
            let (_, said) = command(&world, &["--as-of", as_of]).finish().await;
            assert!(said.contains(text), "{said}");
        }
        assert_eq!(schemas(&mut query).await, Vec::<String>::new());
        let (status, said) = world
            .command(&["projection", "status", "query-cache"])
            .output()
            .await;
        assert!(
            status.success() && said.contains("ARTSTORE_WAL_elem "),
            "{said}"
        );
        for process in processes {
            process.kill().await;
        }
    });
}

#[test]
fn the_registry_is_built_again_beside_what_administrators_own() {
    run(async {
        let world = World::new(&["elem_a", "elem_b"]).await;
        crate::projector::registry::register(&world, "elem_a").await;
        let relay = world.command(&["run", "relay"]).start();
        let projector = crate::projector::registry::projector(&world).start();
        let load = Load::start(&world, 2, false);
        crate::projector::registry::begun(&world).await;
        let run = |point: &str| {
            let rebuild = ["projection", "rebuild", "element-registry"];
            world.command(&rebuild).crash_at(point, 1).start()
        };
        for point in [
            "rebuild.filled",
            "rebuild.compared",
            "rebuild.moved",
            "rebuild.swapped",
        ] {
            let mut killed = run(point);
            assert_eq!(
                killed.ended().await.code(),
                None,
                "{point}: {}",
                killed.log()
            );
        }
        let mut rebuilt = run("never");
        assert!(rebuilt.ended().await.success(), "{}", rebuilt.log());
        load.stop().await;
        crate::projector::registry::exact(&world, 1).await;
        let mut admin = pg(&world.admin_url).await;
        execute(
            &mut admin,
            "update registry_elements set files = files + 1 where element = 'elem_b'",
        )
        .await;
        let rebuild = ["projection", "rebuild", "element-registry", "--dry-run"];
        let (status, said) = world.command(&rebuild).output().await;
        assert_eq!(status.code(), Some(1));
        assert!(said.contains("registry_elements elem_b: changed"), "{said}");
        let rebuild = [
            "projection",
            "rebuild",
            "element-registry",
            "--accept-differences",
        ];
        let (status, said) = world.command(&rebuild).output().await;
        assert!(status.success(), "{said}");
        crate::projector::registry::exact(&world, 1).await;
        for process in [relay, projector] {
            process.kill().await;
        }
    });
}
