//! An adoption that is killed between two of its steps.

use artstore_migrations::{Origin, inspect};

use super::*;

/// Killed between any two of its steps, an adoption leaves what the product runs on; the next one
/// continues.
#[test]
fn an_adoption_that_is_killed_is_gone_on_with() {
    run(async {
        let spoil = format!(
            "drop index idx_{ELEMENT}_search_vector; \
             alter table {ELEMENT}_files alter checksum drop not null, alter checksum drop default, \
                 alter created_at drop default"
        );
        let mut version_1 = None;
        for (point, times) in [("adopt.repaired", 1..=6), ("adopt.recorded", 1..=1)] {
            for time in times {
                let (url, mut connection) = product_database(&storage(), Made::ByTheServices).await;
                execute(&mut connection, &spoil).await;
                let columns = columns(&mut connection).await;
                let before = rows(&mut connection, &columns).await;
                let program = |arguments: &[&str]| {
                    Program::new(arguments).env("ARTSTORE_ELEMENTS", &format!("{ELEMENT}={url}"))
                };
                let (status, said) = program(&["migrate", "adopt"])
                    .crash_at(point, time)
                    .finish()
                    .await;
                assert_eq!(status.code(), None, "{point} {time}: {said}");
                assert_eq!(rows(&mut connection, &columns).await, before);
                let origin = inspect(&mut connection, &storage()).await.unwrap().origin;
                assert!(matches!(origin, Origin::Product { .. }), "{point} {time}");
                let (status, said) = program(&["migrate", "adopt"]).output().await;
                assert!(status.success(), "{point} {time}: {said}");
                assert_eq!(rows(&mut connection, &columns).await, before);
                let now = lines(&mut connection, &storage()).await;
                assert_eq!(
                    version_1.get_or_insert_with(|| now.clone()),
                    &now,
                    "{point} {time}"
                );
            }
        }
        let expected = include_str!("../../../migrations/storage/0001_initial.catalogue");
        let expected = expected.replace("{prefix}", ELEMENT);
        assert_eq!(version_1.unwrap(), expected.lines().collect::<Vec<_>>());
    });
}
