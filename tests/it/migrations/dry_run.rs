//! `--dry-run` prints what would run, and `redo` does the last step again.

use artstore_migrations::{Goal, MigrateError, Migrator, up};

use super::*;

#[test]
fn a_dry_run_prints_every_part_waits_for_nobody_and_changes_nothing() {
    run(async {
        let url = database("dry").await;
        let module = storage(ELEMENT);
        let (mut conn, mut other) = (connect(&url).await, connect(&url).await);
        up(&mut conn, &module, Some(1)).await.unwrap();
        let before = catalogue(&mut conn).await;
        // Everything is locked, and another migrator at work.
        exec(&mut other, "
            begin; lock table storage_elem_01_wal, storage_elem_01_files, storage_elem_01_config in access exclusive mode;
            select pg_advisory_lock(1095912775, n) from generate_series(1, 1) as n").await;
        let program = |words: &[&str]| Program::new(words).env("STORAGE_DATABASE_URL", &url);
        let (ended, printed) = program(&["migrate", "up", "--dry-run"]).output().await;
        assert!(ended.success());
        let steps = artstore_migrations::latest(&module) - 1;
        let steps = format!("-- storage element storage_elem_01: {steps} steps would run");
        for line in [
            steps.as_str(),
            "-- storage element storage_elem_01: up 0002 position",
            "-- part 1 of 5: one transaction",
            "alter table public.storage_elem_01_wal add column if not exists position bigint;",
            "-- part 5 of 5: outside a transaction",
            "create unique index concurrently storage_elem_01_wal_position_key on public.storage_elem_01_wal (position)",
            "-- part 2 of 2: for $1 = a few thousand file_id of public.storage_elem_01_files at a time, each a transaction",
            "-- and its row into public.storage_elem_01_version",
        ] {
            assert!(
                printed.contains(&format!("{line}\n")),
                "{line} in {printed}"
            );
        }
        let (_, printed) = program(&["migrate", "down", "--to", "0", "--dry-run"])
            .output()
            .await;
        assert!(
            printed.contains("drop table public.storage_elem_01_wal;\n"),
            "{printed}"
        );
        let (_, printed) = program(&["migrate", "redo", "--dry-run", "--json"])
            .output()
            .await;
        let steps: serde_json::Value = serde_json::from_str(&printed).unwrap();
        let directions = steps[0]["would_run"].as_array().unwrap().iter();
        assert_eq!(
            directions
                .map(|step| step["direction"].as_str().unwrap())
                .collect::<Vec<_>>(),
            ["down", "up"]
        );
        exec(&mut other, "rollback").await;
        assert_eq!(catalogue(&mut conn).await, before);
    });
}

#[test]
fn redo_takes_the_last_step_back_and_applies_it_again() {
    run(async {
        for module in modules() {
            let mut conn = fresh("redo").await;
            let error = Migrator::new(&mut conn, &module)
                .run(Goal::Redo)
                .await
                .unwrap_err();
            assert!(
                matches!(error, MigrateError::NothingToRedo { .. }),
                "{error}"
            );
            for version in 1..=artstore_migrations::latest(&module) {
                up(&mut conn, &module, Some(version)).await.unwrap();
                let before = catalogue(&mut conn).await;
                let done = Migrator::new(&mut conn, &module)
                    .run(Goal::Redo)
                    .await
                    .unwrap();
                assert_eq!(
                    done.iter()
                        .map(|(step, _)| step.version)
                        .collect::<Vec<_>>(),
                    [version, version]
                );
                assert_eq!(catalogue(&mut conn).await, before, "{module} {version}");
            }
        }
    });
}
