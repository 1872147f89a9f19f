//! Version 1 to the letter; every step down restores what was there before the step up.

use std::collections::BTreeSet;

use artstore_migrations::{down, latest, status, up};

use super::*;

/// The initial schemas as the product made them, read back from its databases.
const SCHEMA_INITIAL: &str = include_str!("../schema_initial.md");

/// The lines of `schema_initial.md` for one database.
fn expected(database: &str) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    let mut table = String::new();
    let mut column = 0;
    for line in SCHEMA_INITIAL.lines() {
        if let Some(heading) = line.strip_prefix("#### `") {
            let (owner, name) = heading.trim_end_matches('`').split_once("`.`").unwrap();
            table = if owner == database {
                name.to_owned()
            } else {
                String::new()
            };
            column = 0;
        } else if let Some(enums) = line.strip_prefix("Enums: ") {
            if database == "artstore_admin" {
                let names = enums
                    .split("; ")
                    .map(|one| format!("enum {}", one.replace('`', "")));
                lines.extend(names);
            }
        } else if table.is_empty() {
        } else if let Some(list) = line.strip_prefix("Constraints: `") {
            let each = list.split("; `");
            lines.extend(each.map(|one| format!("{table} constraint {}", one.replace('`', ""))));
        } else if let Some(list) = line.strip_prefix("Indexes: `") {
            lines.extend(
                list.split("; `")
                    .map(|one| format!("{table} index {}", one.replace('`', ""))),
            );
        } else if line.starts_with("| ") && !line.starts_with("| column ") {
            column += 1;
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            lines.insert(format!("{table} #{column} {}", cells.join(" | ")));
        }
    }
    lines
}

#[test]
fn version_1_is_the_initial_schema_to_the_letter() {
    run(async {
        let databases = ["artstore_admin", "artstore", "artstore_storage_01"];
        let sizes = [(6, 7), (4, 0), (4, 0)];
        for ((module, database), (tables, enums)) in modules().iter().zip(databases).zip(sizes) {
            let mut conn = fresh("letter").await;
            up(&mut conn, module, Some(1)).await.unwrap();
            let version_table = module.version_table();
            let found: BTreeSet<String> = texts(&mut conn, LETTER)
                .await
                .into_iter()
                .filter(|line| !line.starts_with(&format!("{version_table} ")))
                .collect();
            let expected = expected(database);
            let missing: Vec<_> = expected.difference(&found).collect();
            let extra: Vec<_> = found.difference(&expected).collect();
            assert!(
                missing.is_empty() && extra.is_empty(),
                "{module}: {missing:#?} {extra:#?}"
            );

            let counted = text(
                &mut conn,
                "select count(*)::text from pg_tables where schemaname = 'public'",
            )
            .await;
            assert_eq!(counted, tables.to_string(), "{module}");
            assert_eq!(
                found
                    .iter()
                    .filter(|line| line.starts_with("enum "))
                    .count(),
                enums
            );
        }
    });
}

#[test]
fn every_step_down_restores_the_catalogue_and_version_0_leaves_nothing() {
    run(async {
        for module in modules() {
            let mut conn = fresh("up_down").await;
            let nothing = catalogue(&mut conn).await;
            let mut at = vec![nothing];
            for version in 1..=latest(&module) {
                let done = up(&mut conn, &module, Some(version)).await.unwrap();
                assert_eq!(
                    done.iter().map(|step| step.version).collect::<Vec<_>>(),
                    [version]
                );
                at.push(catalogue(&mut conn).await);
                assert_ne!(
                    at[at.len() - 1],
                    at[at.len() - 2],
                    "{module} {version} does nothing"
                );
            }
            assert!(up(&mut conn, &module, None).await.unwrap().is_empty());

            for version in (0..latest(&module)).rev() {
                let done = down(&mut conn, &module, version).await.unwrap();
                assert_eq!(
                    done.iter().map(|step| step.version).collect::<Vec<_>>(),
                    [version + 1]
                );
                let found = catalogue(&mut conn).await;
                let expected = &at[version as usize];
                let missing: Vec<_> = expected.difference(&found).collect();
                let extra: Vec<_> = found.difference(expected).collect();
                assert!(
                    missing.is_empty() && extra.is_empty(),
                    "{module} {version}: {missing:#?} {extra:#?}"
                );
            }

            let done = up(&mut conn, &module, None).await.unwrap();
            assert_eq!(done.len(), latest(&module) as usize);
            assert_eq!(&catalogue(&mut conn).await, at.last().unwrap());
            let status = status(&mut conn, &module).await.unwrap();
            assert_eq!(status.version, latest(&module));
            assert!(status.steps.iter().all(|step| step.applied_at.is_some()));
            assert_eq!(
                down(&mut conn, &module, 0).await.unwrap().len(),
                latest(&module) as usize
            );
            assert_eq!(catalogue(&mut conn).await, at[0]);
        }
    });
}
