//! `migrate adopt` and `migrate check`.

use artstore_migrations::inspect;
use serde_json::Value;
use uuid::Uuid;

use super::*;

#[test]
fn the_command_changes_nothing_where_one_database_blocks_or_it_is_only_asked() {
    run(async {
        let (url, mut element) = product_database(&storage(), Made::ByTheServices).await;
        let (query_url, mut query) = product_database(&Module::Query, Made::ByMigrations).await;
        let command = |arguments: &[&str]| {
            Program::new(arguments)
                .env("ARTSTORE_ELEMENTS", &format!("{ELEMENT}={url}"))
                .env("QUERY_DATABASE_URL", &query_url)
        };
        let before = (
            lines(&mut element, &storage()).await,
            lines(&mut query, &Module::Query).await,
        );

        let (status, said) = command(&["migrate", "adopt", "--dry-run", "--up"])
            .output()
            .await;
        assert!(status.success(), "{said}");
        assert!(
            said.contains("create sequence if not exists public.storage_elem_01_config_id_seq"),
            "{said}"
        );
        assert!(
            said.contains("create table public.artstore_query_version"),
            "{said}"
        );
        assert!(
            said.contains("750 finished get positions by completed_at")
                && said.contains("150 are pending"),
            "{said}"
        );

        assert!(
            said.contains("3 files have no finished operation"),
            "{said}"
        );
        for table in ["search_history", "download_statistics"] {
            let waiting = format!("waiting    {table} is written anew on the way up (");
            assert!(said.contains(&waiting), "{said}");
        }

        // Of two one is in the way: the other one is left alone as well.
        execute(
            &mut query,
            "alter table search_history drop column search_mode",
        )
        .await;
        let blocked = lines(&mut query, &Module::Query).await;
        let (status, said) = command(&["migrate", "adopt", "--up"]).output().await;
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(
            said.contains("blocks     column search_history.search_mode is missing"),
            "{said}"
        );
        assert!(said.contains("because another database can't be"), "{said}");
        let (status, said) = command(&["migrate", "check", "--module", "query"])
            .output()
            .await;
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(
            said.contains("STOP  differs       blocks: column search_history.search_mode"),
            "{said}"
        );
        // Without adoption, a migration's error states what to do.
        let (status, said) = command(&["migrate", "up"]).finish().await;
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("run `artstore migrate adopt`"), "{said}");
        assert_eq!(lines(&mut element, &storage()).await, before.0);
        assert_eq!(lines(&mut query, &Module::Query).await, blocked);

        // An empty database is not filled, another module's is refused.
        let empty = database("empty").await;
        let program = Program::new(&["migrate", "adopt", "--up"]).env("QUERY_DATABASE_URL", &empty);
        let (status, said) = program.output().await;
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(
            said.contains("nothing to adopt: is it the right database?"),
            "{said}"
        );
        let program = Program::new(&["migrate", "adopt"]).env("ADMIN_DATABASE_URL", &query_url);
        let (status, said) = program.finish().await;
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("the query module's table"), "{said}");
    });
}

#[test]
fn check_says_what_is_in_use_and_what_is_not_allowed() {
    run(async {
        let (url, mut connection) = product_database(&storage(), Made::ByMigrations).await;
        let mut upload = pg(&url).await;
        execute(
            &mut upload,
            format!("begin; update {ELEMENT}_wal set duration_ms = 6"),
        )
        .await;
        let mut forgotten = pg(&url).await;
        let name = Uuid::new_v4();
        execute(
            &mut forgotten,
            format!("begin; delete from {ELEMENT}_config; prepare transaction '{name}'"),
        )
        .await;
        let role = format!("r{}", Uuid::new_v4().simple());
        execute(
            &mut connection,
            format!(
                "create role {role} login password 'p@ss:w/r%d'; \
                 grant select on all tables in schema public to {role}; \
                 revoke create on schema public from public"
            ),
        )
        .await;
        let other: url::Url = {
            let mut other: url::Url = url.parse().unwrap();
            other.set_username(&role).unwrap();
            other.set_password(Some("p%40ss%3Aw%2Fr%25d")).unwrap();
            other
        };
        let program = Program::new(&["migrate", "check", "--json", "--module", "storage"])
            .env("ARTSTORE_ELEMENTS", &format!("{ELEMENT}={other}"));
        let (status, said) = program.output().await;
        assert_eq!(status.code(), Some(1), "{said}");
        for words in [
            "belongs to artstore, not to",
            "may not create in the schema public",
            "open for",
            "steps wait for it",
            &format!("prepared transaction \\\"{name}\\\""),
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
        let report: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(
            report[0]["details"]["made"]["revision"], "100779395dad",
            "{report}"
        );
        assert_eq!(report[0]["stops"], true);
        execute(&mut forgotten, format!("rollback prepared '{name}'")).await;
        // The same role can't adopt either.
        let adoption = inspect(&mut pg(other.as_str()).await, &storage())
            .await
            .unwrap();
        assert!(!adoption.is_possible());

        let program = Program::new(&["migrate", "check"])
            .env("NATS_URL", "nats://127.0.0.1:9")
            .env("QUERY_DATABASE_URL", "postgres://x@127.0.0.1:9/gone");
        let (status, said) = program.output().await;
        assert_eq!(status.code(), Some(1), "{said}");
        assert_eq!(said.matches("STOP  reachable").count(), 2, "{said}");
    });
}
