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

        // A dump that lacks rows is not taken for a backup.
        let cheat = parent.path().join("cheat");
        std::fs::create_dir(&cheat).unwrap();
        let real = shared_stack().await.postgres_bin().display().to_string();
        for (program, option) in [
            ("pg_dump", "--exclude-table-data=users"),
            ("pg_restore", ""),
        ] {
            let path = cheat.join(program);
            let script = format!(
                "#!/bin/sh\n[ \"$1\" = --version ] && exec {real}/{program} --version\n\
                 exec {real}/{program} {option} \"$@\"\n"
            );
            std::fs::write(&path, script).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let lacking = parent.path().join("lacking");
        let path = format!("{}:{}", cheat.display(), std::env::var("PATH").unwrap());
        let (status, said) = backup(&lacking, &element_url)
            .env("PATH", &path)
            .finish()
            .await;
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("does not hold table users"), "{said}");
        assert!(files(&lacking).is_empty(), "{:?}", files(&lacking));

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
