//! `artstore migrate backup`: a dump that can be restored, with every row; a folder is a whole
//! backup or stays empty.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::adoption::{ELEMENT, Made, columns, modules, product_database, rows};
use crate::support::*;

/// With every character that a URL, a shell or a password file might read differently.
const PASSWORD: &str = "p@ss:w/r%d\\'\" ü";

fn files(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

async fn everything(connection: &mut PgConnection) -> BTreeSet<String> {
    let columns = columns(connection).await;
    rows(connection, &columns).await
}

/// The same database for a role of its own, which may read all but the excepted table.
async fn reader(url: &str, except: Option<&str>) -> String {
    let mut connection = pg(url).await;
    let role = format!("r{}", Uuid::new_v4().simple());
    let quoted = PASSWORD.replace('\'', "''");
    execute(
        &mut connection,
        format!(
            "create role {role} login password '{quoted}'; \
             grant select on all tables in schema public to {role}; \
             grant select on all sequences in schema public to {role}"
        ),
    )
    .await;
    if let Some(table) = except {
        execute(
            &mut connection,
            format!("revoke select on {table} from {role}"),
        )
        .await;
    }
    let mut url: url::Url = url.parse().unwrap();
    url.set_username(&role).unwrap();
    let mut password = String::new();
    for byte in PASSWORD.bytes() {
        password += &format!("%{byte:02X}");
    }
    url.set_password(Some(&password)).unwrap();
    url.to_string()
}

#[test]
fn a_backup_is_restored_with_every_row_and_overwrites_nothing() {
    run(async {
        let [admin, query, storage] = modules();
        let (admin_url, _admin) = product_database(&admin, Made::ByMigrations).await;
        let (query_url, _query) = product_database(&query, Made::ByMigrations).await;
        let (element_url, mut element) = product_database(&storage, Made::ByTheServices).await;
        // Text with everything that a dump has to escape.
        execute(
            &mut element,
            format!("update {ELEMENT}_files set description = E'a\\nb\\\\.\\n\\\\.\\tCOPY x (y) FROM stdin;'"),
        )
        .await;
        let (admin_url, query_url) = (
            reader(&admin_url, None).await,
            reader(&query_url, None).await,
        );
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("backup");
        let backup = |folder: &Path, element: &str| {
            Program::new(&["migrate", "backup", "--json", "--to"])
                .argument(folder.to_str().unwrap())
                .env("ADMIN_DATABASE_URL", &admin_url)
                .env("QUERY_DATABASE_URL", &query_url)
                .env("ARTSTORE_ELEMENTS", &format!("{ELEMENT}={element}"))
        };
        let (status, said) = backup(&folder, &element_url).output().await;
        assert!(status.success(), "{said}");
        let manifest: Value = serde_json::from_str(&said).unwrap();
        let stored = std::fs::read_to_string(folder.join("manifest.json")).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&stored).unwrap(), manifest);
        for secret in ["p@ss", "password", "://"] {
            assert!(!stored.contains(secret), "{stored}");
        }
        // Nobody else may read it: there are keys in it.
        assert_eq!(
            std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777,
            0o700
        );

        let sources = [&admin_url, &query_url, &element_url];
        let databases = manifest["databases"].as_array().unwrap();
        assert_eq!(databases.len(), sources.len());
        for (entry, url) in databases.iter().zip(sources) {
            let path = folder.join(entry["file"].as_str().unwrap());
            let content = std::fs::read(&path).unwrap();
            assert_eq!(entry["bytes"], content.len());
            let sum = digest(&SHA256, &content);
            let sum: String = sum
                .as_ref()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            assert_eq!(entry["sha256"], sum);
            assert!(
                entry["modules"][0]["made_by"]
                    .as_str()
                    .unwrap()
                    .starts_with("the product")
            );
            assert_eq!(
                std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o600
            );

            let restored = database("restored").await;
            let ended = tokio::process::Command::new(
                shared_stack().await.postgres_bin().join("pg_restore"),
            )
            .arg("--dbname")
            .arg(&restored)
            .arg(&path)
            .output()
            .await
            .unwrap();
            assert!(ended.status.success(), "{ended:?}");
            let (mut old, mut new) = (pg(url).await, pg(&restored).await);
            let before = everything(&mut old).await;
            assert_eq!(everything(&mut new).await, before);
            let counted: u64 = entry["rows"]
                .as_object()
                .unwrap()
                .values()
                .map(|rows| rows.as_u64().unwrap())
                .sum();
            let stray = before
                .iter()
                .filter(|row| row.starts_with("storage_elem_99"))
                .count();
            assert_eq!(counted, (before.len() - stray) as u64);
        }

        // A dump that lacks a table's rows, or its own end, is not taken for a backup.
        let real = shared_stack().await.postgres_bin().display().to_string();
        let cut = "real \"$@\" || exit 1; for word; do \
                   [ \"$before\" = --file ] && truncate -s -40 \"$word\"; before=$word; done";
        for (name, dump, says) in [
            (
                "lacking",
                "exec real --exclude-table-data=users \"$@\"",
                "does not hold table users",
            ),
            ("cut", cut, "can't read the dump"),
        ] {
            let programs = parent.path().join(format!("bin-{name}"));
            std::fs::create_dir(&programs).unwrap();
            for (program, work) in [("pg_dump", dump), ("pg_restore", "exec real \"$@\"")] {
                let path = programs.join(program);
                let script =
                    format!("#!/bin/sh\n[ \"$1\" = --version ] && exec real --version\n{work}\n");
                let script = script.replace("real", &format!("{real}/{program}"));
                std::fs::write(&path, script).unwrap();
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            }
            let folder = parent.path().join(name);
            let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
            let program = backup(&folder, &element_url).env("PATH", &path);
            let (status, said) = program.finish().await;
            assert_eq!(status.code(), Some(1), "{name}: {said}");
            assert!(said.contains(says), "{name}: {said}");
            assert!(files(&folder).is_empty(), "{name}: {:?}", files(&folder));
        }

        // There is something in it now.
        let held = files(&folder);
        let (status, said) = backup(&folder, &element_url).finish().await;
        assert_eq!(status.code(), Some(2), "{said}");
        assert!(said.contains("overwrites nothing"), "{said}");
        assert_eq!(files(&folder), held);

        // One database that can't be dumped as a whole: no half backup stays.
        let broken = parent.path().join("broken");
        let blind = reader(&element_url, Some(&format!("{ELEMENT}_config"))).await;
        let (status, said) = backup(&broken, &blind).finish().await;
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(
            said.contains(&format!("{ELEMENT}_config")) && !said.contains("p@ss"),
            "{said}"
        );
        assert!(files(&broken).is_empty(), "{:?}", files(&broken));
    });
}
