//! Others who use the tables, or migrate them too.

use artstore_migrations::{Goal, MigrateError, Migrator, latest, status, up};

use super::*;

#[test]
fn two_migrators_at_once_wait_for_each_other() {
    run(async {
        let url = database("two").await;
        let module = storage(ELEMENT);
        let (mut watcher, mut blocker) = (connect(&url).await, connect(&url).await);
        up(&mut watcher, &module, Some(1)).await.unwrap();
        exec(
            &mut blocker,
            "begin; lock table storage_elem_01_wal in access share mode",
        )
        .await;

        let migrate = |module: Module, mut conn: PgConnection| {
            tokio::spawn(async move { up(&mut conn, &module, None).await })
        };
        let (mut first, mut second) = (connect(&url).await, connect(&url).await);
        let first_pid = text(&mut first, "select pg_backend_pid()::text").await;
        let second_pid = text(&mut second, "select pg_backend_pid()::text").await;

        // The first holds the migration lock and waits for the table ...
        let first = migrate(module.clone(), first);
        until(
            &mut watcher,
            &format!(
                "select (count(*) > 0)::text from pg_locks where pid = {first_pid} and not granted"
            ),
        )
        .await;
        // ... the second has asked for the migration lock and did not get it.
        let second = migrate(module.clone(), second);
        until(
            &mut watcher,
            &format!(
                "select (state = 'idle' and query like '%pg_try_advisory_lock%')::text
             from pg_stat_activity where pid = {second_pid}"
            ),
        )
        .await;
        assert_eq!(status(&mut watcher, &module).await.unwrap().version, 1);
        exec(&mut blocker, "rollback").await;

        let done: Vec<u32> = first
            .await
            .unwrap()
            .unwrap()
            .iter()
            .map(|step| step.version)
            .collect();
        assert_eq!(done, (2..=latest(&module)).collect::<Vec<_>>());
        assert!(
            second.await.unwrap().unwrap().is_empty(),
            "read its version before the lock"
        );
        let left = text(&mut watcher, "select count(*)::text from pg_locks join pg_database on oid = database where locktype = 'advisory' and datname = current_database()").await;
        assert_eq!(left, "0");
    });
}

#[test]
fn a_step_that_gets_no_lock_says_who_holds_it_and_keeps_nothing() {
    run(async {
        let url = database("blocked").await;
        let module = storage(ELEMENT);
        let (mut conn, mut upload) = (connect(&url).await, connect(&url).await);
        up(&mut conn, &module, Some(1)).await.unwrap();
        let before = catalogue(&mut conn).await;
        let pid = text(&mut upload, "select pg_backend_pid()::text").await;
        exec(
            &mut upload,
            "begin; select count(*) from storage_elem_01_wal",
        )
        .await;
        exec(&mut conn, "set lock_timeout = '20ms'").await;
        let error = Migrator::new(&mut conn, &module)
            .patience(Duration::from_secs(1))
            .run(Goal::Up(None))
            .await
            .unwrap_err();
        assert!(matches!(error, MigrateError::Blocked { .. }), "{error}");
        assert!(
            error
                .to_string()
                .contains(&format!("PostgreSQL process {pid} (user ")),
            "{error}"
        );
        assert_eq!(catalogue(&mut conn).await, before);
        exec(&mut upload, "rollback").await;
        let steps = up(&mut conn, &module, None).await.unwrap().len();
        assert_eq!(steps, latest(&module) as usize - 1);
    });
}

/// A build that waits for an old snapshot is complete but for that: a unique index refuses rows
/// already, though it helps no reader and the step was given up.
#[test]
fn an_index_whose_build_is_given_up_does_not_stay() {
    run(async {
        let url = database("given_up").await;
        let module = Module::Admin;
        let (mut conn, mut report) = (connect(&url).await, connect(&url).await);
        up(&mut conn, &module, Some(4)).await.unwrap();
        // It reads none of our tables: the build waits for it, the removal does not.
        exec(
            &mut report,
            "begin isolation level repeatable read; select count(*) from pg_class",
        )
        .await;
        let error = Migrator::new(&mut conn, &module)
            .patience(Duration::from_secs(1))
            .run(Goal::Down(3))
            .await
            .unwrap_err();
        assert!(matches!(error, MigrateError::Blocked { .. }), "{error}");
        assert!(
            error.to_string().contains("with an old snapshot"),
            "{error}"
        );
        let left = texts(
            &mut conn,
            "select format('%s, unique: %s, refuses rows: %s', indexrelid::regclass, indisunique, indisready)
             from pg_index where not indisvalid",
        )
        .await;
        assert!(left.is_empty(), "{left:?}");
        exec(&mut report, "rollback").await;

        // One that has read the table keeps the index from being dropped: it is named.
        exec(
            &mut report,
            "begin isolation level repeatable read; select count(*) from users",
        )
        .await;
        let error = Migrator::new(&mut conn, &module)
            .patience(Duration::from_secs(1))
            .run(Goal::Down(3))
            .await
            .unwrap_err();
        let named = "but for the unfinished index ix_users_username";
        assert!(error.to_string().contains(named), "{error}");
        exec(&mut report, "rollback").await;
        let migrator = Migrator::new(&mut conn, &module);
        assert_eq!(migrator.run(Goal::Down(3)).await.unwrap().len(), 1);
        let index = "select indisvalid::text from pg_index where indexrelid = 'ix_users_username'::regclass";
        assert_eq!(text(&mut conn, index).await, "true");
    });
}

/// It has no session, and stays until somebody ends it by its name.
#[test]
fn a_prepared_transaction_in_the_way_of_a_step_is_named() {
    run(async {
        let url = database("prepared").await;
        let module = storage(ELEMENT);
        let (mut conn, mut forgotten) = (connect(&url).await, connect(&url).await);
        up(&mut conn, &module, Some(1)).await.unwrap();
        let name = Uuid::new_v4();
        exec(
            &mut forgotten,
            &format!("begin; delete from storage_elem_01_wal; prepare transaction '{name}'"),
        )
        .await;
        exec(&mut conn, "set lock_timeout = '20ms'").await;
        let error = Migrator::new(&mut conn, &module)
            .patience(Duration::from_secs(1))
            .run(Goal::Up(None))
            .await
            .unwrap_err();
        exec(&mut forgotten, &format!("rollback prepared '{name}'")).await;
        let named = format!("prepared transaction \"{name}\" (user ");
        assert!(error.to_string().contains(&named), "{error}");
        assert!(
            error.to_string().contains("on storage_elem_01_wal"),
            "{error}"
        );
    });
}

/// As `status` and the relay name it, in the server's life in which it was prepared.
#[test]
fn a_prepared_transaction_is_named_that_holds_numbers_and_tables() {
    run(async {
        let url = database("prepared").await;
        let (mut conn, mut forgotten) = (connect(&url).await, connect(&url).await);
        let name = Uuid::new_v4().to_string();
        exec(&mut conn, "create table t (a int); create sequence q").await;
        let hold = "begin; lock table t; select nextval('q')";
        exec(
            &mut forgotten,
            &format!("{hold}; prepare transaction '{name}'"),
        )
        .await;
        let of_sequence = artstore_runtime::holder::of_sequence(&mut conn, "q").await;
        let tables = ["t".to_owned()];
        let of_table = artstore_runtime::holder::of_a_table(&mut conn, &tables).await;
        exec(&mut forgotten, &format!("rollback prepared '{name}'")).await;
        assert_eq!(of_sequence.unwrap().unwrap().prepared, Some(name.clone()));
        assert_eq!(of_table.unwrap().unwrap().1.prepared, Some(name));
    });
}
