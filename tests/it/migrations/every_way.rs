//! From every version to every other one and back: the catalogue is that version's, what triggers
//! and searches do is that version's, the rows are the same, and strays are not touched.

use std::collections::BTreeSet;

use artstore_migrations::{Goal, Migrator, latest, status, up};

use super::filled::*;
use super::*;

async fn go(conn: &mut PgConnection, module: &Module, to: u32) {
    let at = status(conn, module).await.unwrap().version;
    let goal = if to >= at.max(1) {
        Goal::Up(Some(to))
    } else {
        Goal::Down(to)
    };
    Migrator::new(conn, module)
        .accept_loss(true)
        .run(goal)
        .await
        .unwrap_or_else(|error| panic!("{module} {at} to {to}: {error}"));
}

/// The catalogue of each version, from 0 on.
pub(super) async fn catalogues(conn: &mut PgConnection, module: &Module) -> Vec<BTreeSet<String>> {
    // What is tested here does not survive a crash of the server, and need not.
    exec(conn, "set synchronous_commit = off").await;
    let mut at = vec![catalogue(conn).await];
    for version in 1..=latest(module) {
        up(conn, module, Some(version)).await.unwrap();
        at.push(catalogue(conn).await);
    }
    at
}

pub(super) fn assert_same(what: &str, found: &BTreeSet<String>, expected: &BTreeSet<String>) {
    let missing: Vec<_> = expected.difference(found).collect();
    let extra: Vec<_> = found.difference(expected).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "{what}: missing {missing:#?} extra {extra:#?}"
    );
}

/// The modules have databases of their own: one does not wait for the other.
async fn of_each_module(ways: impl AsyncFn(Module)) {
    let all = modules().map(|module| Box::pin(ways(module)));
    futures::future::join_all(all).await;
}

#[test]
fn an_empty_database_goes_from_every_version_to_every_version() {
    run(async {
        of_each_module(async |module| {
            let mut conn = fresh("ways_empty").await;
            let at = catalogues(&mut conn, &module).await;
            for low in 0..latest(&module) {
                go(&mut conn, &module, low).await;
                for high in (low + 1)..=latest(&module) {
                    for to in [high, low] {
                        go(&mut conn, &module, to).await;
                        let found = catalogue(&mut conn).await;
                        assert_same(&format!("{module} {to}"), &found, &at[to as usize]);
                    }
                }
            }
        })
        .await;
    });
}

#[test]
fn a_filled_database_goes_from_every_version_to_every_version() {
    run(async {
        of_each_module(async |module| {
            let mut conn = fresh("ways_filled").await;
            let strangers = match module {
                Module::Storage(_) => STRAYS,
                Module::Admin | Module::Query => STRANGER,
            };
            exec(&mut conn, strangers).await;
            let at = catalogues(&mut conn, &module).await;
            go(&mut conn, &module, 1).await;
            fill(&mut conn, &module, FEW).await;
            let contents = Contents::of(&mut conn).await;
            let before = contents.digests(&mut conn).await;
            let untouched = strays(&mut conn).await;
            assert!(untouched.len() > 50);

            for low in 1..latest(&module) {
                go(&mut conn, &module, low).await;
                for high in (low + 1)..=latest(&module) {
                    for to in [high, low] {
                        go(&mut conn, &module, to).await;
                        let found = catalogue(&mut conn).await;
                        assert_same(&format!("{module} {to}"), &found, &at[to as usize]);
                        behaves(&mut conn, &module, to).await;
                        assert_eq!(
                            contents.digests(&mut conn).await,
                            before,
                            "{module} at {to}"
                        );
                    }
                }
                assert_eq!(strays(&mut conn).await, untouched, "{module} at {low}");
            }
            go(&mut conn, &module, 0).await;
            assert_same(&format!("{module} 0"), &catalogue(&mut conn).await, &at[0]);
            assert_eq!(strays(&mut conn).await, untouched, "{module}");
        })
        .await;
    });
}

/// What a version does for whoever reads and writes; nothing of it stays.
async fn behaves(conn: &mut PgConnection, module: &Module, version: u32) {
    exec(conn, "begin").await;
    match module {
        Module::Admin => {
            let delete = "delete from users where id = 3";
            exec(conn, delete).await;
            let kept = text(
                conn,
                "select (count(*) > 0)::text from audit_logs where user_id = 3",
            )
            .await;
            assert_eq!(kept, (version >= 3).to_string(), "{version}");
        }
        Module::Query => {
            if version >= 3 {
                exec(conn, "update file_metadata_cache set description = 'Протоколы' where filename = 'annual_report_7.pdf'").await;
                assert_eq!(
                    found(conn, "file_metadata_cache", "filename", "протокол").await,
                    ["annual_report_7.pdf"]
                );
                assert_eq!(
                    found(conn, "file_metadata_cache", "filename", "бюджет отчёт")
                        .await
                        .len(),
                    0
                );
                assert_eq!(
                    found(conn, "file_metadata_cache", "filename", "budget продажа")
                        .await
                        .len(),
                    FEW - 1
                );
            }
            exec(conn, "update file_metadata_cache set id = upper(id) where filename = 'annual_report_8.pdf'").await;
            let lower = text(conn, "select (id = lower(id))::text from file_metadata_cache where filename = 'annual_report_8.pdf'").await;
            assert_eq!(lower, (version >= 7).to_string(), "{version}");
        }
        Module::Storage(_) => {
            exec(
                conn,
                "update storage_elem_01_wal set status = 'committed' where status = 'pending'",
            )
            .await;
            if version >= 2 {
                let all = text(conn, "select (count(position) = 200 and count(distinct position) = 200 and min(position) = 1)::text from storage_elem_01_wal").await;
                assert_eq!(all, "true", "{version}");
            }
            if version >= 3 {
                exec(conn, "update storage_elem_01_files set description = 'Протоколы' where original_filename = 'annual_report_7.pdf'").await;
                assert_eq!(
                    found(
                        conn,
                        "storage_elem_01_files",
                        "original_filename",
                        "протокол"
                    )
                    .await,
                    ["annual_report_7.pdf"]
                );
                assert_eq!(
                    found(
                        conn,
                        "storage_elem_01_files",
                        "original_filename",
                        "budget продажа"
                    )
                    .await
                    .len(),
                    FEW - 1
                );
            }
        }
    }
    exec(conn, "rollback").await;
}
